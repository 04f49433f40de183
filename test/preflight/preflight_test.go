// SPDX-License-Identifier: Apache-2.0

// Package preflight tries modules for kernels that are not installed, with their real
// header packages, and holds dkms to what it says of that: nothing is left, and the
// installation afterwards compiles nothing.
package preflight

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dkms-go/test/lab"
)

// item is a module, as `preflight --json` and `matrix --json` print it.
type item struct {
	Module, Version, Kernel, Outcome, Class, Error, File, Log string
	Line                                                      int
	Cached, Required                                          bool
	Next                                                      []string
}

type document struct {
	Schema  string
	OK      bool
	Kernels []string
	Modules []item
	Builds  []item
}

// read runs dkms with --json.
func read(t *testing.T, r *lab.Root, code int, args ...string) document {
	t.Helper()
	res := r.Run("dkms", append(args, "--json")...)
	var doc document
	if err := json.Unmarshal([]byte(res.Stdout), &doc); err != nil || res.Code != code {
		t.Fatalf("dkms %q: exit code %d, want %d: %v\n%s%s", args, res.Code, code, err, res.Stdout, res.Stderr)
	}
	return doc
}

// module writes the source of a module, in which code stands at the top level.
func module(t *testing.T, r *lab.Root, name, code, conf string) {
	t.Helper()
	for file, text := range map[string]string{
		name + ".c": "#include <linux/module.h>\n" + code + "\nMODULE_LICENSE(\"GPL\");\n",
		"Makefile":  "obj-m := " + name + ".o\n",
		"dkms.conf": "PACKAGE_NAME=\"" + name + "\"\nPACKAGE_VERSION=\"1\"\nBUILT_MODULE_NAME=\"" + name + "\"\nDEST_MODULE_LOCATION=\"/updates\"\nAUTOINSTALL=yes\n" + conf + "\n",
	} {
		path := r.Path("usr", "src", name+"-1", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// packages copies the header packages of the cloud kernel into a directory of a root.
func packages(t *testing.T, r *lab.Root, dir string) {
	t.Helper()
	release := lab.CloudKernel(t)
	series, _, _ := strings.Cut(release, "-cloud")
	for _, pattern := range []string{"linux-headers-" + release + "_*.deb", "linux-headers-" + series + "-common_*.deb", "linux-kbuild-*.deb"} {
		found, err := filepath.Glob(filepath.Join(lab.Path(t, "debs"), pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("the lab has no package %s: %v", pattern, err)
		}
		for _, file := range found {
			lab.MustExec(t, "install", "-D", "-m", "644", file, r.Path(dir, filepath.Base(file)))
		}
	}
}

// snapshot is what preflight must leave as it is, a line for each file.
type snapshot []string

func listing(t *testing.T, r *lab.Root) snapshot {
	t.Helper()
	const command = `cd "$0" && { find boot var/lib/dkms; find usr/src usr/lib -maxdepth 1; find usr/lib/modules usr/lib/linux-kbuild* usr/src/linux-headers* -maxdepth 2; } | sort -u | xargs -d '\n' stat -c '%N %f %s %.Y'`
	return strings.Split(lab.MustExec(t, "sh", "-c", command, r.Dir).Stdout, "\n")
}

// still tells what is not as it was.
func (before snapshot) still(t *testing.T, r *lab.Root) {
	t.Helper()
	after := listing(t, r)
	for _, lines := range [][2]snapshot{{before, after}, {after, before}} {
		for _, line := range lines[0] {
			if _, found := slices.BinarySearch(lines[1], line); !found && !slices.Contains(lines[1], line) {
				t.Errorf("changed: %s", line)
			}
		}
	}
}

// places are what is left of private places.
func places(r *lab.Root) []string {
	left, _ := filepath.Glob(r.Path("var/cache/dkms/aside/*"))
	return left
}

func machine(t *testing.T) *lab.Root {
	t.Helper()
	r := lab.Scratch(t)
	r.AddBinary()
	packages(t, r, "debs")
	return r
}

func TestKernelThatIsNotInstalled(t *testing.T) {
	r, release := machine(t), lab.CloudKernel(t)
	module(t, r, "good", "", "")
	module(t, r, "bad", "#include <linux/no_such_header.h>", "FAILURE_POLICY=required")
	module(t, r, "other", "", `BUILD_EXCLUSIVE_KERNEL="^9"`)
	module(t, r, "manual", "#error not built", "AUTOINSTALL=")
	for _, name := range []string{"good", "bad", "other", "manual"} {
		r.MustRun("dkms", "add", name+"/1")
	}
	before := listing(t, r)
	doc := read(t, r, 11, "preflight", release, "/debs")
	if doc.Schema != "dkms-preflight/1" || doc.OK || !slices.Equal(doc.Kernels, []string{release}) {
		t.Errorf("it says %+v", doc)
	}
	want := map[string]string{"good": "builds", "bad": "fails", "other": "excluded", "manual": "off"}
	for _, m := range doc.Modules {
		if m.Outcome != want[m.Module] || m.Kernel != release || m.Cached || m.Required != (m.Module == "bad") {
			t.Errorf("%+v", m)
		}
		if m.Module == "bad" && (m.File != "bad.c" || m.Line != 2 || !strings.Contains(m.Log, "no_such_header.h: No such file") || len(m.Next) == 0) {
			t.Errorf("%+v", m)
		}
	}
	if len(doc.Modules) != len(want) {
		t.Errorf("there are %d modules", len(doc.Modules))
	}
	before.still(t, r)
	if left := places(r); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
	// What was built serves when the kernel comes.
	r.MustRun("sh", "-c", "dpkg --unpack --force-all /debs/*cloud*.deb") // the others' files are there
	res := r.MustRun("dkms", "install", "good/1", "-k", release)
	if !strings.Contains(res.Stdout, "Using the cached result") {
		t.Errorf("it was built again\n%s%s", res.Stdout, res.Stderr)
	}
	doc = read(t, r, 0, "preflight", release, "good", "other")
	if len(doc.Modules) != 2 || doc.Modules[0].Outcome != "ready" || doc.Modules[1].Outcome != "excluded" {
		t.Errorf("it says %+v", doc)
	}
}

// Packages that are not whole, and hostile ones, are refused, and nothing is left.
func TestBadPackages(t *testing.T) {
	r, release := machine(t), lab.CloudKernel(t)
	module(t, r, "good", "", "")
	r.MustRun("dkms", "add", "good/1")
	older, _ := lab.Kernels(t)
	write(t, r.Path("evil/DEBIAN/control"), "Package: linux-headers-evil\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n")
	write(t, r.Path("evil/etc/passwd"), "evil")
	r.MustRun("sh", "-c", `mkdir other cut && dpkg-deb -b evil other/linux-headers-evil.deb && head -c 3000 debs/linux-headers-*cloud*.deb >cut/linux-headers-cut.deb
rm -rf usr/src/linux-headers-*-common`)
	before := listing(t, r)
	for _, tc := range []struct {
		code  int
		words []string
		says  string
	}{
		{21, []string{release, "./debs/" + only(t, r, "debs/linux-headers-"+release+"_*")}, "don't have all headers of kernel " + release},
		{21, []string{"9.9.9-none", "/other"}, "no headers of kernel 9.9.9-none"},
		{21, []string{"/other"}, "no headers of any kernel"},
		{21, []string{"9.9.9-none"}, "headers of kernel 9.9.9-none"},
		{7, []string{"/cut"}, "linux-headers-cut.deb"},
		{7, []string{"/none"}, "/none is neither"},
		{3, []string{older, "none"}, "no module none"},
	} {
		res := r.Run("sh", "-c", "cd / && dkms preflight "+strings.Join(tc.words, " "))
		if res.Code != tc.code || !strings.Contains(res.Stderr, tc.says) || strings.Contains(res.Stdout, "good/1") {
			t.Errorf("%q: exit code %d, want %d and %q\n%s%s", tc.words, res.Code, tc.code, tc.says, res.Stdout, res.Stderr)
		}
	}
	before.still(t, r)
	if left := places(r); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
}

// What a killed preflight leaves goes with the next one.
func TestKilled(t *testing.T) {
	r := lab.Scratch(t)
	r.AddBinary()
	older, _ := lab.Kernels(t)
	module(t, r, "slow", "", "MAKE=\"sleep 600\"")
	r.MustRun("dkms", "add", "slow/1")
	before := listing(t, r)
	var out bytes.Buffer
	cmd := exec.Command("chroot", r.Dir, "dkms", "preflight", older)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	building := func() bool {
		found, _ := filepath.Glob(r.Path("var/cache/dkms/aside/*/tree/slow/1/build/make.log"))
		return len(found) > 0
	}
	for begun := time.Now(); !building(); time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > 2*time.Minute {
			t.Fatalf("no build has begun\n%s", out.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the inner process has the pipes: this waits for its end too
	if len(places(r)) != 1 {
		t.Fatalf("there are %q\n%s", places(r), out.String())
	}
	if res := r.Run("dkms", "preflight", older, "none"); res.Code != 3 {
		t.Fatalf("exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	if left := places(r); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
	before.still(t, r)
}

// Without consent nothing is downloaded, but it is said how.
func TestDownload(t *testing.T) {
	r := lab.AptRoot(t)
	r.AddBinary()
	release := lab.AptKernels(t).Cloud
	module(t, r, "other", "", `BUILD_EXCLUSIVE_KERNEL="^9"`)
	r.MustRun("dkms", "add", "other/1")
	res := r.Run("dkms", "preflight", release)
	if want := "apt-get download linux-headers-"; res.Code != 21 || !strings.Contains(res.Stderr, want) || !strings.Contains(res.Stderr, "--download") {
		t.Fatalf("exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	if os.Getenv("CI") != "" {
		return // to unpack a kernel's headers takes ten seconds, and is tested above
	}
	doc := read(t, r, 0, "preflight", release, "--download")
	if len(doc.Modules) != 1 || doc.Modules[0].Outcome != "excluded" {
		t.Errorf("it says %+v", doc)
	}
	if _, err := os.Stat(r.Path("usr/src/linux-headers-" + release)); err == nil {
		t.Error("the headers are installed")
	}
}

func only(t *testing.T, r *lab.Root, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(r.Path(pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q", pattern, found)
	}
	return filepath.Base(found[0])
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
