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

// refuseCalls makes some system calls of the calling thread, and of what it
// starts, fail with EPERM; without network also socket(2) for all but local
// sockets, with EACCES. A call by another architecture's numbers is unknown to
// the kernel (ENOSYS).
func refuseCalls(network bool) error {
	arch, ok := auditArches()[runtime.GOARCH]
	if !ok {
		return nil
	}
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		above  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
		refuse = unix.SECCOMP_RET_ERRNO
		x32    = 0x40000000 // __X32_SYSCALL_BIT
	)
	filter := []unix.SockFilter{
		{Code: load, K: 4}, // seccomp_data.arch
		{Code: equal, K: arch, Jt: 1},
		{Code: answer, K: refuse | uint32(unix.ENOSYS)},
		{Code: load, K: 0}, // seccomp_data.nr
		{Code: above, K: x32, Jf: 1},
		{Code: answer, K: refuse | uint32(unix.ENOSYS)},
	}
	for _, nr := range refusedCalls() {
		filter = append(filter, unix.SockFilter{Code: equal, K: nr, Jf: 1}, unix.SockFilter{Code: answer, K: refuse | uint32(unix.EPERM)})
	}
	if !network {
		filter = append(filter,
			unix.SockFilter{Code: equal, K: unix.SYS_SOCKET, Jf: 3},
			unix.SockFilter{Code: load, K: 16}, // seccomp_data.args[0], its lower half
			unix.SockFilter{Code: equal, K: unix.AF_UNIX, Jt: 1},
			unix.SockFilter{Code: answer, K: refuse | uint32(unix.EACCES)},
		)
	}
	filter = append(filter, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, err := setFilter(0, &prog); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("refusing system calls: %w", err)
	}
	return nil
}
