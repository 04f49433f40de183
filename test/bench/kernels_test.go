// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"dkms-go/test/lab"
)

// benchCorpus installs all modules for a kernel of which there are headers.
func benchCorpus(t *testing.T, b *bench) []line {
	older, _ := lab.Kernels(t)
	m := newMachine(t, b)
	names := m.addAll()
	m.Freeze()
	c := corpusRun{below: m, what: "corpus, headers alone", kernels: []string{older}, names: names, peerGoal: 1 / 1.4, serial: true}
	return c.measure(t)
}

// benchImage installs all modules for a stock kernel.
func benchImage(t *testing.T, b *bench) []line {
	kernel := lab.AptKernels(t).Cur
	m := newMachine(t, b)
	m.addKernel(kernel, true)
	m.warm(kernel)
	names := m.addAll()
	m.Freeze()
	c := corpusRun{below: m, what: "corpus, stock 6.1", kernels: []string{kernel}, names: names, peerGoal: 1. / 2}
	return c.measure(t)
}

// benchKernels installs modules that can be built for all of them for four kernels:
// the hook of a package manager that brought them serves them at once, the other
// dkms one after another.
func benchKernels(t *testing.T, b *bench) []line {
	k := lab.AptKernels(t)
	m := newMachine(t, b)
	kernels := []string{k.Prev, k.Cur, k.Cloud, strings.Replace(k.Cur, "-amd64", "-rt-amd64", 1)}
	for _, kernel := range kernels {
		m.addKernel(kernel, true)
		m.warm(kernel)
	}
	var names []string
	for _, p := range []string{"acpi-call-dkms", "adv-17v35x-dkms", "dm-writeboost-dkms", "dpdk-kmods-dkms", "tp-smapi-dkms", "vpoll-dkms"} {
		names = append(names, m.add(lab.Corpus(t, p)))
	}
	m.Freeze()
	c := corpusRun{below: m, what: fmt.Sprintf("%d modules, %d kernels at once", len(names), len(kernels)), kernels: kernels, names: names, peerGoal: 1. / 2}
	return c.measure(t)
}

// addAll adds the modules that build.
func (m *machine) addAll() []string {
	m.t.Helper()
	var names []string
	for _, p := range buildsOn61(m.t) {
		names = append(names, m.add(p))
	}
	return names
}

// corpusRun compares the installation of all modules for some kernels with
// bare make of each and with the other dkms. Each run begins with the same
// root.
type corpusRun struct {
	below    *machine
	what     string
	kernels  []string
	names    []string
	peerGoal float64
	serial   bool // compare with a second and a serial run, too
}

func (c corpusRun) measure(t *testing.T) []line {
	t.Helper()
	n := c.below.b.runs(3)
	var ours, theirs []sample
	var longest, sum, side []sample
	for i := range n {
		ours = append(ours, c.install(t, "dkms"))
		l, s := c.bare(t)
		longest, sum = append(longest, l), append(sum, s)
		side = append(side, c.bareTogether(t))
		if i < 2 {
			theirs = append(theirs, c.install(t, "peer"))
		}
	}
	o, p := median(ours), median(theirs)
	cpu := median(sum).cpu
	share := cpu / time.Duration(runtime.NumCPU())
	bound := max(median(longest).wall, share)
	atOnce := fmt.Sprintf("bare makes, %d at a time", runtime.NumCPU())
	lines := []line{
		against(c.what+", wall", o.wall, fmt.Sprintf("max(longest %s, %s / %d cores)", seconds(median(longest).wall), seconds(cpu), runtime.NumCPU()), bound, 1.10),
		against(c.what+", CPU", o.cpu, "bare makes", cpu, 0),
		against(c.what+", wall", o.wall, atOnce, median(side).wall, 1.10),
		against(c.what+", CPU", o.cpu, atOnce, median(side).cpu, 0),
		against(c.what+", wall", o.wall, c.below.b.peerName, p.wall, c.peerGoal),
		against(c.what+", CPU", o.cpu, c.below.b.peerName, p.cpu, 0),
		{What: c.what + ", runs", Ours: fmt.Sprintf("%d of dkms-go and bare make, %d of the other", len(ours), len(theirs))},
	}
	if !c.serial {
		return lines
	}
	return append(lines, c.again(t)...)
}

// install measures autoinstall with one of the programs.
func (c corpusRun) install(t *testing.T, program string) (s sample) {
	t.Helper()
	t.Run(program, func(t *testing.T) {
		m := c.below.over(t)
		s = m.run(c.command(program)...)
		m.allInstalled(c)
	})
	return s
}

// command is the call for all kernels.
func (c corpusRun) command(program string, options ...string) []string {
	if len(c.kernels) == 1 {
		return append([]string{program, "autoinstall", "-k", c.kernels[0]}, options...)
	}
	text := ""
	for _, k := range c.kernels {
		if program == "dkms" {
			text += "usr/lib/modules/" + k + "/vmlinuz\n"
		} else {
			text += program + " autoinstall -k " + k + " || exit\n"
		}
	}
	if program == "dkms" {
		return []string{"bash", "-c", `printf %s "$1" | dkms hook pacman install`, "hook", text}
	}
	return []string{"bash", "-c", text}
}

// allInstalled checks that each module is installed for each kernel.
func (m *machine) allInstalled(c corpusRun) {
	m.t.Helper()
	status := m.MustRun("dkms", "status").Stdout
	if got, want := strings.Count(status, ": installed"), len(c.names)*len(c.kernels); got != want {
		m.t.Fatalf("%d are installed, want %d:\n%s", got, want, status)
	}
}

// bare measures bare make of each module for each kernel, one after another.
// It returns the longest and the sum.
func (c corpusRun) bare(t *testing.T) (longest, sum sample) {
	t.Helper()
	t.Run("bare", func(t *testing.T) {
		m := c.below.over(t)
		for _, k := range c.kernels {
			for _, name := range c.names {
				s := m.bareBuild(k, name, runtime.NumCPU())
				if s.wall > longest.wall {
					longest = s
				}
				sum.wall, sum.cpu = sum.wall+s.wall, sum.cpu+s.cpu
			}
		}
	})
	return longest, sum
}

// together makes all modules, $2 at a time, for the kernels $1: each for one after
// the other, in a new copy of its source.
const together = `
xargs -a /list -P "$2" -L 1 bash -c '
for kernel in $1; do
  build=/var/lib/dkms/$3/build
  rm -rf "$build" && cp -a "/usr/src/${3%/*}-${3#*/}/." "$build" && bash /bare "$kernel" "$3" "$2" >/dev/null 2>&1 || exit
done' together "$1" "$2"`

// bareTogether measures bare make of all modules, as many at a time as there are
// cores: what the machine can do when all of its cores compile.
func (c corpusRun) bareTogether(t *testing.T) (s sample) {
	t.Helper()
	t.Run("together", func(t *testing.T) {
		m := c.below.over(t)
		for name, text := range map[string]string{"/list": strings.Join(c.names, "\n") + "\n", "/bare": bare} {
			if err := os.WriteFile(m.Path(name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s = m.run("bash", "-c", together, "together", strings.Join(c.kernels, " "), fmt.Sprint(runtime.NumCPU()))
	})
	return s
}

// again has the same inputs installed once more after unbuild, and once more
// without the cache and one job at a time.
func (c corpusRun) again(t *testing.T) []line {
	t.Helper()
	m := c.below.over(t)
	m.run(c.command("dkms")...)
	before := m.allDigests(c)
	m.unbuildAll(c)
	s := m.run(c.command("dkms")...)
	m.allInstalled(c)
	lines := []line{{What: c.what + ", again after unbuild, wall", Ours: seconds(s.wall)}}
	m.unbuildAll(c)
	lines = append(lines, noCompilers(c.what+", again, compiler processes", m.compilers(c.command("dkms")...)))
	m.unbuildAll(c)
	m.remove(cache)
	m.run(c.command("dkms", "-j", "1")...)
	same := m.allDigests(c) == before
	if !same {
		t.Errorf("a serial run has other objects:\n%s\n%s", before, m.allDigests(c))
	}
	return append(lines, line{What: c.what + ", objects", Ours: sameText(same), Against: "a serial run", Goal: "the same", Met: yes(same)})
}

func (m *machine) allDigests(c corpusRun) string {
	var all strings.Builder
	for _, k := range c.kernels {
		all.WriteString(m.digests(k))
	}
	return all.String()
}

func (m *machine) unbuildAll(c corpusRun) {
	m.t.Helper()
	for _, k := range c.kernels {
		for _, name := range c.names {
			m.MustRun("dkms", "unbuild", name, "-k", k)
		}
	}
}
