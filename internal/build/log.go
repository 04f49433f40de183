// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"dkms-go/internal/run"
)

const ruler = "----------------------------------------------------------------"

// logFile is a make.log: a header, then a block for each command.
type logFile struct{ path string }

// startLog begins a log with upstream's two header lines.
func startLog(path, header string) (*logFile, error) {
	text := fmt.Sprintf("%s\n%s\n", header, time.Now().Format(time.UnixDate))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("starting make.log: %w", err)
	}
	return &logFile{path}, nil
}

// Block appends to the log at path what one command says, framed as upstream
// does. what names the step, line is the command as people would type it.
func Block(ctx context.Context, path, what, line string, c run.Cmd, also io.Writer) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	fmt.Fprintf(f, "\n%s\n# command: %s\n", what, line)
	var to io.Writer = f
	if also != nil {
		to = io.MultiWriter(f, also)
	}
	c.Stdout, c.Stderr = to, to
	begun := time.Now()
	err = c.Run(ctx)
	_, werr := fmt.Fprintf(f, "\n# exit code: %d\n# elapsed time: %s\n%s\n", run.Code(err), clock(time.Since(begun)), ruler)
	return errors.Join(err, werr, f.Close())
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
}

// command runs one logged step in the build directory and tells on Out how it
// went, in upstream's words.
func (w *work) command(ctx context.Context, what, line string) error {
	if w.Verbose {
		fmt.Fprintln(w.Out, line)
	} else {
		fmt.Fprint(w.Out, what+"...")
	}
	var also io.Writer
	if w.Verbose {
		also = w.Out
	}
	var used run.Usage
	c := w.cmd(line)
	c.Usage = &used
	err := Block(ctx, w.log.path, what, line, c, also)
	w.used.Add(used)
	return Outcome(w.Out, line, w.Verbose, err)
}

// Outcome ends the line of a step that was announced, and returns err.
func Outcome(out io.Writer, line string, verbose bool, err error) error {
	switch {
	case err == nil:
		fmt.Fprintln(out, " done.")
	case verbose:
		fmt.Fprintf(out, "(bad exit status: %d)\n", run.Code(err))
	default:
		fmt.Fprintf(out, "(bad exit status: %d)\nFailed command:\n%s\n", run.Code(err), line)
	}
	return err
}

// cmd returns a shell line as a command in the build directory.
func (w *work) cmd(line string) run.Cmd {
	c := run.Cmd{Prelude: w.shellVars(), Shell: line, Dir: w.dir, Env: w.Env}
	if w.Server != nil {
		flags, files := w.Server.Env()
		c.Env = append(c.Env[:len(c.Env):len(c.Env)], "MAKEFLAGS="+flags)
		c.ExtraFiles = files
	}
	return c
}

// failed describes a command that ended with an error: what it was for, how it
// ended, how to run it again.
func (w *work) failed(ctx context.Context, stage Stage, what, line string, err error) error {
	cause := fmt.Errorf("%s: exit status %d", what, run.Code(err))
	var exit *run.ExitError
	if !errors.As(err, &exit) { // it was not even started, or its log can't be written
		cause = fmt.Errorf("%s: %w", what, err)
	}
	if ctx.Err() != nil {
		cause = fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	f := &Failure{Stage: stage, Status: run.Code(err), Err: cause, Log: w.logPath()}
	if exit != nil {
		f.Replay = w.cmd(line).Replay()
	}
	return f
}

// quote makes s one word for a shell.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
