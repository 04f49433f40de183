// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// line is one line of the table.
type line struct {
	What    string
	Ours    string
	Against string // what it is held against, and its value
	Ratio   string // ours through the other's
	Goal    string
	Met     string // "yes", "no", or "" where no goal is set
}

// section is what one row of the harness has measured.
type section struct {
	Row     string
	Machine string // sections of different machines don't go into one table
	When    string // day, UTC
	Peer    string
	Lines   []line
	PeakKiB int    // of dkms in this row
	PeakIn  string // the command that had it
}

// within makes a line of a duration and its bound.
func within(what string, got, bound time.Duration) line {
	return line{What: what, Ours: seconds(got), Goal: "≤ " + seconds(bound), Met: yes(got <= bound)}
}

// against makes a line of two durations. Ours must be at most goal of the
// other's; goal 0 sets none.
func against(what string, ours time.Duration, other string, theirs time.Duration, goal float64) line {
	l := line{What: what, Ours: seconds(ours), Against: other + " " + seconds(theirs), Ratio: ratio(ours, theirs)}
	if goal > 0 {
		l.Goal = "≤ " + factor(goal)
		l.Met = yes(float64(ours) <= goal*float64(theirs))
	}
	return l
}

func yes(met bool) string {
	if met {
		return "yes"
	}
	return "no"
}

// seconds writes a duration with three digits.
func seconds(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	case d < 100*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

func ratio(ours, theirs time.Duration) string {
	if theirs == 0 {
		return ""
	}
	return factor(float64(ours) / float64(theirs))
}

// factor writes a ratio: 1.05, or 1/40 if it is small.
func factor(f float64) string {
	if f > 0 && f <= 0.1 {
		return fmt.Sprintf("1/%.0f", 1/f)
	}
	return fmt.Sprintf("%.2f", f)
}

// table writes lines as Markdown.
func table(lines []line) string {
	var b strings.Builder
	b.WriteString("| what | dkms-go | against | ratio | goal | met |\n|---|---|---|---|---|---|\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", l.What, l.Ours, l.Against, l.Ratio, l.Goal, l.Met)
	}
	return b.String()
}

// aligned writes lines for a terminal.
func aligned(lines []line) string {
	rows := [][]string{{"WHAT", "DKMS-GO", "AGAINST", "RATIO", "GOAL", "MET"}}
	for _, l := range lines {
		rows = append(rows, []string{l.What, l.Ours, l.Against, l.Ratio, l.Goal, l.Met})
	}
	width := make([]int, 6)
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		for i, cell := range r {
			b.WriteString(cell + strings.Repeat(" ", width[i]-len([]rune(cell))+2))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// store keeps what earlier runs have measured on this machine, in dist/.
type store struct{ path string }

func (s store) load() (map[string]section, error) {
	kept := map[string]section{}
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept, nil
	}
	if err != nil {
		return nil, err
	}
	return kept, json.Unmarshal(data, &kept)
}

func (s store) save(kept map[string]section) error {
	data, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.path, append(data, '\n'), 0o644)
}

func TestLines(t *testing.T) {
	for _, test := range []struct {
		got        line
		ratio, met string
	}{
		{against("", 100*time.Millisecond, "depmod", 8*time.Second, 1./40), "1/80", "yes"},
		{against("", 300*time.Millisecond, "depmod", 8*time.Second, 1./40), "1/27", "no"},
		{against("", 2300*time.Millisecond, "make", 2*time.Second, 1.15), "1.15", "yes"},
		{against("", time.Second, "peer", 2*time.Second, 0), "0.50", ""},
		{within("", 15*time.Millisecond, 15*time.Millisecond), "", "yes"},
		{within("", 15100*time.Microsecond, 15*time.Millisecond), "", "no"},
	} {
		if test.got.Ratio != test.ratio || test.got.Met != test.met {
			t.Errorf("%+v: want the ratio %q, met %q", test.got, test.ratio, test.met)
		}
	}
	for d, want := range map[time.Duration]string{1500 * time.Microsecond: "1.5 ms", 250 * time.Millisecond: "250 ms", 1500 * time.Millisecond: "1.50 s", 150 * time.Second: "150 s"} {
		if got := seconds(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestStore(t *testing.T) {
	s := store{filepath.Join(t.TempDir(), "dist", "bench.json")}
	kept, err := s.load()
	if err != nil || len(kept) != 0 {
		t.Fatalf("%v, %v", kept, err)
	}
	kept["index"] = section{Row: "index", Lines: []line{{What: "x"}}}
	if err := s.save(kept); err != nil {
		t.Fatal(err)
	}
	if kept, err = s.load(); err != nil || len(kept["index"].Lines) != 1 {
		t.Errorf("%v, %v", kept, err)
	}
}
