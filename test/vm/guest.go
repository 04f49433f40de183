// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/ko"
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
		Kernel: Unpacked(tb, root.Path("boot", "vmlinuz-"+release)), Initrds: []string{pack(tb, dir)}, Share: root.Dir,
	}))
}

// Memory says what a machine has that runs from memory alone.
type Memory struct {
	// Kernel is the release, whose index and whose modules below updates/ the
	// guest has in its /lib/modules.
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
cp -a --parents $tree/modules.* $tree/updates "$dir"
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
		Kernel: Unpacked(tb, root.Path("boot", "vmlinuz-"+release)), Cmdline: "rdinit=/vm-init",
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
