// SPDX-License-Identifier: Apache-2.0

// Package badinput tests what dkms does with input it can't work with: each
// time one clear error, the documented exit code and nothing changed on disk.
//
// The tests work on small roots of their own (dkms --root), with a stand-in
// for a kernel's build tree that compiles a module in no time. They need root,
// for --root and for mounts.
package badinput

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
	"dkms-go/test/lab"
)

const release = "6.1.0-9-amd64"

// kbuild stands in for a kernel's makefile: every C file becomes an object.
const kbuild = `objects := $(patsubst %.c,%.ko,$(wildcard $(M)/*.c))
all: $(objects)
%.ko: %.c
	$(CC) -c -o $@ $<
`

// world is a root directory with one kernel and its headers.
type world struct {
	t   *testing.T
	dir string
}

// template is a world that every test gets a copy of.
var template = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "dkms-world-") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := template(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var filled sync.Once

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := template()
	if err != nil {
		t.Fatal(err)
	}
	filled.Do(func() { fill(t, dir) })
	w := &world{t, t.TempDir()}
	if err := os.CopyFS(w.dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return w
}

func fill(t *testing.T, dir string) {
	t.Helper()
	w := &world{t, dir}
	for _, dir := range []string{"proc", "dev", "sys", "tmp", "run", "usr/src", "var/lib/dkms", "etc/dkms", "lib/modules/" + release + "/kernel/drivers"} {
		w.mkdir(dir)
	}
	w.write("etc/os-release", "ID=debian\n")
	w.write("etc/dkms/framework.conf", "")
	w.write("lib/modules/"+release+"/build/Makefile", kbuild)
	w.write("lib/modules/"+release+"/build/.config", "CONFIG_MODULES=y\n")
	w.write("lib/modules/"+release+"/build/include/config/kernel.release", release+"\n")
	w.write("lib/modules/"+release+"/kernel/drivers/null.c", source("0", 0))
	lab.MustExec(t, "gcc", "-c", "-o", w.tree("kernel/drivers/null.ko"), w.tree("kernel/drivers/null.c"))
	w.write("lib/modules/"+release+"/modules.order", "")
	w.write("lib/modules/"+release+"/modules.builtin", "")
	lab.MustExec(t, "depmod", "-b", w.dir, release)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) tree(name string) string {
	return filepath.Join(w.dir, "lib/modules", release, name)
}

func (w *world) mkdir(name string) {
	w.t.Helper()
	if err := os.MkdirAll(w.path(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(name, text string) {
	w.t.Helper()
	w.mkdir(filepath.Dir(name))
	if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// conf returns a dkms.conf for a module whose objects are named.
func conf(name, version string, objects ...string) string {
	text := fmt.Sprintf("PACKAGE_NAME=%q\nPACKAGE_VERSION=%q\nAUTOINSTALL=\"yes\"\n", name, version)
	for i, o := range objects {
		text += fmt.Sprintf("BUILT_MODULE_NAME[%d]=%q\nDEST_MODULE_LOCATION[%d]=\"/extra\"\n", i, o, i)
	}
	return text
}

// source returns an object's C source. pad makes the object that much larger.
func source(version string, pad int) string {
	return fmt.Sprintf(`static const char info[] __attribute__((used, section(".modinfo"))) = "version=%s\0license=GPL";
static const char pad[%d] __attribute__((used)) = {1};
int init_module(void) { return sizeof pad; }
`, version, pad+1)
}

// module puts the source of a module with one object into the source tree.
func (w *world) module(name, version, object string) {
	w.t.Helper()
	dir := "usr/src/" + name + "-" + version
	w.write(dir+"/dkms.conf", conf(name, version, object))
	w.write(dir+"/"+object+".c", source(version, 0))
}

// dkms runs the binary on the root.
func (w *world) dkms(args ...string) lab.Result {
	w.t.Helper()
	return lab.Exec(w.t, lab.Binary(w.t), append([]string{"--root", w.dir}, args...)...)
}

func (w *world) must(args ...string) lab.Result {
	w.t.Helper()
	r := w.dkms(args...)
	if r.Code != 0 {
		w.t.Fatalf("dkms %q: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
	return r
}

// mount mounts a file system on a directory of the root until the test ends.
func (w *world) mount(source, target, fstype string, flags uintptr, data string) {
	w.t.Helper()
	if err := unix.Mount(source, w.path(target), fstype, flags, data); err != nil {
		w.t.Fatalf("mount %s on %s: %v", source, target, err)
	}
	w.t.Cleanup(func() {
		if err := unix.Unmount(w.path(target), unix.MNT_DETACH); err != nil {
			w.t.Error(err)
		}
	})
}

// readOnly makes a directory of the root read-only until the end of the test.
func (w *world) readOnly(dir string) {
	w.t.Helper()
	w.mount(w.path(dir), dir, "", unix.MS_BIND, "")
	if err := unix.Mount("", w.path(dir), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		w.t.Fatal(err)
	}
}

// snapshot returns what is below dir: a line for each file, with its mode and
// content.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && d.Name() == ".outcome":
			return fs.SkipDir // what dkms keeps of a failure
		case path == filepath.Join(dir, host.Default().Cache):
			return fs.SkipDir // what is made again when it is gone
		case path == filepath.Join(dir, filepath.Dir(host.Default().Cache)):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d bytes, sha256 %x", len(data), sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + to
		}
		rel, err := filepath.Rel(dir, path)
		files[rel] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// changes tells how two snapshots differ, "" if they don't.
func changes(before, after map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now, ok := after[name]; !ok {
			fmt.Fprintf(&b, "gone: %s\n", name)
		} else if now != before[name] {
			fmt.Fprintf(&b, "changed: %s: %s, was %s\n", name, now, before[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[name]; !ok {
			fmt.Fprintf(&b, "new: %s\n", name)
		}
	}
	return b.String()
}

// refused checks one refused command: its exit code, nothing on stdout, one
// error on stderr that has all of the words, and the root as it was before.
func (w *world) refused(code int, words []string, args ...string) {
	w.t.Helper()
	before := snapshot(w.t, w.dir)
	r := w.dkms(args...)
	w.complains(r, code, words)
	if r.Stdout != "" {
		w.t.Errorf("stdout of a refused command:\n%s", r.Stdout)
	}
	if diff := changes(before, snapshot(w.t, w.dir)); diff != "" {
		w.t.Errorf("a refused command changed files:\n%s", diff)
	}
}

// complains checks the exit code and the one error of a command. A command in words is
// told with the root that it is for.
func (w *world) complains(r lab.Result, code int, words []string) {
	w.t.Helper()
	if r.Code != code {
		w.t.Errorf("exit code %d, want %d", r.Code, code)
	}
	if n := strings.Count(r.Stderr, "Error! "); n != 1 {
		w.t.Errorf("%d errors on stderr, want 1", n)
	}
	for _, word := range words {
		if command, ok := strings.CutPrefix(word, "dkms "); ok {
			word = "dkms --root " + w.dir + " " + command
		}
		if !strings.Contains(r.Stderr, word) {
			w.t.Errorf("stderr lacks %q", word)
		}
	}
	if w.t.Failed() {
		w.t.Logf("stdout:\n%sstderr:\n%s", r.Stdout, r.Stderr)
	}
}
