// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/test/lab"
)

// benchIndex has one object beside the kernel's own replaced by another.
func benchIndex(t *testing.T, b *bench) []line {
	_, kernel := lab.Kernels(t)
	m := newMachine(t, b)
	m.add(lab.Corpus(t, "acpi-call-dkms"))
	m.MustRun("dkms", "install", "acpi-call/1.2.2", "-k", kernel)
	var lines []line
	for _, part := range []struct {
		what   string
		n      int
		warm   bool
		goal   float64
		cpuToo bool
	}{
		{"one module changed", 5, true, 1. / 40, true},
		{"from nothing", 5, false, 0.6, false},
	} {
		got, same := m.indexRuns(kernel, b.runs(part.n), part.warm)
		goal := part.goal
		lines = append(lines, against(part.what+", wall", got[0].wall, "depmod -a", got[1].wall, goal))
		if !part.cpuToo {
			goal = 0
		}
		lines = append(lines, against(part.what+", CPU", got[0].cpu, "depmod -a", got[1].cpu, goal),
			line{What: part.what + ", files byte by byte", Ours: sameText(same), Against: "depmod -a", Goal: "the same", Met: yes(same)})
	}
	return lines
}

func sameText(same bool) string {
	if same {
		return "the same"
	}
	return "different"
}

// indexRuns has both make the index for the same files in turn.
func (m *machine) indexRuns(kernel string, n int, warm bool) ([]sample, bool) {
	m.t.Helper()
	var ours map[string]string
	same := true
	objects := [2]string{"kernel/drivers/net/dummy.ko.xz", "kernel/drivers/net/ifb.ko.xz"}
	turn := 0
	ourTurn := func() sample {
		m.replace(kernel, objects[turn%2])
		turn++
		if !warm {
			m.remove(cache + "/index")
		}
		s := m.run("dkms", "autoinstall", "-k", kernel)
		ours = m.index(kernel)
		return s
	}
	ourTurn() // makes the cache warm
	got := inTurn(n, ourTurn, func() sample {
		s := m.run("depmod", "-a", kernel)
		same = m.sameIndex(kernel, ours) && same
		return s
	})
	return got, same
}

// replace puts a copy of another object in the place of the changed one, and
// marks the index as due, as the installation of a module does.
func (m *machine) replace(kernel, object string) {
	m.t.Helper()
	dir := m.Path(modules, kernel)
	data, err := os.ReadFile(filepath.Join(dir, object))
	if err != nil {
		m.t.Fatal(err)
	}
	changed := filepath.Join(dir, "updates", "changed.ko.xz")
	if err := os.WriteFile(changed+".new", data, 0o644); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(changed+".new", changed); err != nil {
		m.t.Fatal(err)
	}
	m.due(kernel)
}

// due marks a kernel's index as due.
func (m *machine) due(kernel string) {
	m.t.Helper()
	mark := m.Path(tree, ".index-due", kernel)
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(mark, nil, 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// warm has dkms remember what is in a kernel's objects.
func (m *machine) warm(kernel string) {
	m.t.Helper()
	m.due(kernel)
	m.MustRun("dkms", "autoinstall", "-k", kernel)
}

func (m *machine) remove(path string) {
	m.t.Helper()
	if err := os.RemoveAll(m.Path(path)); err != nil {
		m.t.Fatal(err)
	}
}

// settle waits until what was prepared is on the disk, as the kernel's writing of
// it would slow down what is measured, and old enough to be remembered
// (memo.Stamp).
func settle() {
	unix.Sync()
	time.Sleep(4 * time.Second)
}

// nothing measures what the start of dkms takes, which is in all that is short.
func (m *machine) nothing(n int) line {
	m.t.Helper()
	s := inTurn(n, func() sample { return m.run("dkms", "--version") })[0]
	return line{What: "of which the start of dkms (--version)", Ours: seconds(s.wall) + ", CPU " + seconds(s.cpu)}
}

// benchStatus lists large trees.
func benchStatus(t *testing.T, b *bench) []line {
	m := newMachine(t, b)
	kernels := m.fourKernels()
	m.fillTree(kernels, 30)
	settle()
	m.installed(120, m.run("dkms", "status").out) // and what it remembers is there
	got := inTurn(b.runs(5), func() sample { return m.run("dkms", "status") }, func() sample { return m.run("peer", "status") })
	lines := []line{
		m.nothing(b.runs(9)),
		within("30 modules × 4 kernels, CPU", got[0].cpu, 10*time.Millisecond),
		against("30 modules × 4 kernels, CPU", got[0].cpu, b.peerName, got[1].cpu, 1./300),
		against("30 modules × 4 kernels, wall", got[0].wall, b.peerName, got[1].wall, 0),
	}
	m = newMachine(t, b)
	many := m.copyKernels(kernels[0], 30)
	times := map[int]sample{}
	for _, n := range []int{50, 100, 200} {
		m.fillTree(many, n)
		settle()
		m.installed(30*n, m.run("dkms", "status").out)
		times[n] = inTurn(b.runs(5), func() sample { return m.run("dkms", "status") })[0]
	}
	all := times[200]
	return append(lines,
		within("200 modules × 30 kernels, wall", all.wall, 60*time.Millisecond),
		line{What: "200 modules × 30 kernels, CPU", Ours: seconds(all.cpu)},
		against("200 modules against 100, wall", all.wall, "100 modules", times[100].wall, 2.2),
		against("100 modules against 50, wall", times[100].wall, "50 modules", times[50].wall, 2.2),
		line{What: "200 modules × 30 kernels, peak memory", Ours: fmt.Sprintf("%.1f MB", float64(all.peak)/1024), Goal: "≤ 60 MB", Met: yes(all.peak <= 60<<10)})
}

// benchNoop has nothing to do.
func benchNoop(t *testing.T, b *bench) []line {
	m := newMachine(t, b)
	kernels := m.fourKernels()
	m.fillTree(kernels, 30)
	kernel := kernels[len(kernels)-1]
	settle()
	m.run("dkms", "autoinstall", "-k", kernel) // remembers what it read
	got := inTurn(b.runs(5), func() sample { return m.run("dkms", "autoinstall", "-k", kernel) }, func() sample { return m.run("peer", "autoinstall", "-k", kernel) })
	return []line{
		m.nothing(b.runs(9)),
		within("autoinstall, nothing due, 30 modules, wall", got[0].wall, 15*time.Millisecond),
		against("autoinstall, nothing due, 30 modules, wall", got[0].wall, b.peerName, got[1].wall, 0),
		against("autoinstall, nothing due, 30 modules, CPU", got[0].cpu, b.peerName, got[1].cpu, 0),
	}
}
