// SPDX-License-Identifier: Apache-2.0

package plan

import "dkms-go/internal/state"

// Depth is how far a module is taken back.
type Depth int

// The depths: out of the kernel's tree, also the result, also the module.
const (
	ToBuilt Depth = iota
	ToAdded
	ToNothing
)

// Back plans `dkms uninstall`, `unbuild` and `remove` of one module for the
// targets. Everything happens in order.
func Back(id state.ID, targets []Target, d Depth, f *Facts, o Options) *Plan {
	m := newMaker(f, o)
	var last int
	for i, t := range targets {
		last = m.back(t.Key(id), d, last)
		if end := &m.Steps[len(m.Steps)-1]; d == ToNothing || i < len(targets)-1 {
			end.Blank = true
		}
	}
	m.refresh()
	if d == ToNothing {
		m.add(Step{Kind: Forget, Key: state.Key{ID: id}, Behind: some(last), Group: m.group(), Why: "if no kernel has a result of it"})
	}
	return &m.Plan
}

// Clear plans kernel_prerm and kernel_preinst: every listed module is taken
// back to added for one kernel.
func Clear(ids []state.ID, t Target, blank bool, f *Facts, o Options) *Plan {
	m := newMaker(f, o)
	var last int
	for _, id := range ids {
		first := len(m.Steps)
		last = m.back(t.Key(id), ToAdded, last)
		m.Steps[first].Heading = "dkms: removing module " + id.String() + " for " + t.String()
		m.Steps[len(m.Steps)-1].Blank = blank
	}
	m.refresh()
	return &m.Plan
}

func (m *maker) back(key state.Key, d Depth, last int) int {
	t := Target{key.Kernel, key.Arch}
	r := m.f.Results[key]
	group := m.group()
	if r.Installed {
		last = m.add(Step{Kind: Uninstall, Key: key, Behind: some(last), Group: group, Why: "installed"})
		m.change(t, last)
	} else {
		last = m.add(Step{Kind: Note, Reason: NotInstalled, Key: key, Behind: some(last), Group: group, Why: "not installed"})
	}
	if d == ToBuilt {
		return last
	}
	if !r.Built {
		return m.add(Step{Kind: Note, Reason: NotBuilt, Key: key, Behind: some(last), Group: group, Why: "not built"})
	}
	step := Step{Kind: Unbuild, Key: key, Group: group, Why: "built"}
	if r.Installed {
		step.After = some(last)
	} else {
		step.Behind = some(last)
	}
	return m.add(step)
}

// some returns the step n as a list, empty for 0: no step.
func some(n int) []int {
	if n == 0 {
		return nil
	}
	return []int{n}
}
