// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"context"
	"errors"
	"slices"
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
//
// At width 1 the first step that may start does. Otherwise it is the one that
// most is to be done after (see Step.Cost), so that the longest chain of builds
// never waits for shorter ones; what isn't a build goes before builds: it is
// short, and finishes what was begun. Steps that change what several modules
// share take turns, and none of them occupies a place while it waits.
func Execute(ctx context.Context, p *Plan, width int, do func(context.Context, Step) error, ended func(Step, error)) []error {
	type end struct {
		i   int
		err error
	}
	x := newExecution(p, max(width, 1), ended)
	ends := make(chan end)
	for x.left > 0 {
		for i := x.next(ctx); i >= 0; i = x.next(ctx) {
			go func() { ends <- end{i, do(ctx, p.Steps[i])} }()
		}
		if x.left == 0 {
			break
		}
		if x.running == 0 {
			panic("plan: steps wait for each other")
		}
		e := <-ends
		x.running--
		x.busy = x.busy && !p.Steps[e.i].Kind.exclusive()
		x.finish(e.i, e.err)
	}
	return x.outcomes
}

// exclusive reports whether a step of the kind changes directories that those
// of other modules change too.
func (k Kind) exclusive() bool {
	return slices.Contains([]Kind{Add, Install, Uninstall, Unbuild, Forget}, k)
}

// execution is a plan being executed. Steps are named by their index.
type execution struct {
	p        *Plan
	width    int
	ended    func(Step, error)
	outcomes []error
	over     []bool // has an outcome
	waits    []int  // the After and Behind steps that have not ended
	then     [][]int
	rank     []float64 // the cost of the step and the longest chain behind it
	ready    []int     // best first
	running  int
	left     int
	busy     bool // an exclusive step is running
}

func newExecution(p *Plan, width int, ended func(Step, error)) *execution {
	n := len(p.Steps)
	x := &execution{
		p: p, width: width, ended: ended, left: n,
		outcomes: make([]error, n), over: make([]bool, n), waits: make([]int, n), then: make([][]int, n), rank: make([]float64, n),
	}
	for i, s := range p.Steps {
		for _, before := range [][]int{s.After, s.Behind} {
			x.waits[i] += len(before)
			for _, b := range before {
				x.then[b-1] = append(x.then[b-1], i)
			}
		}
	}
	for i := range slices.Backward(p.Steps) {
		for _, j := range x.then[i] { // later ones, whose ranks are known
			x.rank[i] = max(x.rank[i], x.rank[j])
		}
		x.rank[i] += p.Steps[i].Cost
	}
	for i := range p.Steps {
		if x.waits[i] == 0 {
			x.queue(i)
		}
	}
	return x
}

// queue puts a step that may start into its place among the others.
func (x *execution) queue(i int) {
	at, _ := slices.BinarySearchFunc(x.ready, i, x.order)
	x.ready = slices.Insert(x.ready, at, i)
}

func (x *execution) order(a, b int) int {
	if x.width > 1 {
		builds := func(i int) int {
			if x.p.Steps[i].Kind == Build {
				return 1
			}
			return 0
		}
		if c := cmp.Or(builds(a)-builds(b), cmp.Compare(x.rank[b], x.rank[a])); c != 0 {
			return c
		}
	}
	return a - b
}

// next returns the step to be started now, -1 if there is none. Once ctx has
// ended, steps that may start are cancelled.
func (x *execution) next(ctx context.Context) int {
	for ctx.Err() != nil && len(x.ready) > 0 {
		i := x.ready[0]
		x.ready = x.ready[1:]
		x.finish(i, &Cancelled{ctx.Err()})
	}
	if x.running >= x.width {
		return -1
	}
	at := slices.IndexFunc(x.ready, func(i int) bool { return !x.busy || !x.p.Steps[i].Kind.exclusive() })
	if at < 0 {
		return -1
	}
	i := x.ready[at]
	x.ready = slices.Delete(x.ready, at, at+1)
	x.running++
	x.busy = x.busy || x.p.Steps[i].Kind.exclusive()
	return i
}

// finish gives a step its outcome, and those that wait for it theirs if that
// decides it.
func (x *execution) finish(i int, err error) {
	x.outcomes[i], x.over[i] = err, true
	for list := []int{i}; len(list) > 0; list = list[1:] {
		s := x.p.Steps[list[0]]
		x.left--
		x.ended(s, x.outcomes[list[0]])
		for _, j := range x.then[list[0]] {
			if x.waits[j]--; x.over[j] {
				continue
			}
			if cause := x.never(s, j); cause != nil {
				x.outcomes[j], x.over[j] = &Cancelled{cause}, true
				list = append(list, j)
			} else if x.waits[j] == 0 {
				x.queue(j)
			}
		}
	}
}

// never returns why step j won't be attempted now that before has ended, nil if
// it still may be.
func (x *execution) never(before Step, j int) error {
	s := x.p.Steps[j]
	if err := x.outcomes[before.N-1]; err != nil && slices.Contains(s.After, before.N) && !softFor(before, s, err) {
		return err
	}
	if s.Kind != Refresh || x.waits[j] > 0 || len(s.Behind) == 0 {
		return nil
	}
	var failed error
	for _, n := range s.Behind {
		if x.outcomes[n-1] == nil {
			return nil
		}
		failed = x.outcomes[n-1]
	}
	return failed
}

// softFor reports whether step s may go on although step before failed: it
// may if the failure is soft and s works on another module.
func softFor(before, s Step, err error) bool {
	var soft Soft
	return before.Key.ID != s.Key.ID && errors.As(err, &soft) && soft.Soft()
}
