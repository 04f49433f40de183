// SPDX-License-Identifier: Apache-2.0

// Package run starts every external command, and is the only package that
// does.
//
// A command runs in a process group of its own, is ended as a group when its
// context is, and can print the line that replays it by hand. Private gives
// one goroutine, and the commands it starts, a mount namespace of its own, and
// tells the commands of another kernel than the running one.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const (
	// defaultGrace is what a command gets between SIGTERM and SIGKILL.
	defaultGrace = 5 * time.Second
	// maxOutput bounds what Output collects.
	maxOutput = 64 << 20
	// maxStderr bounds the standard error kept in an ExitError.
	maxStderr = 4 << 10
)

// Cmd describes one command. Exactly one of Argv and Shell is set.
type Cmd struct {
	// Argv is the program and its arguments. The program is looked up in
	// PATH of Env unless it contains a slash.
	Argv []string
	// Path, if set, is the file to execute in place of Argv[0].
	Path string
	// Shell is text for `bash -c`, or `sh -c` where there is no bash.
	Shell string
	// Prelude is shell text that goes before Shell, such as assignments. It
	// is not part of Line, and so of no error.
	Prelude string
	// Dir is the working directory, "" for that of this process. PWD is set
	// to it.
	Dir string
	// Env is the whole environment; nil stands for BaseEnv(os.Environ()).
	Env []string
	// Stdin is nil for an empty input. A command that reads from a terminal
	// stays in the process group of this process, so that it may; without,
	// it must not read from the terminal by other ways (/dev/tty) either.
	Stdin io.Reader
	// Stdout and Stderr are nil to discard. If both are the same writer, the
	// order of the output is kept.
	Stdout, Stderr io.Writer
	// ExtraFiles become file descriptors 3, 4 and so on.
	ExtraFiles []*os.File
	// Confine, if not nil, is what the command may do; a Stdin that is a file or a
	// terminal is not given to it then.
	Confine *Confinement
	// Usage, if not nil, is set to what the command has used, with all that it
	// has started and waited for.
	Usage *Usage
	// Timeout ends the command as a cancelled context would; 0 is none.
	Timeout time.Duration
	// Session starts the command in a session of its own: it has no terminal
	// that it could ask somebody on (setsid(2)).
	Session bool
	// Grace is the time between SIGTERM and SIGKILL; 0 stands for 5 seconds.
	Grace time.Duration
}

// Usage is what a command has used (getrusage(2)).
type Usage struct {
	// CPU is the time of all its processes.
	CPU time.Duration
	// Peak is the largest resident set of one of them, in bytes.
	Peak int64
}

// Add adds what another command has used.
func (u *Usage) Add(other Usage) {
	u.CPU += other.CPU
	u.Peak = max(u.Peak, other.Peak)
}

// Run starts the command and waits for its end.
//
// A command that ended unsuccessfully gives an *ExitError. When ctx ends (or
// Timeout passes) first, the whole process group gets SIGTERM, what is left of
// it after Grace gets SIGKILL, and the error wraps the context's cause. A
// background process that holds the output open after the command's end is
// waited for only while it writes, and for three seconds at most (one second of
// silence ends it).
//
// The command is started from the caller's OS thread, so it sees the name
// space that Private made. It gets SIGTERM should this process be killed.
func (c Cmd) Run(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("running %s: %w", c.Line(), err)
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		cause := fmt.Errorf("not finished after %s: %w", c.Timeout, context.DeadlineExceeded)
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, cause)
		defer cancel()
	}
	// The parent-death signal is sent when the starting *thread* ends
	// (prctl(2)): the thread is kept until the command has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd, err := c.command()
	if err != nil {
		return err
	}
	out, err := connect(cmd, c.Stdout, c.Stderr)
	if err != nil {
		return fmt.Errorf("running %s: %w", c.Line(), err)
	}
	held, err := c.confine(cmd)
	if err == nil {
		err = cmd.Start()
		held.started()
	}
	if err != nil {
		out.abandon()
		return fmt.Errorf("running %s: %w", c.Line(), errors.Join(err, held.failure()))
	}
	out.start()
	cancelled, err := c.wait(ctx, cmd)
	copyErr := out.finish()
	failure := held.failure()
	switch {
	case failure != nil:
		return fmt.Errorf("running %s: %w", c.Line(), failure)
	case cancelled:
		return fmt.Errorf("running %s: %w", c.Line(), errors.Join(context.Cause(ctx), err))
	case err != nil:
		return err
	case copyErr != nil:
		return fmt.Errorf("output of %s: %w", c.Line(), copyErr)
	}
	return nil
}

// Output runs the command and returns its standard output, at most 64 MiB. If
// Stderr is nil, the end of the standard error goes to the ExitError.
func (c Cmd) Output(ctx context.Context) ([]byte, error) {
	stdout := &capped{limit: maxOutput}
	c.Stdout = stdout
	var stderr *capped
	if c.Stderr == nil {
		stderr = &capped{limit: maxStderr, keepEnd: true}
		c.Stderr = stderr
	}
	err := c.Run(ctx)
	var exit *ExitError
	if stderr != nil && errors.As(err, &exit) {
		exit.Stderr = stderr.buf.Bytes()
	}
	return stdout.buf.Bytes(), err
}

// command translates c for os/exec.
func (c Cmd) command() (*exec.Cmd, error) {
	environ := c.environ()
	argv := c.Argv
	switch {
	case c.Shell != "" && len(argv) > 0:
		return nil, fmt.Errorf("running %s: both a command and shell text given", c.Line())
	case c.Shell != "":
		argv = []string{"bash", "-c", c.Prelude + c.Shell}
		if _, err := LookPath("bash", environ); err != nil {
			argv[0] = "sh"
		}
	case len(argv) == 0:
		return nil, errors.New("running a command: none given")
	}
	path := c.Path
	if path == "" {
		var err error
		if path, err = LookPath(argv[0], environ); err != nil {
			return nil, fmt.Errorf("running %s: %w", c.Line(), err)
		}
	}
	return &exec.Cmd{
		Path:       path,
		Args:       argv,
		Dir:        c.Dir,
		Env:        environ,
		Stdin:      c.Stdin,
		ExtraFiles: c.ExtraFiles,
		// Only the copying of Stdin is left to os/exec: this bounds it.
		WaitDelay: time.Second,
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:   !c.Session && !isTerminal(c.Stdin),
			Setsid:    c.Session,
			Pdeathsig: syscall.SIGTERM,
		},
	}, nil
}

// environ returns the environment of the command.
func (c Cmd) environ() []string {
	environ := c.Env
	if environ == nil {
		environ = BaseEnv(os.Environ())
	}
	if dir, err := filepath.Abs(c.Dir); err == nil && c.Dir != "" {
		environ = append(without(environ, "PWD"), "PWD="+dir)
	}
	return environ
}

// wait waits for the command and ends it when ctx ends; it tells whether that
// was so.
func (c Cmd) wait(ctx context.Context, cmd *exec.Cmd) (cancelled bool, err error) {
	grace := c.Grace
	if grace == 0 {
		grace = defaultGrace
	}
	group := cmd.SysProcAttr.Setpgid || cmd.SysProcAttr.Setsid
	var sent atomic.Bool
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		sent.Store(true)
		tellGroup(cmd.Process.Pid, group, unix.SIGTERM)
		tellGroup(cmd.Process.Pid, group, unix.SIGCONT)
		select {
		case <-ended:
		case <-time.After(grace):
			tellGroup(cmd.Process.Pid, group, unix.SIGKILL)
		}
	}()
	err = cmd.Wait()
	close(ended)
	<-gone
	if sent.Load() && group {
		sweep(cmd.Process.Pid, grace)
	}
	if cmd.ProcessState != nil {
		c.account(cmd.ProcessState)
		err = exitError(cmd.ProcessState, c.Line())
	}
	return sent.Load(), err
}

// account fills Usage.
func (c Cmd) account(state *os.ProcessState) {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if c.Usage == nil || !ok {
		return
	}
	*c.Usage = Usage{CPU: state.UserTime() + state.SystemTime(), Peak: int64(usage.Maxrss) << 10}
}

// tellGroup sends sig to a process, or to the group that it leads.
func tellGroup(pid int, group bool, sig unix.Signal) {
	if group {
		pid = -pid
	}
	_ = unix.Kill(pid, sig) // ESRCH: it has ended, which is what we want
}

// sweep waits until a process group whose leader has ended is empty, and kills
// what is left of it after grace. The number of a group isn't given to a new
// process as long as the group has a member.
func sweep(pgid int, grace time.Duration) {
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); {
		if unix.Kill(-pgid, 0) != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	tellGroup(pgid, true, unix.SIGKILL)
}

// isTerminal tells whether r is a terminal.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok || f == nil {
		return false
	}
	// Not by Fd, which would change the blocking mode of the file.
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	terminal := false
	err = conn.Control(func(fd uintptr) { terminal = term.IsTerminal(int(fd)) })
	return err == nil && terminal
}

// capped is a buffer with a limit: it fails, or forgets its beginning.
type capped struct {
	buf     bytes.Buffer
	limit   int
	keepEnd bool
}

func (b *capped) Write(p []byte) (int, error) {
	if !b.keepEnd && b.buf.Len()+len(p) > b.limit {
		return 0, fmt.Errorf("more than %d bytes", b.limit)
	}
	b.buf.Write(p)
	if extra := b.buf.Len() - b.limit; b.keepEnd && extra > 0 {
		b.buf.Next(extra)
	}
	return len(p), nil
}
