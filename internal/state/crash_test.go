// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// snapshot tells all that is below dir: files with their content, links with
// their target, directories as such. What a writer needs for itself is left
// out.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case strings.HasSuffix(rel, "/.lock") || strings.Contains(rel, "/.journal"):
		case d.IsDir():
			all[rel] = "directory"
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			all[rel] = "link to " + to
		default:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[rel] = "file " + string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// diff tells the first differences of two snapshots.
func diff(got, want map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if got[k] != want[k] {
			out = append(out, fmt.Sprintf("%s is %q, not %q", k, got[k], want[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if _, ok := got[k]; !ok {
			out = append(out, fmt.Sprintf("%s is missing", k))
		}
	}
	return strings.Join(out, "\n")
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// fill makes the state that the change below begins with: version 1 is
// installed over an original, its result is to be replaced.
func fill(t *testing.T, root string) {
	t.Helper()
	put(t, root+"/tree/m/1/6.1/x/module/a.ko", "result 1")
	put(t, root+"/tree/m/1/6.1/x/log/make.log", "log 1")
	link(t, "1/6.1/x", root+"/tree/m/kernel-6.1-x")
	put(t, root+"/modules/6.1/updates/a.ko", "result 1")
	put(t, root+"/modules/6.1/updates/b.ko", "result b")
	put(t, root+"/modules/6.1/extra/deep/c.ko", "alone")
	put(t, root+"/modules/6.1/odd.ko", "odd object")
	put(t, root+"/tree/odd/thing", "odd")
	put(t, root+"/tree/m/original_module/6.1/x/a.ko", "original a")
	put(t, root+"/tree/m/original_module/6.1/x/a.ko.origin", root+"/modules/6.1/updates/a.ko\n")
}

// perform makes one change with every kind of step, among them those whose
// repetition could take away what a later one has put: an object is removed
// and its original comes to the same place from a file that goes as well.
func perform(tree Tree, root string, tick func()) error {
	c, err := tree.Begin()
	if err != nil {
		return err
	}
	defer c.Abort()
	c.step = tick
	tick()
	updates := root + "/modules/6.1/updates"
	kept := root + "/tree/m/original_module/6.1/x"
	c.Remove(updates + "/a.ko")
	if err := c.StageCopy(kept+"/a.ko", updates+"/a.ko"); err != nil {
		return err
	}
	tick()
	c.Remove(kept + "/a.ko")
	c.Remove(kept + "/a.ko.origin")
	c.Link("../elsewhere/b.ko", updates+"/b.ko")
	if err := c.StageFile(root+"/modules/6.1/new/dir/d.ko", []byte("d"), 0o600); err != nil {
		return err
	}
	tick()
	tmp, err := c.Stage(root + "/tree/m/1/6.1/x")
	if err != nil {
		return err
	}
	tick()
	if err := os.MkdirAll(tmp+"/module", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(tmp+"/module/a.ko.xz", []byte("result 2"), 0o644); err != nil {
		return err
	}
	tick()
	c.Remove(root + "/modules/6.1/extra/deep/c.ko")
	c.Prune(root+"/modules/6.1/extra/deep", root+"/modules/6.1")
	c.Link("2/6.1/x", root+"/tree/m/kernel-6.1-x")
	c.Prune(kept, root+"/tree")
	for _, path := range []string{root + "/tree/odd/thing", root + "/modules/6.1/odd.ko"} {
		if err := c.Aside(tree, path, root+"/tree/.lost+found/now"); err != nil {
			return err
		}
	}
	c.Prune(root+"/tree/odd", root+"/tree")
	c.Own(root+"/tree/m", Owner{os.Getuid(), os.Getgid()})
	return c.Commit()
}

// countdown returns a function that kills the process at its n-th call.
func countdown(n int) func() {
	return func() {
		if n--; n == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
}

// TestChild is what the other tests start as a process of its own; by itself
// it has nothing to do.
func TestChild(t *testing.T) {
	root, mode := os.Getenv("STATE_TEST_ROOT"), os.Getenv("STATE_TEST_MODE")
	n, _ := strconv.Atoi(os.Getenv("STATE_TEST_KILL"))
	tree := Tree{Dir: root + "/tree"}
	switch mode {
	case "change":
		unlock, err := tree.Lock(context.Background(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		if err := perform(tree, root, countdown(n)); err != nil {
			t.Fatal(err)
		}
	case "recover":
		if err := tree.recover(countdown(n)); err != nil {
			t.Fatal(err)
		}
	case "hold":
		unlock, err := tree.Lock(context.Background(), "", &Wait{Proc: "/proc"})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("locked")
		os.Stdin.Read(make([]byte, 1))
		unlock()
	}
}

// child returns a command that runs TestChild.
func child(root, mode string, kill int) *exec.Cmd {
	c := exec.Command(os.Args[0], "-test.run=^TestChild$")
	c.Env = append(os.Environ(), "STATE_TEST_ROOT="+root, "STATE_TEST_MODE="+mode, fmt.Sprint("STATE_TEST_KILL=", kill))
	return c
}

// killed runs a child and tells whether it was killed at its n-th step.
func killed(t *testing.T, root, mode string, n int) bool {
	t.Helper()
	c := child(root, mode, n)
	out, err := c.CombinedOutput()
	if err == nil {
		return false
	}
	if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child to be killed at step %d of %s ended by itself: %v\n%s", n, mode, err, out)
	}
	return true
}

// clean fails for anything that a writer should have tidied away.
func clean(t *testing.T, root string) {
	t.Helper()
	filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, stagedSuffix) {
			t.Errorf("%s is left", path)
		}
		return err
	})
	left, _ := os.ReadDir(root + "/tree/.journal")
	for _, e := range left {
		t.Errorf("the journal still has %s", e.Name())
	}
}

// neutral makes the snapshots of two roots comparable.
func neutral(root string, all map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range all {
		out[strings.ReplaceAll(k, root, "/ROOT")] = strings.ReplaceAll(v, root, "ROOT")
	}
	return out
}

// endings returns how the state looks before and after the change.
func endings(t *testing.T) (before, after map[string]string) {
	t.Helper()
	root := t.TempDir()
	fill(t, root)
	before = neutral(root, snapshot(t, root))
	if err := perform(Tree{Dir: root + "/tree"}, root, func() {}); err != nil {
		t.Fatal(err)
	}
	after = neutral(root, snapshot(t, root))
	clean(t, root)
	return before, after
}

func TestChangeAppliesEveryKindOfStep(t *testing.T) {
	_, got := endings(t)
	want := map[string]string{
		".": "directory", "tree": "directory", "modules": "directory",
		"modules/6.1": "directory", "modules/6.1/updates": "directory",
		"modules/6.1/updates/a.ko": "file original a",
		"modules/6.1/updates/b.ko": "link to ../elsewhere/b.ko",
		"modules/6.1/new":          "directory", "modules/6.1/new/dir": "directory",
		"modules/6.1/new/dir/d.ko": "file d",
		"tree/m":                   "directory", "tree/m/1": "directory", "tree/m/1/6.1": "directory",
		"tree/m/1/6.1/x": "directory", "tree/m/1/6.1/x/module": "directory",
		"tree/m/1/6.1/x/module/a.ko.xz":                "file result 2",
		"tree/m/kernel-6.1-x":                          "link to 2/6.1/x",
		"tree/.lost+found/now/ROOT/tree/odd/thing":     "file odd",
		"tree/.lost+found/now/ROOT/modules/6.1/odd.ko": "file odd object",
	}
	for path := range got {
		if got[path] == "directory" && strings.HasPrefix(path, "tree/.lost+found") {
			delete(got, path)
		}
	}
	if d := diff(got, want); d != "" {
		t.Error(d)
	}
}

// A writer killed at any step leaves what the next one turns into the old or
// the new state, whole.
func TestKilledWriterIsUndoneOrFinished(t *testing.T) {
	before, after := endings(t)
	finished, n := 0, 1
	for ; ; n++ {
		root := t.TempDir()
		fill(t, root)
		if !killed(t, root, "change", n) {
			break
		}
		want := before
		if m, _ := filepath.Glob(root + "/tree/.journal/*.commit"); len(m) > 0 {
			want = after
			finished++
		}
		settle(t, root, want, fmt.Sprintf("killed at step %d", n))
	}
	if finished < 8 || n-finished < 6 {
		t.Errorf("of %d kills only %d struck in the middle of a commit", n-1, finished)
	}
}

// settle locks the tree as the next writer would and compares.
func settle(t *testing.T, root string, want map[string]string, when string) {
	t.Helper()
	unlock, err := Tree{Dir: root + "/tree"}.Lock(context.Background(), "", nil)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	unlock()
	if d := diff(neutral(root, snapshot(t, root)), want); d != "" {
		t.Errorf("%s:\n%s", when, d)
	}
	clean(t, root)
}

// A recovery killed at any of its steps is begun again by the next writer.
func TestKilledRecoveryIsRepeated(t *testing.T) {
	_, after := endings(t)
	commit := 0
	for n := 1; commit == 0; n++ {
		root := t.TempDir()
		fill(t, root)
		if !killed(t, root, "change", n) {
			t.Fatal("no kill left a journal")
		}
		if m, _ := filepath.Glob(root + "/tree/.journal/*.commit"); len(m) > 0 {
			commit = n
		}
	}
	for m := 1; ; m++ {
		root := t.TempDir()
		fill(t, root)
		killed(t, root, "change", commit)
		if !killed(t, root, "recover", m) {
			break
		}
		settle(t, root, after, fmt.Sprintf("recovery killed at step %d", m))
	}
}

// The journal of a change whose last steps were done while its file stayed
// (power was cut before its removal reached the disk) does no harm.
func TestJournalThatCameBackChangesNothing(t *testing.T) {
	root := t.TempDir()
	fill(t, root)
	tree := Tree{Dir: root + "/tree"}
	var journal []byte
	var name string
	tick := func() {
		if m, _ := filepath.Glob(tree.Dir + "/.journal/*.commit"); len(m) > 0 {
			name = m[0]
			journal, _ = os.ReadFile(name)
		}
	}
	if err := perform(tree, root, tick); err != nil {
		t.Fatal(err)
	}
	want := neutral(root, snapshot(t, root))
	put(t, name, string(journal))
	settle(t, root, want, "journal came back")
}
