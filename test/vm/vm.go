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

	"dkms-go/internal/abi"
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
	// UEFI is a variable store, made by Variables, with which UEFI firmware
	// starts the kernel; "" stands for a start without firmware. Firmware takes
	// 4 seconds, and a vmlinuz only. What the guest writes to the store stays.
	UEFI string
	// Timeout ends the machine; 0 stands for ten minutes.
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
		o.Timeout = 10 * time.Minute // a machine that does much besides is slow
	}
	// Without no_timer_check a kernel panics where the host is so busy that it sees
	// no ticks for a while (arch/x86/kernel/apic/io_apic.c, check_timer).
	cmdline := "console=ttyS0 quiet panic=-1 oops=panic cryptomgr.notests no_timer_check " + o.Cmdline
	initrd := filepath.Join(tb.TempDir(), "initrd")
	join(tb, initrd, o.Initrds)
	args := append(accel(tb), "-smp", "1", "-m", fmt.Sprint(o.Memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", o.Kernel, "-initrd", initrd,
		"-append", cmdline)
	if o.UEFI != "" {
		args = append(args, "-machine", "q35",
			"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+firmware,
			"-drive", "if=pflash,format=raw,unit=1,file="+o.UEFI)
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := strings.ReplaceAll(out.String(), "\r", "")
	if ctx.Err() != nil {
		tb.Fatalf("the virtual machine was still running after %s; its console:\n%s", o.Timeout, text)
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

// Unpacked returns an ELF file with what is packed in a vmlinuz. A kernel starts
// 2 to 4 seconds sooner from it.
func Unpacked(tb testing.TB, vmlinuz string) string {
	tb.Helper()
	elf, err := abi.ReadImage(vmlinuz)
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "vmlinux")
	if err := os.WriteFile(file, elf, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}
