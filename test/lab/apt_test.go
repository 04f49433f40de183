// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// The distribution's own tools in a root: apt installs a kernel and a module
// package from the cache, the hooks build the module.
func TestAptRootInstallsKernels(t *testing.T) {
	k := lab.AptKernels(t)
	root := lab.AptRoot(t)
	root.MustApt("install", "linux-headers-"+k.Cloud, "linux-image-"+k.Cloud)
	if found, _ := filepath.Glob(root.Path("boot", "initrd.img-*")); len(found) != 1 {
		t.Errorf("initial file systems: %q", found)
	}
	root.Freeze()
	for range 2 {
		top := lab.AptRootOver(t, root)
		top.MustApt("install", "acpi-call-dkms")
		got := top.MustRun("dkms", "status").Stdout
		if want := ", " + k.Cloud + ", x86_64: installed"; !strings.Contains(got, want) {
			t.Errorf("status is %q, want %q in it", got, want)
		}
	}
	if found, _ := os.ReadDir(root.Path()); len(found) != 0 {
		t.Errorf("the frozen root is still mounted")
	}
}
