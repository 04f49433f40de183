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

// Clause is one restriction of a module, held against a kernel.
type Clause struct {
	// Directive is its name, with the index if that is of one object.
	Directive string
	// Wants is what it says, Has what the kernel has.
	Wants, Has string
	OK         bool
	reason     string
}

// Clauses are all restrictions of a module and of its objects: what Applies and
// ObjectApplies decide by.
func (m *Module) Clauses(f Facts) []Clause {
	list := m.general().clauses("", m, f)
	for i := 1; i < len(m.Objects); i++ {
		list = append(list, m.Objects[i].Exclusive.clauses(fmt.Sprintf("[%d]", i), m, f)...)
	}
	return list
}

// holds checks one set of restrictions; index is shown in reasons.
func (x Exclusive) holds(index string, m *Module, f Facts) Verdict {
	for _, c := range x.clauses(index, m, f) {
		if !c.OK {
			return Verdict{Reason: c.reason}
		}
	}
	return Verdict{OK: true}
}

// clauses holds each restriction of one set against a kernel.
func (x Exclusive) clauses(index string, m *Module, f Facts) []Clause {
	var list []Clause
	add := func(name, wants, has string, ok bool, format string, args ...any) {
		if wants == "" {
			return
		}
		c := Clause{Directive: name, Wants: wants, Has: has, OK: ok}
		if !ok {
			c.reason = fmt.Sprintf(format, args...)
		}
		list = append(list, c)
	}
	name := varExKernel + index
	add(name, x.Kernel, f.Release, matches(x.Kernel, f.Release), "%s \"%s\" does not match %s", name, x.Kernel, f.Release)
	name = varExMin + index
	add(name, x.Min, f.Release, vercmp.Pad(f.Release) >= vercmp.Pad(x.Min), "%s is older than %s %s", f.Release, name, x.Min)
	if name = varExMax + index; index == "" && m.Vars.Get(varExMax) == "" {
		name = varObsoleteBy
	}
	add(name, x.Max, f.Release, vercmp.Pad(f.Release) <= vercmp.Pad(x.Max), "%s is newer than %s %s", f.Release, name, x.Max)
	name = varExArch + index
	add(name, x.Arch, f.Arch, matches(x.Arch, f.Arch), "%s \"%s\" does not match %s", name, x.Arch, f.Arch)
	for _, word := range strings.Fields(x.Config) {
		has, reason := configReason(word, f)
		add(varExConfig+index, word, has, reason == "", "%s: %s", varExConfig+index, reason)
	}
	return list
}

// configReason returns what a kernel's configuration has of a symbol, and why that
// does not fit, or "".
func configReason(word string, f Facts) (has, reason string) {
	if f.Config == nil {
		return "unknown", ""
	}
	where := ""
	if f.ConfigFile != "" {
		where = " in " + f.ConfigFile
	}
	symbol, unwanted := strings.CutPrefix(word, "!")
	value, ok := f.Config(symbol)
	if has = value; !ok {
		has = "not set"
	}
	on := ok && (strings.HasPrefix(value, "y") || strings.HasPrefix(value, "m"))
	switch {
	case on && unwanted:
		reason = fmt.Sprintf("%s must not be set, it is %s%s", symbol, value, where)
	case !on && !unwanted:
		reason = fmt.Sprintf("%s is not set%s", symbol, where)
	}
	return has, reason
}
