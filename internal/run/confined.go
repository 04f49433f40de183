// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
)

// IsConfined tells whether the program with these arguments was started to confine
// itself: then Confined is all that it does.
func IsConfined(args []string) bool { return len(args) > 1 && args[0] == confinedName }

// Confined confines this process, runs the command of its order, and returns the
// exit code: the command's, or 128 and the number of the signal that ended it.
// With namespaces this is their first process, and all others end with it.
func Confined(args []string) int {
	// Only this thread, and what it starts, is confined all the way.
	runtime.LockOSThread()
	o, report, err := readOrder(args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "dkms:", err)
		return confineFailed
	}
	if o.Root != "" {
		err = o.newRoot()
	} else {
		// What the command leaves behind becomes a child of this process
		// (PR_SET_CHILD_SUBREAPER).
		err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	var pid int
	if err == nil {
		pid, err = o.start()
	}
	if err != nil {
		fmt.Fprint(report, err)
		return confineFailed
	}
	report.Close()
	if o.Path == "" {
		return 0
	}
	go forward(pid)
	code := reap(pid)
	if o.Root == "" {
		killRest()
	}
	return code
}

// confineFailed is the exit code of a command that wasn't started.
const confineFailed = 125

// start gives up what the command may not have and starts it.
func (o *order) start() (pid int, err error) {
	// A keyring of its own, not root's (keyrings(7)); some kernels have none.
	_, _ = unix.KeyctlJoinSessionKeyring("")
	// When memory is short this is what the kernel ends (proc(5)).
	_ = os.WriteFile(filepath.Join(host.Default().Proc, "self", "oom_score_adj"), []byte("1000"), 0)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("giving up new privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("giving up capabilities: %w", err)
	}
	if err := o.landlock(); err != nil {
		return 0, fmt.Errorf("restricting it by landlock: %w", err)
	}
	attr := &syscall.ProcAttr{Dir: o.Dir, Env: o.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}}
	for fd := range o.Files {
		attr.Files = append(attr.Files, uintptr(3+fd))
	}
	if os.Geteuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.UID)}
	}
	if err := o.limit(); err != nil {
		return 0, err
	}
	if err := refuseCalls(o.Network); err != nil {
		return 0, err
	}
	if o.Path == "" {
		return 0, nil
	}
	if pid, err = syscall.ForkExec(o.Path, o.Argv, attr); err != nil {
		return 0, fmt.Errorf("starting %s: %w", o.Path, err)
	}
	return pid, nil
}

// limit sets the resource limits (getrlimit(2)), which the command takes over.
func (o *order) limit() error {
	type limit struct {
		resource int
		value    int64
	}
	limits := []limit{{unix.RLIMIT_CORE, 0}}
	for _, l := range []limit{
		{unix.RLIMIT_NPROC, int64(o.Limits.Processes)}, {unix.RLIMIT_FSIZE, o.Limits.FileSize}, {unix.RLIMIT_DATA, o.Limits.Memory},
	} {
		if l.value > 0 {
			limits = append(limits, l)
		}
	}
	for _, l := range limits {
		var was unix.Rlimit
		err := unix.Prlimit(0, l.resource, nil, &was)
		if value := min(uint64(l.value), was.Max); err == nil {
			err = unix.Prlimit(0, l.resource, &unix.Rlimit{Cur: value, Max: value}, nil)
		}
		if err != nil {
			return fmt.Errorf("setting a resource limit: %w", err)
		}
	}
	return nil
}

// forward hands the signals that end a program to the command and all of its
// session that is still in its process group.
func forward(pid int) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	for s := range signals {
		if number, ok := s.(syscall.Signal); ok {
			_ = unix.Kill(-pid, number)
		}
	}
}

// reap waits for children until the command has ended, and returns its exit code.
func reap(command int) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return confineFailed
		case pid == command && status.Signaled():
			return 128 + int(status.Signal())
		case pid == command && status.Exited():
			return status.ExitStatus()
		}
	}
}

// killRest ends what a command without namespaces has left behind.
func killRest() {
	for range 1000 {
		for _, pid := range children() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.ECHILD) {
				return
			}
			if pid <= 0 {
				break
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// children returns the processes whose parent is this one (proc(5), /proc/pid/stat).
func children() (pids []int) {
	proc, own := host.Default().Proc, strconv.Itoa(os.Getpid())
	entries, _ := os.ReadDir(proc)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, _ := os.ReadFile(filepath.Join(proc, e.Name(), "stat"))
		_, rest, _ := strings.Cut(string(text[max(0, strings.LastIndexByte(string(text), ')')):]), ")")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == own {
			pids = append(pids, pid)
		}
	}
	return pids
}
