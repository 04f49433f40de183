// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "dm-remap", "1.0.0", "1.0~rc1+git", "6.12.117+deb12-amd64", "x_y.z", "1:2", "a..b", strings.Repeat("x", 200)} {
		if err := CheckName("name", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	bad := []string{"", ".", "..", "-x", ".x", "a/b", "../a", "a b", "a\tb", "a\nb", "a\u00a0b", "a\x00b", "a\x7fb", "a*", "a?", "a[b", "a]b", `a\b`,
		"a$b", "a`b", `a"b`, "a'b", "a;b", "a|b", "a&b", "a<b", "a>b", "a(b", "a{b}", strings.Repeat("x", 201)}
	for _, s := range bad {
		if err := CheckName("name", s); err == nil || !strings.Contains(err.Error(), "name") {
			t.Errorf("%q: %v", s, err)
		}
	}
	if (ID{"m", "1"}).Check() != nil || (ID{"m", ""}).Check() == nil || (ID{"", "1"}).Check() == nil {
		t.Error("Check doesn't look at both parts")
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"a", "../x", "a b", "1.0~rc1", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckName("name", s) == nil && (strings.ContainsAny(s, "/\x00\n ") || s == ".." || s == "" || s[0] == '-') {
			t.Errorf("%q passes", s)
		}
	})
}

// world returns a tree of which each module shows one oddity.
func world(t *testing.T) (string, Tree) {
	t.Helper()
	root := t.TempDir()
	tree := Tree{Dir: root + "/tree", Sources: root + "/src"}
	put(t, root+"/src/added-1/dkms.conf", "")
	put(t, root+"/src/nolink-1/dkms.conf", "")
	put(t, root+"/tree/added/1/6.1/x/module/a.ko", "")
	put(t, root+"/tree/added/1/6.10/x/module/a.ko", "")
	put(t, root+"/tree/added/1/lts-6.1/x/module/a.ko", "")
	put(t, root+"/tree/added/1/6.9/x/log/make.log", "")
	put(t, root+"/tree/added/2/6.1/x/module/a.ko", "")
	put(t, root+"/tree/added/2/6.1/y/module/a.ko", "")
	put(t, root+"/tree/added/1/build/file", "")
	put(t, root+"/tree/added/1/.build-6.1-x/file", "")
	link(t, root+"/src/added-1", root+"/tree/added/1/source")
	link(t, root+"/src/added-1", root+"/tree/added/2/source")
	link(t, "2/6.1/x", root+"/tree/added/kernel-6.1-x")
	link(t, root+"/tree/added/2/6.1/y", root+"/tree/added/kernel-6.1-y")
	link(t, "1/6.10/x/", root+"/tree/added/kernel-6.10-x")
	link(t, "9/6.2/x", root+"/tree/added/kernel-6.2-x")
	link(t, "../../away/6.3/x", root+"/tree/added/kernel-6.3-x")
	link(t, "1/6.1/x", root+"/tree/added/kernel-6.9-x")
	put(t, root+"/tree/added/kernel-6.4-x", "no link")
	put(t, root+"/tree/added/original_module/6.1/x/a.ko", "")
	link(t, root+"/src/gone", root+"/tree/dangling/1/source")
	put(t, root+"/tree/nolink/1/build/x", "")
	put(t, root+"/tree/nothing/1/build/x", "")
	put(t, root+"/tree/realdir/1/source/dkms.conf", "")
	put(t, root+"/tree/file", "")
	put(t, root+"/tree/.log/added/1/x", "")
	return root, tree
}

func TestCondition(t *testing.T) {
	_, tree := world(t)
	for id, want := range map[ID]Condition{
		{"added", "1"}: Added, {"added", "2"}: Added, {"added", "3"}: Absent, {"none", "1"}: Absent,
		{"dangling", "1"}: Broken, {"nolink", "1"}: Broken, {"nothing", "1"}: Hidden, {"realdir", "1"}: Hidden,
		{"added", "original_module"}: Hidden,
	} {
		if got := tree.Condition(id); got != want {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
}

func TestActiveAndInstalled(t *testing.T) {
	_, tree := world(t)
	cases := []struct {
		kernel, arch, version string
		ok                    bool
		installed             string // version that Installed is true for
	}{
		{"6.1", "x", "2", true, "2"},
		{"6.1", "y", "2", true, "2"},  // an absolute link
		{"6.10", "x", "1", true, "1"}, // a slash at the end
		{"6.2", "x", "9", true, ""},   // leads nowhere
		{"6.3", "x", "..", false, ""}, // leads out
		{"6.9", "x", "1", false, ""},  // another kernel's result
		{"6.4", "x", "", false, ""},   // a file
		{"6.100", "x", "", false, ""}, // nothing
	}
	for _, c := range cases {
		k := Key{ID{Module: "added"}, c.kernel, c.arch}
		v, ok := tree.Active(k)
		if ok != c.ok || ok && v != c.version {
			t.Errorf("%s/%s: active %q %v", c.kernel, c.arch, v, ok)
		}
		for _, version := range []string{"1", "2", "9"} {
			k.Version = version
			if got := tree.Installed(k); got != (version == c.installed) {
				t.Errorf("%s/%s: version %s installed: %v", c.kernel, c.arch, version, got)
			}
		}
	}
	for k, want := range map[Key]bool{{ID{"added", "1"}, "6.9", "x"}: true, {ID{"added", "1"}, "6.1", "x"}: false, {ID{"added", "1"}, "7", "x"}: false} {
		if got := tree.Stale(k); got != want {
			t.Errorf("%s stale: %v", k, got)
		}
	}
}

func TestModules(t *testing.T) {
	_, tree := world(t)
	cases := []struct{ name, version, want string }{
		{"", "", "added/1 added/2 dangling/1 nolink/1 nothing/1 realdir/1"},
		{"added", "", "added/1 added/2"},
		{"a*", "2", "added/2"},
		{"[!a]*", "", "dangling/1 nolink/1 nothing/1 realdir/1"},
		{"no[lt]*", "", "nolink/1 nothing/1"},
		{"[", "", ""}, {"none", "", ""}, {"added", "3", ""}, {".log", "", ".log/added"},
	}
	for _, c := range cases {
		if got := fmt.Sprint(tree.Modules(c.name, c.version)); got != "["+c.want+"]" {
			t.Errorf("%q %q: %s, want %s", c.name, c.version, got, c.want)
		}
	}
	if got := (Tree{Dir: "/does/not/exist"}).Modules("", ""); got != nil {
		t.Error(got)
	}
}

func TestResults(t *testing.T) {
	_, tree := world(t)
	cases := []struct{ version, kernel, arch, want string }{
		{"1", "", "", "6.1/x 6.10/x"}, // bytewise, and no lts-6.1: it isn't a number
		{"1", "lts-6.1", "", "lts-6.1/x"},
		{"1", "*", "", "6.1/x 6.10/x lts-6.1/x"},
		{"1", "6.9", "", ""}, // no objects
		{"2", "", "", "6.1/x 6.1/y"}, {"2", "", "y", "6.1/y"}, {"2", "6.?", "[x]", "6.1/x"},
		{"3", "", "", ""},
	}
	for _, c := range cases {
		var got []string
		for _, k := range tree.Results(ID{"added", c.version}, c.kernel, c.arch) {
			got = append(got, k.Kernel+"/"+k.Arch)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %q %q: %v, want %s", c.version, c.kernel, c.arch, got, c.want)
		}
	}
}

func TestWritable(t *testing.T) {
	root := t.TempDir()
	tree := Tree{Dir: root + "/new/tree"}
	if err := tree.Writable(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(tree.Dir); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	put(t, root+"/file", "")
	if err := (Tree{Dir: root + "/file"}).Writable(); err == nil {
		t.Error("a file passes for a tree")
	}
	tmpfs(t, root+"/ro", "ro")
	if err := (Tree{Dir: root + "/ro"}).Writable(); err == nil {
		t.Error("a read-only tree is writable")
	}
}

func TestTreePrune(t *testing.T) {
	root, tree := world(t)
	if err := os.MkdirAll(root+"/tree/m/a/b/c", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(root+"/tree/m/a/d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tree.Prune(root + "/tree/m/a"); err != nil || isDir(root+"/tree/m") || !isDir(root+"/tree") {
		t.Error(err, "m is still there, or the tree isn't")
	}
	tree.Prune(root + "/tree/added/original_module")
	if read(t, root+"/tree/added/original_module/6.1/x/a.ko") != "" {
		t.Error("a file went")
	}
	if err := tree.Prune(root + "/tree/never"); err != nil {
		t.Error(err)
	}
}

func TestRecord(t *testing.T) {
	root := t.TempDir()
	tree := Tree{Dir: root}
	k := Key{ID{"m", "1"}, "6.1", "x"}
	if _, err := tree.Record(k); err == nil {
		t.Error("a record from nowhere")
	}
	put(t, tree.Objects(k)+"/a.ko", "")
	want := Record{Format: RecordFormat, Module: "m", Version: "1", Kernel: "6.1", Arch: "x", Built: time.Unix(1e9, 0).UTC(),
		Objects: []ObjectEntry{{Name: "a", File: "a.ko.xz", Location: "/extra", SHA256: "00", Vermagic: "6.1 SMP"}}}
	if err := WriteRecord(tree.Result(k), want); err != nil {
		t.Fatal(err)
	}
	if got, err := tree.Record(k); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"", "{", `{"format": 99}`, `{"format": 0}`, `{}`, `null`, `{"format":1,"objects":5}`} {
		put(t, tree.Result(k)+"/"+RecordFile, bad)
		if got, err := tree.Record(k); err == nil || !reflect.DeepEqual(got, Record{}) {
			t.Errorf("%q is taken for a record: %+v", bad, got)
		}
	}
	pipe(t, tree.Result(k)+"/"+RecordFile)
	if _, err := tree.Record(k); err == nil {
		t.Error("a pipe is taken for a record")
	}
}

func TestLogs(t *testing.T) {
	root := t.TempDir()
	tree := Tree{Dir: root}
	k := Key{ID{"m", "1"}, "6.1", "x"}
	for _, text := range []string{"first", "second"} {
		if err := tree.KeepLog(k, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := tree.WriteLog(k, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, root+"/.log/m/1/6.1/x/make.log") != "second" || read(t, root+"/m/1/6.1/x/log/make.log") != "second" {
		t.Error("a log isn't the last one")
	}
	clean(t, root)
}

// The mark of a module index that is due is set with the change that makes it
// so, belongs to no module, and goes once the index is up to date.
func TestIndexDue(t *testing.T) {
	root, tree := world(t)
	if due := tree.KernelsDue(); due != nil {
		t.Error(due)
	}
	if err := tree.IndexDone("6.1"); err != nil {
		t.Error("no mark, and an error:", err)
	}
	modules := fmt.Sprint(tree.Modules("", ""))
	c, err := tree.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"6.1", "6.12.117+deb12-amd64"} {
		if err := c.StageFile(tree.IndexDue(k), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if due := tree.KernelsDue(); due != nil {
		t.Error("due before the change:", due)
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	if due := tree.KernelsDue(); !reflect.DeepEqual(due, []string{"6.1", "6.12.117+deb12-amd64"}) {
		t.Error(due)
	}
	if now := fmt.Sprint(tree.Modules("", "")); now != modules {
		t.Errorf("the marks changed the modules: %s, before %s", now, modules)
	}
	for i, k := range []string{"6.1", "6.12.117+deb12-amd64"} {
		if err := tree.IndexDone(k); err != nil {
			t.Fatal(err)
		}
		if due := tree.KernelsDue(); len(due) != 1-i {
			t.Error(k, due)
		}
	}
	if _, err := os.Stat(root + "/tree/.index-due"); err == nil {
		t.Error("an empty directory stays")
	}
	put(t, root+"/tree/.index-due/6.1/in-the-way", "")
	if err := tree.IndexDone("6.1"); err == nil {
		t.Error("the mark can't be removed, and no error")
	}
}

// A change that is given up sets no mark.
func TestIndexNotDueAfterAbort(t *testing.T) {
	root, tree := world(t)
	c, err := tree.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StageFile(tree.IndexDue("6.1"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.Abort()
	if _, err := os.Stat(root + "/tree/.index-due"); err == nil || tree.KernelsDue() != nil {
		t.Error("a mark is left", tree.KernelsDue())
	}
}

// Changes of several kernels share directories that each removes when they are
// empty.
func TestSharedDirectories(t *testing.T) {
	tree := Tree{Dir: t.TempDir()}
	var all sync.WaitGroup
	for _, kernel := range []string{"6.1", "6.2", "6.3"} {
		all.Go(func() {
			for range 200 {
				c, err := tree.Begin()
				if err != nil {
					t.Error(err)
					return
				}
				err = c.StageFile(tree.IndexDue(kernel), nil, 0o644)
				if err == nil {
					err = c.Commit()
				}
				c.Abort()
				key := Key{ID: ID{Module: "m", Version: "1"}, Kernel: kernel, Arch: "x86_64"}
				err = errors.Join(err, tree.IndexDone(kernel), tree.KeepOutcome(Outcome{Module: "m", Version: "1", Kernel: kernel, Arch: "x86_64"}), tree.DropOutcome(key))
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
