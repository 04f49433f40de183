// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"io"
	"time"

	"dkms-go/internal/boot"
	"dkms-go/internal/conf"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// Metrics is what `dkms metrics` tells: the state of modules as status sees it, and
// what follows from that for the kernels that can be booted.
type Metrics struct {
	Version string
	// Modules are the rows of a status, with the records of their builds.
	Modules []Standing
	// Outcomes are what failed or waits.
	Outcomes []state.Outcome
	// Required has an item for each required module and each kernel that it is
	// meant for.
	Required []RequiredModule
	// Boot is the kernel that boots next, nil if that isn't known or none of this
	// system's, or if the caller may not read all of the tree; BootReady says that it has each required module, and each that the
	// running kernel has.
	Boot      *plan.Target
	BootReady bool
	Cache     CacheStats
}

// RequiredModule tells whether a kernel has a module that is required. It has one
// that is installed, complete and not stale; `dkms ready` also holds the objects
// against the kernel.
type RequiredModule struct {
	Module string
	Target plan.Target
	Ready  bool
}

// LastBuild is when the newest result was built, zero if none tells.
func (m Metrics) LastBuild() time.Time {
	var last time.Time
	for _, s := range m.Modules {
		if s.Record.Built.After(last) {
			last = s.Record.Built
		}
	}
	return last
}

// Metrics gathers what `dkms metrics` tells. Nothing is executed, and no object is
// read that a status would not read.
func (e *Engine) Metrics(ctx context.Context) (Metrics, error) {
	m := Metrics{Version: e.Version, Modules: e.Status(ctx, Filter{}), Outcomes: e.Outcomes(Filter{})}
	whole := map[state.Key]bool{} // by module, without the version
	for _, s := range m.Modules {
		if s.State == StateInstalled && !s.Missing && !s.Differs && len(s.Stale) == 0 {
			whole[state.Key{ID: state.ID{Module: s.Key.Module}, Kernel: s.Key.Kernel, Arch: s.Key.Arch}] = true
		}
	}
	has := func(t plan.Target, module string) bool { return whole[t.Key(state.ID{Module: module})] }
	var bootable []plan.Target
	for _, release := range kernel.Installed(e.Paths) {
		targets, err := e.Targets([]string{release}, nil, true)
		if err == nil && e.kernel(targets[0]).HasImage(e.Paths) { // else a directory that is no kernel's
			bootable = append(bootable, targets[0])
		}
	}
	for _, t := range bootable {
		for _, module := range e.requiredUnevaluated(ctx, t) {
			m.Required = append(m.Required, RequiredModule{module, t, has(t, module)})
		}
	}
	next, err := boot.Next(e.Paths)
	for _, t := range bootable {
		if err == nil && t.Kernel == next.Release && len(e.unreadable("")) == 0 {
			m.Boot, m.BootReady = &t, m.bootReady(t, e.runningTarget(t), has)
		}
	}
	m.Cache, err = e.CacheStats()
	return m, err
}

// bootReady reports whether kernel t has its required modules, and those of the
// running kernel.
func (m Metrics) bootReady(t, running plan.Target, has func(plan.Target, string) bool) bool {
	for _, r := range m.Required {
		if r.Target == t && !r.Ready {
			return false
		}
	}
	for _, s := range m.Modules {
		if s.State == StateInstalled && s.Key.Kernel == running.Kernel && s.Key.Arch == running.Arch && !has(t, s.Key.Module) {
			return false
		}
	}
	return true
}

// runningTarget is the running kernel with the architecture of t.
func (e *Engine) runningTarget(t plan.Target) plan.Target {
	release, _, _ := e.Running()
	return plan.Target{Kernel: release, Arch: t.Arch}
}

// requiredUnevaluated is required by confs that are read, and not run.
func (e *Engine) requiredUnevaluated(ctx context.Context, t plan.Target) []string {
	var list []string
	facts := e.kernelFacts(t)
	for _, id := range e.newest() {
		m, err := e.load(ctx, id, t, conf.NoExec, io.Discard)
		if e.policy(m) == conf.Required && (err != nil || m.Autoinstall && m.Applies(facts).OK) {
			list = append(list, id.Module)
		}
	}
	return list
}
