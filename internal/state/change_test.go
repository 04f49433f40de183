// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// begin starts a change in a new root.
func begin(t *testing.T) (root string, tree Tree, c *Change) {
	t.Helper()
	root = t.TempDir()
	tree = Tree{Dir: root + "/tree", Sources: root + "/src"}
	if err := os.Mkdir(tree.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := tree.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return root, tree, c
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAbortLeavesNothing(t *testing.T) {
	root, _, c := begin(t)
	put(t, root+"/there", "old")
	before := snapshot(t, root)
	for _, err := range []error{
		c.StageFile(root+"/there", []byte("new"), 0o644),
		c.StageFile(root+"/new/deep/file", []byte("new"), 0o644),
		c.StageCopy(root+"/there", root+"/new/other"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if tmp, err := c.Stage(root + "/new/dir"); err != nil || os.MkdirAll(tmp+"/x/y", 0o755) != nil {
		t.Fatal(err)
	}
	c.Abort()
	c.Abort()
	if d := diff(snapshot(t, root), before); d != "" {
		t.Error(d)
	}
	clean(t, root)
}

func TestCommitKeepsModes(t *testing.T) {
	root, _, c := begin(t)
	put(t, root+"/from", "text")
	if err := os.Chmod(root+"/from", 0o640); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.StageCopy(root+"/from", root+"/copy"), c.StageFile(root+"/file", nil, 0o600), c.Commit()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"copy": 0o640, "file": 0o600} {
		if fi, err := os.Stat(root + "/" + name); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v %v, want %v", name, fi.Mode(), err, want)
		}
	}
}

func TestStageTwiceTakesTheLast(t *testing.T) {
	root, _, c := begin(t)
	err := errors.Join(c.StageFile(root+"/f", []byte("1"), 0o644), c.StageFile(root+"/f", []byte("2"), 0o644), c.Commit())
	if err != nil || read(t, root+"/f") != "2" {
		t.Errorf("%v, %q", err, read(t, root+"/f"))
	}
	clean(t, root)
}

func TestDirectoryReplacesDirectoryAndFile(t *testing.T) {
	root, _, c := begin(t)
	put(t, root+"/dir/old/file", "x")
	put(t, root+"/file", "x")
	for _, name := range []string{"/dir", "/file"} {
		tmp, err := c.Stage(root + name)
		if err != nil {
			t.Fatal(err)
		}
		put(t, tmp+"/new", "y")
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/dir", "/file"} {
		if _, err := os.Stat(root + name + "/old"); err == nil || read(t, root+name+"/new") != "y" {
			t.Errorf("%s wasn't replaced as a whole", name)
		}
	}
}

// What can't be carried out must be refused before the journal is written:
// every later writer would try it again, and fail.
func TestImpossibleChangeIsRefusedWhole(t *testing.T) {
	cases := map[string]func(c *Change, root string) error{
		"link over directory": func(c *Change, root string) error { c.Link("x", root+"/dir"); return nil },
		"file over directory": func(c *Change, root string) error { return c.StageFile(root+"/dir", nil, 0o644) },
		"nothing prepared":    func(c *Change, root string) error { _, err := c.Stage(root + "/f"); return err },
	}
	for name, fill := range cases {
		t.Run(name, func(t *testing.T) {
			root, tree, c := begin(t)
			put(t, root+"/dir/file", "x")
			before := snapshot(t, root)
			c.Remove(root + "/dir/file")
			if err := fill(c, root); err != nil {
				t.Fatal(err)
			}
			if err := c.Commit(); err == nil {
				t.Error("no error")
			}
			if d := diff(snapshot(t, root), before); d != "" {
				t.Error(d)
			}
			clean(t, root)
			unlock, err := tree.Lock(context.Background(), "", nil)
			if err != nil {
				t.Fatal("the tree can't be locked any more:", err)
			}
			unlock()
		})
	}
}

func TestLinkOverARemovedDirectory(t *testing.T) {
	root, _, c := begin(t)
	put(t, root+"/dir/file", "x")
	c.Remove(root + "/dir")
	c.Link("target", root+"/dir")
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(root + "/dir"); to != "target" {
		t.Error(to, err)
	}
}

func TestRemoveTakesLinksNotTheirTargets(t *testing.T) {
	root, _, c := begin(t)
	put(t, root+"/source/file", "x")
	link(t, root+"/source", root+"/tree/m/1/source")
	c.Remove(root + "/tree/m")
	c.Remove(root + "/never/there")
	if err := c.Commit(); err != nil || read(t, root+"/source/file") != "x" {
		t.Error(err)
	}
}

func TestPruneStopsAtTopAndAtFiles(t *testing.T) {
	root, _, c := begin(t)
	for _, d := range []string{"/top/a/b/c", "/full/a/b", "/other"} {
		if err := os.MkdirAll(root+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, root+"/full/a/file", "x")
	c.Prune(root+"/top/a/b/c", root+"/top")
	c.Prune(root+"/full/a/b", root)
	c.Prune(root+"/other", root+"/top")
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"/top": true, "/top/a": false, "/full/a": true, "/full/a/b": false, "/other": true} {
		if got := isDir(root + path); got != want {
			t.Errorf("%s exists: %v", path, got)
		}
	}
}

func TestUnknownStepIsAnError(t *testing.T) {
	root, tree, c := begin(t)
	c.Abort()
	put(t, root+"/tree/.journal/1.commit", `[{"Do":"explode","Dest":"/x"}]`)
	if _, err := tree.Lock(context.Background(), "", nil); err == nil || !strings.Contains(err.Error(), "explode") {
		t.Error(err)
	}
}

// tmpfs mounts a file system of its own at dir.
func tmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestFullDiskChangesNothing(t *testing.T) {
	big := strings.Repeat("x", 100<<10)
	for _, full := range []string{"tree", "modules"} {
		t.Run(full, func(t *testing.T) {
			root := t.TempDir()
			tmpfs(t, root+"/"+full, "size=64k")
			put(t, root+"/tree/keep", "old")
			put(t, root+"/modules/keep", "old")
			before := snapshot(t, root)
			tree := Tree{Dir: root + "/tree"}
			c, err := tree.Begin()
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(
				c.StageFile(root+"/modules/new/a.ko", []byte("small"), 0o644),
				c.StageFile(root+"/"+full+"/deep/b.ko", []byte(big), 0o644))
			c.Abort()
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("error %v, want ENOSPC", err)
			}
			if d := diff(snapshot(t, root), before); d != "" {
				t.Error(d)
			}
			clean(t, root)
		})
	}
}

// The journal itself may be what doesn't fit any more.
func TestFullDiskAtTheJournal(t *testing.T) {
	root := t.TempDir()
	tmpfs(t, root+"/tree", "size=64k")
	put(t, root+"/old", "old")
	c, err := Tree{Dir: root + "/tree"}.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StageFile(root+"/new", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Remove(root + "/old")
	f, err := os.Create(root + "/tree/fill")
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	if err := c.Commit(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v, want ENOSPC", err)
	}
	if _, err := os.Stat(root + "/new"); err == nil || read(t, root+"/old") != "old" {
		t.Error("something has changed")
	}
	clean(t, root)
}

func TestTreesOnDifferentFileSystems(t *testing.T) {
	root := t.TempDir()
	tmpfs(t, root+"/tree", "size=1m")
	fill(t, root)
	if err := perform(Tree{Dir: root + "/tree"}, root, func() {}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, root+"/modules/6.1/updates/a.ko"); got != "original a" {
		t.Error(got)
	}
	clean(t, root)
}

// A tree reached by a symbolic link works, and the link stays.
func TestLinkedTree(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(root+"/disk/tree", 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, root+"/disk/tree", root+"/tree")
	fill(t, root)
	if err := perform(Tree{Dir: root + "/tree"}, root, func() {}); err != nil {
		t.Fatal(err)
	}
	if !isLink(root+"/tree") || read(t, root+"/disk/tree/m/1/6.1/x/module/a.ko.xz") != "result 2" {
		t.Error("the link or the result is gone")
	}
}

// Readers need no lock: each file is the old or the new one at any moment.
func TestReadersSeeWholeFiles(t *testing.T) {
	root, tree, c := begin(t)
	c.Abort()
	old, new := strings.Repeat("o", 1<<16), strings.Repeat("n", 1<<16)
	put(t, root+"/file", old)
	link(t, "v1", root+"/link")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if text, err := os.ReadFile(root + "/file"); err != nil || string(text) != old && string(text) != new {
					t.Errorf("a reader saw %d bytes, %v", len(text), err)
					return
				}
				if _, err := os.Readlink(root + "/link"); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for i := range 60 {
		c, err := tree.Begin()
		if err != nil {
			t.Fatal(err)
		}
		text := []string{old, new}[i%2]
		if err := c.StageFile(root+"/file", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c.Link("v", root+"/link")
		if err := c.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	readers.Wait()
}

// Builds of one process commit side by side.
func TestChangesSideBySide(t *testing.T) {
	root, tree, c := begin(t)
	c.Abort()
	var group sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		group.Add(1)
		go func() {
			defer group.Done()
			for range 10 {
				c, err := tree.Begin()
				if err == nil {
					err = errors.Join(c.StageFile(filepath.Join(root, name, "f"), []byte(name), 0o644), c.Commit())
				}
				if err != nil {
					t.Error(err)
				}
			}
		}()
	}
	group.Wait()
	clean(t, root)
}
