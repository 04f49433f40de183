// SPDX-License-Identifier: Apache-2.0

// Package crash kills dkms at each of its changes to the disk, and makes each
// of them fail, and looks at what is left.
//
// The changes are found by the kernel and not by dkms: the program runs traced
// (ptrace(2)) behind a filter (seccomp(2)) that stops it before every system
// call that changes a file system. The n-th of a command is where it is killed
// (SIGKILL), or where the call fails with EIO, ENOSPC or EROFS. What dkms
// starts (make, compilers, scripts) is traced too, but not counted, and neither is
// the private root of a confined command.
//
// Each test has a machine of its own: a mount namespace with this machine's
// tools, where the places that dkms changes are empty file systems. The real
// make, gcc and depmod run there; a module's MAKE copies an object that was
// compiled before, so that a build takes no time.
//
//	go test ./test/crash                 every point; CI=true: a sample
//	CRASH_EVERY=7 go test ./test/crash   each 7th point
//	make crash                           every point, with the numbers
//
// x86-64 only: the tracer reads registers. It needs root.
package crash
