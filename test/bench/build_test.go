// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"dkms-go/test/lab"
)

// benchSmall builds and installs one small module.
func benchSmall(t *testing.T, b *bench) []line {
	_, kernel := lab.Kernels(t)
	m := newMachine(t, b)
	name := m.add(lab.Corpus(t, "acpi-call-dkms"))
	return m.oneModule("small, acpi-call on 6.12", kernel, name, 5, 1.15)
}

// oneModule compares dkms install with bare make and with the other dkms.
func (m *machine) oneModule(what, kernel, name string, n int, goal float64) []line {
	m.t.Helper()
	m.MustRun("dkms", "install", name, "-k", kernel) // the index is warm
	n = m.b.runs(n)
	got := inTurn(n, func() sample {
		m.MustRun("dkms", "unbuild", name, "-k", kernel)
		m.forgetResults()
		return m.run("dkms", "install", name, "-k", kernel)
	}, func() sample {
		return m.bareBuild(kernel, name, runtime.NumCPU())
	})
	m.MustRun("dkms", "unbuild", name, "-k", kernel)
	theirs := inTurn(min(n, 3), func() sample {
		s := m.run("peer", "install", name, "-k", kernel)
		m.MustRun("dkms", "unbuild", name, "-k", kernel)
		return s
	})[0]
	return []line{
		against(what+", wall", got[0].wall, "bare make", got[1].wall, goal),
		against(what+", CPU", got[0].cpu, "bare make", got[1].cpu, 0),
		against(what+", wall", got[0].wall, m.b.peerName, theirs.wall, 0),
		against(what+", CPU", got[0].cpu, m.b.peerName, theirs.cpu, 0),
		{What: m.b.peerName + ", " + what + ", wall", Ours: seconds(theirs.wall), Against: "bare make " + seconds(got[1].wall), Ratio: ratio(theirs.wall, got[1].wall)},
	}
}

// benchLarge builds and installs large modules for the stock 6.1 kernel.
func benchLarge(t *testing.T, b *bench) []line {
	kernel := lab.AptKernels(t).Cur
	m := newMachine(t, b)
	m.addKernel(kernel, true)
	lines := m.oneModule("large, jool on 6.1", kernel, m.add(lab.Corpus(t, "jool-dkms")), 3, 1.03)
	checkout := os.Getenv(dattoVar)
	if checkout == "" {
		return append(lines, line{What: "large, dattobd", Ours: "not measured: no " + dattoVar, Goal: "≤ 1.03"})
	}
	return append(lines, m.oneModule("large, dattobd on 6.1", kernel, m.addDatto(checkout), 3, 1.03)...)
}

// addDatto adds dattobd from a checkout, as its package arranges it.
func (m *machine) addDatto(checkout string) string {
	m.t.Helper()
	conf := readText(m.t, filepath.Join(checkout, "dist", "dattobd-dkms-conf"))
	found := regexp.MustCompile(`(?m)^Version:\s+(\S+)`).FindStringSubmatch(readText(m.t, filepath.Join(checkout, "dist", "dattobd.spec")))
	if found == nil {
		m.t.Fatal("dattobd.spec has no version")
	}
	dir := m.Path("usr/src/dattobd-" + found[1])
	lab.MustExec(m.t, "cp", "-a", filepath.Join(checkout, "src"), dir)
	conf = strings.ReplaceAll(conf, "@MODULE_VERSION@", found[1])
	if err := os.WriteFile(filepath.Join(dir, "dkms.conf"), []byte(conf), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.MustRun("dkms", "add", "dattobd/"+found[1])
	return "dattobd/" + found[1]
}

// benchAgain builds what was built before.
func benchAgain(t *testing.T, b *bench) []line {
	_, kernel := lab.Kernels(t)
	m := newMachine(t, b)
	name := m.add(lab.Corpus(t, "acpi-call-dkms"))
	m.MustRun("dkms", "install", name, "-k", kernel)
	before := m.digests(kernel)
	again := inTurn(b.runs(5), func() sample {
		m.MustRun("dkms", "unbuild", name, "-k", kernel)
		return m.run("dkms", "install", name, "-k", kernel)
	})[0]
	same := m.digests(kernel) == before
	if !same {
		t.Error("the second build has other objects")
	}
	m.MustRun("dkms", "unbuild", name, "-k", kernel)
	return []line{
		within("again, acpi-call on 6.12, wall", again.wall, 500*time.Millisecond),
		{What: "again, CPU", Ours: seconds(again.cpu)},
		noCompilers("again, compiler processes", m.compilers("dkms", "install", name, "-k", kernel)),
		{What: "again, objects", Ours: sameText(same), Against: "the first build", Goal: "the same", Met: yes(same)},
	}
}

func noCompilers(what string, n int) line {
	return line{What: what, Ours: fmt.Sprint(n), Goal: "0", Met: yes(n == 0)}
}

// compilers runs a command of the root under strace(1) and counts the
// processes of compilers, assemblers and linkers.
func (m *machine) compilers(argv ...string) int {
	m.t.Helper()
	trace := filepath.Join(m.t.TempDir(), "trace")
	args := append([]string{"-f", "-qq", "-e", "trace=execve", "-o", trace, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root", "chroot", m.Dir}, argv...)
	lab.MustExec(m.t, "strace", args...)
	return countCompilers(readText(m.t, trace))
}

// countCompilers counts the calls of execve(2) that became a compiler.
func countCompilers(trace string) int {
	call := regexp.MustCompile(`execve\("(?:[^"]*/)?(?:cc1|as|ld(?:\.bfd)?|collect2|cc|(?:x86_64-linux-gnu-)?gcc(?:-[0-9]+)?|clang(?:-[0-9]+)?|rustc)",.*\) = 0`)
	return len(call.FindAllString(trace, -1))
}

func TestCountCompilers(t *testing.T) {
	const trace = `12 execve("/usr/bin/make", ["make"], 0x1 /* 3 vars */) = 0
13 execve("/usr/lib/gcc/x86_64-linux-gnu/12/cc1", ["cc1"], 0x1 /* 3 vars */) = 0
13 execve("/usr/local/bin/gcc-12", ["gcc-12"], 0x1 /* 3 vars */) = -1 ENOENT (No such file or directory)
13 execve("/usr/bin/gcc-12", ["gcc-12"], 0x1 /* 3 vars */) = 0
13 execve("/usr/bin/x86_64-linux-gnu-as", ["as"], 0x1) = 0
`
	if got := countCompilers(trace); got != 2 {
		t.Errorf("%d compilers, want 2", got)
	}
}
