// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sound makes a tree in which all is well.
func sound(t *testing.T) Tree {
	t.Helper()
	root := t.TempDir()
	tree := Tree{Dir: root + "/tree", Sources: root + "/src"}
	k := Key{ID{"m", "1"}, "6.1", "x"}
	sum := sha256.Sum256([]byte("object"))
	put(t, tree.Source(k.ID)+"/dkms.conf", "")
	link(t, tree.Source(k.ID), tree.SourceLink(k.ID))
	put(t, tree.Objects(k)+"/a.ko", "object")
	put(t, tree.Build(k.ID)+"/.a.ko.dkms-new", "a source may have any name")
	link(t, "1/6.1/x", tree.ActiveLink(k))
	put(t, tree.Originals(k)+"/a.ko", "original")
	put(t, tree.Originals(k)+"/a.ko.origin", "/lib/modules/6.1/a.ko\n")
	if err := WriteRecord(tree.Result(k), Record{Format: RecordFormat, Objects: []ObjectEntry{{File: "a.ko", SHA256: hex.EncodeToString(sum[:])}}}); err != nil {
		t.Fatal(err)
	}
	return tree
}

// Each thing that no finished change leaves is told, with its path.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, tree Tree)
		want  string
	}{
		"all well":        {func(*testing.T, Tree) {}, ""},
		"interrupted":     {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/.journal/1.commit", "[]") }, "/.journal/1.commit"},
		"prepared":        {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/.x.dkms-new/module/a.ko", "") }, "/m/1/6.1/.x.dkms-new"},
		"build":           {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/.build-6.1-x/a.o", "") }, "/m/1/.build-6.1-x"},
		"no source":       {func(t *testing.T, tree Tree) { os.Remove(tree.Dir + "/m/1/source") }, "/m/1/source"},
		"no objects":      {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.2/x/log/make.log", "") }, "/m/1/6.2/x"},
		"no result":       {func(t *testing.T, tree Tree) { link(t, "1/6.3/x", tree.Dir+"/m/kernel-6.3-x") }, "/m/kernel-6.3-x"},
		"object gone":     {func(t *testing.T, tree Tree) { os.Remove(tree.Dir + "/m/1/6.1/x/module/a.ko") }, "/m/1/6.1/x/module"},
		"object changed":  {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/x/module/a.ko", "obj") }, "/m/1/6.1/x/module/a.ko"},
		"original gone":   {func(t *testing.T, tree Tree) { os.Remove(tree.Dir + "/m/original_module/6.1/x/a.ko") }, "/m/original_module/6.1/x/a.ko.origin"},
		"original as old": {func(t *testing.T, tree Tree) { os.Remove(tree.Dir + "/m/original_module/6.1/x/a.ko.origin") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := sound(t)
			c.spoil(t, tree)
			found := tree.Check()
			var paths []string
			for _, i := range found {
				paths = append(paths, strings.TrimPrefix(i.Path, tree.Dir))
			}
			want := []string{}
			if c.want != "" {
				want = append(want, c.want)
			}
			if !slices.Equal(paths, want) {
				t.Errorf("found %v, want %v", found, want)
			}
		})
	}
}

// The next writer clears away what a killed one left outside of changes, and
// nothing else.
func TestSweep(t *testing.T) {
	tree := sound(t)
	before := snapshot(t, tree.Dir)
	delete(before, "m/1/build")
	delete(before, "m/1/build/.a.ko.dkms-new")
	put(t, tree.Dir+"/.source/n/1/.a.dkms-new", "of a source")
	before[".source"], before[".source/n"], before[".source/n/1"] = "directory", "directory", "directory"
	before[".source/n/1/.a.dkms-new"] = "file of a source"
	put(t, tree.Dir+"/m/1/.build-6.1-x/a.o", "")
	put(t, tree.Dir+"/.outcome/m/1/6.1/.x.json.dkms-new", "")
	put(t, tree.Dir+"/m/1/6.1/x/log/.make.log.dkms-new", "")
	if !tree.Settled() {
		t.Error("no writer was there")
	}
	if err := os.Mkdir(filepath.Join(tree.Dir, ".journal"), 0o755); err != nil {
		t.Fatal(err)
	}
	if tree.Settled() {
		t.Error("a writer was killed")
	}
	before["m/1/6.1/x/log"] = "directory"
	unlock, err := tree.Lock(context.Background(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if d := diff(snapshot(t, tree.Dir), before); d != "" {
		t.Error(d)
	}
	if !tree.Settled() {
		t.Error("the writer has ended")
	}
}
