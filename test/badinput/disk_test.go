// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// A tree that can't be written to is one error, and nothing has changed.
func TestReadOnlyTree(t *testing.T) {
	for _, c := range []struct {
		refusal
		dir string // what is read-only
	}{
		{refusal{"add", nil, []string{"add", "hello/1.0"}, 1, []string{"read-only", "/var/lib/dkms"}}, "var/lib/dkms"},
		{refusal{"build", added, []string{"build", "hello/1.0", "-k", release}, 1, []string{"read-only", "/var/lib/dkms"}}, "var/lib/dkms"},
		{refusal{"remove", added, []string{"remove", "hello/1.0", "--all"}, 1, []string{"read-only", "/var/lib/dkms"}}, "var/lib/dkms"},
		{refusal{"unbuild", built, []string{"unbuild", "hello/1.0", "-k", release}, 1, []string{"read-only", "/var/lib/dkms"}}, "var/lib/dkms"},
		{refusal{"autoinstall", added, []string{"autoinstall", "-k", release}, 1, []string{"read-only", "/var/lib/dkms"}}, "var/lib/dkms"},
		{refusal{"ldtarball", archived, []string{"ldtarball", "/out/hello.tar.gz"}, 1, []string{"read-only", "/var/lib/dkms"}}, "var/lib/dkms"},
		{refusal{"add of a directory", outside, []string{"add", "/in"}, 1, []string{"read-only", "/usr/src"}}, "usr/src"},
		{refusal{"install", built, []string{"install", "hello/1.0", "-k", release}, 6, []string{"read-only", "/lib/modules/"}}, "lib/modules"},
		{refusal{"uninstall", installed, []string{"uninstall", "hello/1.0", "-k", release}, 1, []string{"read-only", "/lib/modules/"}}, "lib/modules"},
		{refusal{"remove of an installed one", installed, []string{"remove", "hello/1.0", "--all"}, 1, []string{"read-only", "/lib/modules/"}}, "lib/modules"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.module("hello", "1.0", "hello")
			if c.setup != nil {
				c.setup(w)
			}
			w.readOnly(c.dir)
			before := snapshot(t, w.dir)
			r := w.dkms(c.args...)
			w.complains(r, c.code, c.words)
			if diff := changes(before, snapshot(t, w.dir)); diff != "" {
				t.Errorf("files changed:\n%s", diff)
			}
		})
	}
}

func installed(w *world) { w.must("install", "hello/1.0", "-k", release) }

// outside puts a module into a directory that is not the source tree.
func outside(w *world) {
	w.write("in/dkms.conf", conf("other", "1.0", "other"))
	w.write("in/other.c", source("1.0", 0))
}

// archived makes an archive of hello/1.0 and removes the module.
func archived(w *world) {
	w.mkdir("out")
	built(w)
	w.must("mktarball", "hello/1.0", "-k", release, "--archive", "/out/hello.tar.gz")
	w.must("remove", "hello/1.0", "--all")
}

// small makes a directory of the root a file system with room for kib more.
func (w *world) small(dir string, kib int) {
	w.t.Helper()
	keep := filepath.Join(w.t.TempDir(), "keep")
	lab.MustExec(w.t, "cp", "-a", w.path(dir), keep)
	w.mount("small", dir, "tmpfs", 0, fmt.Sprintf("size=%dk,mode=755", 1024+kib))
	lab.MustExec(w.t, "cp", "-a", keep+"/.", w.path(dir))
	// Fill what is left but for kib.
	lab.MustExec(w.t, "sh", "-c", `head -c $(( $(stat -f -c '%a * %S' "$1") - $2 * 1024 )) /dev/zero > "$1/filler"`, "fill", w.path(dir), fmt.Sprint(kib))
}

// big is a module whose one object, two of them, take 300 KiB each.
func big(w *world) {
	w.write("usr/src/big-1.0/dkms.conf", conf("big", "1.0", "one", "two"))
	w.write("usr/src/big-1.0/one.c", source("1.0", 300<<10))
	w.write("usr/src/big-1.0/two.c", source("1.0", 300<<10))
}

func bigBuilt(w *world) { big(w); w.must("build", "big/1.0", "-k", release) }

func bigInstalled(w *world) { big(w); w.must("install", "big/1.0", "-k", release) }

// After a full disk the trees are as before but for logs and the directory of
// the failed build, no set of objects is half there, and modules.dep lists
// what is.
func TestFullDisk(t *testing.T) {
	full := "no space left on device"
	for _, c := range []struct {
		refusal
		dir string
		kib int
		// may begin the names that may differ afterwards.
		may []string
	}{
		{refusal{"dkmstree, add", nil, []string{"add", "hello/1.0"}, 1, []string{full}}, "var/lib/dkms", 0, nil},
		{refusal{"dkmstree, build, nothing left", added, []string{"build", "hello/1.0", "-k", release}, 1, []string{full}}, "var/lib/dkms", 0,
			[]string{"var/lib/dkms/hello/1.0/build"}},
		{refusal{"dkmstree, build, objects", big, []string{"build", "big/1.0", "-k", release}, 10, []string{"make.log"}}, "var/lib/dkms", 500,
			[]string{"var/lib/dkms/big", "var/lib/dkms/.log"}},
		{refusal{"dkmstree, build, result", big, []string{"build", "big/1.0", "-k", release}, 7, []string{full}}, "var/lib/dkms", 700,
			[]string{"var/lib/dkms/big", "var/lib/dkms/.log"}},
		{refusal{"dkmstree, install", big, []string{"install", "big/1.0", "-k", release}, 7, []string{full}}, "var/lib/dkms", 700,
			[]string{"var/lib/dkms/big", "var/lib/dkms/.log"}},
		{refusal{"dkmstree, load", archived, []string{"ldtarball", "/out/hello.tar.gz"}, 1, []string{full}}, "var/lib/dkms", 8, nil},
		{refusal{"installtree, first object", bigBuilt, []string{"install", "big/1.0", "-k", release}, 6, []string{full}}, "lib/modules", 100, nil},
		{refusal{"installtree, second object", bigBuilt, []string{"install", "big/1.0", "-k", release}, 6, []string{full}}, "lib/modules", 400, nil},
		{refusal{"installtree, other version", func(w *world) {
			bigInstalled(w)
			w.write("usr/src/big-2.0/dkms.conf", conf("big", "2.0", "one", "two"))
			w.write("usr/src/big-2.0/one.c", source("2.0", 310<<10))
			w.write("usr/src/big-2.0/two.c", source("2.0", 310<<10))
			w.must("build", "big/2.0", "-k", release)
		}, []string{"install", "big/2.0", "-k", release}, 6, []string{full}}, "lib/modules", 400, nil},
		{refusal{"sourcetree", func(w *world) {
			outside(w)
			w.write("in/large", strings.Repeat("x", 300<<10))
		}, []string{"add", "/in"}, 1, []string{full}}, "usr/src", 100, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.module("hello", "1.0", "hello")
			if c.setup != nil {
				c.setup(w)
			}
			w.small(c.dir, c.kib)
			before := snapshot(t, w.dir)
			r := w.dkms(c.args...)
			w.complains(r, c.code, c.words)
			after := snapshot(t, w.dir)
			for name := range after {
				for _, prefix := range c.may {
					if _, ok := before[name]; !ok && strings.HasPrefix(name, prefix) {
						delete(after, name)
					}
				}
			}
			if diff := changes(before, after); diff != "" {
				t.Errorf("files changed:\n%s", diff)
			}
			w.consistent()
			if t.Failed() {
				t.Logf("stdout:\n%s\nstderr:\n%s", r.Stdout, r.Stderr)
			}
		})
	}
}

// consistent checks that modules.dep lists exactly the objects of the kernel's
// tree, and that no result is without its objects.
func (w *world) consistent() {
	w.t.Helper()
	dep, err := os.ReadFile(w.tree("modules.dep"))
	if err != nil {
		w.t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(dep)) {
		name, _, _ := strings.Cut(line, ":")
		listed[name] = true
	}
	for name := range snapshot(w.t, w.tree("")) {
		if strings.HasSuffix(name, ".ko") && !listed[name] {
			w.t.Errorf("modules.dep lacks %s", name)
		}
		delete(listed, name)
	}
	for name := range listed {
		w.t.Errorf("modules.dep lists %s, which is not there", name)
	}
	for name := range snapshot(w.t, w.path("var/lib/dkms")) {
		if strings.Contains(name, "dkms-new") || strings.HasSuffix(name, ".prepare") || strings.HasSuffix(name, ".commit") {
			w.t.Errorf("left behind: %s", name)
		}
	}
}
