// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"dkms-go/test/lab"
)

// describeMachine tells what the numbers depend on, in one line.
func describeMachine(t *testing.T) string {
	t.Helper()
	cpu := after(readText(t, "/proc/cpuinfo"), "model name\t: ")
	var kib int
	if _, err := fmt.Sscan(after(readText(t, "/proc/meminfo"), "MemTotal:"), &kib); err != nil {
		t.Fatal(err)
	}
	kernel, _, _ := strings.Cut(readText(t, "/proc/sys/kernel/osrelease"), "-")
	compiler := after(lab.MustExec(t, "chroot", lab.Path(t, "base"), "gcc", "--version").Stdout, "")
	return fmt.Sprintf("%s, %d cores, %d GB of memory, Linux %s, scratch roots on %s, %s",
		cpu, runtime.NumCPU(), (kib+1<<19)>>20, strings.TrimSpace(kernel), fileSystem(t, t.TempDir()), compiler)
}

// after returns the rest of the line that begins with a text, trimmed.
func after(text, begin string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, begin); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func readText(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// load is the load average of the machine over the last minutes.
func load(t *testing.T) string {
	t.Helper()
	return strings.Join(strings.Fields(readText(t, "/proc/loadavg"))[:3], " ")
}

// fileSystem names the file system of a directory and the kind of its disk.
func fileSystem(t *testing.T, dir string) string {
	t.Helper()
	name := strings.TrimSpace(lab.MustExec(t, "stat", "-f", "-c", "%T", dir).Stdout)
	if name == "ext2/ext3" {
		name = "ext4"
	}
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	dev := fmt.Sprintf("/sys/dev/block/%d:%d", st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00)
	for _, queue := range []string{"/queue/rotational", "/../queue/rotational"} {
		switch data, _ := os.ReadFile(dev + queue); strings.TrimSpace(string(data)) {
		case "0":
			return name + " (no rotating disk)"
		case "1":
			return name + " (rotating or virtual disk)"
		}
	}
	return name
}

// peakLine is the row of dkms' own memory over all sections of a machine.
func peakLine(where string, all map[string]section) line {
	var top section
	for _, s := range all {
		if s.Machine == where && s.PeakKiB > top.PeakKiB {
			top = s
		}
	}
	return line{
		What: "peak memory of dkms itself in all of it: " + "`" + top.PeakIn + "`", Ours: fmt.Sprintf("%.1f MB", float64(top.PeakKiB)/1024),
		Goal: "≤ 80 MB", Met: yes(top.PeakKiB <= 80<<10),
	}
}

const pageHead = `# Performance

Written by ` + "`make bench`" + `, see [test/bench](../test/bench/doc.go). Medians; the commands that are compared ran in turn. CPU is user and system time of the command and all its children. *Bare make* runs the commands of the module's dkms.conf on a copy of the source that is there already, with a job for each core: no copy, no clean, no signature, no compression, no installation.

`

// writePage makes docs/performance.md of what was measured on this machine.
func writePage(where string, all map[string]section) string {
	var b strings.Builder
	b.WriteString(pageHead)
	fmt.Fprintf(&b, "Machine: %s.\n", where)
	for _, r := range rows() {
		s, ok := all[r.name]
		if !ok || s.Machine != where {
			fmt.Fprintf(&b, "\n## %s\n\nNot measured.\n", r.name)
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s The other dkms is %s. Measured on %s.\n\n%s", r.name, about(r.name), s.Peer, s.When, table(s.Lines))
	}
	fmt.Fprintf(&b, "\n## memory\n\n%s", table([]line{peakLine(where, all)}))
	return b.String()
}

// about says what a row does.
func about(row string) string {
	return map[string]string{
		"index":   "Stock 6.12 kernel with its 4,230 compressed modules. One object beside the kernel's own is replaced by another, and dkms is told that the index is due: `dkms autoinstall` with nothing else to do, from start to exit. For the index from nothing the cache is removed before.",
		"status":  "Modules installed for four Debian kernels, or for thirty copies of one.",
		"noop":    "`autoinstall` for a kernel for which all 30 modules are installed.",
		"small":   "`dkms install` (build and install) of acpi-call for the stock 6.12 kernel. The index is warm, the cache of results empty.",
		"large":   "The same with jool for the stock 6.1 kernel, for which it can be built, and with dattobd 0.12.0, which runs make a hundred times to look at the kernel.",
		"again":   "`unbuild`, then `install` of the same source for the same kernel.",
		"corpus":  "The 16 module packages of Debian 12 that build for its kernel, for a kernel of which only the headers are there. The bound is the larger of the longest single bare make and the sum of the CPU times of all bare makes, one after another, over the cores; where two compilers at a time slow each other down it can't be reached, so bare makes side by side are measured, too.",
		"image":   "The same for the stock 6.1 kernel with its image, so that the module index is made.",
		"kernels": "Six modules that can be built for all of them for four stock kernels at once, by the hook of a package manager that brought them: two releases of 6.1, its cloud and its real-time flavour. The other dkms serves them one after another.",
	}[row]
}
