// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
)

// landlock forbids this thread and all that it starts to write elsewhere than where
// the order says, and as far as the kernel knows how: to use TCP, to connect to
// what listens outside, and to send signals there (landlock(7)). Other threads can
// still send the command theirs. A kernel without landlock forbids nothing.
func (o *order) landlock() error {
	p := host.ConfinedPlaces()
	writable := slices.Concat(o.Writable, p.Scratch)
	if o.Root == "" {
		writable = slices.Concat(o.Writable, []string{o.Scratch})
	}
	var devices []string
	for _, name := range p.Devices {
		devices = append(devices, filepath.Join(p.Dev, name))
	}
	config := landlock.V9
	if o.Network {
		config = landlock.MustConfig(config.HandledAccessFS)
	}
	rules, flags, err := config.BestEffort().NewRulesetFD(
		landlock.RODirs("/"),
		landlock.RWDirs(writable...).WithRefer().IgnoreIfMissing(),
		landlock.RWFiles(devices...).WithIoctlDev().IgnoreIfMissing(),
	)
	if err != nil || rules < 0 {
		return err
	}
	defer unix.Close(rules)
	return syscall.LandlockRestrictSelf(rules, flags)
}

// refusedCalls are the system calls that no build needs, and that lead to parts of
// the kernel where most of its faults have been, past the other walls, or to
// programs of the same user.
func refusedCalls() []uint32 {
	return []uint32{
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
		unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
		unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
		unix.SYS_OPEN_BY_HANDLE_AT,
	}
}

// Parts of a filter (linux/filter.h, linux/seccomp.h).
const (
	bpfLoad   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	bpfEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfAbove  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	bpfAnyBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	bpfAnswer = unix.BPF_RET | unix.BPF_K
	refuse    = unix.SECCOMP_RET_ERRNO
	x32       = 0x40000000 // __X32_SYSCALL_BIT
	numberAt  = 0          // seccomp_data.nr
	archAt    = 4          // seccomp_data.arch
)

// argumentAt is where the lower half of an argument is (seccomp_data.args).
func argumentAt(i int) uint32 { return uint32(16 + 8*i) }

// modeCall is a system call that gives a file its mode: the argument that is the
// mode, and the one with flags that say whether it is looked at, 0 for always.
type modeCall struct {
	nr          uint32
	mode, flags int
}

// modeCalls are all of them but openat2(2), whose arguments a filter can't see:
// programs do without it where a kernel has none.
func modeCalls(arch string) []modeCall {
	calls := []modeCall{
		{unix.SYS_FCHMOD, 1, 0}, {unix.SYS_FCHMODAT, 2, 0}, {unix.SYS_FCHMODAT2, 2, 0}, {unix.SYS_MKNODAT, 2, 0}, {unix.SYS_OPENAT, 3, 2},
	}
	switch arch { // the others have no such calls
	case "amd64":
		calls = append(calls, modeCall{2, 2, 1}, modeCall{85, 1, 0}, modeCall{90, 1, 0}, modeCall{133, 1, 0})
	case "ppc64le":
		calls = append(calls, modeCall{5, 2, 1}, modeCall{8, 1, 0}, modeCall{15, 1, 0}, modeCall{14, 1, 0})
	}
	return calls
}

// refuseSetUID returns the part of a filter that refuses to make a file set-user-ID:
// by it anybody outside could become the user of the build.
func refuseSetUID(arch string) []unix.SockFilter {
	filter := []unix.SockFilter{
		{Code: bpfEqual, K: unix.SYS_OPENAT2, Jf: 1},
		{Code: bpfAnswer, K: refuse | uint32(unix.ENOSYS)},
	}
	for _, c := range modeCalls(arch) {
		part := []unix.SockFilter{
			{Code: bpfLoad, K: argumentAt(c.mode)},
			{Code: bpfAnyBit, K: unix.S_ISUID, Jf: 1},
			{Code: bpfAnswer, K: refuse | uint32(unix.EPERM)},
			{Code: bpfAnswer, K: unix.SECCOMP_RET_ALLOW},
		}
		if c.flags != 0 {
			part = append([]unix.SockFilter{
				{Code: bpfLoad, K: argumentAt(c.flags)},
				{Code: bpfAnyBit, K: unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY, Jf: 3},
			}, part...)
		}
		filter = append(filter, unix.SockFilter{Code: bpfEqual, K: c.nr, Jf: uint8(len(part))})
		filter = append(filter, part...)
	}
	return filter
}

// refuseCalls makes some system calls of the calling thread, and of what it
// starts, fail with EPERM; without network also socket(2) for all but local
// sockets, with EACCES. A call by another architecture's numbers is unknown to
// the kernel (ENOSYS).
func refuseCalls(network bool) error {
	arch, ok := auditArches()[runtime.GOARCH]
	if !ok {
		return nil
	}
	filter := []unix.SockFilter{
		{Code: bpfLoad, K: archAt},
		{Code: bpfEqual, K: arch, Jt: 1},
		{Code: bpfAnswer, K: refuse | uint32(unix.ENOSYS)},
		{Code: bpfLoad, K: numberAt},
		{Code: bpfAbove, K: x32, Jf: 1},
		{Code: bpfAnswer, K: refuse | uint32(unix.ENOSYS)},
	}
	for _, nr := range refusedCalls() {
		filter = append(filter, unix.SockFilter{Code: bpfEqual, K: nr, Jf: 1}, unix.SockFilter{Code: bpfAnswer, K: refuse | uint32(unix.EPERM)})
	}
	filter = append(filter, refuseSetUID(runtime.GOARCH)...)
	if !network {
		filter = append(filter,
			unix.SockFilter{Code: bpfEqual, K: unix.SYS_SOCKET, Jf: 3},
			unix.SockFilter{Code: bpfLoad, K: argumentAt(0)},
			unix.SockFilter{Code: bpfEqual, K: unix.AF_UNIX, Jt: 1},
			unix.SockFilter{Code: bpfAnswer, K: refuse | uint32(unix.EACCES)},
		)
	}
	filter = append(filter, unix.SockFilter{Code: bpfAnswer, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, err := setFilter(0, &prog); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("refusing system calls: %w", err)
	}
	return nil
}
