// SPDX-License-Identifier: Apache-2.0

package action

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"dkms-go/internal/build"
	"dkms-go/internal/plan"
	"dkms-go/internal/report"
	"dkms-go/internal/state"
)

// openBoard has a terminal show what is under way. A package manager's terminal is
// also its log: hooks show nothing there but their lines.
func (w *performance) openBoard() {
	w.out, w.errw = w.Out, w.Err
	if w.trial != nil && w.trial.quiet {
		defer func() { w.out, w.errw = io.Discard, io.Discard }()
	}
	size := report.TerminalSize(w.Out)
	if size == nil || w.hooked || w.Verbose || lastValue(w.Environ, "TERM") == "dumb" {
		return
	}
	w.board = report.NewBoard(w.Out, size)
	w.out = w.board.Writer(w.Out)
	if report.TerminalSize(w.Err) != nil {
		w.errw = w.board.Writer(w.Err)
	}
}

// watch puts a step on the board.
func (w *performance) watch(s plan.Step) *report.Line {
	switch s.Kind {
	case plan.Build:
		return w.board.Start(s.Key.ID.String()+" for "+s.Key.Kernel, "waiting")
	case plan.Refresh:
		return w.board.Start("kernel "+s.Key.Kernel, "index")
	}
	return nil
}

// shown returns what shows the stages of a build on its line.
func shown(l *report.Line) func(build.Stage) {
	return func(name build.Stage) {
		if name != build.Missing {
			l.Stage(string(name))
		}
	}
}

// table tells of several builds at their end, on a terminal or with --verbose:
// what became of each and how long it and its installation took.
func (w *performance) table(p *plan.Plan, outcomes []error) {
	if p.Counts(plan.Build) < 2 || w.board == nil && !w.Verbose {
		return
	}
	type row struct {
		key     state.Key
		outcome string
		took    time.Duration
	}
	var rows []*row
	of := map[state.Key]*row{}
	for i, s := range p.Steps {
		if s.Kind == plan.Build {
			of[s.Key] = &row{key: s.Key}
			rows = append(rows, of[s.Key])
		}
		r := of[s.Key]
		if r == nil || s.Kind != plan.Build && s.Kind != plan.Install {
			continue
		}
		if r.took += w.took[i]; r.outcome == "" || r.outcome == "built" {
			r.outcome = outcomeWord(s.Kind, outcomes[i])
		}
	}
	t := tabwriter.NewWriter(w.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nModule\tKernel\tOutcome\tSeconds")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.1f\n", r.key.ID, r.key.Kernel, r.outcome, r.took.Seconds())
	}
	t.Flush()
}

// outcomeWord names what became of a build or installation.
func outcomeWord(kind plan.Kind, err error) string {
	var cancelled *plan.Cancelled
	var f *Failure
	switch {
	case err == nil && kind == plan.Build:
		return "built"
	case err == nil:
		return "installed"
	case errors.As(err, &cancelled):
		return "not attempted"
	case errors.As(err, &f) && f.Soft():
		return "skipped"
	}
	return "failed"
}

// block returns the streams of a block of output.
func (w *performance) block(group int) (out, errw io.Writer) {
	if w.serial {
		return w.out, w.errw
	}
	return w.slots[group].Out(), w.slots[group].Err()
}
