// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"

	"dkms-go/internal/state"
)

// Auto is the plan of an autoinstall with what it says of each module.
type Auto struct {
	Plan
	// Installed were there before; Due are to be installed, with the number
	// of their last step.
	Installed []state.ID
	Due       []Due
	// Bad have a conf that can't be used. Unmet wait for modules that are
	// in the tree but can't be installed (a cycle, say); Deferred for
	// modules that the tree doesn't know.
	Bad             []Due
	Unmet, Deferred []Waiting
	// Remembered have failed before with the same inputs and are left alone.
	Remembered []state.ID
}

// Idle reports whether there is nothing to do, nor to be said.
func (a *Auto) Idle() bool {
	return len(a.Due)+len(a.Bad)+len(a.Unmet)+len(a.Deferred)+a.Counts(Refresh) == 0
}

// Due is one module that an autoinstall attempts, after those it depends on.
type Due struct {
	ID      state.ID
	Step    int
	Depends []string
	Err     error
}

// Waiting is a module whose dependencies can't be met in this run.
type Waiting struct {
	ID      state.ID
	Depends []string
}

// Autoinstall plans `dkms autoinstall` for one kernel: the highest version of
// each module that wants it, dependencies first (reference 5.13). only limits
// it to one module; empty fields match all.
func Autoinstall(t Target, only state.ID, f *Facts, o Options) *Auto {
	a := &Auto{}
	m := newMaker(f, Options{NoRefresh: o.NoRefresh})
	satisfied := map[string]bool{}
	var due []state.ID
	for _, id := range f.Latest() {
		if only.Version != "" && id.Module == only.Module {
			id.Version = only.Version
		}
		r := f.Results[t.Key(id)]
		switch {
		case r.settled():
			a.Installed = append(a.Installed, id)
			satisfied[id.Module] = true
		case only.Module != "" && id.Module != only.Module:
		case r.Remembered:
			a.Remembered = append(a.Remembered, id)
			due = append(due, a.keep(id, t, f, satisfied)...)
		case r.Err != nil:
			a.Bad = append(a.Bad, Due{ID: id, Err: r.Err})
		case r.Conf.Autoinstall:
			due = append(due, id)
		case r.Installed && !r.Lost: // stale, and nobody asked for another
			a.Installed = append(a.Installed, id)
			satisfied[id.Module] = true
		}
	}
	for len(due) > 0 {
		ready, rest := split(due, func(id state.ID) bool {
			return len(unmet(f.Results[t.Key(id)].Conf.BuildDepends, satisfied)) == 0
		})
		if len(ready) == 0 {
			break
		}
		for _, id := range ready {
			a.Due = append(a.Due, Due{ID: id, Step: m.auto(id, t), Depends: f.Results[t.Key(id)].Conf.BuildDepends})
		}
		for _, id := range ready {
			satisfied[id.Module] = true
		}
		due = rest
	}
	a.wait(due, satisfied, t, f)
	m.rebuilds()
	m.refresh()
	a.Plan = m.Plan
	return a
}

// keep deals with a module whose newest version is left alone: the version that
// is installed goes on serving, and is due if something has changed under it.
func (a *Auto) keep(id state.ID, t Target, f *Facts, satisfied map[string]bool) []state.ID {
	version, ok := f.installed(id.Module, t)
	if !ok {
		return nil
	}
	satisfied[id.Module] = true
	old := state.ID{Module: id.Module, Version: version}
	r := f.Results[t.Key(old)]
	if old == id || len(r.Stale) == 0 || r.Remembered || r.Err != nil || r.Conf == nil {
		return nil
	}
	return []state.ID{old}
}

// auto plans the install of one module after those it depends on.
func (m *maker) auto(id state.ID, t Target) int {
	r := m.f.Results[t.Key(id)]
	var after []int
	for _, d := range r.Conf.BuildDepends {
		if n := m.installs[t][d]; n > 0 {
			after = append(after, n)
		}
	}
	first := len(m.Steps)
	m.install(id, t, after)
	group := m.Steps[len(m.Steps)-1].Group
	headed := false
	for i := first; i < len(m.Steps); i++ {
		s := &m.Steps[i]
		if s.Kind == Add || s.Kind == Prepare {
			continue
		}
		if !headed {
			s.Heading = fmt.Sprintf("Autoinstall of module %s for %s", id, t)
			headed = true
		}
		s.Group = group
	}
	m.Steps[len(m.Steps)-1].Blank = true
	return len(m.Steps)
}

// wait sorts the modules whose dependencies can't be met.
func (a *Auto) wait(due []state.ID, satisfied map[string]bool, t Target, f *Facts) {
	for _, id := range due {
		var known, unknown []string
		for _, d := range unmet(f.Results[t.Key(id)].Conf.BuildDepends, satisfied) {
			if f.named(d) {
				known = append(known, d)
			} else {
				unknown = append(unknown, d)
			}
		}
		if len(known) > 0 {
			a.Unmet = append(a.Unmet, Waiting{id, known})
		} else {
			a.Deferred = append(a.Deferred, Waiting{id, unknown})
		}
	}
}

func unmet(depends []string, satisfied map[string]bool) []string {
	return slices.DeleteFunc(slices.Clone(depends), func(d string) bool { return satisfied[d] })
}

func split(ids []state.ID, ready func(state.ID) bool) (yes, no []state.ID) {
	for _, id := range ids {
		if ready(id) {
			yes = append(yes, id)
		} else {
			no = append(no, id)
		}
	}
	return yes, no
}
