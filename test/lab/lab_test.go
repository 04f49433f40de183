// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

func TestLabIsComplete(t *testing.T) {
	older, newer := lab.Kernels(t)
	for _, k := range []string{older, newer} {
		// The build link is absolute: it is right inside the root only.
		link, err := os.Readlink(filepath.Join(lab.KernelRoot(t), "lib/modules", k, "build"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(lab.KernelRoot(t), link, "Makefile")); err != nil {
			t.Errorf("headers of %s: %v", k, err)
		}
	}
	if _, err := os.Stat(filepath.Join(lab.KernelRoot(t), "lib/modules", newer, "modules.dep.bin")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(lab.Oracle(t), "usr/sbin/dkms")); err != nil {
		t.Error(err)
	}
}

func TestPackages(t *testing.T) {
	all := lab.Packages(t)
	if len(all) < 18 {
		t.Errorf("%d module packages, want 18 at least", len(all))
	}
	for _, p := range all {
		if got := p.Module + "-" + p.Version; got != filepath.Base(p.Source) {
			t.Errorf("package %s: %q is not %q", p.Name, got, filepath.Base(p.Source))
		}
	}
}

func TestScratchRunsTheOracle(t *testing.T) {
	older, _ := lab.Kernels(t)
	var dir string
	t.Run("use", func(t *testing.T) {
		root := lab.Scratch(t)
		dir = root.Dir
		root.AddOracle()
		p := root.AddPackage("acpi-call-dkms")
		name := p.Module + "/" + p.Version
		root.MustRun("dkms", "install", name, "-k", older)
		if got := root.MustRun("dkms", "status").Stdout; !strings.HasPrefix(got, name+", "+older+", x86_64: installed") {
			t.Errorf("status of the oracle is %q", got)
		}
		object := root.Path("usr/lib/modules", older, "updates/dkms/acpi_call.ko")
		got := lab.MustExec(t, "modinfo", "-F", "vermagic", object).Stdout
		if !strings.HasPrefix(got, older+" ") {
			t.Errorf("vermagic is %q, want it to begin with %q", got, older)
		}
		for _, link := range []string{"lib", "sbin"} {
			if got, err := os.Readlink(root.Path(link)); err != nil || got != "usr/"+link {
				t.Errorf("/%s is no longer a link into /usr: %q, %v", link, got, err)
			}
		}
	})
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("the scratch root is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(lab.KernelRoot(t), "usr/lib/modules", older, "updates")); !os.IsNotExist(err) {
		t.Errorf("the lab was written to: %v", err)
	}
}

func TestBareScratch(t *testing.T) {
	_, newer := lab.Kernels(t)
	root := lab.BareScratch(t)
	if _, err := os.Stat(root.Path("lib/modules", newer, "modules.order")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(root.Path("usr/bin/gcc")); !os.IsNotExist(err) {
		t.Errorf("a bare root has a compiler: %v", err)
	}
}
