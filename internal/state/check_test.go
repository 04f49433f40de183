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
	"time"

	"golang.org/x/sys/unix"
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
	if err := WriteRecord(tree.Result(k), Record{Format: RecordFormat, Module: "m", Version: "1", Kernel: "6.1", Arch: "x", Objects: []ObjectEntry{{Name: "a", File: "a.ko", Location: "/extra", SHA256: hex.EncodeToString(sum[:])}}}); err != nil {
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
		"all well":       {func(*testing.T, Tree) {}, ""},
		"interrupted":    {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/.journal/1.commit", "[]") }, "/.journal/1.commit"},
		"prepared":       {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/.x.dkms-new/module/a.ko", "") }, "/m/1/6.1/.x.dkms-new"},
		"build":          {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/.build-6.1-x/a.o", "") }, "/m/1/.build-6.1-x"},
		"no source":      {func(t *testing.T, tree Tree) { os.Remove(tree.Dir + "/m/1/source") }, "/m/1/source"},
		"no objects":     {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.2/x/log/make.log", "") }, "/m/1/6.2/x"},
		"no result":      {func(t *testing.T, tree Tree) { link(t, "1/6.3/x", tree.Dir+"/m/kernel-6.3-x") }, "/m/kernel-6.3-x"},
		"object gone":    {func(t *testing.T, tree Tree) { os.Remove(tree.Dir + "/m/1/6.1/x/module/a.ko") }, "/m/1/6.1/x/module"},
		"object changed": {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/x/module/a.ko", "obj") }, "/m/1/6.1/x/module/a.ko"},
		"original gone":  {func(t *testing.T, tree Tree) { os.Remove(tree.Dir + "/m/original_module/6.1/x/a.ko") }, "/m/original_module/6.1/x/a.ko.origin"},
		"a file":         {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/x", "") }, "/x"},
		"a directory":    {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/x/y/z", "") }, "/x"},
		"in a module":    {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/x", "") }, "/m/x"},
		"in a version":   {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/x", "") }, "/m/1/x"},
		"in a kernel":    {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/f", "") }, "/m/1/6.1/f"},
		"in a result":    {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/x/f", "") }, "/m/1/6.1/x/f"},
		"with objects":   {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/x/module/f", "") }, "/m/1/6.1/x/module/f"},
		"a link as file": {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/kernel-6.2-x", "") }, "/m/kernel-6.2-x"},
		"upstream's": {func(t *testing.T, tree Tree) {
			put(t, tree.Dir+"/m/1/tarball/a.tgz", "")
			put(t, tree.Dir+"/m/original_module/6.1/x/collisions/b", "")
		}, ""},
		"moved aside":  {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/.lost+found/now/x/.y.dkms-new", "") }, ""},
		"record cut":   {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/x/build.json", "{") }, "/m/1/6.1/x/build.json"},
		"record empty": {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/x/build.json", "{}") }, "/m/1/6.1/x/build.json"},
		"record short": {func(t *testing.T, tree Tree) {
			put(t, tree.Dir+"/m/1/6.1/x/build.json", `{"format":1,"module":"m","version":"1","kernel":"6.1","arch":"x"}`)
		}, "/m/1/6.1/x/build.json"},
		"record of a kind": {func(t *testing.T, tree Tree) {
			put(t, tree.Dir+"/m/1/6.1/x/build.json", `{"format":1,"module":"m","version":"1","kernel":"6.1","arch":"x","objects":"a.ko"}`)
		}, "/m/1/6.1/x/build.json"},
		"record a pipe": {func(t *testing.T, tree Tree) { pipe(t, tree.Dir+"/m/1/6.1/x/build.json") }, "/m/1/6.1/x/build.json"},
		"record a dir": {func(t *testing.T, tree Tree) {
			os.Remove(tree.Dir + "/m/1/6.1/x/build.json")
			put(t, tree.Dir+"/m/1/6.1/x/build.json/x", "")
		}, "/m/1/6.1/x/build.json"},
		"list a pipe":     {func(t *testing.T, tree Tree) { pipe(t, tree.Dir+"/m/1/6.1/x/.installed") }, "/m/1/6.1/x/.installed"},
		"list a dir":      {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/x/.installed/x", "") }, "/m/1/6.1/x/.installed"},
		"log a pipe":      {func(t *testing.T, tree Tree) { pipe(t, tree.Dir+"/m/1/6.1/x/log/make.log") }, "/m/1/6.1/x/log/make.log"},
		"kept a pipe":     {func(t *testing.T, tree Tree) { pipe(t, tree.Dir+"/.log/m/1/6.1/x/make.log") }, "/.log/m/1/6.1/x/make.log"},
		"kept a dir":      {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/.log/m/1/6.1/x/make.log/x", "") }, "/.log/m/1/6.1/x/make.log"},
		"outcome a pipe":  {func(t *testing.T, tree Tree) { pipe(t, tree.Dir+"/.outcome/m/1/6.1/x.json") }, "/.outcome/m/1/6.1/x.json"},
		"outcome a dir":   {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/.outcome/m/1/6.1/x.json/x", "") }, "/.outcome/m/1/6.1/x.json"},
		"note a pipe":     {func(t *testing.T, tree Tree) { pipe(t, tree.Dir+"/m/original_module/6.1/x/a.ko.origin") }, "/m/original_module/6.1/x/a.ko.origin"},
		"journal cut":     {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/.journal/1.commit", "[{") }, "/.journal/1.commit"},
		"journal a pipe":  {func(t *testing.T, tree Tree) { pipe(t, tree.Dir+"/.journal/1.prepare") }, "/.journal/1.prepare"},
		"journal a file":  {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/.journal", "") }, "/.journal"},
		"record of later": {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/x/build.json", `{"format":9}`) }, ""},
		"record of other": {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/1/6.1/x/build.json", `{"format":1,"module":"o"}`) }, "/m/1/6.1/x/build.json"},
		"other kernel":    {func(t *testing.T, tree Tree) { link(t, "1/6.1/x", tree.Dir+"/m/kernel-6.2-x") }, "/m/kernel-6.2-x"},
		"orphan original": {func(t *testing.T, tree Tree) { put(t, tree.Dir+"/m/original_module/6.2/x/a.ko", "") }, "/m/original_module/6.2/x"},
		"writable":        {func(t *testing.T, tree Tree) { chmod(t, tree.Dir+"/m", 0o777) }, "/m"},
		"unreadable":      {func(t *testing.T, tree Tree) { chmod(t, tree.Dir+"/m/1/6.1/x/build.json", 0) }, "/m/1/6.1/x/build.json"},
		"no link":         {func(t *testing.T, tree Tree) { os.RemoveAll(tree.Sources); os.Remove(tree.Dir + "/m/1/source") }, "/m/1/source"},
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

func pipe(t *testing.T, path string) {
	t.Helper()
	os.Remove(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// What is wrong with the tree alone is mended in one change; what was there is moved
// aside, not deleted.
func TestMend(t *testing.T) {
	tree := sound(t)
	lost := tree.LostFound(time.Now())
	put(t, tree.Dir+"/x/y/z", "alien")
	put(t, tree.Dir+"/m/1/6.1/x/build.json", "{")
	chmod(t, tree.Dir+"/m/1", 0o777)
	chmod(t, tree.Dir+"/m/1/6.1/x/module", 0o777)
	me := Owner{os.Getuid(), os.Getgid()}
	for _, i := range tree.Check() {
		c, err := tree.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if done, err := tree.Mend(c, i, lost, me); err != nil || !done || c.Commit() != nil {
			t.Errorf("%v: %v, %v", i, done, err)
		}
	}
	if left := tree.Check(); len(left) > 0 {
		t.Error(left)
	}
	if got := read(t, lost+tree.Dir+"/x/y/z") + read(t, lost+tree.Dir+"/m/1/6.1/x/build.json"); got != "alien{" {
		t.Error(got)
	}
}

// A lock counts as left only while nobody holds it.
func TestLockLeft(t *testing.T) {
	tree := sound(t)
	put(t, tree.Dir+"/.lock", "process 1 (x)")
	if left := tree.LockLeft(); len(left) != 1 {
		t.Error(left)
	}
	unlock, err := tree.Lock(context.Background(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if left := tree.LockLeft(); len(left) != 0 {
		t.Error(left)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := tree.Watch(ctx, "", &Wait{}); err == nil {
		t.Error("a writer was at work, and was not waited for")
	}
	unlock()
	done, err := tree.Watch(context.Background(), "", &Wait{})
	if err != nil {
		t.Fatal(err)
	}
	done()
	if err := os.Mkdir(tree.Dir+"/.lock", 0o755); err != nil {
		t.Fatal(err)
	}
	if left := tree.LockLeft(); len(left) != 1 || tree.ClearLock(tree.LostFound(time.Now())) != nil || len(tree.LockLeft()) != 0 {
		t.Error(left)
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
