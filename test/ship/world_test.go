// SPDX-License-Identifier: Apache-2.0

package ship

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// epoch is the time of all files in the packages.
const epoch = "SOURCE_DATE_EPOCH=1700000000"

const source = `// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>
static int __init start(void) { return 0; }
static void __exit stop(void) {}
module_init(start);
module_exit(stop);
MODULE_LICENSE("GPL");
MODULE_AUTHOR("Ann Author <ann@example.org>");
MODULE_DESCRIPTION("Shipped by the tests");
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// dkms runs the dkms under test on this machine; it may use only what it is given.
func dkms(t *testing.T, args ...string) lab.Result {
	t.Helper()
	return lab.Exec(t, "env", append(append([]string{epoch}, lab.RaceOptions()...), append([]string{lab.Binary(t)}, args...)...)...)
}

func mustDkms(t *testing.T, args ...string) lab.Result {
	t.Helper()
	res := dkms(t, args...)
	if res.Code != 0 {
		t.Fatalf("dkms %q: exit code %d\n%s%s", args, res.Code, res.Stdout, res.Stderr)
	}
	return res
}

// author makes the directory of a module as its author has it, and packages of it by
// the make targets of dkms.mk.
func author(t *testing.T, version string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "hello")
	write(t, dir+"/hello.c", source)
	write(t, dir+"/Makefile", "obj-m := hello.o\n-include dkms.mk\n")
	write(t, dir+"/.git/packed-refs", "0123456789012345678901234567890123456789 refs/tags/v"+version+"\n")
	mustDkms(t, "init", dir)
	return dir
}

// makes calls a target of the module's makefile and returns the package it made.
func makes(t *testing.T, dir, target string) lab.Result {
	t.Helper()
	return lab.MustExec(t, "env", append(lab.RaceOptions(), epoch, "make", "-s", "-C", dir, target, "DKMS="+lab.Binary(t))...)
}

// version makes packages of a version of the module whose build copies objects that
// were made before, by kernel; it fails for others. conf are more lines of its conf.
func version(t *testing.T, v string, objects map[string][]byte, conf string) packages {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hello")
	write(t, dir+"/hello.c", source)
	write(t, dir+"/Makefile", "obj-m := hello.o\n")
	write(t, dir+"/dkms.conf", fmt.Sprintf(`PACKAGE_NAME="hello"
PACKAGE_VERSION="%s"
BUILT_MODULE_NAME[0]="hello"
DEST_MODULE_LOCATION[0]="/updates"
AUTOINSTALL="yes"
MAKE[0]="cp made/${kernelver}.bin hello.ko"
PACKAGE_MAINTAINER="Ann Author <ann@example.org>"
%s
`, v, conf))
	for kernel, object := range objects {
		write(t, filepath.Join(dir, "made", kernel+".bin"), string(object))
	}
	return pack(t, dir)
}

// packages are the packages of one version of the module.
type packages struct{ dir, deb, rpm string }

func pack(t *testing.T, dir string) packages {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	p := packages{dir: dir}
	for line := range strings.Lines(mustDkms(t, "mkpackages", "--output", out, dir).Stdout) {
		switch file := strings.TrimSpace(line); filepath.Ext(file) {
		case ".deb":
			p.deb = file
		case ".rpm":
			p.rpm = file
		}
	}
	if p.deb == "" || p.rpm == "" {
		t.Fatalf("mkpackages made %+v", p)
	}
	return p
}

// root is a root with the headers of two kernels.
type root struct {
	*lab.Root
	t        *testing.T
	old, new string
}

func newRoot(t *testing.T) root {
	t.Helper()
	r := root{Root: lab.Scratch(t), t: t}
	r.old, r.new = lab.Kernels(t)
	// The kernel's own objects, of which depmod makes an index for ten seconds each
	// time that another dkms or a package of objects calls it.
	if err := os.RemoveAll(r.Path("usr/lib/modules", r.new, "kernel")); err != nil {
		t.Fatal(err)
	}
	return r
}

// apt runs apt-get on package files; it must end with the exit code.
func (r root) apt(code int, args ...string) string {
	r.t.Helper()
	for i, a := range args {
		if strings.HasSuffix(a, ".deb") {
			args[i] = r.AddDeb(a)
		}
	}
	res := r.Apt(append([]string{"--allow-downgrades"}, args...)...)
	if res.Code != code {
		r.t.Fatalf("apt-get %q: exit code %d, want %d\n%s%s", args, res.Code, code, res.Stdout, res.Stderr)
	}
	return res.Stdout + res.Stderr
}

// rpm runs this machine's rpm on the root.
func (r root) rpm(args ...string) string {
	r.t.Helper()
	res := lab.MustExec(r.t, "rpm", append([]string{"--root", r.Dir, "--force-debian", "--nodeps"}, args...)...)
	return res.Stdout + res.Stderr
}

// wantStatus holds dkms status against rows such as "hello/1.0, KERNEL".
func (r root) wantStatus(rows ...string) {
	r.t.Helper()
	var got, want []string
	for line := range strings.Lines(r.MustRun("dkms", "status").Stdout) {
		got = append(got, strings.TrimSpace(line))
	}
	for _, row := range rows {
		want = append(want, row+", x86_64: installed")
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Errorf("status is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// wantNothing fails if anything of the module is left.
func (r root) wantNothing() {
	r.t.Helper()
	r.wantStatus()
	found := r.Run("find", "/usr/src", "/var/lib/dkms", "/usr/lib/modules", "/usr/share/doc", "-name", "*hello*", "-not", "-path", "/usr/src/linux*").Stdout
	if found != "" {
		r.t.Errorf("left:\n%s", found)
	}
}

// sound fails if dpkg has anything half done.
func (r root) sound() {
	r.t.Helper()
	if got := r.MustRun("dpkg", "--audit").Stdout; got != "" {
		r.t.Errorf("dpkg --audit: %s", got)
	}
}

// object returns the content of an installed object, decompressed.
func (r root) object(kernel string) []byte {
	r.t.Helper()
	found, _ := filepath.Glob(r.Path("usr/lib/modules", kernel, "updates/dkms/hello.ko*"))
	if len(found) != 1 {
		r.t.Fatalf("objects for %s: %q", kernel, found)
	}
	if strings.HasSuffix(found[0], ".xz") {
		return []byte(lab.MustExec(r.t, "xz", "-dc", found[0]).Stdout)
	}
	return []byte(read(r.t, found[0]))
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// dummy makes a package with nothing in it, to stand for a dependency of which these
// tests need no file.
func dummy(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/x/DEBIAN/control", "Package: "+name+"\nVersion: 1:99\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: nothing\n")
	deb := filepath.Join(dir, name+"_99_all.deb")
	lab.MustExec(t, "dpkg-deb", "--root-owner-group", "-Zgzip", "-b", dir+"/x", deb)
	return deb
}

// debianDkms are the packages of the distribution's dkms.
func debianDkms(t *testing.T) []string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(lab.Path(t, "debs"), "dkms_3*.deb"))
	if len(found) != 1 {
		t.Fatalf("the lab has %d packages of dkms, want one; run: make lab", len(found))
	}
	return []string{found[0], dummy(t, "dpkg-dev"), dummy(t, "lsb-release")}
}
