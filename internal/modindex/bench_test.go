// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/test/lab"
)

// The benchmarks are of one kernel and to be compared with each other in one
// run: go test -run - -bench . -benchtime 5x -count 5 ./internal/modindex

func benchKernel(b *testing.B) *bench {
	_, newer := lab.Kernels(b)
	k := newBench(b, newer)
	k.all(filepath.Join(lab.KernelRoot(b), "usr", "lib", "modules", newer))
	k.write("updates/dkms/changed.ko", fake{modinfo: []string{"alias=a0"}}.bytes())
	return k
}

// cpuTime returns the time of this process and of its ended children.
func cpuTime() time.Duration {
	var all time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			all += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return all
}

func measure(b *testing.B, prepare func(n int), run func() error) {
	var cpu time.Duration
	b.ResetTimer()
	for n := range b.N {
		b.StopTimer()
		prepare(n)
		before := cpuTime()
		b.StartTimer()
		err := run()
		cpu += cpuTime() - before
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func BenchmarkDepmod(b *testing.B) {
	k := benchKernel(b)
	measure(b, func(int) {}, func() error {
		_, err := k.depmod()
		return err
	})
}

func BenchmarkCold(b *testing.B) {
	k := benchKernel(b)
	measure(b, func(int) {
		os.RemoveAll(k.cache)
		for name := range k.index() {
			os.Remove(filepath.Join(k.tree, name))
		}
	}, func() error {
		_, err := Update(b.Context(), k.request())
		return err
	})
	b.ReportMetric(float64(peak(b)), "peak-KiB")
}

// BenchmarkUpdate changes one module each time.
func BenchmarkUpdate(b *testing.B) {
	k := benchKernel(b)
	if _, err := Update(b.Context(), k.request()); err != nil {
		b.Fatal(err)
	}
	time.Sleep(2 * racy)
	measure(b, func(n int) {
		k.write("updates/dkms/changed.ko", fake{modinfo: []string{"alias=a" + strconv.Itoa(n+1)}, exports: []string{"s" + strconv.Itoa(n)}}.bytes())
	}, func() error {
		_, err := Update(b.Context(), k.request())
		return err
	})
}

// peak returns the most memory that this process had, in KiB.
func peak(tb testing.TB) int {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	n, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
	return n
}
