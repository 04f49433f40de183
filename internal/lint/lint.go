// SPDX-License-Identifier: Apache-2.0

// Package lint tells the author of a module what to do better in its dkms.conf,
// makefiles, scripts and sources. It gets texts and returns findings: nothing of
// the module is executed, and nothing is read here.
package lint

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"dkms-go/internal/conf"
	"dkms-go/internal/finding"
)

// ConfFile is the name of the conf in a module's directory.
const ConfFile = "dkms.conf"

// Source is a module's directory, as it was read.
type Source struct {
	// Module is the evaluated conf, of which no command was run; nil if that
	// failed. Invalid are conf.Invalid's problems, Syntax is a syntax error.
	Module  *conf.Module
	Invalid []string
	Syntax  string
	// Names are all files of the directory, as paths below it, with a slash at the
	// end of a directory. Texts has those that were read; Executable are the files
	// that may be executed.
	Names      []string
	Texts      map[string]string
	Executable map[string]bool
	// Variables are the shell variables that dkms sets for a conf.
	Variables []string
}

// A Rule describes one check.
type Rule struct {
	Name     string
	Severity finding.Severity
	// Why it matters and Fix, what to do, are a half sentence each.
	Why, Fix string
}

// Rules lists all checks; docs/lint.md has the same table.
func Rules() []Rule {
	return []Rule{
		{"syntax", finding.Error, "what stands behind a syntax error is not read, and nothing is built", "balance quotes and brackets; bash -n dkms.conf names the place"},
		{"invalid", finding.Error, "dkms refuses the conf", "correct the directive as dkms.conf(5) has it"},
		{"name", finding.Error, "name and version become names of directories", "use letters, digits and - _ . + ~"},
		{"bom", finding.Error, "bash takes the mark for a part of the first word, which is then no directive", "save the file as UTF-8 without a byte order mark"},
		{"crlf", finding.Error, "to bash the carriage return is a part of the value, or of the command", "save the file with line ends of Unix: sed -i 's/\\r$//' dkms.conf"},
		{"quoting", finding.Error, "the shell takes the line for a command, or for less than the whole value", "put the whole value in double quotes, with no blanks around ="},
		{"unknown", finding.Warning, "dkms passes over what is no directive", "correct the name, use it in another value, or remove it"},
		{"undefined", finding.Warning, "an unset variable is empty, and the command another one", "correct the name, or set it before"},
		{"deprecated", finding.Warning, "dkms has no use for it any more", "remove it, or use what dkms.conf(5) names instead"},
		{"clean", finding.Note, "CLEAN is not run any more: each build begins in a fresh copy", "remove it once older dkms don't matter"},
		{"uname", finding.Warning, "dkms builds for kernels that don't run", "take the kernel from $kernelver and $kernel_source_dir; of a makefile have MAKE set the variable, or use KERNELRELEASE there"},
		{"jobs", finding.Warning, "dkms shares the jobs of the machine among its builds", "leave -j out: dkms gives make its jobs"},
		{"no-version", finding.Warning, "dkms and people compare versions of objects by it", "put MODULE_VERSION into the sources, with the value of PACKAGE_VERSION"},
		{"version", finding.Warning, "who looks at the loaded module sees another version than dkms status", "let one place set both, such as a header or -D in the makefile"},
		{"shipped", finding.Warning, "what was built elsewhere may be taken for built here", "remove it from what is shipped: make clean, .gitignore"},
		{"test-object", finding.Warning, "modules for tests don't belong into users' kernels", "leave it out of dkms.conf"},
		{"no-makefile", finding.Warning, "kbuild reads Kbuild or Makefile in the directory of each object", "ship one, or name its directory in BUILT_MODULE_LOCATION"},
		{"obj-m", finding.Warning, "no obj-m of the makefiles names the object, so kbuild doesn't make it", "correct BUILT_MODULE_NAME or obj-m: both have the file's name without .ko and .o"},
		{"patch", finding.Error, "the build fails where a patch is missing", "ship it in patches/, or remove the PATCH directive"},
		{"script", finding.Warning, "dkms goes on without a script that can't be executed", "ship it, with a #! line, and chmod +x"},
		{"network", finding.Warning, "builds have no network, and machines in data centres neither", "ship what is needed with the source"},
		{"outside", finding.Warning, "a build may write to its own directory only", "write there; what is to be installed belongs into the package, or into POST_INSTALL"},
		{"installs", finding.Note, "the script changes the system outside of dkms, which then knows nothing of it", "let the package do it"},
		{"autoinstall", finding.Note, "without AUTOINSTALL=\"yes\" new kernels don't get the module by themselves", "add it, unless that is what you want"},
		{"range", finding.Note, "where kernels are too old or too new people see a compiler's error and not a sentence", "add BUILD_EXCLUSIVE_KERNEL_MIN and _MAX once you know where it ends"},
	}
}

// Check looks at a module's source. Findings come in the order of files and lines.
func Check(s Source) []finding.Finding {
	s.Texts = maps.Clone(s.Texts)
	c := &checker{Source: s}
	c.conf()
	c.makefiles()
	c.sources()
	c.scripts()
	slices.SortStableFunc(c.found, func(a, b place) int {
		if a.file != b.file {
			return strings.Compare(first(a.file), first(b.file))
		}
		return a.line - b.line
	})
	var list []finding.Finding
	for _, p := range c.found {
		list = append(list, p.Finding)
	}
	return list
}

// first sorts the conf before everything else.
func first(file string) string {
	if file == ConfFile {
		return ""
	}
	return file
}

type place struct {
	finding.Finding
	file string
	line int
}

type checker struct {
	Source
	stmts []*syntax.Stmt
	// direct says that MAKE calls kbuild and not a makefile of the module; given are
	// the variables that it sets.
	direct bool
	given  map[string]bool
	// own says that MAKE calls a makefile of the module, goals are the targets that it
	// names there; vague, that it may name others.
	own, vague bool
	goals      []string
	found      []place
}

// add notes a finding once per place; line 0 is the file as a whole.
func (c *checker) add(rule, file string, line int, what string, args ...any) {
	where := file
	if line > 0 {
		where = fmt.Sprintf("%s:%d", file, line)
	}
	f := finding.Finding{Check: rule, Where: where, What: fmt.Sprintf(what, args...)}
	for _, r := range Rules() {
		if r.Name == rule {
			f.Severity, f.Why, f.Next = r.Severity, r.Why, []string{r.Fix}
		}
	}
	if !slices.ContainsFunc(c.found, func(p place) bool { return p.Check == rule && p.Where == where && p.What == f.What }) {
		c.found = append(c.found, place{f, file, line})
	}
}

// has reports whether a path below the directory is a file.
func (c *checker) has(name string) bool { return slices.Contains(c.Names, path.Clean(name)) }

// objects are the objects that the conf names.
func (c *checker) objects() []conf.Object {
	if c.Module == nil {
		return nil
	}
	return c.Module.Objects
}
