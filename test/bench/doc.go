// SPDX-License-Identifier: Apache-2.0

// Package bench measures bin/dkms on real kernels and modules against depmod,
// bare make and another dkms. It prints a table of rows, each with the goal
// that is set for it, and writes it to docs/performance.md:
//
//	make bench                        all rows
//	make bench ROWS=index,status      some; the others keep what they had
//	make bench DKMS_PEER=/path/dkms   against upstream's script, else Debian's
//	make bench DATTOBD=/path          with the checkout of dattobd that is there
//	make bench RUNS=1                 one run of everything, for a first look
//
// Commands that are compared run in turn, in one root, and the median of the
// runs counts. CPU time is user and system time of a command and all its
// children, as wait4(2) gives it; wall time is that of the monotonic clock.
// Bytes that should be the same and aren't are an error. A goal that isn't met
// is none: it is in the table.
//
// The tests that always run are those of the arithmetic.
package bench
