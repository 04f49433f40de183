// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// Ending is how a step ended. The words are part of what dkms prints as JSON and
// sends to the journal, and stay the same between versions.
type Ending string

// The endings.
const (
	// Done: it succeeded.
	Done Ending = "done"
	// Planned: it would be done, but for --dry-run.
	Planned Ending = "planned"
	// Skipped: there was nothing to do.
	Skipped Ending = "skipped"
	// ExcludedHere: the module isn't meant for the kernel.
	ExcludedHere Ending = "excluded"
	// Waits: it is left until something else is there.
	Waits Ending = "waiting"
	// NotAttempted: a step before it has failed.
	NotAttempted Ending = "cancelled"
	// Failed: it failed.
	Failed Ending = "failed"
)

// Result is what became of one step of a verb.
type Result struct {
	// Action is the kind of the step: add, prepare, build, install, uninstall,
	// unbuild, forget or refresh.
	Action string
	// Key is what it was about. A step of a whole kernel has no module, one of a
	// module alone no kernel.
	Key    state.Key
	Ending Ending
	// Why is what there is to say of it besides a failure, or "".
	Why string
	// Took is how long it took; 0 for what wasn't attempted.
	Took time.Duration
	// Log is the file with what the commands of a build said, or "".
	Log string
	// Failure is why it failed, or was excluded.
	Failure *Failure
}

// Results are what became of the steps of the verbs so far, in the order in which
// they ended.
func (e *Engine) Results() []Result {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.became
}

// record keeps a result for Results, and tells the journal.
func (e *Engine) record(r Result) {
	e.mu.Lock()
	e.became = append(e.became, r)
	e.mu.Unlock()
	e.tellJournal(r)
}

// recordRefused records a build that can't be begun.
func (e *Engine) recordRefused(key state.Key, f *Failure) {
	e.record(Result{Action: plan.Build.String(), Key: key, Ending: Failed, Failure: f})
}

// recordStep records a step of a plan that has ended.
func (w *performance) recordStep(s plan.Step, err error) {
	r := resultOf(s, err)
	if r.Ending == Done || r.Ending == Failed || r.Ending == ExcludedHere {
		r.Took = w.took[s.N-1]
	}
	if s.Kind == plan.Build && (r.Ending == Done || r.Ending == Failed) {
		r.Why = w.fetchedFrom(s.Key)
		r.Log = w.logOf(s.Key)
	}
	w.record(r)
}

// resultOf is the result of a step that ended with err.
func resultOf(s plan.Step, err error) Result {
	r := Result{Action: s.Kind.String(), Key: s.Key, Ending: Done}
	var cancelled *plan.Cancelled
	var f *Failure
	switch {
	case s.Kind == plan.Note:
		r.Ending, r.Why = Skipped, s.Why
		r.Action = map[plan.Reason]plan.Kind{
			plan.AlreadyBuilt: plan.Build, plan.AlreadyInstalled: plan.Install,
			plan.NotInstalled: plan.Uninstall, plan.NotBuilt: plan.Unbuild,
		}[s.Reason].String()
		return r
	case s.Kind == plan.Refuse:
		r.Action = plan.Build.String()
	}
	switch {
	case err == nil:
	case errors.As(err, &cancelled):
		r.Ending, r.Why = NotAttempted, causeOf(cancelled)
	case errors.As(err, &f) && f.Soft():
		r.Ending, r.Failure = ExcludedHere, f
	default:
		r.Ending, r.Failure = Failed, failed(err)
	}
	return r
}

// recordPlan records what a plan would do, and what is certain of it beforehand.
func (w *performance) recordPlan(p *plan.Plan, outcomes []error) {
	for i, s := range p.Steps {
		r := resultOf(s, outcomes[i])
		if r.Ending == Done {
			r.Ending, r.Why = Planned, s.Why
		}
		w.record(r)
	}
}

// logOf is the log of the last build for key, "" if there is none.
func (e *Engine) logOf(key state.Key) string {
	path := e.tree.KeptLog(key)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// addNow is addStep outside of a plan.
func (e *Engine) addNow(ctx context.Context, id state.ID, t plan.Target, strictHook bool) error {
	begun := time.Now()
	err := e.addStep(ctx, id, t, e.Out, e.Err, strictHook)
	r := resultOf(plan.Step{Kind: plan.Add, Key: state.Key{ID: id}}, err)
	r.Took = time.Since(begun)
	e.record(r)
	return err
}

// causeOf is what kept a step from being attempted, on one line.
func causeOf(c *plan.Cancelled) string {
	for {
		var before *plan.Cancelled
		if !errors.As(c.Cause, &before) {
			line, _, _ := strings.Cut(c.Cause.Error(), "\n")
			return line
		}
		c = before
	}
}
