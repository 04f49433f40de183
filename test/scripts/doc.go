// SPDX-License-Identifier: Apache-2.0

// Package scripts holds the scenarios that dkms is held to, as scripts: one
// file testdata/*.txtar per subject, run in a throw-away root with real
// kernels, compilers and modules. testdata/scenarios.tsv lists the checks of
// upstream's own test program; a script's line "# scenario ID: ..." says which
// of them follow.
//
// The same scripts run with upstream's dkms as the oracle:
//
//	DKMS_PEER=/path/of/dkms go test ./test/scripts
//
// Lines that differ on purpose begin with [peer] or [!peer].
//
// A line "... # reason: NAME" tells which reason of the exit codes' table it
// shows; every reason has one.
//
// Besides testscript's own commands there are these. $R is the root, $T its
// DKMS tree, $K and $K2 the older and the newer kernel, $A the architecture.
// Samples, small modules made from testdata/samples.txt, are in /src. What our
// package has in /usr/lib/dkms is there, except with the peer. In patterns
// ${K@R} is $K, quoted.
//
//	dkms CODE ARG...          runs dkms in the root; it must exit with CODE, and
//	                          what it prints with --json must be as docs/schema
//	                          says
//	works ARG...              runs dkms; exit code 0, nothing on stderr
//	fails CODE ARG...         runs dkms; an error on stderr, none on stdout
//	traced ARG...             runs dkms, which starts no compiler nor make
//	run CODE COMMAND ARG...   runs any command in the root
//	interrupt CODE SIGNAL FILE ARG...
//	                          runs dkms and sends it the signal once FILE is
//	                          in the root; FILE is removed
//	idle                      no process runs in the root
//	status [-all] [PATTERN] [ENTRY...]
//	                          compares what dkms status prints. An ENTRY is
//	                          [NAME/]VERSION:STATE for kernel $K, or
//	                          [NAME/]VERSION@KERNEL:STATE; (O), (D) and (M)
//	                          stand for the texts about original, different
//	                          and missing objects. -all asks for all modules.
//	says LINE...              the last stdout has the lines, in this order
//	adds, installs, uninstalls, skips, deletes, attempts, outcome
//	                          the last stdout has these known lines, and the
//	                          files are as they say: see progress_test.go
//	silent                    the last command wrote nothing at all
//	quiet                     the last command wrote nothing to stderr
//	metrics                   the last stdout is what promtool check metrics
//	                          takes
//	listen                    listens in the place of the systemd journal
//	entry FIELD=VALUE...      the next entry of the journal has the fields; one
//	                          without a value is absent
//	noentry                   there is no further entry
//	log PATH FILE             a log is FILE, apart from times and make's output
//	link PATH TARGET          PATH in the root is a link to TARGET
//	modinfo FIELD PATH VALUE  compares a field of an object
//	signed PATH CERT          the object is signed with the certificate's key
//	unsigned PATH             the object is not signed
//	source DIR OBJECT...      writes C files and a Makefile into DIR
//	put FILE PATH             copies a file of the script into the root; one
//	                          that begins with #! can be executed
//	clean                     no trace of the samples is left
//	snapshot, unchanged       remember the root's trees; compare with now
package scripts
