// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"context"
	"errors"
)

// Cancelled is the outcome of a step that was not attempted: one that it comes
// after failed, or the whole run was stopped.
type Cancelled struct{ Cause error }

func (c *Cancelled) Error() string { return "not attempted: " + c.Cause.Error() }

// Unwrap returns why the step was not attempted.
func (c *Cancelled) Unwrap() error { return c.Cause }

// Soft is implemented by errors that end a module's own steps but not those of
// the modules that depend on it: an excluded module counts as dealt with.
type Soft interface{ Soft() bool }

// Execute runs the steps of p, at most width at a time, each as soon as its
// After steps have succeeded and its Behind steps have ended; a Refresh is not
// attempted when all of those failed, since nothing has changed. do performs one
// step; ended is called after each, in the order in which they end, never
// twice at once. Execute returns the outcome of each step, in the plan's order.
func Execute(ctx context.Context, p *Plan, width int, do func(context.Context, Step) error, ended func(Step, error)) []error {
	type end struct {
		i   int
		err error
	}
	outcomes := make([]error, len(p.Steps))
	state := make([]int, len(p.Steps)) // 0 waiting, 1 running, 2 ended
	ends := make(chan end)
	running, left := 0, len(p.Steps)
	finish := func(i int, err error) {
		outcomes[i], state[i] = err, 2
		left--
		ended(p.Steps[i], err)
	}
	for left > 0 {
		started := false
		for i, s := range p.Steps {
			if state[i] != 0 {
				continue
			}
			ready, cause := readiness(p, s, outcomes, state)
			if ready && cause == nil {
				cause = ctx.Err()
			}
			switch {
			case cause != nil:
				finish(i, &Cancelled{cause})
				started = true
			case ready && running < max(width, 1):
				state[i] = 1
				running++
				started = true
				go func() { ends <- end{i, do(ctx, s)} }()
			}
		}
		if started && running < max(width, 1) {
			continue
		}
		if running == 0 {
			panic("plan: steps wait for each other")
		}
		e := <-ends
		running--
		finish(e.i, e.err)
	}
	return outcomes
}

// readiness tells whether a step may start, and why it never will.
func readiness(p *Plan, s Step, outcomes []error, state []int) (ready bool, cause error) {
	ready = true
	for _, n := range s.After {
		if state[n-1] != 2 {
			ready = false
		} else if err := outcomes[n-1]; err != nil && !softFor(p.Steps[n-1], s, err) {
			return false, err
		}
	}
	var failed error
	changed := len(s.Behind) == 0 || s.Kind != Refresh
	for _, n := range s.Behind {
		ready = ready && state[n-1] == 2
		changed = changed || outcomes[n-1] == nil
		failed = outcomes[n-1]
	}
	if ready && !changed {
		return false, failed
	}
	return ready, nil
}

// softFor reports whether step s may go on although step before failed: it
// may if the failure is soft and s works on another module.
func softFor(before, s Step, err error) bool {
	var soft Soft
	return before.Key.ID != s.Key.ID && errors.As(err, &soft) && soft.Soft()
}
