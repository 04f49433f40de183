// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// building matches what strace(1) writes of a program that takes part in a build.
var building = regexp.MustCompile(`execve\("[^"]*/((?:[a-z0-9_-]+-)?(?:gcc|clang|cc1|as|ld|make|collect2|modpost|objtool|pahole)[-0-9.]*)"`)

// traced runs dkms, which must succeed and may start nothing that builds.
func (m *machine) traced(ts *testscript.TestScript, _ bool, args []string) {
	file := filepath.Join(ts.MkAbs("."), "trace")
	words := append([]string{"-f", "-qq", "-e", "trace=execve", "-o", file, "env"}, m.entering("dkms", args)...)
	if got := m.exec(ts, "strace", words...); got != 0 {
		ts.Fatalf("exit code %d", got)
	}
	trace := ts.ReadFile(file)
	if !strings.Contains(trace, "/dkms\"") {
		ts.Fatalf("dkms was not traced:\n%s", trace)
	}
	if found := building.FindStringSubmatch(trace); found != nil {
		ts.Fatalf("it ran %s:\n%s", found[1], trace)
	}
}
