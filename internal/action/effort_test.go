// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// A build is expected to take what an earlier one of the module took, for any
// kernel and in any version; one that was never done what its source is large.
func TestWeigh(t *testing.T) {
	m := newMachine(t)
	old, next := m.source("m/1"), m.source("m/2")
	small, large := m.source("small/1"), m.source("large/1")
	m.put("src/large-1/more.c", strings.Repeat("/* much */\n", 40<<10))
	m.must(m.install(old, k1))
	record := filepath.Join(m.root, "tree/m/1/6.1.0/x86_64", state.RecordFile)
	text, err := os.ReadFile(record)
	if err != nil || !strings.Contains(string(text), `"cpu_seconds"`) || !strings.Contains(string(text), `"peak_bytes"`) {
		t.Fatalf("%v\n%s", err, text)
	}
	r, err := m.engine().tree.Record(k1.Key(old))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []state.ID{next, small, large} {
		m.must(m.engine().Add(background, Selection{ID: id}, k2))
	}
	p := &plan.Plan{Steps: []plan.Step{
		{Kind: plan.Build, Key: k2.Key(next)}, {Kind: plan.Build, Key: k2.Key(small)},
		{Kind: plan.Build, Key: k2.Key(large)}, {Kind: plan.Install, Key: k2.Key(next)},
	}}
	e := m.engine()
	if peak := e.weigh(p); peak != usualPeak {
		t.Errorf("%d bytes for one, want what is usual: two were never built", peak)
	}
	cost := func(i int) float64 { return p.Steps[i].Cost }
	if cost(0) != r.CPUSeconds || cost(1) >= cost(2) || cost(1) < buildFloor || cost(3) != 0 {
		t.Errorf("%v, recorded is %v", p.Steps, r.CPUSeconds)
	}
	p.Steps = p.Steps[:1]
	if peak := e.weigh(p); peak != r.PeakBytes || peak == 0 {
		t.Errorf("%d bytes for one, recorded are %d", peak, r.PeakBytes)
	}
}

// Where memory is short fewer jobs run, but one at least; a number that was given
// holds.
func TestFit(t *testing.T) {
	for _, c := range []struct {
		freeMiB int
		given   bool
		want    int
	}{{4096, false, 4}, {600, false, 2}, {10, false, 1}, {10, true, 4}} {
		m := newMachine(t)
		m.put("proc/meminfo", fmt.Sprintf("MemTotal: 8000000 kB\nMemAvailable: %d kB\n", c.freeMiB<<10))
		m.set.Paths.Proc = filepath.Join(m.root, "proc")
		m.set.Tokens, m.set.Jobs, m.set.JobsGiven, m.set.Verbose = 4, "4", c.given, true
		e := m.engine()
		e.fit(usualPeak)
		if e.Tokens != c.want || e.Jobs != fmt.Sprint(c.want) {
			t.Errorf("%d MiB: %d jobs, make gets %s; want %d", c.freeMiB, e.Tokens, e.Jobs, c.want)
		}
		if said := m.errw.String(); (c.want < 4) != strings.Contains(said, "jobs at once, not 4") {
			t.Errorf("%d MiB: %q", c.freeMiB, said)
		}
	}
}
