// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// linger is how long a process that outlives its command may keep silent
// before its output is no longer waited for.
const linger = time.Second

// maxLinger is how long it is waited for that keeps writing.
const maxLinger = 3 * time.Second

// output copies what a command writes to writers that aren't files.
type output struct {
	pipes  []*pipe
	exited atomic.Pointer[time.Time]
	wg     sync.WaitGroup
}

// pipe is one way from the command to a writer.
type pipe struct {
	r, w *os.File
	dst  io.Writer
	err  error // first error of dst, valid after output.wg
}

// connect sets the standard output and error of cmd: files are handed on as
// they are, other writers get a pipe, one for both if they are the same.
func connect(cmd *exec.Cmd, stdout, stderr io.Writer) (*output, error) {
	o := &output{}
	var err error
	if cmd.Stdout, err = o.attach(stdout); err != nil {
		return nil, err
	}
	if same(stdout, stderr) {
		cmd.Stderr = cmd.Stdout
		return o, nil
	}
	if cmd.Stderr, err = o.attach(stderr); err != nil {
		o.abandon()
		return nil, err
	}
	return o, nil
}

// attach returns what the command gets to write to.
func (o *output) attach(dst io.Writer) (io.Writer, error) {
	if dst == nil {
		return nil, nil
	}
	if f, ok := dst.(*os.File); ok {
		return f, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o.pipes = append(o.pipes, &pipe{r: r, w: w, dst: dst})
	return w, nil
}

// start begins to copy; the command has been started.
func (o *output) start() {
	for _, p := range o.pipes {
		p.w.Close()
		o.wg.Go(func() { o.copy(p) })
	}
}

// abandon closes the pipes of a command that wasn't started.
func (o *output) abandon() {
	for _, p := range o.pipes {
		p.r.Close()
		p.w.Close()
	}
}

// finish waits for the copying after the end of the command and returns the
// first error of a writer.
func (o *output) finish() error {
	now := time.Now()
	o.exited.Store(&now)
	for _, p := range o.pipes {
		p.r.SetReadDeadline(now.Add(linger))
	}
	o.wg.Wait()
	var errs []error
	for _, p := range o.pipes {
		p.r.Close()
		errs = append(errs, p.err)
	}
	return errors.Join(errs...)
}

// copy moves bytes from the pipe to its writer, at once, until the last
// holder of the pipe is gone. When the writer fails the rest is discarded: the
// command goes on.
func (o *output) copy(p *pipe) {
	buf := make([]byte, 32<<10)
	for {
		if exit := o.exited.Load(); exit != nil {
			p.r.SetReadDeadline(earlier(time.Now().Add(linger), exit.Add(maxLinger)))
		}
		n, err := p.r.Read(buf)
		if n > 0 && p.err == nil {
			_, p.err = p.dst.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// same tells whether two writers are one; writers of a type that can't be
// compared aren't.
func same(a, b io.Writer) (equal bool) {
	defer func() { _ = recover() }()
	return a != nil && a == b
}
