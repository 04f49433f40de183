// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/install"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// fsckJob is an install job for repairs: no script runs in it.
func (e *Engine) fsckJob(k state.Key) install.Job {
	return install.Job{
		Key: k, Tree: e.tree, Paths: e.Paths, Conf: &conf.Module{}, Dir: e.installDir,
		Suffix: e.suffix(plan.Target{Kernel: k.Kernel, Arch: k.Arch}), NoIndex: e.NoDepmod, Out: io.Discard, Err: io.Discard,
	}
}

// survey is one look at the tree and at what is installed.
type survey struct {
	*Engine
	ctx  context.Context
	list []trouble
	// gone are the kernels whose packages are removed.
	gone map[string]bool
	// claims are the objects of each result, explained the paths of those that are
	// installed.
	claims    map[state.Key][]state.ObjectEntry
	explained map[string]bool
	confs     map[state.ID]*conf.Module
}

// troubles looks at everything. The caller holds the lock, or watches it.
func (e *Engine) troubles(ctx context.Context) []trouble {
	e.forgetStamps()
	o, err := e.owner()
	if err != nil {
		return []trouble{{Inconsistency: state.Inconsistency{Kind: state.Unread, Path: e.tree.Dir, What: "it can't be read: " + err.Error()}, note: true}}
	}
	s := &survey{Engine: e, ctx: ctx, gone: map[string]bool{}, claims: map[state.Key][]state.ObjectEntry{}, explained: map[string]bool{}, confs: map[state.ID]*conf.Module{}}
	found := e.tree.CheckFor(o)
	unread := e.unreadable("")
	active := slices.DeleteFunc(e.tree.ActiveKeys(), func(k state.Key) bool {
		return state.Within(e.tree.Version(k.ID), unread) || state.Within(e.tree.Objects(k), unread)
	})
	for _, k := range active {
		s.gone[k.Kernel] = s.gone[k.Kernel] || e.kernelGone(k)
	}
	results := map[state.Key]bool{}
	var others []state.Inconsistency
	for _, i := range found {
		switch i.Kind {
		case state.LinkWrong, state.ResultWrong:
			if !s.gone[i.Key.Kernel] {
				results[i.Key] = true
				s.add(s.resultTrouble(i))
			}
		case state.SourceGone:
			s.add(s.sourceTrouble(i))
		default:
			if i.Kind != state.OriginalOff || !s.gone[i.Key.Kernel] {
				others = append(others, i)
			}
		}
	}
	s.list = append(s.list, e.treeTroubles(others, o)...)
	s.confTroubles()
	for _, k := range active {
		s.activeTroubles(k, results[k])
	}
	if len(unread) == 0 { // else what accounts for an object may be there
		s.orphans()
	}
	return s.list
}

func (s *survey) add(t trouble) { s.list = append(s.list, t) }

// kernelGone reports whether a kernel was removed: neither image, own objects nor
// headers are there, and it doesn't run.
func (e *Engine) kernelGone(k state.Key) bool {
	return !e.kernelThere(k.Kernel, k.Arch) && !e.runs(k.Kernel)
}

func (e *Engine) kernelThere(release, arch string) bool {
	there := e.kernel(plan.Target{Kernel: release, Arch: arch})
	return there.HasImage(e.Paths) || there.HasHeaders()
}

func (e *Engine) runs(release string) bool {
	running, _, err := e.Running()
	return err == nil && running == release
}

// claim returns the objects of a result: those recorded, else the files in it
// with what the conf says of them, else those of the conf.
func (s *survey) claim(k state.Key) []state.ObjectEntry {
	if list, ok := s.claims[k]; ok {
		return list
	}
	var list []state.ObjectEntry
	if r, err := s.tree.Record(k); err == nil {
		list = r.Objects
	} else {
		list = s.unrecorded(k)
	}
	for _, p := range install.ReadPlaced(s.tree, s.Paths.KernelTree(k.Kernel), k) {
		name, _, _ := ko.SplitName(filepath.Base(p.Path))
		if !slices.ContainsFunc(list, func(o state.ObjectEntry) bool { return o.Name == name }) {
			dir := strings.TrimPrefix(filepath.Dir(p.Path), s.Paths.KernelTree(k.Kernel))
			list = append(list, state.ObjectEntry{Name: name, Location: dir})
		}
	}
	// Who could write to the tree could name other places.
	list = slices.DeleteFunc(slices.Clone(list), func(o state.ObjectEntry) bool {
		return o.Name == "" || strings.Contains(o.Name, "/") || slices.Contains(strings.Split(o.Location, "/"), "..")
	})
	s.claims[k] = list
	return list
}

// unrecorded is claim for a result without record.
func (s *survey) unrecorded(k state.Key) []state.ObjectEntry {
	m := s.conf(k.ID)
	var list []state.ObjectEntry
	if m != nil {
		facts := s.kernelFacts(plan.Target{Kernel: k.Kernel, Arch: k.Arch})
		for i, o := range m.Objects {
			if m.ObjectApplies(i, facts).OK && o.Dest != "" {
				list = append(list, state.ObjectEntry{Index: i, Name: o.Dest, Location: o.DestDir})
			}
		}
	}
	files, _ := os.ReadDir(s.tree.Objects(k))
	for _, f := range files {
		name, _, ok := ko.SplitName(f.Name())
		if ok && !slices.ContainsFunc(list, func(o state.ObjectEntry) bool { return o.Name == name }) {
			list = append(list, state.ObjectEntry{Name: name})
		}
	}
	return list
}

// conf reads a module's conf, of which no command is run; nil if it can't be read,
// or leaves something open.
func (s *survey) conf(id state.ID) *conf.Module {
	if m, ok := s.confs[id]; ok {
		return m
	}
	m, err := s.load(s.ctx, id, s.anyTarget(), conf.NoExec, io.Discard)
	if err != nil || m.Incomplete {
		m = nil
	}
	s.confs[id] = m
	return m
}

// anyTarget is the newest kernel, for which confs are read that may be of any.
func (s *survey) anyTarget() plan.Target {
	_, machine, err := s.Running()
	if err != nil {
		machine = unknownKernel
	}
	t := plan.Target{Kernel: unknownKernel, Arch: machine}
	if all := kernel.Installed(s.Paths); len(all) > 0 {
		t.Kernel = all[len(all)-1]
		t.Arch = s.arch(t.Kernel, machine)
	}
	return t
}

// resultTrouble is that of a result that isn't whole, or of a link without one.
func (s *survey) resultTrouble(i state.Inconsistency) trouble {
	t := trouble{Inconsistency: i, group: "result " + i.Key.String()}
	again := rebuild(i.Key)
	objects := s.claim(i.Key)
	job := s.fsckJob(i.Key)
	v, active := s.tree.Active(i.Key)
	active = active && v == i.Key.Version
	switch {
	case i.Key.Version == "" || active && len(objects) == 0:
		t.mend = func(lost string) error { return s.dropLink(i.Key, lost) }
		t.group = "link " + i.Path
	case active || i.Kind == state.LinkWrong:
		if job.Partial(objects) {
			t.next = again
			return t
		}
		if t.will = "makes it whole with the objects that are installed, or as they were built"; job.Lost(objects) {
			t.next, t.will = again, "takes away what is left, since no object is anywhere, and gives the kernel its own back"
		}
		t.mend = func(lost string) error {
			_, err := job.Mend(objects, lost)
			return err
		}
	default: // built, not installed: nothing runs of it
		t.will = "moves it aside: it is not installed"
		t.next = []string{fmt.Sprintf("$ dkms build %s -k %s --force", i.Key.ID, i.Key.Kernel)}
		t.mend = func(lost string) error {
			return s.change(func(c *state.Change) error {
				err := c.Aside(s.tree, s.tree.Result(i.Key), lost)
				c.Prune(filepath.Dir(s.tree.Result(i.Key)), s.tree.Version(i.Key.ID))
				return err
			})
		}
	}
	return t
}

// rebuild are the steps that make all objects of a result anew and install them.
func rebuild(k state.Key) []string {
	return []string{fmt.Sprintf("$ dkms build %s -k %s --force", k.ID, k.Kernel), fmt.Sprintf("$ dkms install %s -k %s", k.ID, k.Kernel)}
}

// dropLink takes away an active link of which nothing is known, and gives the
// kernel its originals back. Objects that are installed stay.
func (s *survey) dropLink(k state.Key, lost string) error {
	if err := s.change(func(c *state.Change) error { s.tree.DropLink(c, k); return nil }); err != nil {
		return err
	}
	return s.fsckJob(k).GiveBack(lost)
}

// activeTroubles are those of an installed result. known says that the result
// itself is in trouble already.
func (s *survey) activeTroubles(k state.Key, known bool) {
	objects := s.claim(k)
	job := s.fsckJob(k)
	for _, path := range job.Explained(objects) {
		s.explained[path] = true
	}
	if s.gone[k.Kernel] {
		s.goneTrouble(k, objects)
		return
	}
	if known || !s.tree.Installed(k) {
		return
	}
	index := s.kernel(plan.Target{Kernel: k.Kernel, Arch: k.Arch}).HasImage(s.Paths) && readable(filepath.Join(s.Paths.KernelTree(k.Kernel), "modules.dep"))
	for _, i := range job.Audit(objects, index && len(s.tree.KernelsDue()) == 0) {
		t := trouble{Inconsistency: i, group: "result " + k.String()}
		switch {
		case !s.kernelThere(k.Kernel, k.Arch):
			t.next = []string{"the running kernel's package was removed: reboot into another kernel, then run dkms fsck --repair"}
		case job.Partial(objects):
			t.next = rebuild(k)
		default:
			t.mend = func(lost string) error {
				_, err := job.Mend(objects, lost)
				return err
			}
		}
		s.add(t)
	}
}

// goneTrouble is that of an active link for a kernel that is gone.
func (s *survey) goneTrouble(k state.Key, objects []state.ObjectEntry) {
	i := state.Inconsistency{Kind: fsckKernel, Key: k, Path: s.tree.ActiveLink(k), What: "the module is installed for a kernel that is gone"}
	t := trouble{Inconsistency: i, group: "gone " + k.String()}
	if len(kernel.Installed(s.Paths)) == 0 {
		t.next = []string{"no kernel at all is in " + s.Paths.InstallTree + ": mount it, or install one, and run dkms fsck --repair then"}
		s.add(t)
		return
	}
	t.mend = func(lost string) error {
		return s.fsckJob(k).LeaveKernel(objects, lost)
	}
	s.add(t)
}
