// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// message is what a compiler says, by how it says it (GCC's and Clang's words).
type message struct {
	words *regexp.Regexp
	kind  Kind
	// name and of are the groups with the name and the type that has it.
	name, of int
	class    Class
	// told says that a note with the place of the other declaration tells whose it
	// is, changed that the name exists.
	told, changed bool
}

// messageTable is in order: the first that matches counts.
var messageTable = sync.OnceValue(func() []message {
	list := []struct {
		words string
		message
	}{
		{`^'([^']+)'(?: \{aka '[^']+'\})? has no member named '([^']+)'`, message{kind: Member, name: 2, of: 1, class: API}},
		{`^no member named '([^']+)' in '([^']+)'`, message{kind: Member, name: 1, of: 2, class: API}},
		{`^field designator '([^']+)' does not refer to any field in type '([^']+)'`, message{kind: Member, name: 1, of: 2, class: API}},
		{`^unknown field '?([^' ]+)'? specified in initializer`, message{kind: Member, name: 1, class: API}},
		{`^implicit declaration of function '([^']+)'`, message{kind: Function, name: 1, class: API}},
		{`^call to undeclared (?:library )?function '([^']+)'`, message{kind: Function, name: 1, class: API}},
		{`^'([^']+)' undeclared`, message{kind: Name2, name: 1, class: API}},
		{`^use of undeclared identifier '([^']+)'`, message{kind: Name2, name: 1, class: API}},
		{`^unknown type name '([^']+)'`, message{kind: Type, name: 1, class: API}},
		{`^must use '(?:struct|enum|union)' tag to refer to type '([^']+)'`, message{kind: Type, name: 1, class: Code}},
		{`(?:incomplete|undefined) (?:\w+ )*type '(?:const )?((?:struct|union|enum) [^']+)'`, message{kind: Type, name: 1, class: API}},
		{`^(?:invalid application of 'sizeof' to incomplete type|incomplete definition of type) '([^']+)'`, message{kind: Type, name: 1, class: API}},
		{`^(?:storage size of|field|variable|parameter \d+) .*(?:isn't known|has incomplete type|but incomplete type)`, message{kind: Type, class: API}},
		{`^macro "([^"]+)" (?:requires|passed)`, message{kind: Macro, name: 1, class: API, told: true, changed: true}},
		{`^too (?:many|few) arguments provided to function-like macro invocation`, message{kind: Macro, class: API, told: true, changed: true}},
		{`^too (?:many|few) arguments to function '([^']+)'`, message{kind: Function, name: 1, class: API, told: true, changed: true}},
		{`^too (?:many|few) arguments to function call`, message{kind: Function, class: API, told: true, changed: true}},
		{`^passing argument \d+ of '([^']+)'`, message{kind: Function, name: 1, class: API, told: true, changed: true}},
		{`^incompatible type for argument \d+ of '([^']+)'`, message{kind: Function, name: 1, class: API, told: true, changed: true}},
		{`^incompatible (?:function )?(?:pointer|integer).* (?:passing|to parameter)`, message{kind: Function, class: API, told: true, changed: true}},
		{`^(?:initialization of|assignment to) '[^']*\(\*[^']*'.* from incompatible pointer type '[^']*\(\*?[^']*'`, message{kind: Callback, class: API, changed: true}},
		{`^incompatible function pointer types (?:initializing|assigning)`, message{kind: Callback, class: API, changed: true}},
		{`^(?:initialization of|assignment to) '(?:const )?(struct [^' *]+)[ *]*'.* from incompatible pointer type '(?:const )?struct `, message{kind: Type, name: 1, class: API, changed: true}},
		{`^incompatible types when (?:initializing|assigning to|returning) type '(?:const )?(struct [^' *]+)[ *]*'`, message{kind: Type, name: 1, class: API, changed: true}},
		{`^(?:redefinition|redeclaration) of (?:enumerator |'?(?:struct|enum|union) )?'?(?:(?:struct|enum|union) )?([^' ]+)'`, message{kind: Name2, name: 1, class: Code, told: true, changed: true}},
		{`^(?:nested )?redefinition of '(?:(?:struct|enum|union) )?([^']+)'`, message{kind: Name2, name: 1, class: Code, told: true, changed: true}},
		{`^conflicting types for '([^']+)'`, message{kind: Function, name: 1, class: Code, told: true, changed: true}},
		{`^(?:static|non-static) declaration of '([^']+)' follows`, message{kind: Function, name: 1, class: Code, told: true, changed: true}},
		{`^'([^']+)' redeclared as different kind of symbol`, message{kind: Name2, name: 1, class: Code, told: true, changed: true}},
		{`^assignment of (?:read-only member|member) '([^']+)'`, message{kind: Member, name: 1, class: API, changed: true}},
		{`^cannot assign to (?:non-static data member|variable) '([^']+)' with const-qualified`, message{kind: Member, name: 1, class: API, changed: true}},
		{`^void value not ignored`, message{kind: Function, class: API, changed: true}},
		{`^(?:assigning to|initializing) '[^']+' .*from incompatible type 'void'`, message{kind: Function, class: API, changed: true}},
		{`^'?([^' ]+\.h)'?: No such file or directory`, message{kind: Header, name: 1, class: API}},
		{`^'([^']+)' file not found`, message{kind: Header, name: 1, class: API}},
	}
	var table []message
	for _, m := range list {
		m.message.words = regexp.MustCompile(m.words)
		table = append(table, m.message)
	}
	return table
})

// place is FILE:LINE.
type place struct {
	file string
	line int
}

// around is what a compiler says of one error besides its line.
type around struct {
	notes   []note
	excerpt string // the line of the source
	column  int
	before  []line // of it, the nearest last
}

type note struct {
	place
	text string
}

var diagnosticLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^((?:[A-Za-z]:)?[^ :][^:]*):(\d+):(?:(\d+):)? ((?:fatal )?error|note|warning|Error): (.*)$`)
})

// diagnostic takes a line of a compiler apart.
func diagnostic(s string) (p place, column int, sort, words string, ok bool) {
	m := diagnosticLine().FindStringSubmatch(s)
	if m == nil {
		return place{}, 0, "", "", false
	}
	p.file = m[1]
	p.line, _ = strconv.Atoi(m[2])
	column, _ = strconv.Atoi(m[3])
	return p, column, m[4], m[5], true
}

// maxAround bounds how many lines belong to one error.
const maxAround = 40

var excerptLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^ *\d+ \| ?(.*)$`) })

// clangCaret is the line below that of the source, in the form of Clang before 16.
var clangCaret = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\s*~*\^[~ ^]*$`) })

// around reads what follows line i of the text.
func (t *text) around(i int) around {
	var a around
	_, a.column, _, _, _ = diagnostic(t.lines[i].text)
	a.before = t.lines[max(0, i-maxAround):i]
	if after := t.lines[i+1:]; len(after) > 1 && clangCaret().MatchString(after[1].text) && !excerptLine().MatchString(after[0].text) {
		a.excerpt = after[0].text
	}
	for _, l := range t.lines[i+1 : min(len(t.lines), i+1+maxAround)] {
		p, _, sort, words, ok := diagnostic(l.text)
		switch {
		case ok && sort == "note":
			a.notes = append(a.notes, note{p, words})
		case ok:
			return a
		case a.excerpt == "" && len(a.notes) == 0 && excerptLine().MatchString(l.text):
			a.excerpt = excerptLine().FindStringSubmatch(l.text)[1]
		case strings.HasPrefix(l.text, "make"), strings.HasPrefix(l.text, "  CC"), strings.Contains(l.text, ": In function '"):
			return a
		}
	}
	return a
}

// compiler judges an error of a compiler at line i.
func (t *text) compiler(i int, facts Facts) Diagnosis {
	p, _, _, words, _ := diagnostic(t.lines[i].text)
	d := Diagnosis{Class: Code, File: p.file, Line: p.line}
	if p.file == "<command-line>" {
		d.File, d.Line = "", 0
	}
	about := t.around(i)
	if facts.inHeaders(p.file) {
		d.Used = used(about, facts)
	}
	switch rest, directive := strings.CutPrefix(words, "#error"); {
	case directive:
		d.Class, d.Subject = byWords(rest, Code)
		return d
	case outOfMemory().MatchString(words):
		d.Class = Memory
		return d
	}
	for _, m := range messageTable() {
		if g := m.words.FindStringSubmatch(words); g != nil {
			d.Class = m.class
			d.Subject = m.subject(g, words, about)
			d.judgeSubject(m, about, facts)
			return d
		}
	}
	if toolWords().MatchString(words) {
		d.Class = Compiler
		return d
	}
	if s := hiddenMacro(words, about); s != nil {
		d.Class, d.Subject = API, s
		if coreMacro().MatchString(s.Name) {
			d.Class = Headers
		}
	}
	return d
}

// subject is what a message is about.
func (m message) subject(g []string, words string, about around) *Subject {
	s := &Subject{Kind: m.kind, changed: m.changed}
	if m.name > 0 {
		s.Name = g[m.name]
	}
	if m.of > 0 {
		s.Of = tag(g[m.of], words)
	}
	switch m.kind {
	case Callback:
		s.callback(words, about)
	case Function, Macro:
		s.function(words, about)
	case Type:
		s.Name = strings.TrimPrefix(s.Name, "const ")
		if s.Name == "" {
			if g := structName().FindStringSubmatch(about.excerpt); g != nil {
				s.Name = strings.TrimSpace(g[0])
			}
		}
	case Member:
		if s.Of == "" && strings.Contains(words, "in read-only object") {
			s.changed = true
		}
	}
	return s
}

var structName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\b(?:struct|union|enum) (\w+)`) })

var aka = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{?aka '([^']+)'`) })

// tag is the tagged type that a message names, which may be an alias of it.
func tag(name, words string) string {
	if g := aka().FindStringSubmatch(words); g != nil && !strings.Contains(name, "struct ") && !strings.Contains(name, "union ") {
		name = g[1]
	}
	for _, word := range []string{"const ", "volatile "} {
		name = strings.ReplaceAll(name, word, "")
	}
	return strings.TrimRight(name, " *")
}

var (
	twoTypes     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`'([^']+)'(?: \{aka '([^']+)'\})?`) })
	designator   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[.>](\w+)\s*=[^=]`) })
	nearby       = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`near initialization for '([^']+)'`) })
	expectedType = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`expected '([^']+)'.* but argument is of type '([^']+)'`)
	})
	macroCall    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(\w+)\s*\(`) })
	declaredHere = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^'?(?:macro '?)?([^' ]+)'? (?:declared|defined) here|^macro "([^"]+)" defined here|^in (?:definition|expansion) of macro '([^']+)'`)
	})
)

// callback fills in the member and both signatures.
func (s *Subject) callback(words string, about around) {
	types := twoTypes().FindAllStringSubmatch(words, -1)
	if len(types) >= 2 {
		s.Wants, s.Has = types[0][1], types[1][1]
	}
	for _, n := range about.notes {
		if g := nearby().FindStringSubmatch(n.text); g != nil {
			s.Name = g[1][strings.LastIndexByte(g[1], '.')+1:]
		}
	}
	if g := designator().FindStringSubmatch(about.excerpt + " "); g != nil && s.Name == "" {
		s.Name = g[1]
	}
}

// function fills in the name where the message has none, and the types.
func (s *Subject) function(words string, about around) {
	for _, n := range about.notes {
		if g := expectedType().FindStringSubmatch(n.text); g != nil && s.Wants == "" {
			s.Wants, s.Has = g[1], g[2]
		}
		if g := declaredHere().FindStringSubmatch(n.text); g != nil && s.Name == "" {
			s.Name = g[1] + g[2] + g[3]
		}
	}
	if s.Name != "" {
		return
	}
	from := min(max(about.column-1, 0), len(about.excerpt))
	for _, part := range []string{about.excerpt[from:], about.excerpt} {
		if g := macroCall().FindStringSubmatch(part); g != nil {
			s.Name = g[1]
			return
		}
	}
}

// hiddenMacro finds a macro that the kernel doesn't have any more, which compilers
// see as the beginning of a declaration.
func hiddenMacro(words string, about around) *Subject {
	if !strings.HasPrefix(words, "expected ") && !strings.Contains(words, "data definition has no type") && !strings.Contains(words, "type defaults to") && !strings.HasPrefix(words, "type specifier missing") {
		return nil
	}
	g := regexp.MustCompile(`^(?:static |extern |const )*([A-Z][A-Z0-9_]{5,})\s*\(`).FindStringSubmatch(about.excerpt)
	if g == nil || strings.HasPrefix(words, "expected ';'") || !strings.Contains(g[1], "_") {
		return nil
	}
	return &Subject{Kind: Macro, Name: g[1]}
}

// coreMacro are macros of linux/module.h that every kernel has.
var coreMacro = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^MODULE_(?:LICENSE|AUTHOR|DESCRIPTION|VERSION|ALIAS|DEVICE_TABLE|PARM_DESC)$`)
})

// judgeSubject corrects the class by whose the name is, as far as the log tells.
func (d *Diagnosis) judgeSubject(m message, about around, facts Facts) {
	s := d.Subject
	if m.told {
		for _, n := range about.notes {
			if !otherPlace(n.text) {
				continue
			}
			if d.Class = Code; facts.inHeaders(n.file) {
				d.Class = API
			}
			break
		}
	}
	own := facts.name() != "" && strings.HasPrefix(strings.TrimPrefix(s.Name, "struct "), strings.ReplaceAll(facts.name(), "-", "_")+"_")
	switch {
	case m.kind == Header:
		d.Class = headerClass(s.Name, facts)
	case own && !m.told && m.kind != Member:
		d.Class = Code
	case m.kind == Name2 && !m.told && !kernelLike(s.Name):
		d.Class = Code
	}
}

// otherPlace reports whether a note tells where the other declaration is.
func otherPlace(words string) bool {
	for _, part := range []string{"declared here", "defined here", "previous declaration", "previous definition", "previously d", "originally defined", "definition is here", "declaration is here", "expected '", "passing argument to parameter"} {
		if strings.Contains(words, part) {
			return true
		}
	}
	return false
}

// kernelLike reports whether an undeclared name looks like one that a header has
// to declare, and not like a variable that was forgotten.
func kernelLike(name string) bool {
	return name == strings.ToUpper(name) && len(name) > 2 || strings.Contains(name, "_") && len(name) >= 6
}

// used is the place in the module that an error in a header comes from.
func used(about around, facts Facts) string {
	for _, n := range about.notes {
		if strings.HasPrefix(n.text, "in expansion of macro") || strings.HasPrefix(n.text, "expanded from") || strings.HasPrefix(n.text, "in definition of macro") {
			if !facts.inHeaders(n.file) {
				return n.file + ":" + strconv.Itoa(n.line)
			}
		}
	}
	for i := len(about.before) - 1; i >= 0; i-- {
		g := includedFrom().FindStringSubmatch(about.before[i].text)
		if g != nil && !facts.inHeaders(g[1]) {
			return g[1] + ":" + g[2]
		}
	}
	return ""
}

var includedFrom = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:In file included|\s+)\s*from ([^:]+):(\d+)[:,]`)
})

// inHeaders reports whether a file is one of the kernel's headers.
func (f Facts) inHeaders(file string) bool {
	if f.BuildDir != "" && strings.HasPrefix(file, strings.TrimRight(f.BuildDir, "/")+"/") {
		return false
	}
	for _, dir := range f.HeaderDirs {
		if strings.HasPrefix(file, strings.TrimRight(dir, "/")+"/") {
			return true
		}
	}
	return headerPath().MatchString(file)
}

var headerPath = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(^|/)linux-(headers|kbuild|source|obj)?-?[^/]*/|/src/(kernels|linux)\b|/modules/[^/]+/(build|source)/|^(\./)?(include|arch|scripts|tools)/`)
})
