// SPDX-License-Identifier: Apache-2.0

// Package vm boots real kernels in qemu, so that a test can load modules.
//
// A boot takes 2 to 10 seconds of processor time without any help of the
// hardware. What a guest found is judged by what it printed, never by qemu's
// exit status: each boot ends with a marker that only a guest that came to its
// end prints.
package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/ko"
	"dkms-go/test/lab"
)

// Options say what to boot.
type Options struct {
	// Kernel is a vmlinuz, or an ELF kernel with PVH.
	Kernel string
	// Initrds are files that are given to the kernel one behind the other.
	Initrds []string
	// Cmdline is added to the kernel's command line.
	Cmdline string
	// Memory is in MiB; 0 stands for 512.
	Memory int
	// Share is a directory that the guest may mount, read-only, as the 9p file
	// system "root".
	Share string
	// Timeout ends the machine; 0 stands for two minutes.
	Timeout time.Duration
}

// Boot runs a virtual machine to its end and returns what it wrote to its
// console, with plain line ends. An oops or a panic ends the machine. One that
// is still running after the timeout fails the test.
func Boot(tb testing.TB, o Options) string {
	tb.Helper()
	if o.Memory == 0 {
		o.Memory = 512
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	initrd := filepath.Join(tb.TempDir(), "initrd")
	join(tb, initrd, o.Initrds)
	args := append(accel(tb), "-smp", "1", "-m", fmt.Sprint(o.Memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", o.Kernel, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 oops=panic cryptomgr.notests "+o.Cmdline)
	if o.Share != "" {
		args = append(args, "-virtfs", "local,path="+o.Share+",mount_tag=root,security_model=none,readonly=on,multidevs=remap")
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := strings.ReplaceAll(out.String(), "\r", "")
	if ctx.Err() != nil {
		tb.Fatalf("the virtual machine was still running after %s:\n%s", o.Timeout, text)
	}
	if err != nil {
		tb.Fatalf("running qemu: %v\n%s", err, text)
	}
	return text
}

// accel tells qemu how to run the processor. A device /dev/kvm proves nothing:
// some hosts have a substitute that runs no kernel to its end. Only the
// processor's own flags count.
func accel(tb testing.TB) []string {
	tb.Helper()
	flags, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat("/dev/kvm"); err == nil && regexp.MustCompile(`\b(vmx|svm)\b`).Match(flags) {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg", "-cpu", "qemu64"}
}

// join writes files one behind the other, each padded to four bytes.
func join(tb testing.TB, path string, files []string) {
	tb.Helper()
	var all []byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, data...)
		all = append(all, make([]byte, -len(all)&3)...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// Result is what a script in a virtual machine did.
type Result struct {
	// OK says that it came to its end with status 0.
	OK bool
	// Console is everything that was printed.
	Console string
}

// ended is what the guest prints after a script that ended well.
const ended = "vm: the script ended with status 0"

func result(console string) Result { return Result{strings.Contains(console, "\n"+ended), console} }

// InRoot boots the kernel of a Debian root with that root, read-only, as its
// file system, and runs a shell script in it: what modprobe does there after
// boot. The root needs its vmlinuz and modules.dep.
func InRoot(tb testing.TB, root *lab.Root, release, script string) Result {
	tb.Helper()
	dir := tb.TempDir()
	write(tb, filepath.Join(dir, "script"), script)
	write(tb, filepath.Join(dir, "init"), `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
dmesg -n 1
for m in /modules/*.ko; do insmod $m || echo "vm: cannot load $m"; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /r || echo "vm: no root"
mount -t proc proc /r/proc
mount -t sysfs sysfs /r/sys
mount -t devtmpfs dev /r/dev
mount -t tmpfs tmp /r/tmp
cp /script /r/tmp/script
echo
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C chroot /r /bin/sh /tmp/script
status=$?
echo
echo "vm: the script ended with status $status"
poweroff -f
`)
	for _, d := range []string{"bin", "proc", "r", "modules"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	lab.MustExec(tb, "cp", "/bin/busybox", filepath.Join(dir, "bin"))
	for i, object := range needed(tb, root, release, "9p", "9pnet_virtio", "virtio_pci") {
		data, err := ko.Read(object)
		if err != nil {
			tb.Fatal(err)
		}
		name := fmt.Sprintf("%02d-%s.ko", i, strings.SplitN(filepath.Base(object), ".", 2)[0])
		if err := os.WriteFile(filepath.Join(dir, "modules", name), data, 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return result(Boot(tb, Options{
		Kernel: root.Path("boot", "vmlinuz-"+release), Initrds: []string{pack(tb, dir)}, Share: root.Dir,
	}))
}

// InInitramfs boots the kernel of a Debian root with its own initrd.img, and
// runs a shell script in that in the place of its init: what is in the image,
// and what its modprobe does with it.
func InInitramfs(tb testing.TB, root *lab.Root, release, script string) Result {
	tb.Helper()
	dir := tb.TempDir()
	write(tb, filepath.Join(dir, "vm-script"), script)
	write(tb, filepath.Join(dir, "vm-init"), `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo 1 >/proc/sys/kernel/printk
echo
sh /vm-script
status=$?
echo
echo "vm: the script ended with status $status"
echo o >/proc/sysrq-trigger
sleep 9
`)
	return result(Boot(tb, Options{
		Kernel: root.Path("boot", "vmlinuz-"+release), Cmdline: "rdinit=/vm-init",
		Initrds: []string{pack(tb, dir), root.Path("boot", "initrd.img-"+release)},
	}))
}

// needed lists the files of modules and all that they need, in the order that
// they are to be loaded in.
func needed(tb testing.TB, root *lab.Root, release string, modules ...string) []string {
	tb.Helper()
	var files []string
	seen := map[string]bool{}
	for _, m := range modules {
		out := lab.MustExec(tb, "modprobe", "-C", tb.TempDir(), "-d", root.Dir, "-S", release, "--show-depends", m).Stdout
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			if len(fields) >= 2 && fields[0] == "insmod" && !seen[fields[1]] {
				seen[fields[1]] = true
				files = append(files, fields[1])
			}
		}
	}
	return files
}

// pack makes a cpio archive of a directory.
func pack(tb testing.TB, dir string) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "cpio")
	lab.MustExec(tb, "sh", "-c", `cd "$1" && find . | cpio --quiet -o -H newc >"$2"`, "pack", dir, file)
	return file
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		tb.Fatal(err)
	}
}
