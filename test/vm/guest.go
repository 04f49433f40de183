// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

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

// Memory says what a machine has that runs from memory alone.
type Memory struct {
	// Kernel is the release, whose index and whose modules below updates/ the
	// guest has in its /lib/modules. The root's /etc/modprobe.d is there too.
	Kernel string
	// Image is the vmlinuz or, without UEFI, the ELF file of the kernel.
	Image string
	// Own are objects of the kernel's own to have there too: "kernel/lib/x.ko".
	Own []string
	// Files are in the guest's /files.
	Files map[string][]byte
	// Cmdline and UEFI are as in Options.
	Cmdline, UEFI string
}

// prelude is what every script begins with in a machine of InMemory. "try NAME
// COMMAND..." runs a command, and tells how it ended, what it and the kernel
// said meanwhile, and which modules that are not the kernel's own are loaded
// then: name, count and names of users, state, taint letters, an O among them
// (kernel/module/procfs.c).
const prelude = `
PATH=/bin
try() {
  local name=$1 status
  shift
  dmesg -c >/dev/null
  "$@" >/tmp/said 2>&1
  status=$?
  echo "vm: $name: status $status"
  sed "s/^/vm: $name: said: /" /tmp/said
  dmesg | sed "s/^\[[^]]*\] /vm: $name: logged: /"
  awk -v name="$name" '/\(.*O.*\)/ { print "vm: " name ": loaded:", $1, $3, $4, $5, $7 }' /proc/modules
}
`

// InMemory boots a kernel with a small file system in memory and runs a shell
// script there, with busybox, and kmod of a Debian root in /kmod. Nothing of a
// root is mounted, so that every kernel can do it, in 2 seconds.
func InMemory(tb testing.TB, root *lab.Root, m Memory, script string) Result {
	tb.Helper()
	dir := tb.TempDir()
	const sh = `
set -eu
root=$1 dir=$2 tree=lib/modules/$3
shift 3
mkdir -p "$dir"/bin "$dir"/proc "$dir"/sys "$dir"/tmp "$dir"/files "$dir"/kmod "$dir/$tree"
cp /bin/busybox "$dir"/bin
cd "$root"
cp -L --parents usr/bin/kmod $(chroot . ldd /usr/bin/kmod | grep -o '/lib[^ ]*' | sed 's|^/||') "$dir"
for name in insmod modprobe rmmod; do ln -s /usr/bin/kmod "$dir/kmod/$name"; done
cp -a --parents $tree/modules.* "$dir"
for d in $tree/updates etc/modprobe.d etc/os-release usr/lib/os-release; do [ ! -e $d ] || cp -a --parents $d "$dir"; done
for own; do cp -a --parents "$tree/$own" "$dir"; done
`
	lab.MustExec(tb, "sh", append([]string{"-c", sh, "pack", root.Dir, dir, m.Kernel}, m.Own...)...)
	for name, data := range m.Files {
		write(tb, filepath.Join(dir, "files", name), string(data))
	}
	write(tb, filepath.Join(dir, "script"), prelude+script)
	write(tb, filepath.Join(dir, "init"), `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
dmesg >/tmp/boot
dmesg -n 1
echo
sh /script
status=$?
echo
echo "vm: the script ended with status $status"
poweroff -f
`)
	return result(Boot(tb, Options{
		Kernel: m.Image, Initrds: []string{pack(tb, dir)}, Cmdline: m.Cmdline, UEFI: m.UEFI,
	}))
}

// InInitramfs boots a kernel of a Debian root, from an image as in Memory, with
// its own initrd.img, and runs a shell script in that in the place of its init:
// what is in the initrd.img, and what its modprobe does with it.
func InInitramfs(tb testing.TB, root *lab.Root, release, image, script string) Result {
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
		Kernel: image, Cmdline: "rdinit=/vm-init",
		Initrds: []string{pack(tb, dir), root.Path("boot", "initrd.img-"+release)},
	}))
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
