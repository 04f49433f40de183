// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"fmt"
	"strings"

	"dkms-go/internal/vercmp"
)

// Exclusive is one index of the BUILD_EXCLUSIVE_* directives (dkms(8)). An
// empty field restricts nothing.
type Exclusive struct {
	Kernel string // extended regular expression on the kernel release
	Min    string // lowest kernel release
	Max    string // highest kernel release
	Arch   string // extended regular expression on the architecture
	Config string // CONFIG_X (must be y or m) and !CONFIG_X (must not be)
}

func (x Exclusive) empty() bool { return x == Exclusive{} }

func exclusiveAt(v Vars, i int) Exclusive {
	return Exclusive{
		Kernel: v[varExKernel][i], Min: v[varExMin][i], Max: v[varExMax][i],
		Arch: v[varExArch][i], Config: v[varExConfig][i],
	}
}

// Facts are what a kernel is, for BUILD_EXCLUSIVE_*.
type Facts struct {
	Release, Arch string
	// ConfigFile names the kernel's configuration in reasons.
	ConfigFile string
	// Config returns a symbol's value. Nil says that there is no
	// configuration: BUILD_EXCLUSIVE_CONFIG is then not checked.
	Config func(symbol string) (value string, ok bool)
}

// Verdict tells whether something applies to a kernel, and if not, why.
type Verdict struct {
	OK     bool
	Reason string
}

// general returns the restrictions at index 0, which hold for every object:
// upstream cannot tell NAME[0]=x from NAME=x. OBSOLETE_BY acts as the highest
// kernel unless any object has one.
func (m *Module) general() Exclusive {
	x := exclusiveAt(m.Vars, 0)
	if m.ObsoleteBy == "" || x.Max != "" {
		return x
	}
	for _, o := range m.Objects {
		if o.Exclusive.Max != "" {
			return x
		}
	}
	x.Max = m.ObsoleteBy
	return x
}

// HasExclusive reports whether anything restricts the module to some kernels.
// A module without objects is never restricted.
func (m *Module) HasExclusive() bool {
	if len(m.Objects) == 0 {
		return false
	}
	if !m.general().empty() {
		return true
	}
	for _, o := range m.Objects {
		if !o.Exclusive.empty() {
			return true
		}
	}
	return false
}

// Applies reports whether the module is for a kernel: it is refused when it
// has BUILD_EXCLUSIVE_* directives and no object qualifies.
func (m *Module) Applies(f Facts) Verdict {
	var first Verdict
	for i := range m.Objects {
		v := m.ObjectApplies(i, f)
		if v.OK {
			return v
		}
		if i == 0 {
			first = v
		}
	}
	if len(m.Objects) == 0 {
		return Verdict{OK: true}
	}
	return first
}

// ObjectApplies reports whether the object at index i is for a kernel: the
// restrictions at index 0 and those at its own index must all hold.
func (m *Module) ObjectApplies(i int, f Facts) Verdict {
	if v := m.general().holds("", m, f); !v.OK {
		return v
	}
	if i <= 0 || i >= len(m.Objects) {
		return Verdict{OK: true}
	}
	return m.Objects[i].Exclusive.holds(fmt.Sprintf("[%d]", i), m, f)
}

// holds checks one set of restrictions; index is shown in reasons.
func (x Exclusive) holds(index string, m *Module, f Facts) Verdict {
	refuse := func(format string, args ...any) Verdict {
		return Verdict{Reason: fmt.Sprintf(format, args...)}
	}
	if x.Kernel != "" && !matches(x.Kernel, f.Release) {
		return refuse("%s%s \"%s\" does not match %s", varExKernel, index, x.Kernel, f.Release)
	}
	if x.Min != "" && vercmp.Pad(f.Release) < vercmp.Pad(x.Min) {
		return refuse("%s is older than %s%s %s", f.Release, varExMin, index, x.Min)
	}
	if x.Max != "" && vercmp.Pad(f.Release) > vercmp.Pad(x.Max) {
		name := varExMax + index
		if index == "" && m.Vars.Get(varExMax) == "" {
			name = varObsoleteBy
		}
		return refuse("%s is newer than %s %s", f.Release, name, x.Max)
	}
	if x.Arch != "" && !matches(x.Arch, f.Arch) {
		return refuse("%s%s \"%s\" does not match %s", varExArch, index, x.Arch, f.Arch)
	}
	if reason := x.configReason(f); reason != "" {
		return refuse("%s%s: %s", varExConfig, index, reason)
	}
	return Verdict{OK: true}
}

// configReason returns why the kernel's configuration does not fit, or "".
func (x Exclusive) configReason(f Facts) string {
	if f.Config == nil {
		return ""
	}
	where := ""
	if f.ConfigFile != "" {
		where = " in " + f.ConfigFile
	}
	for _, word := range strings.Fields(x.Config) {
		symbol, unwanted := strings.CutPrefix(word, "!")
		value, ok := f.Config(symbol)
		on := ok && (strings.HasPrefix(value, "y") || strings.HasPrefix(value, "m"))
		if on && unwanted {
			return fmt.Sprintf("%s must not be set, it is %s%s", symbol, value, where)
		}
		if !on && !unwanted {
			return fmt.Sprintf("%s is not set%s", symbol, where)
		}
	}
	return ""
}
