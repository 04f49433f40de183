// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dkms-go/internal/conf"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// environment returns a variable of the caller's environment.
func (e *Engine) environment(name string) (value string, ok bool) {
	for _, kv := range e.Environ {
		if v, is := strings.CutPrefix(kv, name+"="); is {
			value, ok = v, true
		}
	}
	return value, ok
}

// turn says how this command waits for another dkms: until that ends, or if a
// package manager waits for it in turn, for as long as framework.conf allows. Else
// it could be for ever: that dkms may itself wait for the package manager's lock.
func (e *Engine) turn() *state.Wait {
	w := &state.Wait{Proc: e.Paths.Proc}
	if e.packaging() {
		w.Limit = e.Framework.HookLockTimeout
	}
	w.Tell = func(h state.Holder, waited time.Duration) {
		end := ""
		if w.Limit > 0 {
			end = fmt.Sprintf("; giving up in %.0f s", (w.Limit - waited).Seconds())
		}
		fmt.Fprintf(e.Err, "Waiting for %s%s\n", h, end)
	}
	w.Over = func(waited time.Duration) { fmt.Fprintf(e.Err, "Waited %.0f s\n", waited.Seconds()) }
	return w
}

// packaging reports whether a package manager waits for this process: it is a
// hook, or was started by a maintainer script of dpkg (dpkg(1), INTERNAL
// ENVIRONMENT), a scriptlet of rpm, or kernel-install(8).
func (e *Engine) packaging() bool {
	_, dpkg := e.environment("DPKG_MAINTSCRIPT_NAME")
	_, plugin := e.environment("KERNEL_INSTALL_LAYOUT")
	return e.hooked || e.kernelHook || e.RPMSafeUpgrade || dpkg || plugin
}

// gaveUp ends what a package manager waits for, and what another dkms has kept from
// its turn: what is missing for the kernels waits, for the next hook, the next boot,
// or an autoinstall. That is a failure only if a required module is missing. Other
// errors than that of giving up stay as they are.
func (e *Engine) gaveUp(ctx context.Context, err error, ids []state.ID, targets ...plan.Target) error {
	var f *Failure
	if !errors.As(err, &f) || f.Reason != Busy || !e.packaging() {
		return err
	}
	var names []string
	lacking := false
	for _, t := range targets {
		names = append(names, "-k "+t.Kernel)
		hint := fmt.Sprintf("Another dkms was at work for too long. The next hook or boot builds it; now: dkms autoinstall -k %s", t.Kernel)
		if err := e.keepWaiting(ctx, t, ids, state.WaitingLock, hint); err != nil {
			fmt.Fprintf(e.Err, "Warning: %v\n", err)
		}
		lacking = lacking || slices.ContainsFunc(ids, func(id state.ID) bool {
			return !e.tree.Installed(t.Key(id)) && e.policyFor(ctx, id, t) == conf.Required
		})
	}
	if len(names) > 0 {
		f.hint("The next hook of a package, or the next boot, does what was left undone. To do it now: dkms autoinstall %s", strings.Join(names, " "))
	}
	e.Explain(e.Err, f)
	f.Said = true
	if !lacking {
		return nil
	}
	return &Failure{Reason: AutoinstallFailed, Err: errors.New("a required module is missing for the kernel"), Said: true}
}

// autoinstallGaveUp is gaveUp for an autoinstall.
func (e *Engine) autoinstallGaveUp(ctx context.Context, err error, targets []plan.Target, only state.ID) error {
	ids := slices.DeleteFunc(e.latest(), func(id state.ID) bool {
		return only.Module != "" && id.Module != only.Module || only.Version != "" && id.Version != only.Version
	})
	targets = slices.DeleteFunc(slices.Clone(targets), func(t plan.Target) bool { return t.Kernel == unknownKernel })
	return e.gaveUp(ctx, err, ids, targets...)
}

// packageGaveUp is gaveUp for a package with a module. One that isn't even added is
// no later hook's business: the package then isn't configured.
func (e *Engine) packageGaveUp(ctx context.Context, err error, a packageArgs) error {
	var f *Failure
	if !errors.As(err, &f) || f.Reason != Busy {
		return err
	}
	if e.tree.Condition(a.ID) != state.Added || e.tree.Retired(a.ID) {
		return f.hint("Configure the package once more: dpkg --configure -a. Or do its work: dkms hook package %s %s", a.Module, a.Version)
	}
	targets, _, all := e.everyKernel(a.Arch)
	if all != nil {
		return all
	}
	return e.gaveUp(ctx, err, []state.ID{a.ID}, targets...)
}

// leftUndone are the kernels, besides those given, for which an earlier hook gave up
// waiting for its turn.
func (e *Engine) leftUndone(besides []plan.Target) []plan.Target {
	var left []plan.Target
	for _, o := range e.Outcomes(Filter{}) {
		t := plan.Target{Kernel: o.Kernel, Arch: o.Arch}
		if o.Waiting == state.WaitingLock && !slices.Contains(besides, t) && !slices.Contains(left, t) {
			left = append(left, t)
		}
	}
	return left
}
