// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"io"
	"io/fs"
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

// orphan is an object in a kernel's tree that no active result accounts for.
type orphan struct {
	path, name string
	target     plan.Target
}

// owners tells which modules have an object of a name: those of the tree, and those
// whose source only is there.
type owners map[string][]state.ID

// orphans looks at the objects below directories that dkms installs into.
func (s *survey) orphans() {
	entries, _ := os.ReadDir(s.Paths.InstallTree)
	_, machine, err := s.Running()
	if err != nil {
		return
	}
	var who owners
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		for _, o := range s.orphansOf(plan.Target{Kernel: e.Name(), Arch: s.arch(e.Name(), machine)}, &who) {
			s.orphanTrouble(o, who)
		}
	}
}

// orphansOf lists the objects of a kernel that nothing accounts for: all those in
// directories that are of dkms alone, of others those that a module would have put
// there.
func (s *survey) orphansOf(t plan.Target, who *owners) []orphan {
	tree := s.Paths.KernelTree(t.Kernel)
	var list []orphan
	note := func(path string) {
		if name, _, ok := ko.SplitName(filepath.Base(path)); ok && !s.explained[path] {
			list = append(list, orphan{path, name, t})
		}
	}
	own := filepath.Join(tree, "updates", "dkms")
	_ = filepath.WalkDir(own, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			note(path)
		}
		return nil
	})
	for _, dir := range []string{"updates", "extra"} {
		files, _ := os.ReadDir(filepath.Join(tree, dir))
		for _, f := range files {
			name, _, ok := ko.SplitName(f.Name())
			if !ok || f.IsDir() {
				continue
			}
			if *who == nil {
				*who = s.owners()
			}
			if slices.ContainsFunc((*who)[name], func(id state.ID) bool { return s.puts(id, name, dir) }) {
				note(filepath.Join(tree, dir, f.Name()))
			}
		}
	}
	if len(list) > 0 && *who == nil {
		*who = s.owners()
	}
	return list
}

// puts reports whether a module installs an object into a directory of a kernel.
func (s *survey) puts(id state.ID, name, dir string) bool {
	m := s.conf(id)
	return m != nil && slices.ContainsFunc(m.Objects, func(o conf.Object) bool {
		return o.Dest == name && strings.Trim(s.installDir(o.DestDir), "/") == dir
	})
}

func (s *survey) owners() owners {
	who := owners{}
	ids := s.tree.Modules("", "")
	sources, _ := filepath.Glob(filepath.Join(s.Paths.SourceTree, "*", "dkms.conf"))
	for _, file := range sources {
		m, err := s.loadFile(s.ctx, state.ID{}, s.anyTarget(), file, conf.NoExec, io.Discard)
		if err != nil || m.Incomplete {
			continue
		}
		id := state.ID{Module: m.Name, Version: m.Version}
		if id.Check() == nil && s.tree.Source(id) == filepath.Dir(file) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		m := s.conf(id)
		if m == nil || s.standIn(id) {
			continue
		}
		for _, o := range m.Objects {
			who[o.Dest] = append(who[o.Dest], id)
		}
	}
	return who
}

// orphanTrouble tells of an object without result, and finds its cure: it becomes
// the result of its module, or goes if its kernel has no use for it. What a kernel
// would load and nobody accounts for stays: it may be in use.
func (s *survey) orphanTrouble(o orphan, who owners) {
	k := state.Key{Kernel: o.target.Kernel, Arch: o.target.Arch}
	i := state.Inconsistency{Kind: fsckObject, Path: o.path, Key: k, What: "no result accounts for the object"}
	t := trouble{Inconsistency: i, group: "object " + o.path}
	aside := func(lost string) error { return s.objectAside(o, lost) }
	id, sure := s.ownerOf(o, who)
	k.ID = id
	switch {
	case !s.kernelThere(k.Kernel, k.Arch) && !s.runs(k.Kernel):
		t.Kind, t.What = fsckKernel, "the object is for a kernel that is gone"
		if len(kernel.Installed(s.Paths)) > 0 {
			t.mend = aside
		} else {
			t.next = []string{"no kernel at all is in " + s.Paths.InstallTree + ": install one, and run dkms fsck --repair then"}
		}
	case !install.Loadable(o.path, k.Kernel):
		t.What += ", and the kernel would not load it"
		t.mend = aside
	case s.twin(o):
		t.What += ": the module of that name is installed beside it"
		t.mend = aside
	case !sure:
		t.next = []string{"find out whose it is: modinfo " + o.path, "if nothing needs it, move it away and run: depmod -a " + k.Kernel}
	default:
		s.adoptTrouble(&t, k)
	}
	s.add(t)
}

// adoptTrouble adds the cure of making the objects of a kernel the result of their
// module.
func (s *survey) adoptTrouble(t *trouble, k state.Key) {
	t.Key = k
	t.What += fmt.Sprintf(", which is of %s", k.ID)
	t.group = "result " + k.String()
	objects := s.claim(k)
	job := s.fsckJob(k)
	if _, active := s.tree.Active(k); active || job.Partial(objects) {
		t.next = rebuild(k)
		return
	}
	t.mend = func(lost string) error {
		_, err := job.Mend(objects, lost)
		return err
	}
}

// twin reports whether an object of the same name that is accounted for is beside
// the orphan, or further off in the kernel's tree.
func (s *survey) twin(o orphan) bool {
	for path := range s.explained {
		name, _, _ := ko.SplitName(filepath.Base(path))
		if name == o.name && strings.HasPrefix(path, s.Paths.KernelTree(o.target.Kernel)+"/") && readable(path) {
			return true
		}
	}
	return false
}

// ownerOf tells which module an object is of: the only one that has its name, or
// that of its version (modinfo(8)).
func (s *survey) ownerOf(o orphan, who owners) (state.ID, bool) {
	ids := slices.Clone(who[o.name])
	if len(ids) > 1 {
		version := ""
		if data, err := ko.Read(o.path); err == nil {
			if info, err := ko.ParseInfo(data); err == nil {
				version = info.Version()
			}
		}
		ids = slices.DeleteFunc(ids, func(id state.ID) bool { return id.Version != version && !s.result(o, id) })
	}
	if len(ids) != 1 {
		return state.ID{}, false
	}
	return ids[0], true
}

// result reports whether a module's result for the kernel has the object.
func (s *survey) result(o orphan, id state.ID) bool {
	from, ok := install.Find(s.tree.Objects(o.target.Key(id)), o.name)
	return ok && install.Same(from, o.path)
}

func (s *survey) objectAside(o orphan, lost string) error {
	return s.change(func(c *state.Change) error {
		if err := c.Aside(s.tree, o.path, lost); err != nil {
			return err
		}
		tree := s.Paths.KernelTree(o.target.Kernel)
		top := tree
		if !s.kernelThere(o.target.Kernel, o.target.Arch) {
			top = filepath.Dir(tree)
		}
		c.Prune(filepath.Dir(o.path), top)
		if s.NoDepmod {
			return nil
		}
		return c.StageFile(s.tree.IndexDue(o.target.Kernel), nil, 0o644)
	})
}
