// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// launchVariable makes the test binary install the filter and become the
// command of its arguments.
const launchVariable = "CRASH_LAUNCH"

func TestMain(m *testing.M) {
	if os.Getenv(launchVariable) != "" {
		fmt.Fprintln(os.Stderr, launch(os.Args[1:]))
		os.Exit(126)
	}
	os.Exit(m.Run())
}

// launch only returns with an error.
func launch(argv []string) error {
	if err := os.Unsetenv(launchVariable); err != nil {
		return err
	}
	program := filter()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return fmt.Errorf("installing the filter: %w", errno)
	}
	return fmt.Errorf("starting %q: %w", argv, unix.Exec(argv[0], argv, os.Environ()))
}

// calls are the system calls that change files, but for those that open them.
// Where the object is named by a descriptor, named is false; dir and path are
// the numbers of the arguments that name it, dir -1 for the working directory.
type call struct {
	name      string
	named     bool
	dir, path int
	grows     bool // may need room on the disk
}

func calls() map[uint64]call {
	return map[uint64]call{
		unix.SYS_WRITE: {"write", false, 0, 0, true}, unix.SYS_PWRITE64: {"pwrite64", false, 0, 0, true},
		unix.SYS_WRITEV: {"writev", false, 0, 0, true}, unix.SYS_PWRITEV: {"pwritev", false, 0, 0, true},
		unix.SYS_SENDFILE: {"sendfile", false, 0, 0, true}, unix.SYS_COPY_FILE_RANGE: {"copy_file_range", false, 2, 0, true},
		unix.SYS_SPLICE: {"splice", false, 2, 0, true}, unix.SYS_FALLOCATE: {"fallocate", false, 0, 0, true},
		unix.SYS_FTRUNCATE: {"ftruncate", false, 0, 0, false}, unix.SYS_FSYNC: {"fsync", false, 0, 0, true},
		unix.SYS_FDATASYNC: {"fdatasync", false, 0, 0, true}, unix.SYS_FCHMOD: {"fchmod", false, 0, 0, false},
		unix.SYS_FCHOWN: {"fchown", false, 0, 0, false}, unix.SYS_FSETXATTR: {"fsetxattr", false, 0, 0, true},
		unix.SYS_TRUNCATE: {"truncate", true, -1, 0, false}, unix.SYS_CREAT: {"creat", true, -1, 0, true},
		unix.SYS_RENAME: {"rename", true, -1, 1, true}, unix.SYS_RENAMEAT: {"renameat", true, 2, 3, true},
		unix.SYS_RENAMEAT2: {"renameat2", true, 2, 3, true}, unix.SYS_UNLINK: {"unlink", true, -1, 0, false},
		unix.SYS_UNLINKAT: {"unlinkat", true, 0, 1, false}, unix.SYS_RMDIR: {"rmdir", true, -1, 0, false},
		unix.SYS_MKDIR: {"mkdir", true, -1, 0, true}, unix.SYS_MKDIRAT: {"mkdirat", true, 0, 1, true},
		unix.SYS_MKNOD: {"mknod", true, -1, 0, true}, unix.SYS_MKNODAT: {"mknodat", true, 0, 1, true},
		unix.SYS_SYMLINK: {"symlink", true, -1, 1, true}, unix.SYS_SYMLINKAT: {"symlinkat", true, 1, 2, true},
		unix.SYS_LINK: {"link", true, -1, 1, true}, unix.SYS_LINKAT: {"linkat", true, 2, 3, true},
		unix.SYS_CHMOD: {"chmod", true, -1, 0, false}, unix.SYS_FCHMODAT: {"fchmodat", true, 0, 1, false},
		unix.SYS_FCHMODAT2: {"fchmodat2", true, 0, 1, false}, unix.SYS_CHOWN: {"chown", true, -1, 0, false},
		unix.SYS_LCHOWN: {"lchown", true, -1, 0, false}, unix.SYS_FCHOWNAT: {"fchownat", true, 0, 1, false},
		unix.SYS_UTIMENSAT: {"utimensat", true, 0, 1, false}, unix.SYS_SETXATTR: {"setxattr", true, -1, 0, true},
		unix.SYS_LSETXATTR: {"lsetxattr", true, -1, 0, true},
		unix.SYS_OPEN:      {"open", true, -1, 0, true}, unix.SYS_OPENAT: {"openat", true, 0, 1, true},
		unix.SYS_OPENAT2: {"openat2", true, 0, 1, true},
	}
}

// opensForChange are the flags of open(2) that say so.
const opensForChange = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC

// filter hands each of the calls to the tracer and lets all others through.
func filter() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		any   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		// struct seccomp_data: the number, then 12 bytes on the arguments.
		number, arguments = 0, 16
	)
	p := []unix.SockFilter{{Code: load, K: number}}
	for flags, nr := range map[uint32]uint32{1: unix.SYS_OPEN, 2: unix.SYS_OPENAT} {
		p = append(p,
			unix.SockFilter{Code: equal, Jf: 4, K: nr},
			unix.SockFilter{Code: load, K: arguments + 8*flags},
			unix.SockFilter{Code: any, Jf: 1, K: opensForChange},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_TRACE},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	}
	for nr := range calls() {
		if nr != unix.SYS_OPEN && nr != unix.SYS_OPENAT {
			p = append(p, unix.SockFilter{Code: equal, Jf: 1, K: uint32(nr)}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_TRACE})
		}
	}
	return append(p, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
}

// fault is what happens to a traced command: at its n-th change it is killed,
// or the change fails, and with onwards every later one that could fail in that
// way.
type fault struct {
	at      int
	tear    bool // at the n-th write half of it is done before the kill
	errno   syscall.Errno
	onwards bool
	act     func() // what happens instead, while dkms is stopped
}

// fails reports whether changes fail, and not the whole command.
func (f fault) fails() bool { return f.errno != 0 || f.act != nil }

// step is one change.
type step struct{ call, path string }

func (s step) String() string { return s.call + " " + s.path }

// tracer runs one command. All of it is done by one thread.
type tracer struct {
	fault   fault
	calls   map[uint64]call
	counted func(path string) bool
	main    int // the process
	live    map[int]bool
	fresh   map[int]bool // processes whose first stop is still to come
	steps   []step
	struck  *step // where the fault was
	dying   int   // the thread that is killed when its call ends
	code    int
}

// run starts argv, which must be traced from the calling thread, and returns
// when it and all that it has started has ended.
func (tr *tracer) run(argv, env []string, files []*os.File) error {
	tr.calls, tr.live, tr.fresh = calls(), map[int]bool{}, map[int]bool{}
	p, err := os.StartProcess("/proc/self/exe", append([]string{"launch"}, argv...), &os.ProcAttr{
		Env: append(env, launchVariable+"=yes"), Files: files, Dir: "/",
		Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return err
	}
	tr.main = p.Pid
	defer p.Release()
	tr.live[p.Pid] = true
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.Pid, &ws, 0, nil); err != nil {
		return fmt.Errorf("waiting for the launcher: %w", err)
	}
	const options = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
		unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESYSGOOD
	if err := unix.PtraceSetOptions(p.Pid, options); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	if err := unix.PtraceCont(p.Pid, 0); err != nil {
		return err
	}
	for {
		pid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if errors.Is(err, unix.ECHILD) {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("tracing: %w", err)
		}
		if err == nil {
			tr.event(pid, ws)
		}
	}
}

// event deals with one stop or end of a thread.
func (tr *tracer) event(pid int, ws unix.WaitStatus) {
	switch {
	case ws.Exited() || ws.Signaled():
		delete(tr.live, pid)
		if pid == tr.main {
			tr.code = ws.ExitStatus() // -1 for a signal
		}
		return
	case !ws.Stopped():
		return
	}
	if !tr.live[pid] {
		tr.live[pid], tr.fresh[pid] = true, true
	}
	signal := ws.StopSignal()
	switch cause := int(ws) >> 16; {
	case cause == unix.PTRACE_EVENT_SECCOMP:
		tr.enter(pid)
		return
	case signal == unix.SIGTRAP|0x80:
		if pid == tr.dying {
			tr.kill()
			return
		}
		signal = 0
	case cause != 0:
		signal = 0
	case signal == unix.SIGSTOP && tr.fresh[pid]:
		delete(tr.fresh, pid)
		signal = 0
	}
	_ = unix.PtraceCont(pid, int(signal)) // fails if it was killed meanwhile
}

// enter is called before a call of the list.
func (tr *tracer) enter(pid int) {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(pid, &regs); err != nil {
		_ = unix.PtraceCont(pid, 0)
		return
	}
	c := tr.calls[regs.Orig_rax]
	path := tr.path(pid, c, arguments(regs))
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if filepath.Base(exe) != "dkms" || !tr.counted(path) || !c.named && pipe(pid, regs.Rdi) {
		_ = unix.PtraceCont(pid, 0)
		return
	}
	f := tr.fault
	if f.tear && (c.name != "write" || regs.Rdx < 2) {
		_ = unix.PtraceCont(pid, 0)
		return
	}
	tr.steps = append(tr.steps, step{c.name, path})
	n := len(tr.steps)
	switch {
	case f.at == 0 || n < f.at || n > f.at && !f.onwards || f.errno == unix.ENOSPC && !c.grows:
		_ = unix.PtraceCont(pid, 0)
		return
	case tr.struck == nil:
		tr.struck = &tr.steps[n-1]
	}
	switch {
	case f.act != nil:
		f.act()
		_ = unix.PtraceCont(pid, 0)
	case f.errno != 0:
		regs.Orig_rax, regs.Rax = ^uint64(0), -uint64(f.errno)
		_ = unix.PtraceSetRegs(pid, &regs)
		_ = unix.PtraceCont(pid, 0)
	case f.tear:
		regs.Rdx /= 2
		_ = unix.PtraceSetRegs(pid, &regs)
		tr.dying = pid
		_ = unix.PtraceSyscall(pid, 0)
	default:
		tr.kill()
	}
}

// kill ends all that is traced, as a power cut does.
func (tr *tracer) kill() {
	for pid := range tr.live {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

func arguments(r unix.PtraceRegs) [6]uint64 { return [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9} }

// path returns what a call changes, "" if that can't be told.
func (tr *tracer) path(pid int, c call, args [6]uint64) string {
	if !c.named {
		return descriptor(pid, args[c.dir])
	}
	name := text(pid, args[c.path])
	if filepath.IsAbs(name) {
		return name
	}
	base, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if c.dir >= 0 && int32(args[c.dir]) != unix.AT_FDCWD {
		base = descriptor(pid, args[c.dir])
	}
	return filepath.Join(base, name)
}

// pipe reports whether a descriptor is of a pipe, which is on no disk: writing to
// the job server's doesn't fail.
func pipe(pid int, fd uint64) bool {
	fi, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(fd)))
	return err == nil && fi.Mode()&os.ModeNamedPipe != 0
}

func descriptor(pid int, fd uint64) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(fd)))
	return strings.TrimSuffix(path, " (deleted)")
}

// text reads a C string of a process, page by page.
func text(pid int, address uint64) string {
	var all []byte
	for len(all) < unix.PathMax {
		buf := make([]byte, os.Getpagesize()-int(address)%os.Getpagesize())
		local := unix.Iovec{Base: &buf[0]}
		local.SetLen(len(buf))
		n, err := unix.ProcessVMReadv(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(address), Len: len(buf)}}, 0)
		if err != nil || n <= 0 {
			break
		}
		if s, _, whole := bytes.Cut(buf[:n], []byte{0}); whole {
			return string(append(all, s...))
		}
		all, address = append(all, buf[:n]...), address+uint64(n)
	}
	return string(all)
}
