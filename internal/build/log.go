// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dkms-go/internal/run"
	"dkms-go/internal/untrusted"
)

const ruler = "----------------------------------------------------------------"

// maxLog bounds make.log, in bytes. A build with V=1 of the largest modules
// writes some 10 MiB.
const maxLog = 32 << 20

// errTalkative is why a command that wrote without end was stopped.
var errTalkative = errors.New("stopped: it wrote more than 32 MiB to make.log")

// logFile is a make.log: a header, then a block for each command. The file is
// held open: what its name leads to is up to the commands of the build.
type logFile struct {
	*os.File
	dir *untrusted.Dir
}

const logName = "make.log"

// startLog begins a log in a build directory, in place of what has its name
// there, with upstream's two header lines.
func startLog(dir *untrusted.Dir, header string) (*logFile, error) {
	path := filepath.Join(dir.Root().Name(), logName)
	if err := dir.Root().RemoveAll(logName); err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	f, err := dir.Root().OpenFile(logName, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s\n%s\n", header, time.Now().Format(time.UnixDate))
	}
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	return &logFile{f, dir}, nil
}

// text returns what the log says so far.
func (l *logFile) text() ([]byte, error) {
	fi, err := l.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading make.log: %w", err)
	}
	text := make([]byte, min(fi.Size(), maxLog+1<<20))
	if _, err := l.ReadAt(text, 0); err != nil {
		return nil, fmt.Errorf("reading make.log: %w", err)
	}
	return text, nil
}

// settle puts the log back into its place, should a command have removed or
// replaced it, and closes it.
func (l *logFile) settle(text []byte) error {
	defer l.Close()
	ours, err := l.Stat()
	if err != nil {
		return fmt.Errorf("keeping make.log: %w", err)
	}
	there, err := l.dir.Root().Lstat(logName)
	if err == nil && os.SameFile(ours, there) {
		return nil
	}
	if err = l.dir.Root().RemoveAll(logName); err == nil {
		var again *os.File
		if again, err = l.dir.Root().OpenFile(logName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err == nil {
			_, err = again.Write(text)
			err = errors.Join(err, again.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("keeping make.log: %w", err)
	}
	return nil
}

// Block appends to the log f what one command says, framed as upstream does.
// what names the step, line is the command as people would type it. A command
// that would make the log too large is stopped.
func Block(ctx context.Context, f *os.File, what, line string, c run.Cmd, also io.Writer) error {
	fmt.Fprintf(f, "\n%s\n# command: %s\n", what, line)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	to := &bounded{to: f, full: func() { cancel(errTalkative) }}
	if fi, err := f.Stat(); err == nil {
		to.left = maxLog - fi.Size()
	}
	if also != nil {
		to.to = io.MultiWriter(f, also)
	}
	c.Stdout, c.Stderr = to, to
	begun := time.Now()
	err := c.Run(ctx)
	_, werr := fmt.Fprintf(f, "\n# exit code: %d\n# elapsed time: %s\n%s\n", run.Code(err), clock(time.Since(begun)), ruler)
	return errors.Join(err, werr)
}

// bounded hands on so many bytes; it drops the rest, and calls full for it.
type bounded struct {
	to   io.Writer
	left int64
	full func()
}

func (b *bounded) Write(p []byte) (int, error) {
	part := p[:max(0, min(int64(len(p)), b.left))]
	b.left -= int64(len(part))
	if len(part) < len(p) {
		b.full()
	}
	if _, err := b.to.Write(part); err != nil {
		return 0, err
	}
	return len(p), nil
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
	ctx, stop := w.guard(ctx)
	err := Block(ctx, w.log.File, what, line, c, also)
	err = errors.Join(err, stop())
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
		flags, files := w.Server.Env(w.Confine == nil)
		c.Env = append(c.Env[:len(c.Env):len(c.Env)], "MAKEFLAGS="+flags)
		c.ExtraFiles = files
	}
	if w.Confine != nil {
		own := *w.Confine
		own.Writable = append(own.Writable[:len(own.Writable):len(own.Writable)], w.dir)
		c.Confine, c.Timeout, c.Grace = &own, w.Time, confinedGrace
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
	if over := stopped(ctx, err); over != nil {
		cause = fmt.Errorf("%s: %w", what, over)
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
