// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"mvdan.cc/sh/v3/syntax"

	"dkms-go/internal/conf"
	"dkms-go/internal/nearmiss"
	"dkms-go/internal/state"
)

// conf looks at dkms.conf: its text as a syntax tree, and what it comes to.
func (c *checker) conf() {
	var err error
	if c.encoding() {
		c.Texts[ConfFile] = strings.ReplaceAll(strings.TrimPrefix(c.Texts[ConfFile], mark), "\r\n", "\n")
		c.Module, c.Invalid, c.Syntax = nil, nil, "" // what is wrong with values comes of it
	}
	c.stmts, err = conf.Statements(c.Texts[ConfFile])
	c.stopped(err)
	c.quoting()
	c.readMake()
	c.unamesIn(ConfFile, 0, c.stmts)
	if c.Module == nil {
		return
	}
	c.values()
	c.unknown()
	c.undefined()
	for _, o := range c.Module.Objects {
		if testObject(o.Built) {
			c.add("test-object", ConfFile, c.lineOfObject(o), "%s is installed, and looks like a module for tests", o.Built)
		}
	}
	for _, p := range c.Module.Patches {
		if name, _, _ := strings.Cut(p, " "); !c.has("patches/" + name) {
			c.add("patch", ConfFile, c.lineOf("PATCH", -1), "there is no patches/%s", name)
		}
	}
	if err != nil || c.Module.Incomplete && len(c.Module.Vars) == 0 {
		return // what isn't there may stand where nothing was read
	}
	if !c.Module.Autoinstall && c.lineOf("AUTOINSTALL", -1) == 0 {
		c.add("autoinstall", ConfFile, 0, "the module doesn't ask to be installed for new kernels")
	}
	if !c.ranged() {
		c.add("range", ConfFile, 0, "no range of kernels is given")
	}
}

// mark is the byte order mark of UTF-8.
const mark = "\ufeff"

// encoding tells of what editors of other systems leave in a text, and whether there is
// any.
func (c *checker) encoding() bool {
	text := c.Texts[ConfFile]
	if strings.HasPrefix(text, mark) {
		c.add("bom", ConfFile, 1, "it begins with a byte order mark")
	}
	if before, _, ok := strings.Cut(text, "\r\n"); ok {
		c.add("crlf", ConfFile, 1+strings.Count(before, "\n"), "lines end with a carriage return, %d of them", strings.Count(text, "\r\n"))
	}
	return strings.HasPrefix(text, mark) || strings.Contains(text, "\r\n")
}

// stopped tells where the conf can't be read any further, err being where the parser
// at hand has stopped.
func (c *checker) stopped(err error) {
	line := 0
	var parse syntax.ParseError
	if errors.As(err, &parse) {
		line = int(parse.Pos.Line())
		lines := strings.Split(c.Texts[ConfFile], "\n")
		// The shell takes NAME[0] = for a command, this parser for an error.
		if m := spaced().FindStringSubmatch(lines[min(max(line, 1), len(lines))-1]); m != nil && slices.Contains(conf.Directives(), m[1]) {
			c.add("quoting", ConfFile, line, "blanks stand around the = of %s", m[1])
			return
		}
	}
	if c.Syntax != "" {
		c.add("syntax", ConfFile, line, "%s", said().ReplaceAllString(c.Syntax, ""))
	}
}

var spaced = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\s*([A-Z_]+)\[[^]]*\]\s+=`) })

// said matches the place at the begin of an error of bash or of the parser.
var said = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^.*dkms\.conf: ?(line )?[0-9:]+ `) })

// values tells what dkms refuses in the values.
func (c *checker) values() {
	for _, p := range c.Invalid {
		line := c.lineNamed(p)
		if line == 0 && strings.HasPrefix(p, "DEST_MODULE_NAME") {
			continue // its default is BUILT_MODULE_NAME, of which the same is said
		}
		c.add("invalid", ConfFile, line, "%s", p)
	}
	id := state.ID{Module: c.Module.Name, Version: c.Module.Version}
	if err := state.CheckName("PACKAGE_NAME", id.Module); err != nil && id.Module != "" {
		c.add("name", ConfFile, c.lineOf("PACKAGE_NAME", -1), "%v", err)
	}
	if err := state.CheckName("PACKAGE_VERSION", id.Version); err != nil && id.Version != "" {
		c.add("name", ConfFile, c.lineOf("PACKAGE_VERSION", -1), "%v", err)
	}
	for _, d := range c.Module.Deprecated {
		switch {
		case d == "CLEAN":
			c.add("clean", ConfFile, c.lineOf(d, -1), "CLEAN is deprecated")
		case d == "OBSOLETE_BY":
			c.add("deprecated", ConfFile, c.lineOf(d, -1), "OBSOLETE_BY is deprecated: use BUILD_EXCLUSIVE_KERNEL_MAX")
		default:
			c.add("deprecated", ConfFile, c.lineOf(d, -1), "%s is deprecated", d)
		}
	}
}

// ranged reports whether anything tells for which kernels the module is.
func (c *checker) ranged() bool {
	for _, name := range []string{"BUILD_EXCLUSIVE_KERNEL", "BUILD_EXCLUSIVE_KERNEL_MIN", "BUILD_EXCLUSIVE_KERNEL_MAX", "OBSOLETE_BY"} {
		if len(c.Module.Vars[name]) > 0 || c.lineOf(name, -1) > 0 {
			return true
		}
	}
	return false
}

// testObject tells a module for tests by a word in its name.
func testObject(name string) bool {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	return slices.ContainsFunc(words, func(w string) bool { return w == "test" || w == "tests" || w == "selftest" || w == "kunit" })
}

// assignments calls f for each assignment of the conf with the index that it has as
// a number, -1 if it has none.
func (c *checker) assignments(f func(a *syntax.Assign, index int)) {
	for _, stmt := range c.stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			if a, ok := n.(*syntax.Assign); ok && a.Name != nil {
				index := -1
				if w, ok := a.Index.(*syntax.Word); ok {
					if i, err := strconv.Atoi(w.Lit()); err == nil {
						index = i
					}
				}
				f(a, index)
			}
			return true
		})
	}
}

// lineOf returns the line of the first assignment of a directive, or of an element
// of it, 0 if there is none.
func (c *checker) lineOf(name string, index int) int {
	line, exact := 0, 0
	c.assignments(func(a *syntax.Assign, i int) {
		if a.Name.Value != name {
			return
		}
		at := int(a.Pos().Line())
		if line == 0 {
			line = at
		}
		if exact == 0 && (i == index || i < 0 && index == 0) {
			exact = at
		}
	})
	if exact > 0 {
		return exact
	}
	return line
}

// lineOfObject returns the line that names an object.
func (c *checker) lineOfObject(o conf.Object) int {
	line := 0
	c.assignments(func(a *syntax.Assign, _ int) {
		if line == 0 && a.Name.Value == "BUILT_MODULE_NAME" && a.Value != nil && plain(a.Value) == o.Built {
			line = int(a.Pos().Line())
		}
	})
	if line == 0 {
		line = c.lineOf("BUILT_MODULE_NAME", o.Index)
	}
	return line
}

// lineNamed returns the line of the directive that a text begins with.
func (c *checker) lineNamed(text string) int {
	name, _, _ := strings.Cut(text, " ")
	index := -1
	if base, i, ok := strings.Cut(name, "["); ok {
		name = base
		if n, err := strconv.Atoi(strings.TrimSuffix(i, "]")); err == nil {
			index = n
		}
	}
	return c.lineOf(name, index)
}

// unknown finds upper-case variables that are assigned, never used and no
// directives. Those that are exported are for the commands of the build.
func (c *checker) unknown() {
	used := map[string]bool{"PATH": true, "SHELL": true, "HOME": true, "IFS": true, "LANG": true, "LC_ALL": true}
	sourced := false
	for _, stmt := range c.stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.ParamExp:
				if n.Param != nil {
					used[n.Param.Value] = true
				}
			case *syntax.DeclClause:
				for _, a := range n.Args {
					if a.Name != nil {
						used[a.Name.Value] = true
					}
				}
			case *syntax.CallExpr:
				sourced = sourced || sources(n)
				if len(n.Args) > 0 {
					for _, a := range n.Assigns {
						used[a.Name.Value] = true // for one command
					}
				}
			}
			return true
		})
	}
	directives := conf.Directives()
	c.assignments(func(a *syntax.Assign, _ int) {
		name := a.Name.Value
		if used[name] || slices.Contains(directives, name) || name != strings.ToUpper(name) || strings.Trim(name, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			return
		}
		what := name + " is no directive of dkms.conf, and nothing uses it"
		if near := nearmiss.Find(name, directives, 3); near != "" {
			what += ": did you mean " + near + "?"
		}
		c.add("unknown", ConfFile, int(a.Pos().Line()), "%s", what)
	})
}

// sources reports whether a command reads another file into the conf.
func sources(call *syntax.CallExpr) bool {
	if len(call.Args) == 0 {
		return false
	}
	word := call.Args[0].Lit()
	return word == "." || word == "source" || word == "eval" || word == "read" || word == "mapfile" || word == "readarray"
}

// undefined finds expansions of variables that nobody sets. A conf that reads other
// files, or what commands print, may get them from there.
func (c *checker) undefined() {
	known := map[string]bool{}
	for _, name := range append(conf.Directives(), c.Variables...) {
		known[name] = true
	}
	open := false
	for _, stmt := range c.stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.Assign:
				if n.Name != nil {
					known[n.Name.Value] = true
				}
			case *syntax.CallExpr:
				open = open || sources(n)
			case *syntax.WordIter:
				known[n.Name.Value] = true
			case *syntax.FuncDecl:
				open = true
			}
			return true
		})
	}
	if open {
		return
	}
	for _, stmt := range c.stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			p, ok := n.(*syntax.ParamExp)
			if !ok || p.Param == nil || p.Exp != nil || p.Length || p.Excl || known[p.Param.Value] || !ownName(p.Param.Value) {
				return true
			}
			what := "$" + p.Param.Value + " is set nowhere"
			if near := nearmiss.Find(p.Param.Value, c.Variables, 5); near != "" {
				what += ": did you mean $" + near + "?"
			}
			c.add("undefined", ConfFile, int(p.Pos().Line()), "%s", what)
			return true
		})
	}
}

// ownName tells variables of a conf's own from those of every process and from the
// shell's.
func ownName(name string) bool {
	process := []string{"PATH", "HOME", "SHELL", "USER", "PWD", "TMPDIR", "LANG", "HOSTNAME", "HOSTTYPE", "MACHTYPE", "OSTYPE", "UID", "EUID", "RANDOM", "LINENO", "SECONDS"}
	return name != "" && (unicode.IsLetter(rune(name[0])) || name[0] == '_' && len(name) > 1) && !slices.Contains(process, name) && !strings.HasPrefix(name, "BASH")
}

// quoting finds values that end before their end, and commands that should have
// been assignments.
func (c *checker) quoting() {
	directives := conf.Directives()
	for _, stmt := range c.stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			call, ok := n.(*syntax.CallExpr)
			if !ok {
				return true
			}
			if len(call.Assigns) > 0 && len(call.Args) > 0 {
				last := call.Assigns[len(call.Assigns)-1]
				if last.Name != nil && slices.Contains(directives, last.Name.Value) {
					c.add("quoting", ConfFile, int(last.Pos().Line()), "the value of %s ends at the first blank", last.Name.Value)
				}
			}
			if len(call.Args) > 1 && strings.HasPrefix(plain(call.Args[1]), "=") {
				name, _, _ := strings.Cut(plain(call.Args[0]), "[")
				if slices.Contains(directives, name) {
					c.add("quoting", ConfFile, int(call.Pos().Line()), "blanks stand around the = of %s", name)
				}
			}
			return true
		})
	}
}

// plain returns the literal text of a word, with a $ for what it expands.
func plain(w *syntax.Word) string { return textOf(w, "$") }

// textOf is plain with another text for expansions.
func textOf(w *syntax.Word, expansion string) string {
	var b strings.Builder
	for _, p := range w.Parts {
		switch p := p.(type) {
		case *syntax.Lit:
			b.WriteString(p.Value)
		case *syntax.SglQuoted:
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			text := textOf(&syntax.Word{Parts: p.Parts}, expansion)
			b.WriteString(strings.NewReplacer("\\`", "`", `\"`, `"`, `\$`, "$", "\\\n", "").Replace(text))
		default:
			b.WriteString(expansion)
		}
	}
	return b.String()
}

// readMake looks at the commands that compile: what MAKE comes to, and each MAKE of
// the conf as it stands there.
func (c *checker) readMake() {
	c.given = map[string]bool{"KERNELRELEASE": true} // which dkms gives to make
	line := c.lineOf("MAKE", -1)
	c.direct = line == 0 // the default calls kbuild
	if c.Module != nil && strings.TrimSpace(c.Module.Make) != "" {
		c.makeText(c.Module.Make, line)
	}
	c.assignments(func(a *syntax.Assign, _ int) {
		if a.Name.Value == "MAKE" && a.Value != nil {
			c.makeText(textOf(a.Value, "${_}"), int(a.Pos().Line()))
		}
	})
}

// makeText looks at one text of MAKE.
func (c *checker) makeText(text string, line int) {
	stmts, err := conf.Statements(text)
	if err != nil {
		c.add("quoting", ConfFile, line, "the command of MAKE has a syntax error: %s", strings.TrimLeft(err.Error(), "0123456789: "))
		return
	}
	c.unamesIn(ConfFile, line, stmts)
	for _, stmt := range stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 {
				c.direct = c.makeCall(call, line) || c.direct
			}
			return true
		})
	}
}

// makeCall looks at one command of MAKE; true for one that calls kbuild.
func (c *checker) makeCall(call *syntax.CallExpr, line int) (kbuild bool) {
	program := plain(call.Args[0])
	for _, a := range call.Assigns {
		if a.Name != nil {
			c.given[a.Name.Value] = true
		}
	}
	make := strings.HasSuffix(program, "make") || strings.HasPrefix(program, "$") || strings.HasPrefix(program, "'")
	value := false // the word is that of an option before it
	var goals []string
	for _, w := range call.Args[1:] {
		word := plain(w)
		name, _, ok := strings.Cut(word, "=")
		switch {
		case ok:
			c.given[name] = true
			kbuild = kbuild || name == "M" || name == "SUBDIRS"
		case value, strings.HasPrefix(word, "-"):
		case strings.Contains(word, "$"):
			c.vague = true
		default:
			goals = append(goals, word)
		}
		value = !value && slices.Contains([]string{"-C", "-f", "-I", "-o", "-W"}, word)
		if strings.HasSuffix(program, "make") && jobsWord(word) {
			c.add("jobs", ConfFile, line, "MAKE sets a number of jobs")
		}
	}
	if make && !kbuild {
		c.own, c.goals = true, append(c.goals, goals...)
	}
	return kbuild
}

// jobsWord reports whether a word of a make command is its option for jobs.
func jobsWord(word string) bool {
	if strings.HasPrefix(word, "--jobs") {
		return true
	}
	rest, ok := strings.CutPrefix(word, "-j")
	return ok && strings.Trim(rest, "0123456789$") == ""
}

// unamesIn finds calls of uname that ask for the running kernel. line is that of
// the text where the statements stand in another; 0 counts in themselves.
func (c *checker) unamesIn(file string, line int, stmts []*syntax.Stmt) {
	for _, stmt := range stmts {
		syntax.Walk(stmt, func(n syntax.Node) bool {
			call, ok := n.(*syntax.CallExpr)
			if !ok || len(call.Args) == 0 || strings.TrimPrefix(plain(call.Args[0]), "/usr/bin/") != "uname" && plain(call.Args[0]) != "/bin/uname" {
				return true
			}
			at := line
			if at == 0 {
				at = int(call.Pos().Line())
			}
			if asksKernel(call.Args[1:]) {
				c.add("uname", file, at, "uname tells of the running kernel, which need not be the one to build for")
			}
			return true
		})
	}
}

// asksKernel reports whether the options of uname(1) ask for release or version.
func asksKernel(args []*syntax.Word) bool {
	for _, w := range args {
		switch word := plain(w); {
		case word == "--kernel-release", word == "--kernel-version", word == "--all":
			return true
		case strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "--") && strings.ContainsAny(word, "rva"):
			return true
		}
	}
	return false
}
