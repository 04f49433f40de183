// SPDX-License-Identifier: Apache-2.0

// Package lint_test holds dkms lint against real module packages, which work: it may
// have something to say about them, and calls nothing an error.
package lint_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

type report struct {
	Schema, Directory string
	Findings          []struct{ Check, Severity, Where, What, Why string }
}

func lint(t *testing.T, dir string) (report, int) {
	t.Helper()
	res := lab.Exec(t, lab.Binary(t), "lint", "--json", dir)
	var r report
	if err := json.Unmarshal([]byte(res.Stdout), &r); err != nil || r.Schema != "dkms-lint/1" || r.Directory != dir {
		t.Fatalf("%v\n%s%s", err, res.Stdout, res.Stderr)
	}
	lab.CheckJSON(t, res.Stdout)
	return r, res.Code
}

func TestCorpus(t *testing.T) {
	for _, p := range lab.Packages(t) {
		r, code := lint(t, p.Source)
		want := 0
		for _, f := range r.Findings {
			switch f.Severity {
			case "error":
				t.Errorf("%s: %+v", p.Name, f)
			case "warning":
				want = 27
			}
		}
		if code != want {
			t.Errorf("%s: exit code %d, want %d", p.Name, code, want)
		}
		t.Logf("%s: %d findings", p.Name, len(r.Findings))
	}
}

// Nothing of a module is executed: neither commands of its conf nor its scripts, and
// no shell code in names.
func TestExecutesNothing(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "executed")
	source := filepath.Join(dir, "source")
	write(t, filepath.Join(source, "dkms.conf"), 0o644, "PACKAGE_NAME=$(touch "+mark+"; echo m)\nPACKAGE_VERSION=`touch "+mark+"`\n: >"+mark+"\n"+
		"PRE_BUILD=x.sh\nMAKE=\"make $(touch "+mark+")\"\nBUILT_MODULE_NAME=m\nDEST_MODULE_LOCATION=/updates\ntouch "+mark+"\n")
	write(t, filepath.Join(source, "x.sh"), 0o755, "#!/bin/sh\ntouch "+mark+"\n")
	write(t, filepath.Join(source, "Makefile"), 0o644, "X := $(shell touch "+mark+")\nobj-m := m.o\n")
	lint(t, source)
	if _, err := os.Lstat(mark); err == nil {
		t.Error("something was executed")
	}
}

// Links out of the directory, pipes and huge files are not read.
func TestHostile(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	write(t, filepath.Join(source, "dkms.conf"), 0o644, "PACKAGE_NAME=m\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=m\nDEST_MODULE_LOCATION=/updates\nPRE_BUILD=../../../../../../etc/passwd\nPOST_ADD=pipe\n")
	lab.MustExec(t, "mkfifo", filepath.Join(source, "pipe"))
	lab.MustExec(t, "ln", "-s", "/dev/zero", filepath.Join(source, "Makefile"))
	lab.MustExec(t, "ln", "-s", ".", filepath.Join(source, "loop"))
	lab.MustExec(t, "truncate", "-s", "1T", filepath.Join(source, "huge.c"))
	r, _ := lint(t, source)
	for _, f := range r.Findings {
		if strings.Contains(f.What+f.Where, "passwd:") {
			t.Errorf("%+v", f)
		}
	}
}

func write(t *testing.T, path string, mode os.FileMode, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
