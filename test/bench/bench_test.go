// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dkms-go/test/lab"
)

// Variables of the environment; make bench sets the first.
const (
	runVariable  = "DKMS_BENCH" // "yes": measure
	rowsVariable = "ROWS"       // names of rows, with commas; empty: all
	runsVariable = "RUNS"       // most runs of a command; empty: as many as the row has
	peerVariable = "DKMS_PEER"  // upstream's script
	dattoVar     = "DATTOBD"    // a checkout of dattobd
)

// bench is one run of the harness.
type bench struct {
	peerScript, peerName string
	limit                int
	section              *section // the one being measured
}

// row is one part of the table.
type row struct {
	name string
	run  func(t *testing.T, b *bench) []line
}

func rows() []row {
	return []row{
		{"index", benchIndex},
		{"status", benchStatus},
		{"noop", benchNoop},
		{"small", benchSmall},
		{"large", benchLarge},
		{"again", benchAgain},
		{"corpus", benchCorpus},
		{"image", benchImage},
		{"kernels", benchKernels},
	}
}

// TestBench measures, when it is asked to.
func TestBench(t *testing.T) {
	if os.Getenv(runVariable) == "" {
		return // make bench
	}
	t.Setenv("SCRATCH_DISK", "yes") // users' trees are on disks
	b := newBench(t)
	kept := store{filepath.Join(lab.Repo(t), "dist", "bench.json")}
	all, err := kept.load()
	if err != nil {
		t.Fatal(err)
	}
	where := describeMachine(t)
	names := strings.FieldsFunc(os.Getenv(rowsVariable), func(r rune) bool { return r == ',' })
	for _, name := range names {
		if !slices.ContainsFunc(rows(), func(r row) bool { return r.name == name }) {
			t.Fatalf("no row %q", name)
		}
	}
	for _, r := range rows() {
		if len(names) > 0 && !slices.Contains(names, r.name) {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			b.section = &section{Row: r.name, Machine: where, When: time.Now().UTC().Format(time.DateOnly), Peer: b.peerName}
			b.section.Lines = r.run(t, b)
			fmt.Printf("\n%s, load %s\n%s", r.name, load(t), aligned(b.section.Lines))
			all[r.name] = *b.section
			if err := kept.save(all); err != nil {
				t.Fatal(err)
			}
		})
	}
	page := writePage(where, all)
	fmt.Printf("\n%s", aligned([]line{peakLine(where, all)}))
	if err := os.WriteFile(filepath.Join(lab.Repo(t), "docs", "performance.md"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{peerScript: os.Getenv(peerVariable), limit: 100}
	if b.peerScript == "" {
		b.peerScript = filepath.Join(lab.Oracle(t), "usr/sbin/dkms")
	}
	out := lab.MustExec(t, "bash", b.peerScript, "--version").Stdout
	b.peerName = strings.Replace(strings.TrimSpace(out), "dkms-", "dkms ", 1)
	if n, err := strconv.Atoi(os.Getenv(runsVariable)); err == nil && n > 0 {
		b.limit = n
	}
	return b
}

// runs bounds a number of runs by what was asked for.
func (b *bench) runs(n int) int { return min(n, b.limit) }

// notePeak keeps the largest peak of dkms.
func (b *bench) notePeak(kib int, command string) {
	if kib > b.section.PeakKiB {
		b.section.PeakKiB, b.section.PeakIn = kib, command
	}
}
