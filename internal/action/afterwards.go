// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dkms-go/internal/build"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// afterwards looks after the boot gate, and runs the administrator's
// post_transaction command, once a change has succeeded. Its output goes to <tree>/post_transaction.log; its failure is
// shown and changes nothing.
func (e *Engine) afterwards(ctx context.Context, targets []plan.Target) error {
	if !e.hooked { // hooks do it at their end
		e.watchGate(ctx)
	}
	if e.Framework.PostTransaction == "" || e.DryRun {
		return nil
	}
	release := ""
	if len(targets) > 0 {
		release = targets[0].Kernel
	}
	fw, err := e.loader(e.Err).Framework(ctx, release)
	if err != nil {
		return fail(BadConf, err)
	}
	log := filepath.Join(e.tree.Dir, "post_transaction.log")
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fail(NotWritable, err)
	}
	defer f.Close()
	const what = "Executing post-transaction command"
	line := fw.PostTransaction
	if e.Verbose {
		fmt.Fprintln(e.Out, line)
	} else {
		fmt.Fprint(e.Out, what+"...")
	}
	env := append(e.baseEnv(), "kernelver="+release)
	err = build.Block(ctx, f, what, line, run.Cmd{Shell: line, Env: env}, nil)
	build.Outcome(e.Out, line, e.Verbose, err)
	return nil
}

// rpmLockPrefix begins the names of the files by which `remove` recognises
// that rpm, which started both, has just added the same module.
const rpmLockPrefix = "dkms_rpm_safe_upgrade_lock."

// writeRPMLock records that rpm has added a module (--rpm_safe_upgrade).
func (e *Engine) writeRPMLock(id state.ID) error {
	pid, begun := e.grandparent()
	f, err := os.CreateTemp(e.Framework.TmpLocation, rpmLockPrefix+pid+".*")
	if err != nil {
		return fail(NotWritable, fmt.Errorf("recording the rpm transaction: %w", err))
	}
	_, err = fmt.Fprintf(f, "%s-%s\n%s\n", id.Module, id.Version, begun)
	if err := errors.Join(err, f.Close()); err != nil {
		return fail(NotWritable, fmt.Errorf("recording the rpm transaction: %w", err))
	}
	return nil
}

// heldByRPM reports whether the same rpm process has added the module, and
// takes note of it only once.
func (e *Engine) heldByRPM(id state.ID) bool {
	pid, begun := e.grandparent()
	files, _ := filepath.Glob(filepath.Join(e.Framework.TmpLocation, rpmLockPrefix+pid+".*"))
	for _, file := range files {
		text, err := untrusted.ReadFile(file, 1<<10) // anyone can make one in /tmp
		if err == nil && begun != "" && string(text) == fmt.Sprintf("%s-%s\n%s\n", id.Module, id.Version, begun) {
			os.Remove(file)
			return true
		}
	}
	return false
}

// grandparent returns the process that started our parent, rpm when the parent
// is a scriptlet, and when it began, in the form of `ps -o lstart`.
func (e *Engine) grandparent() (pid, begun string) {
	pid = parentOf(readFile(filepath.Join(e.Paths.Proc, strconv.Itoa(os.Getppid()), "status")))
	out, err := run.Cmd{Argv: []string{"ps", "-o", "lstart", "--no-headers", "-p", pid}, Env: e.Environ}.Output(context.Background())
	if err == nil {
		return pid, strings.TrimSpace(string(out))
	}
	return pid, e.began(pid)
}

// began is a process's start by proc(5) where there is no ps.
func (e *Engine) began(pid string) string {
	fi, err := os.Stat(filepath.Join(e.Paths.Proc, pid))
	if err != nil {
		return ""
	}
	return fi.ModTime().UTC().Format(time.ANSIC)
}

// readable reports whether a path is there; any error but its absence counts
// as there, so that what follows can report it.
func readable(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
