// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"dkms-go/internal/conf"
	"dkms-go/internal/finding"
)

// read makes a Source of an archive's files; scripts that begin with #! may be
// executed. The findings that are wanted are in its file "want", a line "CHECK WHERE"
// each.
func read(t *testing.T, path string) (s Source, want []string) {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s.Texts, s.Executable, s.Variables = map[string]string{}, map[string]bool{}, conf.Variables()
	for _, f := range a.Files {
		if f.Name == "want" {
			want = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
			continue
		}
		// Carriage returns are visible in the examples.
		f.Data = []byte(strings.ReplaceAll(string(f.Data), "␍", "\r"))
		s.Names = append(s.Names, f.Name)
		s.Texts[f.Name] = string(f.Data)
		s.Executable[f.Name] = strings.HasPrefix(string(f.Data), "#!")
	}
	file := filepath.Join(dir, ConfFile)
	if err := os.WriteFile(file, []byte(s.Texts[ConfFile]), 0o644); err != nil {
		t.Fatal(err)
	}
	l := &conf.Loader{}
	s.Module, err = l.Load(context.Background(), conf.Request{File: file, Kernel: "6.1.0", Arch: "x86_64", KernelSourceDir: "/k", Policy: conf.NoExec})
	var invalid *conf.Invalid
	if errors.As(err, &invalid) && s.Module.Malformed == "" {
		s.Invalid = invalid.Problems
	}
	if s.Module != nil {
		s.Syntax = s.Module.Malformed
	}
	return s, slices.DeleteFunc(want, func(line string) bool { return line == "" })
}

func archives(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(list) == 0 {
		t.Fatal("no examples", err)
	}
	return list
}

// Each bad example is found, at its place, and nothing else; each rule has one.
func TestExamples(t *testing.T) {
	shown := map[string]bool{}
	for _, path := range archives(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s, want := read(t, path)
			var got []string
			for _, f := range Check(s) {
				where, _, _ := strings.Cut(f.Where, " ")
				got = append(got, f.Check+" "+where)
				shown[f.Check] = true
				if f.What == "" || f.Why == "" || len(f.Next) == 0 {
					t.Errorf("%+v doesn't say all", f)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				for _, f := range Check(s) {
					t.Logf("%+v", f)
				}
			}
		})
	}
	for _, r := range Rules() {
		if !shown[r.Name] {
			t.Errorf("no example in testdata shows %s", r.Name)
		}
		delete(shown, r.Name)
	}
	if len(shown) > 0 {
		t.Errorf("checks without a rule: %v", slices.Sorted(maps.Keys(shown)))
	}
}

// A misspelt name is named.
func TestNearMisses(t *testing.T) {
	s, _ := read(t, "testdata/directives.txtar")
	var texts []string
	for _, f := range Check(s) {
		texts = append(texts, f.What)
	}
	all := strings.Join(texts, "\n")
	for _, want := range []string{"did you mean BUILT_MODULE_NAME?", "did you mean $kernel_source_dir?"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
}

// FuzzCheck gives each kind of file any text.
func FuzzCheck(f *testing.F) {
	f.Add("PACKAGE_NAME=m\nMAKE[0]=\"make -j4\"\nPRE_BUILD=x.sh\n", "ifneq ($(KERNELRELEASE),)\nobj-m := m.o\nelse ifdef X\nendif\nall:\n\tmake -j8\n", "#define V \"1\"\nMODULE_VERSION(V); /*", "#!/bin/sh\ncurl x >/etc/x\n")
	f.Add("A=$((1\nMAKE=make -C x", "obj-m = $(A)\nA = $(B) $(B)\nB = $(A) $(A)", "'\\", "cat <<E >/x\n")
	f.Fuzz(func(t *testing.T, confText, makefile, source, script string) {
		s := Source{
			Module: &conf.Module{Name: "m", Version: "1", Make: confText, PreBuild: "x.sh", Objects: []conf.Object{{Built: "m"}}},
			Names:  []string{ConfFile, "Makefile", "m.c", "x.sh"}, Variables: conf.Variables(),
			Texts:      map[string]string{ConfFile: confText, "Makefile": makefile, "m.c": source, "x.sh": script},
			Executable: map[string]bool{},
		}
		for _, found := range Check(s) {
			if found.Why == "" || found.Severity > finding.Error {
				t.Fatalf("%+v", found)
			}
		}
	})
}
