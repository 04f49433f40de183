// SPDX-License-Identifier: Apache-2.0

package state

import (
	"os"
	"path/filepath"
	"testing"
)

// A sketch has the same modules, and of their results those that are installed for
// the kernels that were asked for.
func TestSketch(t *testing.T) {
	top := t.TempDir()
	tree := Tree{Dir: filepath.Join(top, "tree"), Sources: filepath.Join(top, "src")}
	put := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, b, gone, kept := ID{"a", "1"}, ID{"b", "1"}, ID{"gone", "1"}, ID{"kept", "1"}
	for _, id := range []ID{a, b} {
		put(filepath.Join(tree.Source(id), "dkms.conf"), "")
		if err := tree.Enlist(id, tree.Source(id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Enlist(gone, tree.Source(gone)); err != nil {
		t.Fatal(err)
	}
	put(filepath.Join(tree.KeptSource(kept), "dkms.conf"), "")
	if err := tree.Enlist(kept, tree.KeptSource(kept)); err != nil {
		t.Fatal(err)
	}
	for _, k := range []Key{{a, "k1", "x"}, {a, "k2", "x"}, {b, "k1", "x"}} {
		put(filepath.Join(tree.Objects(k), "m.ko"), "object")
	}
	for _, k := range []Key{{a, "k1", "x"}, {a, "k2", "x"}} {
		if err := tree.Mark(k); err != nil {
			t.Fatal(err)
		}
	}
	dest := filepath.Join(top, "sketch")
	put(filepath.Join(dest, "left"), "by an earlier call")
	if err := tree.Sketch(dest, []string{"k1", "k3"}); err != nil {
		t.Fatal(err)
	}
	sketch := Tree{Dir: dest, Sources: tree.Sources}
	for id, want := range map[ID]Condition{a: Added, b: Added, gone: Broken, kept: Added} {
		if got := sketch.Condition(id); got != want {
			t.Errorf("%s is %v, want %v", id, got, want)
		}
	}
	for k, want := range map[Key]bool{{a, "k1", "x"}: true, {a, "k2", "x"}: false, {b, "k1", "x"}: false} {
		if got := sketch.Installed(k); got != want {
			t.Errorf("%s: installed is %v", k, got)
		}
	}
	for path, want := range map[string]bool{"left": false, "b/1/k1": false, ".source/kept/1/dkms.conf": true} {
		if _, err := os.Stat(filepath.Join(dest, path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := (Tree{Dir: filepath.Join(top, "none")}).Sketch(dest, nil); err != nil {
		t.Errorf("a tree that isn't there: %v", err)
	}
}
