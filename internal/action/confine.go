// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/build"
	"dkms-go/internal/conf"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// evaluationProcesses bounds a conf's commands.
const evaluationProcesses = 256

// confinement returns what a module's commands may do, nil for everything. It
// fails where they can't be confined as framework.conf requires, and tells once
// where that is less than elsewhere.
func (e *Engine) confinement(key state.Key, m *conf.Module, errw io.Writer) (*run.Confinement, error) {
	mode := e.Framework.Confine
	if !e.Confines || m.Confine == conf.ConfineOff || mode == conf.ConfineOff && m.Confine != conf.ConfineOn && m.Confine != conf.ConfineNetwork {
		return nil, nil
	}
	if err := run.Namespaces(); err != nil && mode == conf.ConfineRequire {
		return nil, failf(NotConfined, "the commands of %s can't be confined here: %w", key.ID, err).
			hint("framework.conf has confine=require; confine=on builds with what walls there are.")
	} else if err != nil {
		e.walls.Do(func() {
			fmt.Fprintf(errw, "Warning: builds are confined less here than elsewhere, without namespaces of their own: %v\n", err)
		})
	}
	fw := e.Framework
	c := e.cage()
	c.Network = m.Confine == conf.ConfineNetwork
	c.Limits = run.Limits{Processes: fw.BuildProcesses, FileSize: fw.BuildFile, Memory: memory(fw.BuildMemory), Scratch: memory(conf.WholeMemory) / scratchPart}
	return c, nil
}

// cage is a confinement with a user of its own: its commands may read what anybody may, and
// the places that modules and kernels are in.
func (e *Engine) cage() *run.Confinement {
	return &run.Confinement{
		UID: run.NewUser(),
		Readable: []string{
			e.Paths.SourceTree, e.Paths.DKMSTree, e.Paths.InstallTree, e.Paths.ConfDir, e.Paths.Boot,
		},
	}
}

// memory returns a limit of memory in bytes.
func memory(limit int64) int64 {
	if limit != conf.WholeMemory {
		return limit
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// scratchPart is which part of the machine's memory the temporary files of a build
// may take: they are in memory.
const scratchPart = 4

// confined makes a build one whose commands are confined.
func (e *Engine) confined(job *build.Job) error {
	c, err := e.confinement(job.Key, job.Conf, job.Err)
	if err != nil || c == nil {
		return err
	}
	c.Uname = job.Uname()
	c.Readable = append(c.Readable, e.tree.SourceLink(job.Key.ID), e.tree.Build(job.Key.ID),
		job.Kernel.SourceDir, filepath.Join(e.Paths.KernelTree(job.Key.Kernel), "source"), filepath.Dir(job.Kernel.ConfigFile))
	job.Confine, job.Time, job.Reserve = c, e.Framework.BuildTime, e.Framework.BuildReserve
	return nil
}

// confinedBash returns what evaluates a module's dkms.conf where that takes bash
// or commands; nil if they aren't confined.
func (e *Engine) confinedBash(errw io.Writer) conf.BashFunc {
	if !e.Confines || e.Framework.Confine == conf.ConfineOff {
		return nil
	}
	return func(ctx context.Context, b conf.Program) ([]byte, error) {
		c := e.cage()
		c.Limits = run.Limits{Processes: evaluationProcesses, FileSize: 1 << 20, Memory: memory(conf.WholeMemory) / 2, Scratch: 64 << 20}
		for _, file := range b.Confs {
			if dir, name := filepath.Split(file); name == "dkms.conf" {
				c.Readable = append(c.Readable, dir) // a module's source, before it is added
			}
		}
		return runBash(ctx, b, errw, c)
	}
}

// runBash keeps the whole text of the program out of the error.
func runBash(ctx context.Context, b conf.Program, errw io.Writer, confine *run.Confinement) ([]byte, error) {
	cmd := b.Command()
	cmd.Stderr, cmd.Confine = errw, confine
	out, err := cmd.Output(ctx)
	var exit *run.ExitError
	if errors.As(err, &exit) {
		exit.Line = "bash"
	}
	return out, err
}

// refused adds to a failure what the confined commands were refused, and how that
// is allowed.
func (e *Engine) refused(f *Failure, module string, refusals []build.Refusal) {
	if len(refusals) == 0 {
		return
	}
	setting := conf.ConfineNetwork
	var what []string
	for _, r := range refusals {
		what = append(what, r.What)
		if !r.Network {
			setting = conf.ConfineOff
		}
	}
	f.hint("The commands of modules are confined, and these seem to have wanted: %s. If you trust the module, allow it with CONFINE=%s in %s/%s.conf.",
		strings.Join(what, ", "), setting, e.Paths.ConfDir, module)
}
