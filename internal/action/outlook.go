// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// Outlook is what a verb would do, and why.
type Outlook struct {
	Plan    plan.Plan
	Modules []Prospect
}

// Prospect is what would become of one module for one kernel.
type Prospect struct {
	Key state.Key
	// Steps are those of the plan that are about it, Note why there are none.
	Steps []plan.Step
	Note  string
	// Facts are what was compared.
	Facts []Fact
	// Failure is why it would fail or be excluded, nil if nothing speaks against it.
	Failure *Failure
}

// Fact is one thing that a decision depends on.
type Fact struct {
	// About is what it is about: a directive of dkms.conf, or a word.
	About string
	// Wants is what the module, or a setting, asks for, or ""; Has what there is.
	Wants, Has string
	// Fits tells whether Has is what is wanted.
	Fits Fit
}

// Fit is what a fact means for its module.
type Fit string

// The ways that a fact fits: it does, it speaks against the module, or it decides
// nothing.
const (
	Fits    Fit = "yes"
	Misfits Fit = "no"
	Tells   Fit = ""
)

// Outlook tells what build, install or autoinstall would do for kernels, with the
// facts that decide it. A module without version is the one that counts (Doctor).
// Nothing is changed and nothing of a module is run but what its dkms.conf needs to
// be evaluated. The error is the failure that the verb would end with, with Said set,
// as far as that is certain beforehand.
func (e *Engine) Outlook(ctx context.Context, verb string, id state.ID, targets []plan.Target) (Outlook, error) {
	shown := e.Err
	e.Err, e.DryRun = io.Discard, true // as a dry run it keeps no memory either
	defer func() { e.Err = shown }()
	targets = distinct(targets)
	if verb == "autoinstall" {
		return e.autoOutlook(ctx, id, targets)
	}
	if id.Version == "" {
		if !e.sourceKnown(id) {
			return Outlook{}, failf(NotAdded, "module %s is not in the DKMS tree, nor is its source in %s", id.Module, e.Paths.SourceTree).hint("`dkms status` lists the modules that are.")
		}
		id = e.meant(id, targets[0])
	}
	if err := e.requireSound(id); err != nil {
		return Outlook{}, err
	}
	compute := plan.BuildAll
	if verb == "install" {
		compute = plan.InstallAll
	}
	f := e.facts(ctx, []state.ID{id}, targets, func(other state.ID, r plan.Result) bool {
		return other == id || verb == "install" && r.Built
	})
	w := e.considering(f)
	o := Outlook{Plan: *compute(id, targets, f, plan.Options{Force: e.Force, NoRefresh: e.NoDepmod})}
	for _, t := range targets {
		o.Modules = append(o.Modules, w.prospect(ctx, t.Key(id), &o.Plan))
	}
	for _, s := range o.Plan.Steps { // modules that would be built again
		known := slices.ContainsFunc(o.Modules, func(p Prospect) bool { return p.Key == s.Key })
		if !known && (s.Kind == plan.Build || s.Kind == plan.Refuse) {
			o.Modules = append(o.Modules, w.prospect(ctx, s.Key, &o.Plan))
		}
	}
	return o, o.verdict()
}

// autoOutlook is that of autoinstall.
func (e *Engine) autoOutlook(ctx context.Context, only state.ID, targets []plan.Target) (Outlook, error) {
	if only.Module != "" {
		if err := e.requireKnown(only); err != nil {
			return Outlook{}, err
		}
	}
	var o Outlook
	var plans []*plan.Plan
	for _, t := range targets {
		f := e.facts(ctx, nil, []plan.Target{t}, func(state.ID, plan.Result) bool { return true })
		auto := plan.Autoinstall(t, only, f, plan.Options{NoRefresh: e.NoDepmod})
		plans = append(plans, &auto.Plan)
		w := e.considering(f)
		for _, id := range e.newest() {
			if only.Module != "" && id.Module != only.Module {
				continue
			}
			if only.Version != "" {
				id = only
			}
			p := w.prospect(ctx, t.Key(id), &auto.Plan)
			w.awaited(&p, auto, id)
			o.Modules = append(o.Modules, p)
		}
	}
	joined, _ := plan.Join(plans)
	o.Plan = *joined
	err := o.verdict()
	if f := (*Failure)(nil); errors.As(err, &f) && !f.Soft() && f.Reason != NoHeaders {
		err = &Failure{Reason: AutoinstallFailed, Err: f.Err, Said: true}
	} else if f != nil && f.Soft() {
		err = nil // autoinstall passes over them
	}
	return o, err
}

// awaited adds what only the plan of an autoinstall knows of a module.
func (w *performance) awaited(p *Prospect, auto *plan.Auto, id state.ID) {
	is := func(d plan.Waiting) bool { return d.ID == id }
	unmet := slices.IndexFunc(auto.Unmet, is)
	deferred := slices.IndexFunc(auto.Deferred, is)
	switch r := w.facts.Results[p.Key]; {
	case unmet >= 0:
		p.Failure = w.missingDepends(p.Key, auto.Unmet[unmet].Depends)
	case deferred >= 0:
		p.Note = "waits for modules that are not in the DKMS tree: " + strings.Join(auto.Deferred[deferred].Depends, " ")
	case slices.Contains(auto.Remembered, id):
		p.Note = "it has failed before, and nothing has changed since"
	case slices.Contains(auto.Installed, id):
		p.Note = "already installed"
	case r.Err != nil:
		p.Failure = confFailure(r.Err)
	case r.Conf != nil && !r.Conf.Autoinstall:
		p.Note = "its AUTOINSTALL is not yes"
	}
}

// prospect tells of one module and kernel by a plan.
func (w *performance) prospect(ctx context.Context, key state.Key, p *plan.Plan) Prospect {
	t := plan.Target{Kernel: key.Kernel, Arch: key.Arch}
	o := Prospect{Key: key}
	for _, s := range p.Steps {
		switch {
		case s.Key != key && s.Key != (state.Key{ID: key.ID}):
			continue
		case s.Kind == plan.Note:
			o.Note = s.Why
		case s.Kind == plan.Refuse:
			o.Failure = failed(w.refuse(ctx, s))
		default:
			o.Steps = append(o.Steps, s)
		}
	}
	if o.Failure != nil {
		o.Steps = slices.DeleteFunc(o.Steps, func(s plan.Step) bool { return s.Kind == plan.Install })
	}
	c := &comparison{performance: w, key: key, t: t, m: w.facts.Results[key].Conf, o: &o}
	c.compare(ctx)
	return o
}

// verdict is the failure that decides, as it does for the verb.
func (o Outlook) verdict() error {
	var all []error
	for _, p := range o.Modules {
		if p.Failure != nil {
			all = append(all, p.Failure)
		}
	}
	err := verdict(all)
	if f := (*Failure)(nil); errors.As(err, &f) {
		said := *f
		said.Said = true
		return &said
	}
	return err
}

// policyWord says what a failure of the module means to a package manager.
func policyWord(policy string) string {
	if policy == conf.Required {
		return "required: a failure fails the package manager's transaction"
	}
	return "optional: a failure is only told"
}
