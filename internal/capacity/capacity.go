// SPDX-License-Identifier: Apache-2.0

// Package capacity tells how many compilers a machine has room for.
package capacity

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"dkms-go/internal/host"
)

// maxRead bounds the files that are read, in bytes; the largest, memory.stat,
// has about 2 KiB.
const maxRead = 64 << 10

// CPUs returns how many CPUs this process may use: those of its affinity mask
// (sched_getaffinity(2)), and no more than the bandwidth of its control group
// allows, rounded up (the runtime's GOMAXPROCS).
func CPUs() int { return runtime.GOMAXPROCS(0) }

// Memory is room for processes.
type Memory struct {
	// Bytes may be used without pushing others out.
	Bytes int64
	// Of names what it belongs to: the machine, or a control group.
	Of string
}

// Free returns the memory that new processes may use: what the kernel calls
// available (MemAvailable, proc_meminfo(5)), or what a control group's limit
// leaves, if that is less. ok is false if nothing tells.
func Free(p host.Paths) (m Memory, ok bool) {
	if n, found := field(read(filepath.Join(p.Proc, "meminfo")), "MemAvailable:"); found {
		m, ok = Memory{n << 10, "this machine"}, true
	}
	for line := range strings.Lines(read(filepath.Join(p.Proc, "self", "cgroup"))) {
		// cgroups(7): hierarchy:controllers:path, the second empty in version 2.
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, found := strings.Cut(rest, ":")
		if !found || p.Cgroup == "" || strings.Contains(path, "..") {
			continue
		}
		top, left := filepath.Clean(p.Cgroup), leftV2
		switch controllers {
		case "":
		case "memory":
			top, left = filepath.Join(p.Cgroup, "memory"), leftV1
		default:
			continue
		}
		// A group's limit holds for all below it.
		for dir := filepath.Join(top, path); ; dir = filepath.Dir(dir) {
			if n, found := left(dir); found && (!ok || n < m.Bytes) {
				m, ok = Memory{max(n, 0), "the control group " + dir}, true
			}
			if len(dir) <= len(top) {
				break
			}
		}
	}
	return m, ok
}

// leftV2 returns what the memory limit of a version 2 group leaves. Pages of
// files that are not in use can be had back.
func leftV2(dir string) (int64, bool) {
	limit, ok := number(read(filepath.Join(dir, "memory.max"))) // "max" is none
	used, ok2 := number(read(filepath.Join(dir, "memory.current")))
	cached, _ := field(read(filepath.Join(dir, "memory.stat")), "inactive_file")
	return limit - used + cached, ok && ok2
}

// leftV1 is leftV2 for a group of version 1.
func leftV1(dir string) (int64, bool) {
	limit, ok := number(read(filepath.Join(dir, "memory.limit_in_bytes")))
	used, ok2 := number(read(filepath.Join(dir, "memory.usage_in_bytes")))
	cached, _ := field(read(filepath.Join(dir, "memory.stat")), "total_inactive_file")
	return limit - used + cached, ok && ok2
}

// Jobs returns how many jobs that need so many bytes each fit into memory: at
// least one, at most want.
func (m Memory) Jobs(want int, need int64) int {
	if need <= 0 {
		return want
	}
	return int(min(int64(want), max(m.Bytes/need, 1)))
}

func (m Memory) String() string { return fmt.Sprintf("%d MiB free in %s", m.Bytes>>20, m.Of) }

// read returns the beginning of a file, "" if it can't be read.
func read(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRead))
	if err != nil {
		return ""
	}
	return string(text)
}

// field returns the number behind a name at the beginning of a line.
func field(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			return number(words[1])
		}
	}
	return 0, false
}

// number returns a count of bytes, or of what else; larger ones than any
// machine's memory stand for no limit.
func number(text string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n, err == nil && n >= 0 && n < 1<<50
}
