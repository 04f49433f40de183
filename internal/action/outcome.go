// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"dkms-go/internal/conf"
	"dkms-go/internal/diagnose"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
	"dkms-go/internal/vercmp"
)

// memorable reports whether a failure lies in the module or the kernel, and not in
// this run or this machine's state: only then the same inputs give it again.
func (f *Failure) memorable() bool {
	return slices.Contains([]Reason{
		NoConf, PatchPath, PatchFailed, InstallFailed, ObjectMissing, BadConf, NoSource, MakeFailed, MissingDepends,
		PreInstallFailed, HookFailed, NotVerified,
	}, f.Reason)
}

// machineTrouble matches what tools say of a machine that is short of something.
var machineTrouble = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)no space left on device|disk quota exceeded|cannot allocate memory|out of memory|virtual memory exhausted|\bkilled\b|read-only file system|input/output error`)
})

// ofMachine reports whether a failure is one of this machine's disk or memory, or
// a command that a signal ended: the same inputs may do better next time.
func (f *Failure) ofMachine() bool {
	var errno syscall.Errno
	if (f.Reason == InstallFailed || f.Reason == ObjectMissing) && errors.As(f.Err, &errno) {
		return true
	}
	for _, of := range []error{state.ErrStuck, run.ErrNotConfined, syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(f.Err, of) {
			return true
		}
	}
	const signalled = 128
	if c := f.class(); c == diagnose.Memory || c == diagnose.Disk {
		return true
	}
	return f.Status > signalled || machineTrouble().MatchString(f.Cause) || machineTrouble().MatchString(strings.Join(f.Hint, "\n"))
}

// policy returns the failure policy of a module whose conf may be unknown.
func (e *Engine) policy(m *conf.Module) string {
	if m != nil && m.Policy != "" {
		return m.Policy
	}
	return e.Framework.Policy
}

// policyFor returns the failure policy of a module whose conf may not be usable:
// the administrator's file counts by itself then.
func (e *Engine) policyFor(ctx context.Context, id state.ID, t plan.Target) string {
	m, _ := e.load(ctx, id, t, conf.Auto, io.Discard)
	if m == nil {
		m, _ = e.loadFile(ctx, id, t, filepath.Join(e.Paths.ConfDir, id.Module+".conf"), conf.Auto, io.Discard)
	}
	return e.policy(m)
}

// account keeps in the tree what became of a step, for status, for ready and for
// hooks that come later. Losing it in a full disk loses no module: it is only
// said.
func (w *performance) account(s plan.Step, f *Failure, errw io.Writer) {
	key := s.Key
	if key.Module == "" || key.Kernel == "" || key.Version == "" || w.CheckReproducible || w.trial != nil {
		return
	}
	w.accounts.Lock()
	defer w.accounts.Unlock()
	var err error
	switch {
	case f == nil && (s.Kind == plan.Build || s.Kind == plan.Install || s.Kind == plan.Unbuild):
		err = w.tree.DropOutcome(key)
	case f == nil || s.Kind != plan.Build && s.Kind != plan.Install && !(s.Kind == plan.Refuse && w.hooked):
	case f.Soft():
		err = w.tree.DropOutcome(key)
	case f.Reason != Interrupted:
		err = w.keepFailure(key, f)
	}
	if err != nil {
		fmt.Fprintf(errw, "Warning: %v\n", err)
	}
}

// keepFailure keeps a failure with the inputs that it came from.
func (e *Engine) keepFailure(key state.Key, f *Failure) error {
	t := plan.Target{Kernel: key.Kernel, Arch: key.Arch}
	m, _ := e.load(context.Background(), key.ID, t, conf.Auto, io.Discard) // nil: its conf may be what failed
	inputs := ""
	if f.memorable() && !f.ofMachine() {
		inputs = e.inputs(key, t, m)
	}
	o := state.Outcome{
		Module: key.Module, Version: key.Version, Kernel: key.Kernel, Arch: key.Arch,
		State: state.OutcomeFailed, Required: e.policyFor(context.Background(), key.ID, t) == conf.Required, When: time.Now(),
		Code: e.Code(f), Reason: f.Reason.String(), Error: f.headline(), Hints: e.lasting(key, f.Hint), Inputs: inputs, Class: string(f.class()),
	}
	if f.Diagnosis != nil {
		o.File, o.Line = f.Diagnosis.File, f.Diagnosis.Line
	}
	return e.tree.KeepOutcome(o)
}

// lasting names the kept log in place of the build directory's, which goes with
// the next build.
func (e *Engine) lasting(key state.Key, hints []string) []string {
	var list []string
	for _, h := range hints {
		list = append(list, strings.ReplaceAll(h, filepath.Join(e.tree.Build(key.ID), "make.log"), e.tree.KeptLog(key)))
	}
	return list
}

// headline is the first real error on one line.
func (f *Failure) headline() string {
	text := f.Cause
	if text == "" {
		text = f.Error()
	}
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// keepWaiting keeps for each module that would be installed for t by itself that
// it waits for a package, with what to do about it.
func (e *Engine) keepWaiting(ctx context.Context, t plan.Target, ids []state.ID, what string, hint string) error {
	facts := e.kernelFacts(t)
	if facts.Config == nil {
		if c := e.abi(t).Config(); c != nil {
			facts.Config = func(symbol string) (string, bool) { v, ok := c[symbol]; return v, ok }
		}
	}
	for _, id := range ids {
		key := t.Key(id)
		if e.tree.Built(key) {
			continue
		}
		m, err := e.load(ctx, id, t, conf.Auto, e.Err)
		if err != nil || !m.Autoinstall || !m.Applies(facts).OK {
			continue
		}
		err = e.tree.KeepOutcome(state.Outcome{
			Module: id.Module, Version: id.Version, Kernel: t.Kernel, Arch: t.Arch,
			State: state.OutcomeWaiting, Waiting: what, Required: e.policy(m) == conf.Required, When: time.Now(),
			Error: "waiting: " + what, Hints: []string{hint},
		})
		if err != nil {
			return fail(NotWritable, err)
		}
		e.record(Result{Action: plan.Build.String(), Key: key, Ending: Waits, Why: "waiting: " + what})
	}
	return nil
}

// Report writes what was kept of failures and waits as one block: module,
// kernel, the first real error, the next step.
func Report(w io.Writer, list []state.Outcome) {
	var b strings.Builder
	for _, o := range list {
		policy := "optional"
		if o.Required {
			policy = "required"
		}
		fmt.Fprintf(&b, "dkms: %s for kernel %s (%s): %s, %s\n", o.Key().ID, o.Kernel, o.Arch, o.State, policy)
		fmt.Fprintf(&b, "  %s\n", o.Error)
		for _, h := range o.Hints {
			if !strings.Contains(h, o.Error) {
				fmt.Fprintf(&b, "  %s\n", h)
			}
		}
		if o.State == state.OutcomeFailed && o.Inputs != "" {
			fmt.Fprintf(&b, "  Not tried again until something has changed, or by: dkms install %s -k %s\n", o.Key().ID, o.Kernel)
		}
	}
	io.WriteString(w, b.String())
}

// Outcomes returns the kept outcomes that a filter matches, without those for
// kernels that are gone, and of versions with an installed successor.
func (e *Engine) Outcomes(f Filter) []state.Outcome {
	list := e.tree.Outcomes(state.ID{Module: f.Module, Version: f.Version}, f.Kernel)
	return slices.DeleteFunc(list, func(o state.Outcome) bool {
		if o.Waiting == state.WaitingLock && e.tree.Installed(o.Key()) {
			return true // by the one that held the lock
		}
		k := e.kernel(plan.Target{Kernel: o.Kernel, Arch: o.Arch})
		return f.Arch != "" && o.Arch != f.Arch || !k.HasHeaders() && !k.HasImage(e.Paths) || e.superseded(o.Key())
	})
}

// superseded reports whether a later version of the module is installed.
func (e *Engine) superseded(key state.Key) bool {
	v, ok := e.tree.Active(key)
	return ok && vercmp.Less(key.Version, v) && !e.tree.Retired(state.ID{Module: key.Module, Version: v})
}

// requiredFailures are those of the outcomes that fail a transaction.
func requiredFailures(list []state.Outcome) []state.Outcome {
	return slices.DeleteFunc(slices.Clone(list), func(o state.Outcome) bool { return !o.Required || o.State != state.OutcomeFailed })
}

// failed wraps any error of a verb.
func failed(err error) *Failure {
	var f *Failure
	if !errors.As(err, &f) {
		f = fail(Internal, err)
	}
	return f
}
