// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"dkms-go/internal/action"
	"dkms-go/internal/diagnose"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// tried makes a table's content: every second build fails.
func tried(ids, kernels int) ([]plan.Target, []action.Tried) {
	var targets []plan.Target
	var list []action.Tried
	for k := range kernels {
		targets = append(targets, plan.Target{Kernel: fmt.Sprintf("6.%d.0-5<6>-cloud-amd64", k), Arch: "x86_64"})
	}
	for i := range ids {
		for k, t := range targets {
			one := action.Tried{
				Key:     t.Key(state.ID{Module: "module" + strings.Repeat("x", i), Version: "1.0"}),
				Outcome: action.Builds, Took: 12345 * time.Millisecond, Log: []byte("DKMS (x) make.log\nall well\n"),
			}
			if (i+k)%2 == 1 {
				one.Outcome, one.Log = action.Fails, []byte("CC m.o\n/build/m.c:1: error: <script>|`*_\x1b[31m\nmore\n")
				one.Failure = &action.Failure{Reason: action.MakeFailed, Err: errors.New("compiling failed")}
				one.Failure.Diagnosis = &diagnose.Diagnosis{Class: "kernel-api", Error: "m.c:1: error: <script>|`*_", What: "the API differs", Next: []string{"$ do <this>"}}
			}
			list = append(list, one)
		}
	}
	return targets, list
}

// The table fits a terminal of 80 columns, whatever the number of kernels, and no
// build is left out.
func TestMatrixText(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {3, 2}, {4, 3}, {2, 12}, {20, 30}} {
		targets, list := tried(size[0], size[1])
		text := newTable(targets, list).text()
		head, reasons, _ := strings.Cut(text, "\nmodule")
		if size[0] == 1 && size[1] == 1 {
			head, reasons = text, ""
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "Module") || strings.HasPrefix(line, "module") && !strings.Contains(line, " for ") {
				if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > lineWidth {
					t.Errorf("%v: %d columns: %s", size, len(line), line)
				}
			}
		}
		cells := strings.Count(text, "ok 12.3 s") + strings.Count(text, "FAILS 12.3 s")
		if cells != size[0]*size[1] {
			t.Errorf("%v: %d cells\n%s", size, cells, text)
		}
		if strings.Contains(head, "FAILS") && !strings.Contains(reasons, "m.c:1: error: <script>") {
			t.Errorf("%v: no reasons\n%s", size, text)
		}
	}
}

func TestMatrixMarkdown(t *testing.T) {
	targets, list := tried(1, 2)
	text := newTable(targets, list).markdown()
	want := "| Module | 6.0.0-5&lt;6>-cloud-amd64 | 6.1.0-5&lt;6>-cloud-amd64 |\n|---|---|---|\n| module/1.0 | ok 12.3 s | **FAILS 12.3 s** |\n"
	if !strings.HasPrefix(text, want) {
		t.Errorf("it is %s", text)
	}
	if !strings.Contains(text, "\n- m.c:1: error: &lt;script>\\|\\`\\*\\_\n") {
		t.Errorf("it is %s", text)
	}
}

// The page is one file without scripts, in which each cell leads to a section.
func TestMatrixPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.html")
	targets, list := tried(2, 2)
	if err := writePage(path, targets, list); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"m1-k1", "m1-k2", "m2-k1", "m2-k2"} {
		if !bytes.Contains(text, []byte(`<a href="#`+id+`">`)) || !bytes.Contains(text, []byte(`<section id="`+id+`">`)) {
			t.Errorf("%s leads nowhere", id)
		}
	}
	for word, want := range map[string]bool{
		"<script": false, "http://": false, "https://": false, "prefers-color-scheme: dark": true, `name="viewport"`: true,
		"<mark>/build/m.c:1: error: &lt;script&gt;": true, "all well": true, "$ do &lt;this&gt;": true,
	} {
		if bytes.Contains(text, []byte(word)) != want {
			t.Errorf("%q: %v", word, !want)
		}
	}
	if err := writePage(filepath.Join(path, "none"), targets, list); err == nil {
		t.Error("a page in a file")
	}
}

func TestPreflightWords(t *testing.T) {
	dir := t.TempDir()
	deb := filepath.Join(dir, "x.deb")
	if err := os.WriteFile(deb, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{
		"6.1.0-1":               "[6.1.0-1] [] []",
		"custom m/1":            "[custom] [] [{m 1}]",
		"6.1.0-1 m n/2":         "[6.1.0-1] [] [{m } {n 2}]",
		"-k 6.1 m/1 8812au":     "[6.1] [] [{m 1} {8812au }]",
		"m 6.1.0-1 " + dir:      "[6.1.0-1] [" + dir + "] [{m }]",
		dir + " 8812au/1":       "[] [" + dir + "] [{8812au 1}]",
		deb + " -k 6.1 -k 6.12": "[6.1 6.12] [" + deb + "] []",
		"-k " + dir:             "[] [" + dir + "] []",
		"":                      "preflight needs a kernel, or a directory with header packages: dkms preflight <kernel>",
		"./none":                "the file ./none is neither a header package nor a directory with such",
	} {
		a, err := parse(append([]string{"preflight"}, strings.Fields(words)...))
		if err != nil {
			t.Fatal(err)
		}
		choice, only, err := (&command{args: a}).preflightWords()
		got := fmt.Sprintf("%v %v %v", choice.Releases, choice.Packages, idsOf(only))
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", words, got, want)
		}
	}
}

// idsOf are modules without their form as text.
func idsOf(ids []state.ID) []struct{ Module, Version string } {
	list := []struct{ Module, Version string }{}
	for _, id := range ids {
		list = append(list, struct{ Module, Version string }{id.Module, id.Version})
	}
	return list
}
