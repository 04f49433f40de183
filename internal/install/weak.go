// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"dkms-go/internal/run"
)

// Weak gathers the objects that were placed for a kernel, or taken out, and tells
// weak-modules(8) of all of them at once, as each call makes module indexes anew.
// It may be nil: then no one is told. It is safe for concurrent use.
type Weak struct {
	// Add and Remove are the commands for objects that were placed and taken out.
	// They read paths from their input, one a line.
	Add, Remove []string

	mu          sync.Mutex
	added, gone []string
}

func (w *Weak) placed(paths []string) {
	if w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.added = append(w.added, paths...)
	}
}

func (w *Weak) takenOut(paths []string) {
	if w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.gone = append(w.gone, paths...)
	}
}

// Tell runs the commands for what was gathered since the last call. That one
// fails is a warning: the objects are in place for the kernel they were built for.
func (w *Weak) Tell(ctx context.Context, env []string, out, errw io.Writer) {
	if w == nil {
		return
	}
	w.mu.Lock()
	added, gone := w.added, w.gone
	w.added, w.gone = nil, nil
	w.mu.Unlock()
	tell := func(what string, command, paths []string) {
		if len(paths) == 0 {
			return
		}
		fmt.Fprintln(out, what)
		c := run.Cmd{Argv: command, Env: env, Stdin: newReader(strings.Join(paths, "\n") + "\n"), Stdout: out, Stderr: errw}
		if err := c.Run(ctx); err != nil {
			fmt.Fprintf(errw, "Warning: telling weak-modules: %v\n", err)
		}
	}
	tell("Removing linked weak modules...", w.Remove, gone)
	tell("Adding linked weak modules...", w.Add, added)
}
