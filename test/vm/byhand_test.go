// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/ko"
	"dkms-go/test/lab"
	"dkms-go/test/vm"
)

// This is `make vm`, and nothing without it. A module is installed by dkms for
// a kernel, and that kernel is booted. A script, if none is given one that loads
// all objects of the module, runs there, and what it printed is shown.
func TestByHand(t *testing.T) {
	source := os.Getenv("VM_MODULE")
	if source == "" {
		return
	}
	release := os.Getenv("VM_KERNEL")
	if release == "" {
		_, release = lab.Kernels(t)
	}
	root := lab.AllScratch(t)
	root.AddBinary()
	lab.MustExec(t, "cp", "-rL", source, root.Path("usr/src/vm-module"))
	must(t, os.MkdirAll(root.Path("etc/dkms/framework.conf.d"), 0o755))
	must(t, os.WriteFile(root.Path("etc/dkms/framework.conf.d/sign.conf"), []byte("try_sign_modules=true\n"), 0o644))
	root.MustRun("dkms", "add", "/usr/src/vm-module")
	module, _, _ := strings.Cut(root.MustRun("dkms", "status").Stdout, ":")
	t.Log(root.MustRun("dkms", "install", module, "-k", release).Stdout)

	objects, err := filepath.Glob(root.Path("var/lib/dkms", module, release, "x86_64/module/*.ko*"))
	must(t, err)
	m := vm.Memory{Kernel: release, Image: root.Path("boot/vmlinuz-" + release)}
	script := ""
	for _, object := range objects {
		name, _, _ := ko.SplitName(filepath.Base(object))
		m.Own = append(m.Own, ownNeeded(t, root, release, name)...)
		script += "try " + name + " /kmod/modprobe " + name + "\n"
	}
	if given := os.Getenv("VM_RUN"); given != "" {
		script = given
	}
	if os.Getenv("VM_SECURE_BOOT") != "" {
		m.UEFI = vm.Variables(t, vm.Trust{SecureBoot: true, MOK: [][]byte{read(t, root.Path("var/lib/dkms/mok.pub"))}})
	} else {
		m.Image = vm.Unpacked(t, m.Image)
	}
	t.Log(vm.InMemory(t, root, m, script).Console)
}

// ownNeeded lists the objects of the kernel's own that a module needs, by their
// names below the kernel's tree.
func ownNeeded(t *testing.T, root *lab.Root, release, module string) []string {
	t.Helper()
	var own []string
	out := lab.MustExec(t, "modprobe", "-C", t.TempDir(), "-d", root.Dir, "-S", release, "--show-depends", module).Stdout
	for line := range strings.Lines(out) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), "/lib/modules/"+release+"/kernel/"); ok {
			own = append(own, "kernel/"+path)
		}
	}
	return own
}
