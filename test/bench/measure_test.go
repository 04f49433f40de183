// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dkms-go/test/lab"
)

// sample is what one command took.
type sample struct {
	wall, cpu time.Duration // cpu: user and system time, with all children
	peak      int           // KiB, VmHWM of the command itself; 0: not measured
	out       string        // standard output
}

// machine is a root in which commands are measured: "dkms" is the binary under
// test, "peer" the other dkms.
type machine struct {
	*lab.Root
	t testing.TB
	b *bench
}

// run measures a command of the root. It must exit with 0.
func (m *machine) run(argv ...string) sample {
	m.t.Helper()
	s, code := m.start(argv...)
	if code != 0 {
		m.t.Fatalf("%q: exit status %d\n%s", argv, code, s.out)
	}
	return s
}

// start measures a command of the root and returns its exit status. The peak
// of dkms is noted.
func (m *machine) start(argv ...string) (sample, int) {
	m.t.Helper()
	path := "/usr/sbin/" + argv[0]
	if _, err := os.Lstat(m.Path(path)); err != nil {
		path = "/usr/bin/" + argv[0]
	}
	cmd := &exec.Cmd{
		Path: path, Args: argv, Dir: "/",
		Env:         []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root"},
		SysProcAttr: &syscall.SysProcAttr{Chroot: m.Dir},
	}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	var peak chan int
	stop := make(chan struct{})
	if argv[0] == "dkms" {
		peak = make(chan int, 1)
		go func() { peak <- watchPeak(cmd.Process.Pid, stop) }()
	}
	err := cmd.Wait()
	s := sample{wall: time.Since(began), out: out.String()}
	close(stop)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if peak != nil {
		s.peak = <-peak
		m.b.notePeak(s.peak, strings.Join(argv, " "))
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		s.out += stderr.String()
		return s, code
	}
	return s, 0
}

// watchPeak reads the peak of a process until it ends: often at first, for
// commands that are soon done. The maxrss of wait4 is no use: it is that of
// the largest child, and never below that of the process that forked.
func watchPeak(pid int, stop <-chan struct{}) int {
	file := fmt.Sprintf("/proc/%d/status", pid)
	exe := fmt.Sprintf("/proc/%d/exe", pid)
	peak := 0
	for pause := 500 * time.Microsecond; ; pause = min(pause*101/100, 20*time.Millisecond) {
		select {
		case <-stop:
			return peak
		case <-time.After(pause):
		}
		if target, err := os.Readlink(exe); err != nil || !strings.HasSuffix(target, "/dkms") {
			continue
		}
		if data, err := os.ReadFile(file); err == nil {
			peak = max(peak, peakIn(string(data)))
		}
	}
}

// peakIn returns VmHWM in KiB of a process' status.
func peakIn(status string) int {
	_, rest, _ := strings.Cut(status, "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(fields[0])
	return n
}

// median returns the medians of wall time and of CPU time, and the largest
// peak.
func median(all []sample) sample {
	var m sample
	m.wall = middle(all, func(s sample) time.Duration { return s.wall })
	m.cpu = middle(all, func(s sample) time.Duration { return s.cpu })
	for _, s := range all {
		m.peak = max(m.peak, s.peak)
	}
	return m
}

func middle(all []sample, of func(sample) time.Duration) time.Duration {
	var times []time.Duration
	for _, s := range all {
		times = append(times, of(s))
	}
	slices.Sort(times)
	n := len(times)
	if n == 0 {
		return 0
	}
	return (times[(n-1)/2] + times[n/2]) / 2
}

// inTurn runs commands A B A B …, each n times, and returns their medians.
func inTurn(n int, commands ...func() sample) []sample {
	all := make([][]sample, len(commands))
	for range n {
		for i, command := range commands {
			all[i] = append(all[i], command())
		}
	}
	var medians []sample
	for _, samples := range all {
		medians = append(medians, median(samples))
	}
	return medians
}

func TestMedian(t *testing.T) {
	all := []sample{{wall: 3, cpu: 1, peak: 5}, {wall: 1, cpu: 9, peak: 7}, {wall: 2, cpu: 5, peak: 6}}
	if got := median(all); got.wall != 2 || got.cpu != 5 || got.peak != 7 {
		t.Errorf("%+v", got)
	}
	if got := median(all[:2]).wall; got != 2 {
		t.Errorf("of two: %v", got)
	}
}

func TestPeakIn(t *testing.T) {
	if got := peakIn("Name:\tx\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"); got != 12345 {
		t.Errorf("%d", got)
	}
	if got := peakIn("Name:\tx\n"); got != 0 {
		t.Errorf("%d", got)
	}
}
