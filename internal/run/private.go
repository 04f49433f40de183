// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// View is how the machine looks to the function and the commands of Private.
type View struct {
	// Binds are made in their order.
	Binds []Bind
	// Uname, if not nil, is what uname(2) tells the commands. A machine may
	// not allow that; the function runs nevertheless.
	Uname *Uname
	// Unable, if not nil, is called once, after the function and where that
	// was, with the reason why some command saw the running kernel instead.
	Unable func(error)
}

// Bind puts the directory or file Source at the place of Target, which must
// exist.
type Bind struct{ Source, Target string }

// errUnfinished is the error of a Private whose function left its goroutine
// (runtime.Goexit).
var errUnfinished = errors.New("function did not return")

// Private runs fn where nobody else sees the view: on an OS thread with a
// mount namespace, working directory and umask of its own
// (mount_namespaces(7), unshare(2)). File operations of fn's goroutine and the
// commands it starts see the binds; goroutines that fn starts don't, and the
// file /proc/self shows the process, not the thread (/proc/thread-self does).
// The thread ends with fn, and with the last process in it the namespace;
// there is nothing to undo.
//
// Needs CAP_SYS_ADMIN, see CanPrivate. Without it a view that has a Uname and
// no Binds gets no mount namespace (in some containers not even a working
// directory of its own), and its commands gain no privileges by set-user-ID
// programs (PR_SET_NO_NEW_PRIVS). The error is that of fn, or one
// of the preparation, after which fn has not run.
//
// A Uname is for commands, fn itself sees the running kernel's.
func Private(view View, fn func() error) error {
	result := make(chan error, 1)
	go private(view, fn, result)
	return <-result
}

// CanPrivate tells whether this process may make private mounts. It tries,
// which takes less than a millisecond.
func CanPrivate() bool {
	return Private(View{}, func() error { return nil }) == nil
}

// private is the body of Private, on a goroutine of its own.
func private(view View, fn func() error, result chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The first thread can't end, and it is what /proc/self shows:
		// hold it, so that the next goroutine gets another one.
		inner := make(chan error, 1)
		go private(view, fn, inner)
		result <- <-inner
		runtime.UnlockOSThread()
		return
	}
	// Never unlocked: the runtime ends the thread with the goroutine.
	err := errUnfinished
	defer func() { result <- err }()
	mounts, e := isolate(view)
	if e != nil {
		err = e
		return
	}
	told := view.Uname.pretend(mounts)
	err = fn()
	if reason := told.failure(); reason != nil && view.Unable != nil {
		view.Unable(reason)
	}
}

// isolate gives the calling thread its own namespace and makes the binds. It
// tells whether there is a namespace.
func isolate(view View) (mounts bool, err error) {
	err = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		err = detach()
	}
	if err != nil && view.Uname != nil && len(view.Binds) == 0 {
		_ = unix.Unshare(unix.CLONE_FS) // some containers forbid even this
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("making a private mount namespace: %w", err)
	}
	for _, b := range view.Binds {
		if err := bind(b); err != nil {
			return false, err
		}
	}
	return true, nil
}

func bind(b Bind) error {
	if err := unix.Mount(b.Source, b.Target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", b.Source, b.Target, err)
	}
	return nil
}
