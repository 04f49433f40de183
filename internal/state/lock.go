// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// LockEnv is set for every process that a writer starts: a dkms among them
// works under its parent's lock.
const LockEnv = "DKMS_TREE_LOCKED"

// Wait says how a writer waits for another one.
type Wait struct {
	// Proc is where proc(5) is, which tells who holds the lock; "" if nowhere.
	Proc string
	// Limit is how long it waits; 0 is without end.
	Limit time.Duration
	// Tell is called after a second of waiting, and then every half minute.
	Tell func(h Holder, waited time.Duration)
	// Over is called at the end of a wait of which Tell has told.
	Over func(waited time.Duration)
}

// Busy is the error of a writer that has waited for as long as it may.
type Busy struct {
	Holder Holder
	Waited time.Duration
}

func (b *Busy) Error() string {
	return fmt.Sprintf("waited %s for %s", seconds(b.Waited), b.Holder)
}

const (
	pollEvery  = 50 * time.Millisecond
	toldAfter  = time.Second
	toldEvery  = 30 * time.Second
	maxNesting = 8
)

// Lock makes the caller the only writer of the tree until unlock is called. It
// first finishes or undoes what a killed writer left behind. The error is a
// *Busy if w has a limit, and that is over; a nil w waits for as long as ctx
// allows and tells nothing.
//
// The lock is an flock(2) on <tree>/.lock, so it ends with the process. The
// file is there only while a writer is: unlock removes it.
//
// A caller that was started, however indirectly, by the one that holds the lock
// would wait for ever, since that one waits for it. It works under that lock, and
// takes another one that keeps its siblings out. The kernel tells who holds the
// lock; where it can't be asked, held counts: the value of LockEnv in the caller's
// environment, which names the tree that a parent has locked.
func (t Tree) Lock(ctx context.Context, held string, w *Wait) (unlock func(), err error) {
	return t.lock(ctx, held, w, func() error { return nil })
}

// lock is Lock that does something before it finishes what a killed writer left.
func (t Tree) lock(ctx context.Context, held string, w *Wait, first func() error) (unlock func(), err error) {
	if w == nil {
		w = &Wait{}
	}
	path := filepath.Join(t.Dir, lockName)
	for depth := range maxNesting {
		f, err := w.take(ctx, path, held == t.Dir)
		if errors.Is(err, errAncestor) {
			path += ".below"
			continue
		}
		if err != nil {
			return nil, err
		}
		unlock := func() {
			if depth == 0 {
				os.Remove(filepath.Join(t.Dir, journalDir)) // unless there is something in it
			}
			release(path, f)
		}
		if depth == 0 {
			err := first()
			if err == nil {
				err = t.recover(func() {})
			}
			if err != nil {
				unlock()
				return nil, err
			}
		}
		return unlock, nil
	}
	return nil, fmt.Errorf("locking the DKMS tree: dkms was started by a script of dkms, which was started by dkms, and so on %d times: a module's script calls itself", maxNesting)
}

const lockName = ".lock"

// Watch waits until no writer is at work, as Lock does, and keeps others waiting
// until done is called, as far as that can be done without changing anything: where
// there is no lock file, a writer may begin meanwhile (Settled tells). One that was
// started by the holder of the lock waits for nobody.
func (t Tree) Watch(ctx context.Context, held string, w *Wait) (done func(), err error) {
	path := filepath.Join(t.Dir, lockName)
	begun, tell, told := time.Now(), toldAfter, false
	for {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return func() {}, nil // there is none, or nothing that a writer could hold
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err == nil && names(path, f) {
			if told && w.Over != nil {
				w.Over(time.Since(begun))
			}
			return func() { f.Close() }, nil
		}
		f.Close()
		if err != nil && w.mine(path, held == t.Dir) {
			return func() {}, nil
		}
		waited := time.Since(begun)
		if w.Limit > 0 && waited >= w.Limit {
			return nil, &Busy{Holder: holderOf(w.Proc, path), Waited: waited}
		}
		if w.Tell != nil && waited >= tell {
			w.Tell(holderOf(w.Proc, path), waited)
			tell, told = waited+toldEvery, true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock on the DKMS tree: %w", ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// errAncestor says that the holder of a lock waits for this process.
var errAncestor = errors.New("the lock is held by a process that has started this one")

// take waits for a lock and returns its open file. inherited says that the
// environment names an ancestor as the holder.
func (w *Wait) take(ctx context.Context, path string, inherited bool) (*os.File, error) {
	begun, tell, told := time.Now(), toldAfter, false
	for first := true; ; first = false {
		f, err := tryLock(path)
		if err != nil {
			return nil, fmt.Errorf("locking the DKMS tree: %w", err)
		}
		waited := time.Since(begun)
		if f != nil {
			if told && w.Over != nil {
				w.Over(waited)
			}
			sign(f, w.Proc)
			return f, nil
		}
		if first && w.mine(path, inherited) {
			return nil, errAncestor
		}
		if w.Limit > 0 && waited >= w.Limit {
			return nil, &Busy{Holder: holderOf(w.Proc, path), Waited: waited}
		}
		if w.Tell != nil && waited >= tell {
			// A lock that changes hands just now has no name on it for a moment.
			if h := holderOf(w.Proc, path); h.PID != 0 || waited >= tell+toldAfter {
				w.Tell(h, waited)
				tell, told = waited+toldEvery, true
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock on the DKMS tree: %w", ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// mine reports whether the holder of a lock is this process or one that has
// started it.
func (w *Wait) mine(path string, inherited bool) bool {
	h := holderOf(w.Proc, path)
	if !h.certain {
		return inherited
	}
	return ancestor(w.Proc, h.PID)
}

// tryLock locks the file at path, which it makes, and returns it open; nil if
// another holds the lock.
func tryLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && names(path, f) {
			return f, nil
		}
		f.Close()
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return nil, err
		} // else the writer before us has removed it
	}
}

// release ends a lock and removes its file.
func release(path string, f *os.File) {
	f.Truncate(0) // if it can't be removed, it tells of nobody
	if names(path, f) {
		os.Remove(path)
	}
	f.Close()
}

// sign notes in a locked file, for people and for those who wait, who has it.
func sign(f *os.File, proc string) {
	f.Truncate(0)
	note := fmt.Sprintf("process %d (%s)\n", os.Getpid(), shown(strings.Join(os.Args, " ")))
	if p, ok := readProcess(proc, os.Getpid()); ok {
		note += fmt.Sprintf("started %d\n", p.started)
	}
	f.WriteAt([]byte(note), 0)
}

// names reports whether path still names the open file f.
func names(path string, f *os.File) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	ours, err := f.Stat()
	return err == nil && os.SameFile(there, ours)
}
