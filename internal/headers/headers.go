// SPDX-License-Identifier: Apache-2.0

// Package headers searches the headers of kernels, and a module's source, for the
// declaration of a name: which kernels have it, in which form, and under which
// conditions of the preprocessor. It reads text and knows no C beyond that, so what
// it finds is a hint for people.
package headers

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what is looked for.
type Kind int

// The kinds.
const (
	// Name is a function, macro, type, variable or enumerator.
	Name Kind = iota
	// Member is one of a structure or union.
	Member
	// Callback is a member of any structure that holds a function's address.
	Callback
	// File is a header, by what #include calls it.
	File
	// Export is a symbol in Module.symvers.
	Export
)

// Query is what is looked for: a name, for a Member also the structure's.
type Query struct {
	Kind     Kind
	Name, Of string
}

// Valid reports whether the names are ones of C, or of a header below the directories
// of headers; they come from logs, and nothing else can be looked for.
func (q Query) Valid() bool {
	if q.Kind == File {
		return filepath.IsLocal(q.Name)
	}
	word := func(s string) bool {
		return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
	}
	return word(q.Name) && (word(q.Of) || q.Kind != Member)
}

// Found is what one kernel, or the module, has.
type Found struct {
	// Of is the kernel's release.
	Of string
	// File is the first header that has it, by what #include calls it, Line the line.
	File string
	Line int
	// Declaration is the text of what declares it, of several forms all; of an
	// Export how it is exported.
	Declaration string
	// Guards are the conditions on the kernel's options that each declaration is
	// under, as preprocessor expressions; those of #else are in "!(…)".
	Guards [][]string
	// Declared says of an Export that a header declares it.
	Declared bool
	// Owner says of a Member that the structure is there.
	Owner bool
	// Defined says that what was found is a function with its body, or a type;
	// Free that it is so whatever the kernel's version and options are.
	Defined, Free bool
	there         bool
}

// There reports whether it was found.
func (f Found) There() bool { return f.there }

// Kernel is what was found of one kernel.
type Kernel struct {
	Release string
	Found
	// Config returns the value of an option of its configuration; may be nil.
	Config func(string) (string, bool)
}

// Tree are the directories of one kernel's headers: that of its build, and that of
// the source if it is another.
type Tree struct {
	Release string
	Dirs    []string
	Config  func(string) (string, bool)
}

// The bounds of a search: bytes and files of one tree, bytes of one file, and how
// much of a declaration is kept.
const (
	maxBytes       = 200 << 20
	maxFiles       = 60_000
	maxFile        = 4 << 20
	maxDeclaration = 4 << 10
	maxSymvers     = 64 << 20
)

// Search looks into each tree. One that can't be read, or was not finished when ctx
// ended, is left out.
func Search(ctx context.Context, q Query, trees []Tree) []Kernel {
	var list []Kernel
	if !q.Valid() {
		return nil
	}
	known := known{}
	for _, t := range trees {
		f, ok := t.search(ctx, q, known)
		if ok {
			f.Of = t.Release
			list = append(list, Kernel{Release: t.Release, Found: f, Config: t.Config})
		}
	}
	return list
}

// Source looks into a module's own source.
func Source(ctx context.Context, q Query, dir string) Found {
	if q.Kind == Export {
		q.Kind = Name
	}
	if q.Kind == File || dir == "" || !q.Valid() {
		return Found{}
	}
	s := newSearch(q)
	s.walk(ctx, dir, func(name string) bool { return strings.HasSuffix(name, ".h") || strings.HasSuffix(name, ".c") }, "")
	return s.found
}

// known is what was found below directories that several kernels share.
type known map[string]Found

// roots are the directories that #include <…> looks in, by the directory of the
// headers.
func roots(dir string) []string {
	list := []string{filepath.Join(dir, "include"), filepath.Join(dir, "include", "uapi"), filepath.Join(dir, "include", "generated", "uapi")}
	arches, _ := filepath.Glob(filepath.Join(dir, "arch", "*", "include"))
	if x86 := filepath.Join(dir, "arch", "x86", "include"); len(arches) > 1 && slices.Contains(arches, x86) {
		arches = []string{x86}
	}
	for _, a := range arches {
		list = append(list, a, filepath.Join(a, "uapi"), filepath.Join(a, "generated"), filepath.Join(a, "generated", "uapi"))
	}
	return list
}

func (t Tree) search(ctx context.Context, q Query, k known) (Found, bool) {
	var dirs []string
	for _, d := range t.Dirs {
		if real, err := filepath.EvalSymlinks(d); err == nil && !slices.Contains(dirs, real) {
			dirs = append(dirs, real)
		}
	}
	if len(dirs) == 0 {
		return Found{}, false
	}
	switch q.Kind {
	case File:
		return file(q.Name, dirs), true
	case Export:
		f, ok := export(q.Name, dirs)
		if ok && !f.there {
			declared := k.search(ctx, Query{Kind: Name, Name: q.Name}, dirs)
			f.Declared, f.File, f.Guards = declared.there, declared.File, declared.Guards
		}
		return f, ok && ctx.Err() == nil
	}
	return k.search(ctx, q, dirs), ctx.Err() == nil
}

// search looks into the headers below directories.
func (k known) search(ctx context.Context, q Query, dirs []string) Found {
	var all Found
	for _, d := range dirs {
		tops := []string{filepath.Join(d, "include")}
		for _, root := range roots(d)[3:] {
			if filepath.Base(root) == "include" {
				tops = append(tops, root)
			}
		}
		for _, top := range tops {
			real, err := filepath.EvalSymlinks(top)
			if err != nil {
				continue
			}
			f, ok := k[real]
			if !ok {
				s := newSearch(q)
				s.walk(ctx, filepath.Join(real, "linux"), isHeader, real) // most are there
				s.visited = filepath.Join(real, "linux")
				s.walk(ctx, real, isHeader, real)
				f = s.found
				k[real] = f
			}
			all.join(f)
		}
	}
	return all
}

// join adds what was found elsewhere.
func (f *Found) join(more Found) {
	if !f.there {
		f.there, f.File, f.Line = more.there, more.File, more.Line
	}
	f.Owner, f.Defined, f.Free = f.Owner || more.Owner, f.Defined || more.Defined, f.Free || more.Free
	f.Declaration += more.Declaration
	f.Guards = append(f.Guards[:len(f.Guards):len(f.Guards)], more.Guards...)
}

func isHeader(name string) bool { return strings.HasSuffix(name, ".h") }

func file(name string, dirs []string) Found {
	for _, d := range dirs {
		for _, root := range roots(d) {
			if fi, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err == nil && fi.Mode().IsRegular() {
				return Found{there: true, File: name}
			}
		}
	}
	return Found{}
}

// export looks for a symbol in Module.symvers (kernel source,
// Documentation/kbuild/modules.rst).
func export(name string, dirs []string) (f Found, ok bool) {
	for _, d := range dirs {
		data, err := read(filepath.Join(d, "Module.symvers"), maxSymvers)
		if err != nil {
			continue
		}
		ok = true
		at := bytes.Index(data, []byte("\t"+name+"\t"))
		if at < 0 {
			continue
		}
		line, _, _ := bytes.Cut(data[at+1:], []byte("\n"))
		fields := strings.Split(string(line), "\t")
		f.there = true
		if len(fields) >= 3 {
			f.File, f.Declaration = fields[1], strings.Join(fields[2:], " ")
		}
		return f, true
	}
	return f, ok
}

func read(path string, most int64) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > most {
		return nil, fs.ErrInvalid
	}
	return os.ReadFile(path)
}

// search is one under way.
type search struct {
	Query
	name  []byte
	owner []byte
	form  *regexp.Regexp
	open  *regexp.Regexp // of a structure
	found Found
	bytes int64
	files int
	seen  map[string]bool
	room  []byte
	// visited is a directory that has been searched before the others.
	visited string
}

func newSearch(q Query) *search {
	s := &search{Query: q, name: []byte(q.Name), owner: []byte(q.Of), seen: map[string]bool{}}
	n := regexp.QuoteMeta(q.Name)
	switch q.Kind {
	case Member:
		s.form = regexp.MustCompile(`\b` + n + `\b`)
		s.open = regexp.MustCompile(`^\s*(?:typedef\s+)?(?:struct|union)\s+` + regexp.QuoteMeta(q.Of) + `\b[^;()]*$`)
	case Callback:
		s.form = regexp.MustCompile(`\(\s*\*\s*(?:const\s+)?` + n + `\s*\)\s*\(`)
	default:
		s.form = regexp.MustCompile(`^\s*#\s*define\s+` + n + `\b` + // a macro
			`|^(?:struct|union|enum)\s+` + n + `\b[^;()]*(?:\{|$)` + // a tagged type
			`|^(?:[\w*]+[\s*]+)*` + n + `\s*\(` + // a function
			`|^extern\s[^;(]*\b` + n + `\b` +
			`|^(?:[\w*]+[\s*]+)+\**` + n + `\s*(?:\[[^;]*)?[;=]` + // a variable, a plain typedef
			`|^typedef\b[^;]*\b` + n + `\b` +
			`|^\}\s*(?:__\w+(?:\([^;]*\))?\s*)*` + n + `\s*;` +
			`|^\s+` + n + `\s*(?:=[^;]*)?,?\s*(?:/\*.*)?$`) // an enumerator
	}
	return s
}

// skipped are directories of include/ that declare nothing of C.
func skipped(name string) bool { return name == "dt-bindings" || name == "config" }

// walk searches the files below a directory; links to directories are followed
// once. Names are kept relative to base.
func (s *search) walk(ctx context.Context, dir string, match func(string) bool, base string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := dir + string(filepath.Separator) + e.Name()
		sub := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			sub = s.follow(path)
		}
		switch {
		case ctx.Err() != nil || s.bytes > maxBytes || s.files > maxFiles || s.enough():
			return
		case sub && !skipped(e.Name()) && path != s.visited:
			s.walk(ctx, path, match, base)
		case !sub && match(e.Name()):
			s.file(path, base)
		}
	}
}

// enough reports whether no more has to be looked at: what was found is there
// whatever the kernel's options are. Of callbacks all are wanted.
func (s *search) enough() bool {
	if s.Kind == Callback || !s.found.there {
		return false
	}
	return slices.ContainsFunc(s.found.Guards, func(g []string) bool { return len(g) == 0 })
}

// follow reports whether a link leads to a directory that none has led to before.
func (s *search) follow(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil || s.seen[real] || len(s.seen) > maxFiles {
		return false
	}
	fi, err := os.Stat(real)
	if err != nil || !fi.IsDir() {
		return false
	}
	s.seen[real] = true
	return true
}

func (s *search) file(path, base string) {
	s.files++
	data := s.read(path)
	s.bytes += int64(len(data))
	first := s.name
	if s.Kind == Member {
		first = s.owner
	}
	if !bytes.Contains(data, first) {
		return
	}
	name := path
	if rel, err := filepath.Rel(base, path); err == nil && base != "" {
		name = rel
	}
	s.text(string(data), name)
}

// read returns what a file has, until the next call; nothing if it is no file, or
// too large.
func (s *search) read(path string) []byte {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil
	}
	if s.room = s.room[:0]; cap(s.room) < int(fi.Size()) {
		s.room = make([]byte, 0, 2*fi.Size())
	}
	n, _ := io.ReadFull(f, s.room[:fi.Size()])
	return s.room[:n]
}

// Example is what a search finds of a declaration, for tests.
func Example(release, declaration string, guards []string) Found {
	return Found{Of: release, File: "linux/example.h", Line: 1, Declaration: declaration, Guards: [][]string{guards}, Free: true, there: true}
}
