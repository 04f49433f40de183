// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
)

// Uname is what commands are told of the kernel, by uname(2) and, where
// private mounts are allowed, by the files of proc(5) that say the same. What
// is empty stays the running kernel's. The system calls of processes of
// another architecture than this program's (i386 on amd64) are left alone.
type Uname struct {
	// Release is what `uname -r` prints, Version `uname -v`, Machine
	// `uname -m`; at most 64 bytes each.
	Release, Version, Machine string
	// Compiler is the compiler as /proc/version names it.
	Compiler string
}

// telling is a Uname under way; nil if there is none.
type telling struct {
	reason atomic.Pointer[error]
}

// fail keeps the first reason.
func (t *telling) fail(err error) { t.reason.CompareAndSwap(nil, &err) }

// failure returns the first reason why a command couldn't be told.
func (t *telling) failure() error {
	if t == nil {
		return nil
	}
	if reason := t.reason.Load(); reason != nil {
		return *reason
	}
	return nil
}

// pretend makes the calling thread, and all processes that it starts, see u
// until they end. Nothing is done where the running kernel is u already.
func (u *Uname) pretend(mounts bool) *telling {
	if u == nil {
		return nil
	}
	t := &telling{}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.fail(err)
		return t
	}
	if !u.apply(&uts) {
		return t
	}
	listener, err := listen()
	if err != nil {
		t.fail(fmt.Errorf("answering uname(2) for commands: %w", err))
		return t
	}
	go answer(listener, &uts, t)
	if mounts {
		u.coverFiles(host.Default().Proc)
	}
	return t
}

// apply changes uts to what u says; it tells whether that changed anything.
func (u *Uname) apply(uts *unix.Utsname) bool {
	before := *uts
	for _, field := range []struct {
		to   *[65]byte
		text string
	}{{&uts.Release, u.Release}, {&uts.Version, u.Version}, {&uts.Machine, u.Machine}} {
		if field.text != "" {
			*field.to = [65]byte{}
			copy(field.to[:64], field.text) // ends with a zero byte
		}
	}
	return *uts != before
}

// banner matches /proc/version (kernel source, fs/proc/version.c).
var banner = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^Linux version (\S+) (\([^)]*\)) \((.*)\) (#.*)\n$`)
})

// coverFiles puts files that say what u says over those of proc. What isn't
// there, or may not be covered, stays: uname(2) is what counts.
func (u *Uname) coverFiles(proc string) {
	kernel := filepath.Join(proc, "sys", "kernel")
	cover(filepath.Join(kernel, "osrelease"), u.Release)
	cover(filepath.Join(kernel, "version"), u.Version)
	path := filepath.Join(proc, "version")
	text, _ := os.ReadFile(path)
	if m := banner().FindStringSubmatch(string(text)); m != nil {
		for i, own := range []string{1: u.Release, 3: u.Compiler, 4: u.Version} {
			if own != "" {
				m[i] = own
			}
		}
		cover(path, fmt.Sprintf("Linux version %s %s (%s) %s", m[1], m[2], m[3], m[4]))
	}
}

// cover binds a file with one line over path. The file has no name any more
// when cover returns.
func cover(path, line string) {
	if line == "" {
		return
	}
	f, err := os.CreateTemp("", "dkms-uname-")
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(line + "\n")
	if errors.Join(err, f.Chmod(0o444), f.Close()) == nil {
		_ = bind(Bind{Source: f.Name(), Target: path})
	}
}
