// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/copytree"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/test/crowd"
)

// crowded returns a machine with modules x kernels that remembers.
func crowded(t testing.TB, modules, kernels int) *machine {
	t.Helper()
	m := newMachine(t)
	m.set.Paths.Cache = m.root + "/cache"
	if err := os.RemoveAll(m.root + "/lib/modules"); err != nil {
		t.Fatal(err)
	}
	o := crowd.Options{Paths: m.set.Paths, Modules: modules, Kernels: kernels, Headers: 1000, Image: 1000}
	if err := crowd.Lay(o, copytree.Digest); err != nil {
		t.Fatal(err)
	}
	m.set.Running = func() (string, string, error) { return crowd.Kernel(0), crowd.Arch, nil }
	return m
}

// settle waits until all files are old enough for their stamps to be relied on.
func settle() { time.Sleep(3100 * time.Millisecond) }

// rows is a status as text, with all that is known of each row.
func (m *machine) rows(cache bool) string {
	m.t.Helper()
	keep := m.set.Paths.Cache
	defer func() { m.set.Paths.Cache = keep }()
	if !cache {
		m.set.Paths.Cache = ""
	}
	e := m.engine()
	var b strings.Builder
	for s := range e.Standings(context.Background(), Filter{}, false) {
		s.Record = state.Record{}
		fmt.Fprintf(&b, "%+v\n", s)
	}
	e.Remember()
	return b.String()
}

func crowdKey(i, kernel int) state.Key {
	return state.Key{ID: crowd.Module(i), Kernel: crowd.Kernel(kernel), Arch: crowd.Arch}
}

// TestMemoryChangesNothing changes one thing after another that status looks at, and
// holds what it then says from memory against what it says without any.
func TestMemoryChangesNothing(t *testing.T) {
	m := crowded(t, 16, 2)
	settle()
	if got, want := m.rows(true), m.rows(false); got != want || strings.Count(got, "State:installed") != 32 {
		t.Fatalf("%s\nwant\n%s", got, want)
	}
	e := m.engine()
	e.forgetStamps()
	for i := range 16 {
		if !e.sound(crowdKey(i, 0), true) || !e.sound(crowdKey(i, 1), false) {
			t.Fatalf("module %d is not remembered", i)
		}
	}
	tree := m.engine().tree
	placed := func(i int) string {
		return filepath.Join(m.set.Paths.KernelTree(crowd.Kernel(0)), "updates/dkms", crowd.Module(i).Module+".ko")
	}
	object := func(i int) string { return filepath.Join(tree.Objects(crowdKey(i, 0)), crowd.Module(i).Module+".ko") }
	flip := func(path string) { // same size and mtime
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(path)
		text[len(text)/2] ^= 1
		os.WriteFile(path, text, 0o644)
		os.Chtimes(path, fi.ModTime(), fi.ModTime())
	}
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	edit := func(path, from, to string) {
		text, err := os.ReadFile(path)
		must(err)
		must(os.WriteFile(path, []byte(strings.ReplaceAll(string(text), from, to)), 0o644))
	}
	record := func(i int) string { return filepath.Join(tree.Result(crowdKey(i, 0)), state.RecordFile) }
	for _, c := range []struct {
		name   string
		change func()
		// row is whether the row of module i for the first kernel must differ.
		differs int
	}{
		{"an installed object is changed in place", func() { flip(placed(0)) }, 0},
		{"an installed object is gone", func() { must(os.Remove(placed(1))) }, 1},
		{"a result's object is changed in place", func() { flip(object(2)) }, 2},
		{"a result's object is gone", func() { must(os.Remove(object(3))) }, 3},
		{"the active link is gone", func() { must(os.Remove(tree.ActiveLink(crowdKey(4, 0)))) }, 4},
		{"the active link names another", func() {
			link := tree.ActiveLink(crowdKey(5, 0))
			must(os.Remove(link), os.Symlink("2.0/"+crowd.Kernel(0)+"/"+crowd.Arch, link))
		}, 5},
		{"an object that goes before is put beside", func() {
			must(os.Rename(object(6), object(6)+".xz"), os.Rename(placed(6), placed(6)+".xz"), os.WriteFile(placed(6), nil, 0o644))
		}, 6},
		{"the record is of another kernel", func() { edit(record(7), "#1 SMP", "#2 SMP") }, 7},
		{"the record names one object more", func() {
			edit(record(8), `"objects": [`, `"objects": [{"name": "other", "location": "/x"},`)
		}, 8},
		{"the record is gone", func() { must(os.Remove(record(9))) }, -1},
		{"originals are there", func() { must(os.MkdirAll(tree.Originals(crowdKey(10, 0)), 0o755)) }, 10},
		{"the result is gone", func() { must(os.RemoveAll(tree.Result(crowdKey(11, 0)))) }, 11},
		{"another arch is built", func() {
			must(copytree.Copy(tree.Result(crowdKey(12, 0)), filepath.Dir(tree.Result(crowdKey(12, 0)))+"/i686"))
		}, -1},
		{"another kernel is built", func() {
			must(copytree.Copy(filepath.Dir(tree.Result(crowdKey(13, 0))), tree.Version(crowd.Module(13))+"/9.9.9"))
		}, -1},
		{"the source link is gone", func() { must(os.Remove(tree.SourceLink(crowd.Module(14)))) }, 14},
		{"a module is new", func() {
			must(os.MkdirAll(filepath.Join(tree.Dir, "new", "1"), 0o755), os.Symlink(m.root, filepath.Join(tree.Dir, "new", "1", "source")))
		}, -1},
		{"a version is new", func() {
			must(os.MkdirAll(filepath.Join(tree.Dir, crowd.Module(15).Module, "3"), 0o755), os.Symlink(m.root, filepath.Join(tree.Dir, crowd.Module(15).Module, "3", "source")))
		}, -1},
		{"the other kernel's Module.symvers is changed in place", func() {
			flip(filepath.Join(m.set.Paths.KernelTree(crowd.Kernel(1)), "build/Module.symvers"))
		}, -1},
		{"the distribution has another directory", func() { m.put("os-release", "ID=fedora\n") }, -1},
		{"and has it back", func() { m.put("os-release", "ID=debian\n") }, -1},
		{"the other kernel's headers are gone", func() { must(os.RemoveAll(filepath.Join(m.set.Paths.KernelTree(crowd.Kernel(1)), "build"))) }, -1},
	} {
		before := m.rows(true)
		c.change()
		want := m.rows(false)
		if got := m.rows(true); got != want {
			t.Errorf("%s: from memory\n%s", c.name, lineDiff(want, got))
		}
		if c.differs >= 0 && strings.Contains(lineDiff(before, want), crowd.Module(c.differs).Module) == false {
			t.Errorf("%s: nothing is told of it:\n%s", c.name, lineDiff(before, want))
		}
	}
}

// TestAutoinstallFromMemory sees what changes under installed modules.
func TestAutoinstallFromMemory(t *testing.T) {
	m := crowded(t, 8, 2)
	settle()
	target := plan.Target{Kernel: crowd.Kernel(0), Arch: crowd.Arch}
	due := func() string {
		e := m.engine()
		e.deep = true
		var list []string
		for i := range 8 {
			if !e.settled(crowd.Module(i), target) {
				list = append(list, fmt.Sprint(i))
			}
		}
		if (len(list) == 0) != e.nothingDue(target) {
			t.Errorf("due are %v, nothingDue says %v", list, len(list) > 0)
		}
		e.Remember()
		return strings.Join(list, " ")
	}
	if got := due(); got != "" {
		t.Fatalf("due: %s", got)
	}
	e := m.engine()
	e.forgetStamps()
	if !e.sound(crowdKey(0, 0), true) {
		t.Fatal("nothing is remembered")
	}
	tree := e.tree
	placed := func(i int) string {
		return filepath.Join(m.set.Paths.KernelTree(crowd.Kernel(0)), "updates/dkms", crowd.Module(i).Module+".ko")
	}
	for _, c := range []struct {
		name, due string
		change    func() error
	}{
		{"an installed object is gone", "0", func() error { return os.Remove(placed(0)) }},
		{"an installed object is cut off", "0 1", func() error { return os.Truncate(placed(1), 100) }},
		{"the source is changed in place", "0 1 2", func() error {
			return os.WriteFile(filepath.Join(tree.Source(crowd.Module(2)), "include/x.h"), []byte(strings.Repeat("#define X 2\n", 100)), 0o644)
		}},
		{"the list names one more", "0 1 2 3", func() error {
			return os.WriteFile(tree.PlacedList(crowdKey(3, 0)), []byte("00  "+filepath.Dir(placed(3))+"/other.ko\n"), 0o644)
		}},
		{"the active link is gone", "0 1 2 3 4", func() error { return os.Remove(tree.ActiveLink(crowdKey(4, 0))) }},
		{"the kernel is another of its release", "0 1 2 3 4 5 6 7", func() error {
			return os.WriteFile(filepath.Join(m.set.Paths.KernelTree(crowd.Kernel(0)), "build/include/generated/compile.h"), []byte("#define UTS_VERSION \"#9\"\n"), 0o644)
		}},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		if got := due(); got != c.due {
			t.Errorf("%s: due are %q, want %q", c.name, got, c.due)
		}
	}
}

// TestReplacedCompiler sees another compiler, which is asked once.
func TestReplacedCompiler(t *testing.T) {
	m := crowded(t, 2, 1)
	cc := filepath.Join(m.root, "cc")
	log := filepath.Join(m.root, "asked")
	m.put("cc", "#!/bin/sh\necho x >>"+log+"\necho cc 1\n", 0o755)
	fi, err := os.Stat(cc)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		k := crowdKey(i, 0)
		r, err := m.engine().tree.Record(k)
		if err != nil {
			t.Fatal(err)
		}
		r.Compiler = &state.Program{Path: cc, Size: fi.Size(), ModTime: fi.ModTime().UnixNano(), Banner: "cc 1"}
		if err := state.WriteRecord(m.engine().tree.Result(k), r); err != nil {
			t.Fatal(err)
		}
	}
	settle()
	stale := func(want int) {
		t.Helper()
		if got := strings.Count(m.rows(true), "the compiler"); got != want {
			t.Errorf("%d are stale, want %d", got, want)
		}
	}
	stale(0)
	if err := os.WriteFile(cc, []byte("#!/bin/sh\necho x >>"+log+"\necho cc 2, another\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	stale(2)
	settle()
	stale(2)
	asked := len(m.read("asked"))
	stale(2)
	if again := len(m.read("asked")); again != asked {
		t.Errorf("the compiler was run %d times more", (again-asked)/2)
	}
}
