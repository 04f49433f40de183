// SPDX-License-Identifier: Apache-2.0

package run

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// ExitError is the end of a command that didn't succeed.
type ExitError struct {
	// Code is what a shell has in $?: the exit code, or 128 plus the number
	// of the signal that ended the command (POSIX, Shell Command Language,
	// 2.8.2).
	Code int
	// Signal is the signal that ended the command, or 0.
	Signal syscall.Signal
	// Line is the command.
	Line string
	// Stderr is the end of the standard error, at most 4 KiB, where Output
	// collected it.
	Stderr []byte
}

// Error names the command, how it ended and the last line it wrote to its
// standard error, if known.
func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s: exit status %d", e.Line, e.Code)
	if e.Signal != 0 {
		text = fmt.Sprintf("%s: ended by signal %d (%s)", e.Line, int(e.Signal), e.Signal)
	}
	said := bytes.TrimSpace(e.Stderr)
	if i := bytes.LastIndexByte(said, '\n'); i >= 0 {
		said = said[i+1:]
	}
	if len(said) > 0 {
		text += ": " + string(said)
	}
	return text
}

// Code returns what a shell would have in $? for an error of Run: 0 for nil,
// the code of an ExitError, 127 for a command that wasn't found, 126 for one
// that may not be executed, 1 for any other error.
func Code(err error) int {
	var exit *ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return 127
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		return 126
	}
	return 1
}

// exitError returns how a process ended, nil for success.
func exitError(state *os.ProcessState, line string) error {
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled():
		return &ExitError{Code: 128 + int(status.Signal()), Signal: status.Signal(), Line: line}
	case !state.Success():
		return &ExitError{Code: state.ExitCode(), Line: line}
	}
	return nil
}
