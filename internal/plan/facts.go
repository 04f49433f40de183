// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"dkms-go/internal/conf"
	"dkms-go/internal/state"
	"dkms-go/internal/vercmp"
)

// Facts is what the machine looked like when the plan was made.
type Facts struct {
	// Modules are the known modules in the order of the tree.
	Modules []Module
	// Kernels tells of each kernel the plan may work on.
	Kernels map[Target]Kernel
	// Results tells of each module and kernel the plan may work on.
	Results map[state.Key]Result
	// Fetches says that sources of prebuilts are asked before something is built: then a
	// build may do without headers or source.
	Fetches bool
	// IndexDue are kernels whose module index an earlier run left behind.
	IndexDue []string
}

// Module is what is known of a module whatever the kernel.
type Module struct {
	ID        state.ID
	Condition state.Condition
	// Retired says that it stays until its successor works.
	Retired bool
	// Bare is true when the source directory holds a dkms.conf and nothing
	// to build from (a binaries-only archive).
	Bare bool
}

// Kernel is what is known of a kernel.
type Kernel struct{ Headers bool }

// Result is what is known of a module for a kernel.
type Result struct {
	Built, Installed bool
	// Stale names what has changed under the result since it was built.
	Stale []string
	// Remembered says that a build from the same inputs has failed before and
	// that it isn't worth another one now.
	Remembered bool
	// Lost says that an installed object is gone from the kernel's tree, or
	// damaged there.
	Lost bool
	// Conf is the conf evaluated for the kernel; Err is why there is none.
	Conf *conf.Module
	Err  error
	// Applies is the conf's verdict on the kernel.
	Applies conf.Verdict
	// Recorded are the versions of dependencies that the result was built
	// with, as far as recorded (BUILD_DEPENDS_REBUILD).
	Recorded map[string]string
}

// sound reports whether there is a result that nothing has changed under.
func (r Result) sound() bool { return r.Built && len(r.Stale) == 0 }

// settled reports whether the result is installed and needs no work.
func (r Result) settled() bool { return r.Installed && !r.Lost && len(r.Stale) == 0 }

// module returns what is known of id.
func (f *Facts) module(id state.ID) Module {
	for _, m := range f.Modules {
		if m.ID == id {
			return m
		}
	}
	return Module{ID: id, Condition: state.Absent}
}

// named reports whether any version of a module is in the tree.
func (f *Facts) named(name string) bool {
	for _, m := range f.Modules {
		if m.ID.Module == name && m.Condition != state.Hidden {
			return true
		}
	}
	return false
}

// installed returns the version of a module that is installed for t.
func (f *Facts) installed(name string, t Target) (version string, ok bool) {
	for _, m := range f.Modules {
		if m.ID.Module == name && f.Results[t.Key(m.ID)].Installed {
			return m.ID.Version, true
		}
	}
	return "", false
}

// outranked reports whether another version of the same module stands for it
// when its dependencies change: the installed one, else the highest one built.
func (f *Facts) outranked(id state.ID, t Target) bool {
	if f.Results[t.Key(id)].Installed {
		return false
	}
	return slices.ContainsFunc(f.Modules, func(m Module) bool {
		r := f.Results[t.Key(m.ID)]
		return m.ID.Module == id.Module && m.ID != id && r.Built && (r.Installed || vercmp.Less(id.Version, m.ID.Version))
	})
}

// missing returns those build dependencies that no version is installed of.
func (f *Facts) missing(depends []string, t Target) []string {
	var missing []string
	for _, d := range depends {
		if _, ok := f.installed(d, t); !ok {
			missing = append(missing, d)
		}
	}
	return missing
}
