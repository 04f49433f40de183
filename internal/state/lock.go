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

// Lock makes the caller the only writer of the tree until unlock is called. It
// first finishes or undoes what a killed writer left behind. While another
// writer is at work, wait is called once with what is known of it.
//
// The lock is an flock(2) on <tree>/.lock, so it ends with the process. The
// file is there only while a writer is: unlock removes it. held is the value
// of LockEnv in the caller's environment: when it names this tree the lock is
// already the caller's parent's, and Lock returns at once.
func (t Tree) Lock(ctx context.Context, held string, wait func(holder string)) (unlock func(), err error) {
	if held == t.Dir {
		return func() {}, nil
	}
	path := filepath.Join(t.Dir, ".lock")
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && names(path, f) {
			break
		}
		if err == nil { // the writer before us has removed it
			f.Close()
			if f, err = openLock(path); err != nil {
				return nil, err
			}
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking the DKMS tree: %w", err)
		}
		if !told && wait != nil {
			note, _ := os.ReadFile(f.Name())
			wait(strings.TrimSpace(string(note)))
			told = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("waiting for the lock on the DKMS tree: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	f.Truncate(0)
	fmt.Fprintf(f, "process %d (%s)\n", os.Getpid(), strings.Join(os.Args, " "))
	unlock = func() {
		os.Remove(filepath.Join(t.Dir, journalDir)) // unless there is something in it
		if names(path, f) {
			os.Remove(path)
		}
		f.Close()
	}
	if err := t.recover(func() {}); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the DKMS tree: %w", err)
	}
	return f, nil
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
