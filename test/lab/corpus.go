// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Package is an unpacked module package of the distribution.
type Package struct {
	Name   string // of the package, "acpi-call-dkms"
	Dir    string // of its unpacked files
	Source string // directory with dkms.conf, below Dir
	// Module and Version are what Source is named after and dkms.conf says:
	// "acpi-call" and "1.2.2".
	Module, Version string
}

// Packages returns all module packages of the lab, sorted by name.
func Packages(tb testing.TB) []Package {
	tb.Helper()
	entries, err := os.ReadDir(Path(tb, "corpus"))
	if err != nil {
		tb.Fatal(err)
	}
	var all []Package
	for _, e := range entries {
		all = append(all, Corpus(tb, e.Name()))
	}
	return all
}

// Corpus returns one module package of the lab.
func Corpus(tb testing.TB, name string) Package {
	tb.Helper()
	p := Package{Name: name, Dir: Path(tb, "corpus", name)}
	confs, err := filepath.Glob(filepath.Join(p.Dir, "usr", "src", "*", "dkms.conf"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(confs) != 1 {
		tb.Fatalf("package %s has %d dkms.conf files, want 1", name, len(confs))
	}
	p.Source = filepath.Dir(confs[0])
	conf, err := os.ReadFile(confs[0])
	if err != nil {
		tb.Fatal(err)
	}
	base := filepath.Base(p.Source)
	p.Version = literal(string(conf), "PACKAGE_VERSION")
	module, ok := strings.CutSuffix(base, "-"+p.Version)
	if p.Version == "" || !ok {
		tb.Fatalf("package %s: %q does not end in the version %q", name, base, p.Version)
	}
	p.Module = module
	return p
}

// literal returns the value that a line NAME=value or NAME="value" assigns, or
// "". It is enough for the two directives that packages write as literals; it
// does not use the parser under test.
func literal(conf, name string) string {
	for line := range strings.Lines(conf) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return ""
}
