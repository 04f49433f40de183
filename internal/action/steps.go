// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dkms-go/internal/build"
	"dkms-go/internal/conf"
	"dkms-go/internal/distro"
	"dkms-go/internal/initramfs"
	"dkms-go/internal/install"
	"dkms-go/internal/jobserver"
	"dkms-go/internal/plan"
	"dkms-go/internal/report"
	"dkms-go/internal/state"
)

// performance is a plan being carried out.
type performance struct {
	*Engine
	facts *plan.Facts
	slots []*report.Slot
	left  []int
	// parts are the kernels of a joined plan, partOf the one of each step;
	// outcomes are those of the steps so far.
	parts    []*part
	partOf   []*part
	outcomes []error
	rooms    map[state.ID]*build.Room
	jobs     *jobserver.Server
	// images asks which changed objects belong into a kernel's initramfs;
	// imaging is held while one is made: the tools share files of the machine.
	images  map[plan.Target]*initramfs.Question
	marks   sync.Mutex
	imaging sync.Mutex
	// weak are what weak-modules(8) is to be told, by the kernel.
	weak map[string]*install.Weak
	// tried and from tell of each key which sources of prebuilts had nothing, or which
	// one had the result.
	tried map[state.Key][]state.Tried
	from  map[state.Key]string
	// accounts is held while an outcome is kept.
	accounts sync.Mutex
	// quietHead sends headings to stderr, as the kernel hooks do.
	quietHead bool
	// serial is set when one step runs at a time: it then writes straight to
	// the streams, which keeps the order of what commands write to both.
	serial bool
	// untold is set once a build's commands saw the running kernel's uname: what
	// comes of it isn't kept for later.
	untold atomic.Bool
	// out and errw are where all goes, above the lines of the board if there is
	// one; took is how long each step took.
	out, errw io.Writer
	board     *report.Board
	took      []time.Duration
	// first is the kernel that a module is added for.
	first plan.Target
}

// part is the share of one kernel in a joined plan.
type part struct {
	plan.Part
	// begin is called before the kernel's first step, end once its last one has
	// ended, with the outcomes of its steps.
	begin func(out, errw io.Writer)
	end   func(outcomes []error, out, errw io.Writer)
	left  int
}

// perform carries out a plan and returns the outcome of each step. With
// --dry-run it prints the plan instead.
func (e *Engine) perform(ctx context.Context, p *plan.Plan, f *plan.Facts, quietHead bool, parts ...*part) ([]error, error) {
	if ctx.Err() != nil {
		return nil, fail(Interrupted, context.Cause(ctx))
	}
	if e.DryRun {
		for _, part := range parts {
			part.begin(e.Out, e.Err)
		}
		return e.rehearse(ctx, p, f), nil
	}
	w := e.considering(f)
	w.rooms, w.images, w.quietHead, w.parts = map[state.ID]*build.Room{}, map[plan.Target]*initramfs.Question{}, quietHead, parts
	builds, width := p.Counts(plan.Build), 1
	if builds > 0 {
		e.fit(e.weigh(p))
	}
	if e.Tokens > 1 && max(builds, p.Counts(plan.Refresh)) > 1 {
		// One more than can run: it is prepared, or finished, meanwhile.
		width = e.Tokens + 1
	}
	w.serial = width == 1 && len(parts) < 2
	if width > 1 && builds > 1 {
		var err error
		if w.jobs, err = e.server(ctx); err != nil {
			return nil, err
		}
		defer w.jobs.Close()
	}
	w.openBoard()
	defer w.board.Close()
	w.open(p)
	outcomes := plan.Execute(ctx, p, width, w.step, w.ended)
	for _, kernel := range slices.Sorted(maps.Keys(w.weak)) { // of which no index was made
		w.weak[kernel].Tell(ctx, e.baseEnv(), e.Out, e.Err)
	}
	w.table(p, outcomes)
	if p.Counts(plan.Install) > 0 && e.trial == nil {
		e.remindOfKey()
	}
	return outcomes, interrupted(ctx, outcomes)
}

// considering is a performance of which nothing is carried out yet.
func (e *Engine) considering(f *plan.Facts) *performance {
	return &performance{Engine: e, facts: f, weak: map[string]*install.Weak{}}
}

// rehearse prints a plan; its outcomes are those that are certain beforehand.
func (e *Engine) rehearse(ctx context.Context, p *plan.Plan, f *plan.Facts) []error {
	fmt.Fprint(e.Out, p)
	w := e.considering(f)
	outcomes := make([]error, len(p.Steps))
	for i, s := range p.Steps {
		if s.Kind == plan.Refuse {
			outcomes[i] = w.refuse(ctx, s)
		}
	}
	w.recordPlan(p, outcomes)
	return outcomes
}

// interrupted returns the failure of a plan that was stopped before its end:
// the first step that was under way, or none that was.
func interrupted(ctx context.Context, outcomes []error) error {
	var cut bool
	for _, err := range outcomes {
		var f *Failure
		if errors.As(err, &f) && f.Reason == Interrupted {
			return f
		}
		cut = cut || err != nil
	}
	if ctx.Err() == nil || !cut {
		return nil
	}
	return fail(Interrupted, context.Cause(ctx))
}

// open prepares the blocks of output and the build directories.
func (w *performance) open(p *plan.Plan) {
	seq := report.NewSequencer(w.out, w.errw)
	w.left = make([]int, p.Groups)
	for range p.Groups {
		w.slots = append(w.slots, seq.Slot())
	}
	builds := map[state.ID]int{}
	for _, s := range p.Steps {
		w.left[s.Group]++
		if w.first == (plan.Target{}) {
			w.first = plan.Target{Kernel: s.Key.Kernel, Arch: s.Key.Arch}
		}
		if s.Kind == plan.Build {
			builds[s.Key.ID] += w.uses()
		}
	}
	for id, n := range builds {
		w.rooms[id] = build.NewRoom(w.tree, id, n)
	}
	w.outcomes, w.partOf, w.took = make([]error, len(p.Steps)), make([]*part, len(p.Steps)), make([]time.Duration, len(p.Steps))
	for _, part := range w.parts {
		w.left[part.Opening]++
		w.left[part.Closing]++
		part.left = part.To - part.From
		for i := part.From; i < part.To; i++ {
			w.partOf[i] = part
		}
		part.begin(w.block(part.Opening))
		w.leave(part.Opening)
		w.endPart(part)
	}
	for g, n := range w.left {
		if n == 0 {
			w.slots[g].Close()
		}
	}
}

// leave closes a block of output behind its last step.
func (w *performance) leave(group int) {
	if w.left[group]--; w.left[group] == 0 {
		w.slots[group].Close()
	}
}

// endPart ends a kernel's share once no step of it is left.
func (w *performance) endPart(p *part) {
	if p != nil && p.left == 0 {
		out, errw := w.block(p.Closing)
		p.end(w.outcomes[p.From:p.To], out, errw)
		w.leave(p.Closing)
	}
}

// ended keeps the outcome of a step, and closes what ends with it.
func (w *performance) ended(s plan.Step, err error) {
	var cancelled *plan.Cancelled
	if errors.As(err, &cancelled) && s.Kind == plan.Build {
		w.forgo(s.Key.ID, w.uses())
	}
	if s.Blank && !(s.Kind == plan.Add && err != nil) {
		out, _ := w.streams(s)
		fmt.Fprintln(out)
	}
	w.leave(s.Group)
	w.outcomes[s.N-1] = err
	w.recordStep(s, err)
	if p := w.partOf[s.N-1]; p != nil {
		p.left--
		w.endPart(p)
	}
}

// streams are where a step writes.
func (w *performance) streams(s plan.Step) (out, errw io.Writer) { return w.block(s.Group) }

// step performs one step and shows its failure.
func (w *performance) step(ctx context.Context, s plan.Step) error {
	out, errw := w.streams(s)
	if s.Heading != "" {
		to := out
		if w.quietHead {
			to = errw
		}
		fmt.Fprintln(to, s.Heading)
	}
	begun, line := time.Now(), w.watch(s)
	err := w.do(ctx, s, line, out, errw)
	line.End()
	w.took[s.N-1] = time.Since(begun)
	w.trial.saw(s, w.took[s.N-1], err)
	if err == nil {
		w.account(s, nil, errw)
		return nil
	}
	f := failed(err)
	if ctx.Err() != nil {
		f = fail(Interrupted, context.Cause(ctx))
	}
	w.account(s, f, errw)
	if !f.Said {
		w.Explain(errw, f)
		f.Said = true
	}
	return f
}

func (w *performance) do(ctx context.Context, s plan.Step, line *report.Line, out, errw io.Writer) error {
	t := plan.Target{Kernel: s.Key.Kernel, Arch: s.Key.Arch}
	switch s.Kind {
	case plan.Note:
		w.note(s, out)
		return nil
	case plan.Refuse:
		return w.refuse(ctx, s)
	case plan.Add:
		return w.addStep(ctx, s.Key.ID, w.first, out, errw, false)
	case plan.Prepare:
		return w.prepareStep(ctx, t, out, errw)
	case plan.Build:
		return w.buildStep(ctx, s, line, out, errw)
	case plan.Install:
		return w.installStep(ctx, s, t, out, errw)
	case plan.Uninstall:
		return w.uninstallStep(ctx, s, t, out, errw)
	case plan.Unbuild:
		return w.unbuildStep(s.Key)
	case plan.Forget:
		return w.forgetStep(s.Key.ID, out)
	case plan.Refresh:
		return w.refreshStep(ctx, t, line, out, errw)
	}
	return failf(Internal, "a plan has an unknown step %q", s.Kind)
}

func (w *performance) note(s plan.Step, out io.Writer) {
	id, k, a := s.Key.ID, s.Key.Kernel, s.Key.Arch
	switch s.Reason {
	case plan.AlreadyBuilt:
		fmt.Fprintf(out, "Module %s already built for kernel %s (%s), skip. You may override by specifying --force.\n", id, k, a)
	case plan.AlreadyInstalled:
		fmt.Fprintf(out, "Module %s already installed on kernel %s (%s), skip. You may override by specifying --force.\n", id, k, a)
	case plan.NotInstalled:
		if c := w.facts.Results[s.Key].Conf; c == nil || !c.HasExclusive() {
			fmt.Fprintf(out, "Module %s is not installed for kernel %s (%s). Skipping...\n", id, k, a)
		}
	case plan.NotBuilt:
		fmt.Fprintf(out, "Module %s is not built for kernel %s (%s). Skipping...\n", id, k, a)
	}
}

// refuse turns the reason of a plan into a failure with its next step.
func (w *performance) refuse(ctx context.Context, s plan.Step) error {
	id, k := s.Key.ID, s.Key.Kernel
	r := w.facts.Results[s.Key]
	switch s.Reason {
	case plan.NoConf, plan.BadConf:
		if err := w.requireSource(id); err != nil && w.Conf == "" && w.tree.Condition(id) == state.Absent {
			return err // as adding it would find
		}
		return confFailure(r.Err)
	case plan.BrokenModule:
		return w.requireSound(id)
	case plan.Excluded:
		return failf(Excluded, "%s is not meant for kernel %s (%s): %s", id, k, s.Key.Arch, r.Applies.Reason).
			hint("Its dkms.conf has BUILD_EXCLUSIVE directives which no object meets; nothing was built.")
	case plan.NoSource:
		if w.tree.OnlyPrebuilt(id) {
			return w.noPrebuilt(s.Key)
		}
		if w.standIn(id) {
			return failf(NoSource, "the source of %s is lost: it can't be built for kernel %s", id, k).
				hint("Put it back to %s, such as by installing its package again, then: dkms add %s. Or take the module away: dkms remove %s --all", w.tree.Source(id), id, id)
		}
		return failf(NoSource, "%s has a dkms.conf but no source to build from in %s", id, w.tree.SourceLink(id))
	case plan.MissingDepends:
		return w.missingDepends(s.Key, s.Detail)
	case plan.NoHeaders:
		return w.noHeaders(ctx, plan.Target{Kernel: k, Arch: s.Key.Arch})
	}
	return failf(Internal, "%s was refused: %v", id, s.Detail)
}

// noPrebuilt is the failure of a module without source for which there is no prebuilt.
func (e *Engine) noPrebuilt(k state.Key) *Failure {
	return failf(NoPrebuilt, "%s came prebuilt, without its source, and there is no prebuilt of it for kernel %s", k.ID, k.Kernel).
		hint("Import one: dkms import <bundle>. Or name a place that has some: prebuilt_sources in framework.conf.")
}

func (e *Engine) missingDepends(k state.Key, missing []string) *Failure {
	return failf(MissingDepends, "%s needs other modules to be installed first for kernel %s: %s", k.ID, k.Kernel, strings.Join(missing, " ")).
		hint("Install them, or go without by --force.")
}

// noHeaders names the package to install, if there is one.
func (e *Engine) noHeaders(ctx context.Context, t plan.Target) *Failure {
	f := failf(NoHeaders, "the headers of kernel %s are not installed: there is no %s/include", t.Kernel, e.kernel(t).SourceDir)
	pkg, known := e.distro.LookupHeaders(ctx, distro.Query{Release: t.Kernel, Paths: e.Paths, Env: e.baseEnv()})
	if known {
		f.hint("Install them with: %s", e.distro.InstallCommand(pkg))
	} else {
		f.hint("No configured package source has headers for kernel %s.", t.Kernel)
	}
	return f.hint("Headers elsewhere are named with --kernelsourcedir.")
}

// verdict returns the failure that decides the exit code: the first that isn't
// an exclusion, else the first exclusion.
func verdict(outcomes []error) error {
	var soft *Failure
	for _, err := range outcomes {
		var cancelled *plan.Cancelled
		var f *Failure
		if err == nil || errors.As(err, &cancelled) || !errors.As(err, &f) {
			continue
		}
		if !f.Soft() {
			return f
		}
		if soft == nil {
			soft = f
		}
	}
	if soft != nil {
		return soft
	}
	return nil
}

// conf returns the conf that the plan was made with, after saying on
// errw what is worth saying of it.
func (w *performance) conf(key state.Key, errw io.Writer) (*conf.Module, error) {
	r := w.facts.Results[key]
	if r.Err != nil {
		return nil, confFailure(r.Err)
	}
	if r.Conf == nil {
		return nil, failf(Internal, "the plan for %s was made without its conf", key)
	}
	remarks(errw, r.Conf)
	return r.Conf, nil
}
