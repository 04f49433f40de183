// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/state"
	"dkms-go/internal/vercmp"
)

// Options change what a plan does.
type Options struct {
	// Force builds and installs again, and goes without dependencies.
	Force bool
	// Again builds again what is built.
	Again bool
	// NoRefresh leaves the module index alone (--no-depmod).
	NoRefresh bool
}

// maker collects the steps of one plan.
type maker struct {
	Plan
	f        *Facts
	o        Options
	added    map[state.ID]int
	prepared map[Target]int
	changes  map[Target][]int
	targets  []Target
	// installs are the install steps planned so far, by module name.
	installs map[Target]map[string]int
	versions map[Target]map[string]string
}

func newMaker(f *Facts, o Options) *maker {
	return &maker{
		f: f, o: o,
		added:    map[state.ID]int{},
		prepared: map[Target]int{},
		changes:  map[Target][]int{},
		installs: map[Target]map[string]int{},
		versions: map[Target]map[string]string{},
	}
}

// BuildAll plans `dkms build` of one module for the targets.
func BuildAll(id state.ID, targets []Target, f *Facts, o Options) *Plan {
	m := newMaker(f, o)
	for _, t := range targets {
		m.build(id, t, nil)
	}
	return &m.Plan
}

// InstallAll plans `dkms install` of one module for the targets.
func InstallAll(id state.ID, targets []Target, f *Facts, o Options) *Plan {
	m := newMaker(f, o)
	for _, t := range targets {
		m.install(id, t, nil)
	}
	m.rebuilds()
	m.refresh()
	return &m.Plan
}

// build plans a build, or the reason why not, and returns the step that must
// have succeeded before the result can be used: 0 if it is there already.
func (m *maker) build(id state.ID, t Target, after []int) int {
	key := t.Key(id)
	r := m.f.Results[key]
	if r.sound() && !m.o.Force && !m.o.Again {
		m.addFirst(id)
		m.add(Step{Kind: Note, Reason: AlreadyBuilt, Key: key, Group: m.group(), Why: "already built"})
		return 0
	}
	return m.mustBuild(id, t, after)
}

// mustBuild plans a build whatever is there already.
func (m *maker) mustBuild(id state.ID, t Target, after []int) int {
	key := t.Key(id)
	r := m.f.Results[key]
	reason, detail := m.refusal(r, id, t)
	if reason != NoHeaders && reason != NoSource { // those leave everything as it is
		after = append(slices.Clone(after), some(m.addFirst(id))...)
	}
	if reason != Needed {
		return m.add(Step{Kind: Refuse, Reason: reason, Detail: detail, Key: key, After: after, Group: m.group(), Why: strings.Join(detail, " ")})
	}
	missing := m.f.missing(r.Conf.BuildDepends, t)
	missing = slices.DeleteFunc(missing, func(d string) bool { return m.installs[t][d] > 0 })
	// Only its own add may keep a kernel from being prepared: other modules
	// wait for the same step.
	after = append(slices.Clone(after), m.prepare(t, some(m.addFirst(id))))
	if len(missing) > 0 && !m.o.Force {
		return m.add(Step{Kind: Refuse, Reason: MissingDepends, Detail: missing, Key: key, After: after, Group: m.group(), Why: "not installed: " + strings.Join(missing, " ")})
	}
	why := "not built yet"
	if r.Built {
		why = "built before; built again"
	}
	if len(r.Stale) > 0 {
		why = "built before; changed since: " + strings.Join(r.Stale, ", ")
	}
	return m.add(Step{Kind: Build, Key: key, After: after, Group: m.group(), Why: why, Replace: r.Built, Missing: missing})
}

// refusal tells why a module can't be built for a kernel, in upstream's order
// of checks (reference 5.1): conf, exclusion, source, headers.
func (m *maker) refusal(r Result, id state.ID, t Target) (Reason, []string) {
	var unreadable *conf.Unreadable
	mod := m.f.module(id)
	switch {
	case mod.Condition == state.Broken:
		return BrokenModule, nil
	case errors.As(r.Err, &unreadable):
		return NoConf, []string{r.Err.Error()}
	case r.Err != nil:
		return BadConf, []string{r.Err.Error()}
	case !r.Applies.OK:
		return Excluded, []string{r.Applies.Reason}
	case mod.Bare && !m.f.Fetches:
		return NoSource, nil
	case !m.f.Kernels[t].Headers && !m.f.Fetches:
		return NoHeaders, []string{"no headers for " + t.Kernel}
	}
	return Needed, nil
}

// addFirst plans to add a module that isn't in the tree yet; once.
func (m *maker) addFirst(id state.ID) int {
	if c := m.f.module(id).Condition; c == state.Added || c == state.Broken {
		return 0
	}
	if m.added[id] == 0 {
		m.added[id] = m.add(Step{Kind: Add, Key: state.Key{ID: id}, Group: m.group(), Why: "not in the DKMS tree", Blank: true})
	}
	return m.added[id]
}

// prepare plans the look at a kernel's signing set-up; once per kernel.
func (m *maker) prepare(t Target, after []int) int {
	if m.prepared[t] == 0 {
		m.prepared[t] = m.add(Step{Kind: Prepare, Key: t.Key(state.ID{}), After: after, Group: m.group(), Why: "signing key and tools"})
	}
	return m.prepared[t]
}

// install plans an install with the build that it may need.
func (m *maker) install(id state.ID, t Target, after []int) int {
	key := t.Key(id)
	r := m.f.Results[key]
	if r.settled() && !m.o.Force {
		m.add(Step{Kind: Note, Reason: AlreadyInstalled, Key: key, Group: m.group(), Why: "already installed"})
		return 0
	}
	why := "built, not installed"
	if r.sound() {
		after = append(slices.Clone(after), some(m.addFirst(id))...)
	} else {
		why = "not installed"
		after = append(slices.Clone(after), m.mustBuild(id, t, after))
	}
	switch {
	case r.Lost:
		why = "installed before, but gone from the kernel's tree, or damaged there"
	case r.Installed:
		why = "installed before; installed again"
	}
	return m.placed(id, t, Step{Kind: Install, Key: key, After: after, Group: m.group(), Why: why, Replace: r.Installed})
}

// placed appends an install step and remembers it for what depends on it.
func (m *maker) placed(id state.ID, t Target, s Step) int {
	n := m.add(s)
	m.change(t, n)
	if m.installs[t] == nil {
		m.installs[t], m.versions[t] = map[string]int{}, map[string]string{}
	}
	m.installs[t][id.Module], m.versions[t][id.Module] = n, id.Version
	return n
}

func (m *maker) change(t Target, n int) {
	if len(m.changes[t]) == 0 {
		m.targets = append(m.targets, t)
	}
	m.changes[t] = append(m.changes[t], n)
}

// refresh plans one update of the module index per kernel, behind the last
// change for it.
func (m *maker) refresh() {
	if m.o.NoRefresh {
		return
	}
	planned := map[string]bool{}
	for _, t := range m.targets {
		planned[t.Kernel] = true
		m.add(Step{Kind: Refresh, Key: t.Key(state.ID{}), Behind: m.changes[t], Group: m.group(), Why: "objects changed"})
	}
	for _, kernel := range m.f.IndexDue {
		if !planned[kernel] {
			m.add(Step{Kind: Refresh, Key: state.Key{Kernel: kernel}, Group: m.group(), Why: "an earlier run was ended before it"})
		}
	}
}

// rebuilds plans the rebuild of modules whose BUILD_DEPENDS are about to
// change their version (BUILD_DEPENDS_REBUILD; reference 5.14), a dependency
// before what depends on it.
func (m *maker) rebuilds() {
	if m.o.Force {
		return
	}
	for _, t := range slices.Clone(m.targets) {
		for id, deps, ok := m.nextRebuild(t); ok; id, deps, ok = m.nextRebuild(t) {
			m.rebuild(id, t, deps)
		}
	}
}

// nextRebuild returns an outdated module that depends on no other outdated
// one, or in a circle any of them, with the steps that made it outdated.
func (m *maker) nextRebuild(t Target) (id state.ID, deps []int, ok bool) {
	due := map[string]bool{}
	var ids []state.ID
	for _, mod := range m.f.Modules {
		if len(m.outdated(mod.ID, t)) > 0 {
			ids = append(ids, mod.ID)
			due[mod.ID.Module] = true
		}
	}
	if len(ids) == 0 {
		return state.ID{}, nil, false
	}
	free := slices.IndexFunc(ids, func(id state.ID) bool {
		depends := m.f.Results[t.Key(id)].Conf.BuildDepends
		return !slices.ContainsFunc(depends, func(d string) bool { return due[d] && d != id.Module })
	})
	id = ids[max(free, 0)]
	return id, m.outdated(id, t), true
}

// outdated returns the install steps that make the result of id outdated.
func (m *maker) outdated(id state.ID, t Target) []int {
	r := m.f.Results[t.Key(id)]
	if !r.Built || r.Conf == nil || !r.Conf.BuildDependsRebuild || m.installs[t][id.Module] > 0 || m.f.outranked(id, t) {
		return nil
	}
	var steps []int
	for _, d := range r.Conf.BuildDepends {
		if n := m.installs[t][d]; n > 0 && r.Recorded[d] != m.versions[t][d] {
			steps = append(steps, n)
		}
	}
	return steps
}

func (m *maker) rebuild(id state.ID, t Target, after []int) {
	key := t.Key(id)
	if reason, detail := m.refusal(m.f.Results[key], id, t); reason != Needed {
		m.placed(id, t, Step{Kind: Refuse, Reason: reason, Detail: detail, Key: key, After: after, Group: m.group(), Why: strings.Join(detail, " ")})
		return
	}
	m.prepared[t] = 0
	prep := m.prepare(t, after)
	group := m.group()
	b := m.add(Step{
		Kind: Build, Key: key, After: append(slices.Clone(after), prep), Group: group, Replace: true,
		Heading: fmt.Sprintf("\nRebuilding module %s due to updated dependencies\n", id), Why: "its dependencies changed",
	})
	m.placed(id, t, Step{Kind: Install, Key: key, After: []int{b}, Group: group, Replace: true, Why: "rebuilt"})
}

// Latest returns the modules an autoinstall looks at: the highest version of
// each name, by upstream's order of versions, in the order of the tree. A
// retired one counts only where there is no other.
func (f *Facts) Latest() []state.ID {
	best := map[string]Module{}
	var names []string
	for _, m := range f.Modules {
		if m.Condition != state.Added {
			continue
		}
		name := m.ID.Module
		if _, ok := best[name]; !ok {
			names = append(names, name)
			best[name] = m
		} else if m.succeeds(best[name]) {
			best[name] = m
		}
	}
	ids := make([]state.ID, len(names))
	for i, n := range names {
		ids[i] = best[n].ID
	}
	return ids
}

// succeeds reports whether m goes before another version of the same module.
func (m Module) succeeds(other Module) bool {
	if m.Retired != other.Retired {
		return other.Retired
	}
	return vercmp.Less(other.ID.Version, m.ID.Version)
}

// Match plans the install of several modules for one kernel.
func Match(ids []state.ID, t Target, f *Facts, o Options) *Plan {
	m := newMaker(f, o)
	for _, id := range ids {
		first := len(m.Steps)
		m.install(id, t, nil)
		m.Steps[first].Heading = fmt.Sprintf("Module:  %s\nVersion: %s", id.Module, id.Version)
	}
	m.rebuilds()
	m.refresh()
	return &m.Plan
}
