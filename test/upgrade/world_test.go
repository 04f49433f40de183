// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

const arch = "x86_64"

// TestUpgrade runs the cases side by side, over roots that they share.
func TestUpgrade(t *testing.T) {
	base := lab.AptRoot(t)
	fewModules(t, base)
	base.MustApt("install", base.AddDeb(lab.Deb(t)))
	base.Freeze()

	t.Run("packages", func(t *testing.T) { t.Parallel(); packages(t, base) })
	if os.Getenv("CI") != "true" { // whose time is short; it tests another dkms
		t.Run("debian", func(t *testing.T) { t.Parallel(); debianBreaks(t) })
	}
	t.Run("orders", func(t *testing.T) { t.Parallel(); orders(t, base) })
	t.Run("cloud", func(t *testing.T) {
		t.Parallel()
		k := lab.AptKernels(t).Cloud
		kernel := lab.AptRootOver(t, base)
		kernel.MustApt("install", "linux-image-"+k, "linux-headers-"+k)
		kernel.Freeze()
		t.Run("policy", func(t *testing.T) { policy(t, kernel, k) })
		t.Run("versions", func(t *testing.T) { versions(t, kernel, k) })
		t.Run("headers", func(t *testing.T) { headersInPlace(t, kernel, k) })
	})
}

// fewModules keeps hundreds of the kernel's own modules out of the initramfs,
// which take a minute.
func fewModules(t *testing.T, r *lab.Root) {
	t.Helper()
	write(t, r.Path("etc/initramfs-tools/conf.d/few"), "MODULES=list\n", 0o644)
}

// root is a root that a case changes.
type root struct {
	*lab.Root
	t *testing.T
}

func over(t *testing.T, below *lab.Root) root {
	t.Helper()
	return root{lab.AptRootOver(t, below), t}
}

// module is a module to make a package of.
type module struct {
	name, version string
	// code is C at the top level of its source, conf further lines of its
	// dkms.conf.
	code, conf string
	files      map[string]string
}

// source is a real module, whose builds leave a line each in /var/tmp.
func (m module) source() map[string]string {
	files := map[string]string{
		m.name + ".c": fmt.Sprintf(`#include <linux/module.h>
#include <linux/slab.h>
%s
static int __init start(void) { void *p = kmalloc(8, GFP_KERNEL); kfree(p); return 0; }
static void __exit stop(void) {}
module_init(start);
module_exit(stop);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("a module of the tests");
MODULE_VERSION("%s");
`, m.code, m.version),
		"Makefile": "obj-m := " + m.name + ".o\n",
		"dkms.conf": fmt.Sprintf(`PACKAGE_NAME="%[1]s"
PACKAGE_VERSION="%[2]s"
BUILT_MODULE_NAME[0]="%[1]s"
DEST_MODULE_LOCATION[0]="/updates"
AUTOINSTALL="yes"
MAKE[0]="echo ${kernelver} >>/var/tmp/builds-%[1]s; make -C ${kernel_source_dir} M=${dkms_tree}/%[1]s/%[2]s/build modules"
%[3]s
`, m.name, m.version, m.conf),
	}
	for name, text := range m.files {
		files[name] = text
	}
	return files
}

// pack makes the package NAME-dkms of a module, with the maintainer scripts that
// dh_dkms has made for a package of the distribution.
func (m module) pack(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	donors, _ := filepath.Glob(filepath.Join(lab.Path(t, "debs"), "acpi-call-dkms_*.deb"))
	if len(donors) == 0 {
		t.Fatal("the lab has no package acpi-call-dkms; run: make lab")
	}
	lab.MustExec(t, "dpkg-deb", "-e", donors[0], dir+"/DEBIAN")
	donor := lab.Corpus(t, "acpi-call-dkms")
	for _, script := range []string{"postinst", "prerm"} {
		path := dir + "/DEBIAN/" + script
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("DKMS_NAME="+donor.Module), []byte("DKMS_NAME="+m.name))
		text = bytes.ReplaceAll(text, []byte("DKMS_VERSION="+donor.Version), []byte("DKMS_VERSION="+m.version))
		write(t, path, string(text), 0o755)
	}
	for _, left := range []string{"md5sums", "conffiles", "triggers"} {
		os.Remove(dir + "/DEBIAN/" + left)
	}
	write(t, dir+"/DEBIAN/control", fmt.Sprintf("Package: %s-dkms\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDepends: dkms (>= 2.1.0.0)\nDescription: a module of the tests\n", m.name, m.version), 0o644)
	for name, text := range m.source() {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		write(t, filepath.Join(dir, "usr/src", m.name+"-"+m.version, name), text, mode)
	}
	// What counts the builds is outside of the build directory.
	write(t, filepath.Join(dir, "etc/dkms", m.name+"-"+m.version+".conf"), "CONFINE=off\n", 0o644)
	deb := filepath.Join(t.TempDir(), m.name+"-dkms_"+m.version+"_all.deb")
	lab.MustExec(t, "dpkg-deb", "--root-owner-group", "-Zgzip", "-b", dir, deb)
	return deb
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// repack changes a package of apt's cache and gives it a version behind its own.
func repack(t *testing.T, pkg string, change func(dir string)) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(lab.Path(t, "apt"), "var/cache/apt/archives", pkg+"_*.deb"))
	if len(found) == 0 {
		t.Fatalf("apt's cache has no %s; run: make distclean lab", pkg)
	}
	dir := t.TempDir()
	lab.MustExec(t, "dpkg-deb", "-R", found[0], dir+"/x")
	change(dir + "/x")
	control := dir + "/x/DEBIAN/control"
	text, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "Version: ") {
			line += "+test1"
		}
		lines = append(lines, line)
	}
	write(t, control, strings.Join(lines, "\n"), 0o644)
	os.Remove(dir + "/x/DEBIAN/md5sums")
	deb := filepath.Join(dir, pkg+"_test_amd64.deb")
	lab.MustExec(t, "dpkg-deb", "-Zgzip", "-z1", "-b", dir+"/x", deb)
	return deb
}

// install installs package files or names; apt must end with the exit code.
func (r root) install(code int, what ...string) lab.Result {
	r.t.Helper()
	for i, w := range what {
		if strings.HasSuffix(w, ".deb") {
			what[i] = r.AddDeb(w)
		}
	}
	res := r.Apt(append([]string{"install"}, what...)...)
	if res.Code != code {
		r.t.Fatalf("apt-get install %s: exit code %d, want %d\n%s%s", what, res.Code, code, res.Stdout, res.Stderr)
	}
	return res
}

// status returns the rows of dkms status.
func (r root) status() string {
	r.t.Helper()
	return strings.TrimSpace(r.MustRun("dkms", "status").Stdout)
}

func (r root) wantStatus(rows ...string) {
	r.t.Helper()
	slices.Sort(rows)
	if got, want := r.status(), strings.Join(rows, "\n"); got != want {
		r.t.Errorf("status is\n%s\nwant\n%s", got, want)
	}
}

// row is a row of dkms status.
func row(id, kernel, state string) string {
	return fmt.Sprintf("%s, %s, %s: %s", id, kernel, arch, state)
}

// builds returns how often a module was built for a kernel.
func (r root) builds(name, kernel string) int {
	text, _ := os.ReadFile(r.Path("var/tmp/builds-" + name))
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == kernel {
			n++
		}
	}
	return n
}

// object returns the digest of an installed object, "" if it isn't there.
func (r root) object(kernel, name string) string {
	r.t.Helper()
	found, _ := filepath.Glob(r.Path("usr/lib/modules", kernel, "updates/dkms", name+".ko*"))
	if len(found) != 1 {
		return ""
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		r.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// verified fails unless dkms verify accepts all objects.
func (r root) verified() {
	r.t.Helper()
	if res := r.Run("dkms", "verify"); res.Code != 0 {
		r.t.Errorf("dkms verify: exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
}

// configured fails unless dpkg has nothing half done.
func (r root) configured() {
	r.t.Helper()
	if res := r.MustRun("dpkg", "--audit"); res.Stdout != "" {
		r.t.Errorf("dpkg --audit:\n%s", res.Stdout)
	}
}

// initrd fails unless the kernel has an initramfs.
func (r root) initrd(kernel string) {
	r.t.Helper()
	if fi, err := os.Stat(r.Path("boot/initrd.img-" + kernel)); err != nil || fi.Size() < 1<<20 {
		r.t.Errorf("kernel %s has no initramfs: %v", kernel, err)
	}
}

// wants fails unless a text has all the words.
func wants(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in\n%s", w, text)
		}
	}
}
