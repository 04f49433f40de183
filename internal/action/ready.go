// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/boot"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/internal/vercmp"
)

// Readiness tells whether a kernel can be booted without losing a module.
type Readiness struct {
	Target plan.Target
	// Why says how the kernel was chosen.
	Why string
	// Model is the kernel whose modules it must have. It may not be installed
	// here, as in a container.
	Model string
	// Absent says that the kernel itself is not installed.
	Absent bool
	// Modules are those that the kernel must have.
	Modules []ModuleReadiness
}

// ModuleReadiness is one module that a kernel must have.
type ModuleReadiness struct {
	Module string
	// Version is the one that is installed, "" for none.
	Version string
	// Needed says why: the model kernel has it, or it is required.
	Needed string
	// Reasons tell what keeps the kernel from being ready; none if nothing does.
	Reasons []string
}

// Ready reports whether every module is in order.
func (r Readiness) Ready() bool {
	return !slices.ContainsFunc(r.Modules, func(m ModuleReadiness) bool { return len(m.Reasons) > 0 })
}

// Ready tells whether a kernel has every module that the model kernel has, by
// default the running one, and every required one: installed, such that the
// kernel would load it, and in the initramfs if it belongs there. An empty
// release stands for the kernel that boots next. Nothing is loaded or changed.
func (e *Engine) Ready(ctx context.Context, release, model string) (Readiness, error) {
	var r Readiness
	if release == "" {
		next, err := boot.Next(e.Paths)
		if err != nil {
			return r, fail(NotReady, fmt.Errorf("which kernel boots next is unknown: %w", err), "Name it with -k.")
		}
		if next.Release == "" {
			return r, fail(NotReady, fmt.Errorf("what boots next is no kernel of this system: %s", next.Why), "Name one with -k.")
		}
		release, r.Why = next.Release, next.Why
	}
	targets, err := e.Targets([]string{release}, nil, true)
	if err != nil {
		return r, err
	}
	r.Target = targets[0]
	if r.Absent = !e.kernel(r.Target).HasImage(e.Paths); r.Absent {
		return r, failf(NotReady, "kernel %s is not installed", release)
	}
	if r.Model, err = e.model(model); err != nil {
		return r, err
	}
	for _, m := range e.needed(ctx, r.Target, r.Model) {
		if err := e.moduleReady(ctx, r.Target, &m); err != nil {
			return r, err
		}
		r.Modules = append(r.Modules, m)
	}
	if !r.Ready() {
		return r, &Failure{Reason: NotReady, Err: fmt.Errorf("kernel %s is not ready", release), Said: true}
	}
	return r, nil
}

// model returns the kernel that is the model: the named one, which must be there,
// or the running one.
func (e *Engine) model(named string) (string, error) {
	if named == "" {
		running, _, err := e.Running()
		if err != nil {
			return "", fail(Internal, err)
		}
		return running, nil
	}
	if !e.Known(named) {
		return "", failf(NotReady, "kernel %s, the model, is not installed", named)
	}
	return named, nil
}

// Known reports whether the model kernel is installed here.
func (e *Engine) Known(release string) bool {
	return slices.Contains(kernel.Installed(e.Paths), release)
}

// needed lists the modules that a kernel must have, by name.
func (e *Engine) needed(ctx context.Context, t plan.Target, model string) []ModuleReadiness {
	var list []ModuleReadiness
	required := e.required(ctx, t)
	for _, id := range e.tree.Modules("", "") {
		if slices.ContainsFunc(list, func(m ModuleReadiness) bool { return m.Module == id.Module }) {
			continue
		}
		if e.tree.Installed(state.Key{ID: id, Kernel: model, Arch: t.Arch}) {
			list = append(list, ModuleReadiness{Module: id.Module, Needed: "kernel " + model + " has " + id.String()})
			continue
		}
		if slices.Contains(required, id) {
			list = append(list, ModuleReadiness{Module: id.Module, Needed: "required"})
		}
	}
	return list
}

// moduleReady adds the reasons why a kernel lacks a module.
func (e *Engine) moduleReady(ctx context.Context, t plan.Target, m *ModuleReadiness) error {
	version, ok := e.tree.Active(t.Key(state.ID{Module: m.Module}))
	key := t.Key(state.ID{Module: m.Module, Version: version})
	if !ok || !e.tree.Installed(key) {
		m.Reasons = []string{"not installed"}
		for _, id := range e.tree.Modules(m.Module, "") {
			if e.tree.Condition(id) == state.Broken {
				m.Reasons = []string{"broken: its source is missing"}
			}
		}
		for _, o := range e.Outcomes(Filter{Module: m.Module, Kernel: t.Kernel, Arch: t.Arch}) {
			m.Reasons = []string{o.State + ": " + o.Error}
			if o.State == state.OutcomeWaiting {
				m.Reasons = []string{o.Error + ". " + strings.Join(o.Hints, " ")}
			}
		}
		return nil
	}
	m.Version = version
	verdicts, err := e.verifyResult(ctx, key)
	if err != nil {
		return err
	}
	for _, v := range verdicts {
		for _, p := range v.Problems {
			if p.Refuse {
				m.Reasons = append(m.Reasons, v.Name+": "+p.Text)
			}
		}
	}
	if stale := e.stale(key, t); len(stale) > 0 {
		m.Reasons = append(m.Reasons, "stale, changed since it was built: "+strings.Join(stale, ", "))
	}
	return nil
}

// watchGate is gate for verbs that have done their work: what goes wrong with
// the boot default is told, and not their failure.
func (e *Engine) watchGate(ctx context.Context) {
	if !e.Framework.BootGate || e.DryRun || ctx.Err() != nil {
		return
	}
	if err := e.gate(ctx); err != nil {
		fmt.Fprintf(e.Err, "Warning: %v\n", err)
	}
}

// gate holds the boot default at the newest kernel that is ready as long as the
// one that would boot is not, and lets go of it once the newest is ready. A kernel that was chosen for one boot
// only is the administrator's choice: it is only told of.
func (e *Engine) gate(ctx context.Context) error {
	next, err := boot.Next(e.Paths)
	if err != nil {
		return fmt.Errorf("looking at the boot default: %w", err)
	}
	held, err := boot.Pinned(e.Paths)
	if err != nil {
		return fmt.Errorf("looking at the boot gate: %w", err)
	}
	if next.OneShot && !e.isReady(ctx, next.Release) {
		fmt.Fprintf(e.Err, "Warning: kernel %s boots next and is not ready: %s\n", next.Release, next.Why)
	}
	newest, ready := e.newestReady(ctx)
	switch {
	case held == "" && e.isReady(ctx, next.Default):
		return nil
	case held != "" && newest == ready:
		return e.openGate(ctx)
	case ready == "":
		return fmt.Errorf("kernel %s is not ready, and neither is any other: the boot default stays as it is", next.Default)
	}
	changed, err := boot.Pin(ctx, e.Paths, ready)
	if err != nil {
		return fmt.Errorf("holding the boot default at kernel %s: %w", ready, err)
	}
	if changed {
		fmt.Fprintf(e.people(e.Out), "The boot default is held at kernel %s until kernel %s is ready; dkms ready -k %s tells why it is not.\n", ready, newest, newest)
	}
	return nil
}

func (e *Engine) openGate(ctx context.Context) error {
	if _, err := boot.Unpin(ctx, e.Paths); err != nil {
		return fmt.Errorf("freeing the boot default: %w", err)
	}
	fmt.Fprintln(e.Out, "The boot default is free again.")
	return nil
}

// openGateFor frees the boot default if it is held at a kernel that goes.
func (e *Engine) openGateFor(ctx context.Context, release string) error {
	held, err := boot.Pinned(e.Paths)
	if err != nil || held != release {
		return nil // without a boot loader there is no gate
	}
	return e.openGate(ctx)
}

func (e *Engine) isReady(ctx context.Context, release string) bool {
	if release == "" {
		return true // another system: not ours to judge
	}
	_, err := e.Ready(ctx, release, "")
	return err == nil
}

// newestReady returns the newest kernel that can be booted, and the newest of
// those that are ready.
func (e *Engine) newestReady(ctx context.Context) (newest, ready string) {
	releases := kernel.Installed(e.Paths)
	slices.SortFunc(releases, func(a, b string) int { return vercmp.Natural(b, a) })
	for _, release := range releases {
		r, err := e.Ready(ctx, release, "")
		if r.Absent {
			continue // only its headers are there
		}
		if newest == "" {
			newest = release
		}
		if err == nil {
			return newest, release
		}
	}
	return newest, ""
}
