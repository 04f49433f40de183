// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the path of this module, as go.mod has it.
const module = "dkms-go"

// source is one Go file of the repository.
type source struct {
	path string // below the top of the repository
	ast  *ast.File
	set  *token.FileSet
	text string
}

// dir returns the directory of the file, its package.
func (s source) dir() string { return filepath.Dir(s.path) }

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// lab reports whether the file belongs to a package that only tests import.
func (s source) lab() bool { return strings.HasPrefix(s.path, "test"+string(filepath.Separator)) }

// at returns the place of a node as people write it.
func (s source) at(n ast.Node) string {
	p := s.set.Position(n.Pos())
	return s.path + ":" + itoa(p.Line)
}

// top returns the top directory of the repository.
func top(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if up := filepath.Dir(dir); up != dir {
			dir = up
			continue
		}
		t.Fatal("no go.mod at or above the working directory")
	}
}

// files lists the files of the repository, without those that git ignores.
func files(t *testing.T) []string {
	t.Helper()
	root := top(t)
	ignored := []string{".git", ".lab", "bin", "dist"}
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && slices.Contains(ignored, rel):
			return fs.SkipDir
		case d.Type().IsRegular() && !strings.HasSuffix(rel, ".test") && rel != ".git":
			list = append(list, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// read returns the text of a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top(t), path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sources parses the Go files of the repository.
func sources(t *testing.T) []source {
	t.Helper()
	var list []source
	for _, path := range files(t) {
		if filepath.Ext(path) != ".go" {
			continue
		}
		text := read(t, path)
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, text, parser.ParseComments)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		list = append(list, source{path, file, set, text})
	}
	return list
}

// program returns the Go files that the binary is made of.
func program(t *testing.T) []source {
	t.Helper()
	return slices.DeleteFunc(sources(t), func(s source) bool { return s.isTest() || s.lab() })
}

// exceptions are the known breaches of a rule, by a name and with a reason.
type exceptions map[string]string

// hold reports every breach that is no exception, and every exception that is
// no breach.
func (e exceptions) hold(t *testing.T, breaches map[string]string) {
	t.Helper()
	for _, name := range sortedKeys(breaches) {
		if _, ok := e[name]; !ok {
			t.Errorf("%s", breaches[name])
		}
	}
	for _, name := range sortedKeys(e) {
		if _, ok := breaches[name]; !ok {
			t.Errorf("the exception %q is no longer needed: remove it", name)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// difference reports what two lists don't share.
func difference(t *testing.T, what string, want, got []string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s: %s is missing", what, w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("%s: %s is there, the program doesn't know it", what, g)
		}
	}
}
