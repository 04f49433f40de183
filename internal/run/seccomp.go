// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
)

// auditArches are the AUDIT_ARCH_ numbers (linux/audit.h) of architectures for
// which the filter is right: little-endian ones of 64 bits.
func auditArches() map[string]uint32 {
	return map[string]uint32{
		"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64, "riscv64": unix.AUDIT_ARCH_RISCV64,
		"ppc64le": unix.AUDIT_ARCH_PPC64LE,
	}
}

// notification and response are struct seccomp_notif and seccomp_notif_resp
// (linux/seccomp.h).
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	val   int64
	error int32
	flags uint32
}

// maxNotification bounds the kernel's struct seccomp_notif, in bytes; 80 so
// far.
const maxNotification = 4096

// listen installs a filter on the calling thread that has each uname(2) of its
// children wait for an answer (seccomp(2), SECCOMP_RET_USER_NOTIF; Linux 5.0).
// The listener is what to answer by; it is closed on exec.
//
// Calls of this program itself are let through: Go code makes some unseen (to
// copy a file, for one), while which no other goroutine may be able to run, so
// nobody could answer. They are told by the address that they come from.
func listen() (listener *os.File, err error) {
	arch, ok := auditArches()[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("system call filter for %s: %w", runtime.GOARCH, unix.ENOSYS)
	}
	own, err := callAddress()
	if err != nil {
		return nil, err
	}
	const load, jump, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: load, K: 4}, // seccomp_data.arch
		{Code: jump, K: arch, Jf: 7},
		{Code: load, K: 0}, // seccomp_data.nr
		{Code: jump, K: unix.SYS_UNAME, Jf: 5},
		{Code: load, K: 8}, // seccomp_data.instruction_pointer, its lower half
		{Code: jump, K: uint32(own), Jf: 2},
		{Code: load, K: 12},
		{Code: jump, K: uint32(own >> 32), Jt: 1},
		{Code: answer, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// The flag keeps signals from ending a call half-way; Linux 5.19 has it.
	const wanted = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	fd, err := setFilter(wanted|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog)
	if errors.Is(err, unix.EINVAL) {
		fd, err = setFilter(wanted, &prog)
	}
	if err != nil {
		return nil, fmt.Errorf("installing a system call filter: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "seccomp listener"), nil
}

// callAddress returns the address that the system calls of Go code come from:
// package syscall has a single instruction for all of them. The file tells it
// of the very call that reads the file (proc(5), /proc/pid/syscall).
func callAddress() (uint64, error) {
	path := filepath.Join(host.Default().Proc, "thread-self", "syscall")
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	words := strings.Fields(string(text))
	if len(words) != 9 || words[0] != strconv.Itoa(unix.SYS_READ) {
		return 0, fmt.Errorf("reading %s: unexpected text %q", path, text)
	}
	return strconv.ParseUint(words[8], 0, 64)
}

// setFilter calls seccomp(2). What a caller without CAP_SYS_ADMIN must give
// up for it is given up only then: sudo has to go on working in scripts.
func setFilter(flags int, prog *unix.SockFprog) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(prog)))
	if errno == unix.EACCES {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return 0, err
		}
		fd, _, errno = unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(prog)))
	}
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// answer answers each call with uts until the last process that the filter
// holds for has ended, also those that outlive Private. Before Linux 5.9, which
// doesn't tell of that, it stays as long as this process.
func answer(listener *os.File, uts *unix.Utsname, t *telling) {
	defer listener.Close()
	conn, err := listener.SyscallConn()
	if err != nil {
		t.fail(err)
		return
	}
	err = conn.Read(func(fd uintptr) (done bool) {
		for {
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, err := unix.Poll(ready, 0)
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil || ready[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0:
				return true
			case ready[0].Revents&unix.POLLIN == 0:
				return false
			default:
				answerOne(fd, uts, t)
			}
		}
	})
	if err != nil {
		t.fail(err)
	}
}

// answerOne takes one notification and answers it. A caller that can't be
// told gets the kernel's own answer.
func answerOne(fd uintptr, uts *unix.Utsname, t *telling) {
	// The kernel's struct may be longer than the one known here
	// (SECCOMP_GET_NOTIF_SIZES), and must be zero before.
	var buf [maxNotification / 8]uint64
	if ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&buf)) != nil {
		return // ENOENT: the caller was killed in the meantime
	}
	n := (*notification)(unsafe.Pointer(&buf))
	// As long too, for the same reason.
	var out [maxNotification / 8]uint64
	r := (*response)(unsafe.Pointer(&out))
	r.id = n.id
	if err := tell(fd, n, uts); err != nil {
		r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		// A wrong address is the caller's error, and one that is gone isn't
		// waiting; other errors come from what this process may not do.
		if !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EFAULT) && valid(fd, n) {
			t.fail(fmt.Errorf("answering uname(2) of process %d: %w", n.pid, err))
		}
	}
	err := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(r)) // ENOENT as above
	if errors.Is(err, unix.EINVAL) && r.flags != 0 {
		// Before Linux 5.5 the kernel can't be left the answer.
		r.flags, r.error = 0, -int32(unix.ENOSYS)
		_ = ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(r))
	}
}

// tell writes uts to where the caller wants it.
func tell(fd uintptr, n *notification, uts *unix.Utsname) error {
	data := unsafe.Slice((*byte)(unsafe.Pointer(uts)), unsafe.Sizeof(*uts))
	mem, err := os.OpenFile(filepath.Join(host.Default().Proc, strconv.Itoa(int(n.pid)), "mem"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	// Only now is it certain whose memory that is (seccomp_unotify(2)).
	if !valid(fd, n) {
		return unix.ESRCH
	}
	_, err = mem.WriteAt(data, int64(n.args[0]))
	return err
}

// valid tells whether the caller still waits. Kernels before 5.8 have another
// number for the question; there it goes unasked.
func valid(fd uintptr, n *notification) bool {
	return !errors.Is(ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&n.id)), unix.ENOENT)
}

func ioctl(fd uintptr, request uint, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(arg))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}
