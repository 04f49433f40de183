// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Bind puts the directory or file Source at the place of Target, which must
// exist.
type Bind struct{ Source, Target string }

// errUnfinished is the error of a Private whose function left its goroutine
// (runtime.Goexit).
var errUnfinished = errors.New("function did not return")

// Private runs fn where the binds are in place and nobody else sees them: on
// an OS thread with a mount namespace, working directory and umask of its own
// (mount_namespaces(7), unshare(2)). File operations of fn's goroutine and the
// commands it starts see the binds; goroutines that fn starts don't, and the
// file /proc/self shows the process, not the thread (/proc/thread-self does).
// Binds are made in their order. The thread ends with fn, and with the last
// process in it the namespace; there is nothing to undo.
//
// Needs CAP_SYS_ADMIN, see CanPrivate. The error is that of fn, or one of the
// preparation, after which fn has not run.
func Private(binds []Bind, fn func() error) error {
	result := make(chan error, 1)
	go private(binds, fn, result)
	return <-result
}

// CanPrivate tells whether this process may use Private. It tries, which
// takes less than a millisecond.
func CanPrivate() bool {
	return Private(nil, func() error { return nil }) == nil
}

// private is the body of Private, on a goroutine of its own.
func private(binds []Bind, fn func() error, result chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The first thread can't end, and it is what /proc/self shows:
		// hold it, so that the next goroutine gets another one.
		inner := make(chan error, 1)
		go private(binds, fn, inner)
		result <- <-inner
		runtime.UnlockOSThread()
		return
	}
	// Never unlocked: the runtime ends the thread with the goroutine.
	err := errUnfinished
	defer func() { result <- err }()
	if e := isolate(binds); e != nil {
		err = e
		return
	}
	err = fn()
}

// isolate gives the calling thread its own namespace and makes the binds.
func isolate(binds []Bind) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a private mount namespace: %w", err)
	}
	if err := detach(); err != nil {
		return err
	}
	for _, b := range binds {
		if err := unix.Mount(b.Source, b.Target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("binding %s to %s: %w", b.Source, b.Target, err)
		}
	}
	return nil
}
