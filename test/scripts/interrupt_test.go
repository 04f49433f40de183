// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// interrupting runs dkms as a job of its own, sends it a signal once a file is
// there, and ends as it does. INT goes to all processes of the job, as from a
// terminal.
const interrupting = `set -m
signal=$1 file=$2; shift 2
env "$@" & pid=$!
while [ ! -e "$file" ] && kill -0 $pid 2>/dev/null; do sleep 0.05; done
rm "$file" || exit
case $signal in INT) kill -INT -- -$pid;; *) kill -$signal $pid;; esac
wait $pid`

// interrupt runs dkms, which a signal ends once the file is in the root.
func (m *machine) interrupt(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 4 {
		ts.Fatalf("usage: interrupt CODE SIGNAL FILE ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	file := m.inside(args[2])
	words := append([]string{"-c", interrupting, "interrupt", args[1], file}, m.entering("dkms", args[3:])...)
	if got := m.exec(ts, "bash", words...); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// idle fails if a process still runs in the root.
func (m *machine) idle(ts *testscript.TestScript, _ bool, _ []string) {
	roots, err := filepath.Glob("/proc/[0-9]*/root")
	ts.Check(err)
	tree, err := os.Stat(m.path(dkmsTree)) // also of processes with a root made from this one
	ts.Check(err)
	var left []string
	for _, link := range roots {
		if theirs, err := os.Stat(filepath.Join(link, dkmsTree)); err != nil || !os.SameFile(tree, theirs) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		if err == nil && len(line) > 0 {
			left = append(left, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	if len(left) > 0 {
		ts.Fatalf("still running: %q", left)
	}
}
