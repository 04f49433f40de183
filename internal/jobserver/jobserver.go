// SPDX-License-Identifier: Apache-2.0

// Package jobserver lets several make commands share one number of parallel
// jobs, as the GNU make jobserver does (GNU make manual, "Sharing Job Slots
// with GNU make").
//
// A server has a number of tokens. Every running make owns one without asking,
// which Acquire takes for it and Release gives back; for each further job it
// runs at the same time make itself takes a token and returns it.
//
// A make that is killed doesn't return the tokens it had taken, and no one but
// make knows how many these were. The server therefore restores its tokens
// whenever no make is running: what is in the pipe then is compared with what
// should be, and made equal. Until then lost tokens cost parallelism, never
// progress: the last Release always fills the pipe.
package jobserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxTokens is what a pipe of one page holds; a write of a token never blocks.
const maxTokens = 4096

// Server hands out tokens. Its methods are safe for concurrent use.
type Server struct {
	tokens int
	// proc is set for the form that makes open by a name.
	proc string
	// own is our side of the pipe, read and write the descriptors of the
	// makes. They are opened apart: make switches its own to non-blocking.
	own, read, write *os.File
	// turn holds the right to read from own.
	turn chan struct{}

	mu   sync.Mutex
	held int
}

// New returns a server with 1 to 4096 tokens. Its pipe has a name, in a private
// directory below the directory for temporary files, only until it is open: a
// killed process leaves nothing behind.
//
// If proc is where proc(5) is mounted, and not "", makes open the pipe by a name
// instead of inheriting it, which reaches also those whose parent closes what it
// doesn't know. GNU make 4.4 is the first that can (its NEWS; CanName). The name
// is that of our descriptor (proc_pid_fd(5)): it ends with this process.
func New(tokens int, proc string) (*Server, error) {
	if tokens < 1 || tokens > maxTokens {
		return nil, fmt.Errorf("making a jobserver: %d tokens, want 1 to %d", tokens, maxTokens)
	}
	dir, err := os.MkdirTemp("", "dkms-jobs-")
	if err != nil {
		return nil, fmt.Errorf("making a jobserver: %w", err)
	}
	defer os.RemoveAll(dir)
	s := &Server{tokens: tokens, proc: proc, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	if err := s.open(filepath.Join(dir, "fifo")); err != nil {
		s.Close()
		return nil, fmt.Errorf("making a jobserver: %w", err)
	}
	return s, nil
}

// open makes the pipe and puts the tokens in.
func (s *Server) open(path string) error {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return fmt.Errorf("making pipe %s: %w", path, err)
	}
	var err error
	// Opened for reading and writing it doesn't block (fifo(7)).
	if s.own, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return err
	}
	if s.read, err = openBlocking(path, unix.O_RDONLY); err != nil {
		return err
	}
	if s.write, err = openBlocking(path, unix.O_WRONLY); err != nil {
		return err
	}
	return s.put(s.tokens)
}

// openBlocking opens path in such a way that the os package never changes the
// blocking mode, which all makes share.
func openBlocking(path string, mode int) (*os.File, error) {
	fd, err := unix.Open(path, mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Acquire waits for the token that a make about to start owns, or for as many as
// it will run jobs without asking, and returns what gives them back. More than
// there are count as all. The error is the cause of ctx, or that the server is
// closed.
func (s *Server) Acquire(ctx context.Context, n int) (release func() error, err error) {
	n = min(max(n, 1), s.tokens)
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.turn: // two that wait for several must not each have half of them
	}
	defer func() { s.turn <- struct{}{} }()
	for got := range n {
		if err := s.take(ctx); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			return nil, errors.Join(err, s.put(got))
		}
	}
	s.mu.Lock()
	s.held += n
	s.mu.Unlock()
	return sync.OnceValue(func() error { return s.release(n) }), nil
}

// take reads one token; the caller has the turn.
func (s *Server) take(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { s.own.SetReadDeadline(time.Unix(1, 0)) })
	var token [1]byte
	_, err := s.own.Read(token[:])
	if !stop() {
		s.own.SetReadDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("waiting for a job token: %w", err)
	}
	return nil
}

// release gives back the tokens of a make that has ended. When it was the last
// one running, the tokens of the server are restored.
func (s *Server) release(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held -= n
	if s.held == 0 {
		n = s.tokens - s.queued()
	}
	if err := s.put(n); err != nil {
		return fmt.Errorf("returning a job token: %w", err)
	}
	return nil
}

// queued counts the tokens in the pipe.
func (s *Server) queued() int {
	n, err := unix.IoctlGetInt(int(s.read.Fd()), unix.TIOCINQ)
	if err != nil {
		return s.tokens
	}
	return n
}

// put writes n tokens. Too many in the pipe (n < 0) can only come from a
// broken make and are left to the next one that takes them.
func (s *Server) put(n int) error {
	if n <= 0 {
		return nil
	}
	_, err := s.own.Write([]byte(strings.Repeat("+", n)))
	return err
}

// Env returns what a make gets: the value of MAKEFLAGS, and the files that
// must be its file descriptors 3 and 4, none if the pipe has a name and named says
// that the make can open it. The form with descriptors is read by every GNU make
// since 4.2; the command must not give -j. The files stay the server's.
func (s *Server) Env(named bool) (makeflags string, files []*os.File) {
	makeflags = " -j" + strconv.Itoa(s.tokens) + " --jobserver-auth="
	if s.proc != "" && named {
		return makeflags + fmt.Sprintf("fifo:%s/%d/fd/%d", s.proc, os.Getpid(), s.read.Fd()), nil
	}
	return makeflags + "3,4", []*os.File{s.read, s.write}
}

// CanName reports whether the make that prints version of itself can open the
// pipe by a name.
func CanName(version string) bool {
	var major, minor int
	_, err := fmt.Sscanf(version, "GNU Make %d.%d", &major, &minor)
	return err == nil && (major > 4 || major == 4 && minor >= 4)
}

// Close closes the pipe. Makes that still run keep their tokens.
func (s *Server) Close() error {
	for _, f := range []*os.File{s.own, s.read, s.write} {
		if f != nil {
			f.Close()
		}
	}
	return nil
}
