// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"os"
	"strings"
	"testing"

	"dkms-go/internal/initramfs"
	"dkms-go/test/lab"
	"dkms-go/test/vm"
)

const tellLoaded = `
grep -q '^acpi_call ' /proc/modules || exit 9
echo
echo "guest: $(cat /proc/version)"
echo "guest: acpi_call $(cat /sys/module/acpi_call/srcversion) $(cat /sys/module/acpi_call/initstate)"
`

// A machine with a module of the archive, named for the initramfs, gets a kernel
// by apt: its image, and the headers a transaction later. The kernel then boots
// in a virtual machine and loads the module both ways: by the root's modprobe and
// index, and by what is in its own initramfs.
func TestModuleLoadsInItsKernel(t *testing.T) {
	release := lab.AptKernels(t).Cloud
	root := lab.AptRoot(t)
	for file, text := range map[string]string{
		"etc/initramfs-tools/modules": "acpi_call\n",
		// Only what is named: hundreds of other modules would take minutes.
		"etc/initramfs-tools/conf.d/few": "MODULES=list\n",
	} {
		if err := os.WriteFile(root.Path(file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root.MustApt("install", root.AddDeb(lab.Deb(t)), "acpi-call-dkms")
	root.MustApt("install", "linux-image-"+release)
	out := root.MustApt("install", "linux-headers-"+release)
	if want := "Updating the initramfs of kernel " + release; strings.Count(out.Stdout, want) != 1 {
		t.Errorf("the initramfs wasn't updated once:\n%s", out.Stdout)
	}
	for _, command := range [][]string{{"verify"}, {"ready", "-k", release, "--templatekernel", release}} {
		if res := root.Run("dkms", command...); res.Code != 0 || res.Stdout == "" {
			t.Errorf("dkms %s: exit code %d\n%s%s", command, res.Code, res.Stdout, res.Stderr)
		}
	}

	object := root.Path("lib/modules", release, "updates/dkms/acpi_call.ko")
	srcversion := strings.TrimSpace(lab.MustExec(t, "modinfo", "-F", "srcversion", object).Stdout)
	data, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	held, err := initramfs.Holds(root.Path("boot/initrd.img-"+release), "acpi-call", data)
	if err != nil || held != initramfs.Same {
		t.Errorf("the initramfs holds the module: %v, %v", held, err)
	}

	image := vm.Unpacked(t, root.Path("boot/vmlinuz-"+release))
	check := func(r vm.Result) {
		t.Helper()
		if !r.OK {
			t.Fatalf("the module was not loaded:\n%s", r.Console)
		}
		for _, want := range []string{"guest: Linux version " + release, "guest: acpi_call " + srcversion + " live"} {
			if !strings.Contains(r.Console, "\n"+want) {
				t.Errorf("no line %q in:\n%s", want, r.Console)
			}
		}
	}
	check(vm.InMemory(t, root, vm.Memory{Kernel: release, Image: image}, "/kmod/modprobe -v acpi_call || exit\n"+tellLoaded))
	check(vm.InInitramfs(t, root, release, image, "grep '^acpi_call' /conf/modules && modprobe -v acpi_call || exit\n"+tellLoaded))
}

// What goes wrong in a guest is told.
func TestFailuresShow(t *testing.T) {
	root := lab.AllScratch(t)
	release := lab.CloudKernel(t)
	image := vm.Unpacked(t, root.Path("boot/vmlinuz-"+release))
	for script, want := range map[string]string{
		"/kmod/modprobe no-such-module":                     "no-such-module not found",
		"echo c >/proc/sysrq-trigger":                       "Kernel panic",
		"echo early; echo o >/proc/sysrq-trigger; sleep 60": "early",
	} {
		if r := vm.InMemory(t, root, vm.Memory{Kernel: release, Image: image}, script); r.OK || !strings.Contains(r.Console, want) {
			t.Errorf("script %q: OK is %v:\n%s", script, r.OK, r.Console)
		}
	}
}
