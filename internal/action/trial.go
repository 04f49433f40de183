// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"dkms-go/internal/build"
	"dkms-go/internal/conf"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// trial makes an engine one that builds in a tree of its own to see what comes of it:
// nothing is signed, placed in a kernel's tree, or kept but in the result cache, and
// no script of an installation is run.
type trial struct {
	mu    sync.Mutex
	seen  map[state.Key]*attempt
	marks map[state.Key]bool
	quiet bool
}

// attempt is what became of the steps for one key.
type attempt struct {
	took time.Duration
	err  error
}

// saw keeps what became of a step.
func (t *trial) saw(s plan.Step, took time.Duration, err error) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.seen[s.Key]
	if a == nil {
		a = &attempt{}
		t.seen[s.Key] = a
	}
	a.took += took
	if a.err == nil {
		a.err = err
	}
}

// mark takes the place of an installation.
func (t *trial) mark(tree state.Tree, key state.Key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks[key] = true
	return tree.Mark(key)
}

// marked reports whether a result counts as installed and was placed nowhere.
func (t *trial) marked(key state.Key) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.marks[key]
}

// TriedAs is what came of a module for a kernel.
type TriedAs string

// The outcomes. Ready modules are installed already and needn't be built; Off are
// those that no hook would build.
const (
	Ready    TriedAs = "ready"
	Builds   TriedAs = "builds"
	Excludes TriedAs = "excluded"
	Off      TriedAs = "off"
	Fails    TriedAs = "fails"
)

// Tried tells of one module and one kernel.
type Tried struct {
	Key     state.Key
	Outcome TriedAs
	// Required is the failure policy.
	Required bool
	// Took is how long it took, Cached says that the result was in the cache.
	Took   time.Duration
	Cached bool
	// Failure is why it is excluded or fails, else nil.
	Failure *Failure
	// Log is what the build said: of a long log the end, and of one that failed
	// from the first error on.
	Log []byte
}

// maxExcerpt bounds the log that is kept of a build, in bytes; linesBefore is how
// many lines before the first error are among them.
const (
	maxExcerpt  = 64 << 10
	linesBefore = 30
)

// try builds modules for kernels, side by side, as autoinstall would: the newest
// version of each module among ids, dependencies first. Those in named are built
// whatever their AUTOINSTALL says. Those in beside are there to be depended on, and
// not told of. e has a trial, and its tree is nobody else's.
func (e *Engine) try(ctx context.Context, targets []plan.Target, ids, named []state.ID, beside ...state.ID) ([]Tried, error) {
	known := slices.Concat(ids, beside)
	var rounds []*round
	var plans []*plan.Plan
	all := &plan.Facts{Results: map[state.Key]plan.Result{}}
	for _, t := range targets {
		f := e.facts(ctx, nil, []plan.Target{t}, func(id state.ID, _ plan.Result) bool { return slices.Contains(known, id) })
		f.Modules = slices.DeleteFunc(f.Modules, func(m plan.Module) bool { return !slices.Contains(known, m.ID) })
		f.IndexDue = nil
		for _, id := range known {
			key := t.Key(id)
			r := f.Results[key]
			if r.Conf != nil && (slices.Contains(named, id) || slices.Contains(beside, id)) {
				forced := *r.Conf
				forced.Autoinstall, r.Conf = true, &forced
			}
			f.Results[key], all.Results[key] = r, r
		}
		r := &round{target: t, facts: f, auto: plan.Autoinstall(t, state.ID{}, f, plan.Options{NoRefresh: true})}
		rounds, plans = append(rounds, r), append(plans, &r.auto.Plan)
	}
	p, parts := plan.Join(plans)
	outcomes, err := e.perform(ctx, p, all, false)
	if err != nil {
		return nil, err
	}
	var list []Tried
	for i, r := range rounds {
		for _, id := range ids {
			list = append(list, e.tried(ctx, r, id, outcomes[parts[i].From:parts[i].To]))
		}
	}
	return list, nil
}

// tried tells what became of one module in a round.
func (e *Engine) tried(ctx context.Context, r *round, id state.ID, outcomes []error) Tried {
	key := r.target.Key(id)
	result := r.facts.Results[key]
	t := Tried{Key: key, Outcome: Off, Required: e.policy(result.Conf) == conf.Required}
	if a := e.trial.seen[key]; a != nil {
		t.Took = a.took
	}
	is := func(d plan.Due) bool { return d.ID == id }
	waits := func(w plan.Waiting) bool { return w.ID == id }
	waiting := slices.Concat(r.auto.Unmet, r.auto.Deferred)
	switch {
	case result.Err != nil && e.tree.Condition(id) == state.Added, slices.ContainsFunc(r.auto.Bad, is):
		t.Outcome, t.Failure = Fails, confFailure(result.Err)
		t.Required = e.policyFor(ctx, id, r.target) == conf.Required
	case slices.Contains(r.auto.Installed, id):
		t.Outcome = Ready
	case slices.ContainsFunc(waiting, waits):
		t.Outcome = Fails
		t.Failure = e.missingDepends(key, waiting[slices.IndexFunc(waiting, waits)].Depends)
	case slices.ContainsFunc(r.auto.Due, is):
		d := r.auto.Due[slices.IndexFunc(r.auto.Due, is)]
		e.built(r, d, outcomes, &t)
	case e.tree.Condition(id) == state.Broken:
		t.Outcome, t.Failure = Fails, failed(e.requireSound(id))
	}
	return t
}

// built tells of a module that was attempted.
func (e *Engine) built(r *round, d plan.Due, outcomes []error, t *Tried) {
	err := outcomes[d.Step-1]
	if log, rerr := untrusted.ReadFile(e.tree.KeptLog(t.Key), maxLogFile); rerr == nil {
		t.Log = excerpt(log, 0)
		defer func() {
			if t.Failure != nil && t.Failure.Diagnosis != nil {
				t.Log = excerpt(log, t.Failure.Diagnosis.LogLine)
			}
		}()
	}
	if err == nil {
		t.Outcome = Builds
		record, rerr := e.tree.Record(t.Key)
		t.Cached = rerr == nil && record.Origin == build.Cached
		return
	}
	own := e.trial.seen[t.Key]
	if own == nil || own.err == nil { // it was not attempted
		t.Outcome = Fails
		t.Failure = e.missingDepends(t.Key, e.notInstalled(d.Depends, r.target))
		return
	}
	if t.Outcome, t.Failure = Fails, failed(own.err); t.Failure.Soft() {
		t.Outcome = Excludes
	}
	if d := t.Failure.Diagnosis; d != nil { // the directory goes
		dir := e.tree.Build(t.Key.ID) + "/"
		d.File = strings.TrimPrefix(d.File, dir)
		d.Error, d.Used = strings.ReplaceAll(d.Error, dir, ""), strings.ReplaceAll(d.Used, dir, "")
	}
}

// excerpt returns so much of a log as is kept: its end, or what is around a line.
func excerpt(text []byte, line int) []byte {
	if len(text) <= maxExcerpt {
		return text
	}
	if line == 0 {
		_, text, _ = bytes.Cut(text[len(text)-maxExcerpt:], []byte("\n"))
		return text
	}
	for ; line > linesBefore; line-- {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return text[:min(len(text), maxExcerpt)]
}

// failures returns the failure of a trial: nil if all went well.
func failures(list []Tried, what string) error {
	var bad []string
	for _, t := range list {
		if t.Outcome == Fails && !slices.Contains(bad, t.Key.ID.String()) {
			bad = append(bad, t.Key.ID.String())
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return &Failure{Reason: AutoinstallFailed, Err: fmt.Errorf("%s: not every module builds: %s", what, strings.Join(bad, " ")), Said: true}
}

// trying returns an engine like e that only tries. Its messages are dropped unless
// --verbose asks for them.
func (e *Engine) trying(s Settings, quiet bool) (*Engine, error) {
	s.DryRun, s.Force, s.CheckReproducible = false, false, false
	if s.Verbose {
		s.Out = s.Err // standard output has the answer
	} else {
		s.Err, s.Explain = io.Discard, func(io.Writer, *Failure) {}
		if quiet {
			s.Out = io.Discard
		}
	}
	s.Environ = e.whole
	t, err := New(s)
	if err != nil {
		return nil, err
	}
	t.trial = &trial{seen: map[state.Key]*attempt{}, marks: map[state.Key]bool{}, quiet: !s.Verbose}
	return t, nil
}
