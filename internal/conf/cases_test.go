// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// caseResult is what a case in testdata expects.
type caseResult struct {
	Problems []string `json:",omitempty"`
	Strict   []string `json:",omitempty"`
	Applies  Verdict
	Objects  []Verdict `json:",omitempty"`
	Module   *Module
}

// TestCases evaluates each case in testdata with every policy that may run
// commands. UPDATE=1 writes what is found as what is expected.
func TestCases(t *testing.T) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		if name == "constructs" {
			continue
		}
		for p, policy := range map[string]Policy{"auto": Auto, "go": Go, "bash": Bash} {
			t.Run(name+"/"+p, func(t *testing.T) { runCase(t, path, policy) })
		}
	}
}

func runCase(t *testing.T, path string, policy Policy) {
	comment, files := readArchive(t, path)
	l, ksd := testLoader(t)
	r := request(ksd, "", testKernels[0])
	r.Policy = policy
	want := ""
	for _, f := range files {
		switch {
		case f.Name == "dkms.conf":
			r.File = filepath.Join(ksd, "dkms.conf")
			writeFile(t, r.File, f.Data)
		case f.Name == "directives":
			r.Directives = strings.Split(strings.TrimSpace(f.Data), "\n")
		case f.Name == "want.json":
			want = f.Data
		default:
			writeFile(t, filepath.Join(l.Paths.ConfDir, filepath.Base(f.Name)), f.Data)
		}
	}
	m, err := l.Load(t.Context(), r)
	got := describe(t, m, err, ksd)
	if got == want {
		return
	}
	if os.Getenv("UPDATE") == "" || policy != Bash {
		t.Fatalf("got %s\nwant %s", got, want)
	}
	if n := len(files) - 1; files[n].Name == "want.json" {
		files = files[:n]
	}
	writeArchive(t, path, comment, append(files, archived{"want.json", got}))
}

func request(ksd, file, kernel string) Request {
	return Request{
		Module: "m", Version: "1.0", Kernel: kernel, Arch: "x86_64", File: file, Distro: "debian",
		KernelSourceDir: ksd, KernelConfig: ksd + "/.config", Vars: map[string]string{"parallel_jobs": "2"},
	}
}

func testFacts(kernel string) Facts {
	return Facts{Release: kernel, Arch: "x86_64", ConfigFile: ".config", Config: func(symbol string) (string, bool) {
		for line := range strings.Lines(testConfig) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), symbol+"="); ok {
				return value, true
			}
		}
		return "", false
	}}
}

// describe returns the result as JSON without what varies.
func describe(t *testing.T, m *Module, err error, ksd string) string {
	t.Helper()
	res := caseResult{Module: m}
	var invalid *Invalid
	if errors.As(err, &invalid) {
		res.Problems = invalid.Problems
	} else if err != nil {
		t.Fatal(err)
	}
	if errors.As(m.Strict(), &invalid) {
		res.Strict = invalid.Problems
	}
	res.Applies = m.Applies(testFacts(testKernels[0]))
	for i := range m.Objects {
		res.Objects = append(res.Objects, m.ObjectApplies(i, testFacts(testKernels[0])))
	}
	vars, notes := m.Vars, m.Notes
	m.Vars, m.Notes = nil, nil
	data, err := json.MarshalIndent(res, "", " ")
	m.Vars, m.Notes = vars, notes
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), ksd, "$KSD") + "\n"
}
