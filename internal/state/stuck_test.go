// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// A change that an error stops in the middle keeps others from being begun, and
// what it has prepared; the next writer finishes it.
func TestStuckChange(t *testing.T) {
	root := t.TempDir()
	tree := Tree{Dir: root + "/tree"}
	lock := func() (func(), error) { return tree.Lock(context.Background(), "", nil) }
	if err := os.MkdirAll(tree.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock()
	if err != nil {
		t.Fatal(err)
	}
	c, err := tree.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := c.StageFile(filepath.Join(root, "modules", name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	obstacle := root + "/modules/b/in the way"
	steps := 0
	c.step = func() {
		if steps++; steps == 3 { // a is in its place
			put(t, obstacle, "")
		}
	}
	if err := c.Commit(); err == nil {
		t.Fatal("a file took the place of a directory")
	}
	if _, err := tree.Begin(); err == nil {
		t.Error("another change was begun")
	}
	unlock()
	if _, err := lock(); err == nil {
		t.Error("nobody can finish it yet")
	}
	if err := os.RemoveAll(filepath.Dir(obstacle)); err != nil {
		t.Fatal(err)
	}
	if unlock, err = lock(); err != nil {
		t.Fatal(err)
	}
	unlock()
	if d := diff(snapshot(t, root+"/modules"), map[string]string{".": "directory", "a": "file a", "b": "file b"}); d != "" {
		t.Error(d)
	}
	clean(t, root)
}
