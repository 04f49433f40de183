// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// mkLine is one logical line of a makefile.
type mkLine struct {
	line int
	text string
	// recipe says that it is a command; byHand that it only counts where kbuild
	// hasn't set KERNELRELEASE.
	recipe, byHand bool
	// condition says that it begins or changes a conditional.
	condition bool
	// name, op and value are of an assignment.
	name, op, value string
}

// isMakefile reports whether make or kbuild may read a file.
func isMakefile(name string) bool {
	base := path.Base(name)
	return base == "Makefile" || base == "makefile" || base == "GNUmakefile" || base == "Kbuild" ||
		strings.HasPrefix(base, "Makefile.") || strings.HasPrefix(base, "Kbuild.") || strings.HasSuffix(base, ".mk")
}

// IsRead reports whether Check wants the text of a file: makefiles, C sources. It
// also wants the conf and its scripts.
func IsRead(name string) bool {
	ext := path.Ext(name)
	return isMakefile(name) || ext == ".c" || ext == ".h" || name == ConfFile
}

// parseMakefile splits a makefile into its logical lines. It knows conditionals on
// KERNELRELEASE, by which one file serves kbuild and people
// (Documentation/kbuild/modules.rst); both branches of all others count.
func parseMakefile(text string) []mkLine {
	var list []mkLine
	var stack []branch
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		at, raw := i+1, lines[i]
		for strings.HasSuffix(raw, "\\") && i+1 < len(lines) {
			i++
			raw = strings.TrimSuffix(raw, "\\") + " " + strings.TrimSpace(lines[i])
		}
		l := mkLine{line: at, text: raw, recipe: strings.HasPrefix(raw, "\t")}
		if !l.recipe || len(stack) > 0 && conditional(strings.TrimSpace(raw)) {
			trimmed := strings.TrimSpace(uncommented(raw))
			if next, ok := follow(stack, trimmed); ok {
				stack = next
				if word, test, _ := strings.Cut(trimmed, " "); word != "endif" && strings.Contains(test+word, "$") {
					list = append(list, mkLine{line: at, text: trimmed, condition: true})
				}
				continue
			}
			l.text = trimmed
		}
		l.byHand = slices.ContainsFunc(stack, func(b branch) bool { return b.known && b.empty })
		if m := assignment().FindStringSubmatch(l.text); m != nil && !l.recipe {
			l.name, l.op, l.value = m[1], m[2], m[3]
		}
		if strings.TrimSpace(l.text) != "" {
			list = append(list, l)
		}
	}
	return list
}

// branch is an open conditional: known says that it is about KERNELRELEASE, empty
// that its branch is for an empty one.
type branch struct{ known, empty bool }

var assignment = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:export +|override +)*([A-Za-z0-9_.$(){}/-]+)[ \t]*(:=|::=|\?=|\+=|!=|=)[ \t]*(.*)$`)
})

func conditional(text string) bool {
	word, _, _ := strings.Cut(text, " ")
	return slices.Contains([]string{"ifeq", "ifneq", "ifdef", "ifndef", "else", "endif"}, word)
}

// follow returns the open conditionals behind a line, false if it is none.
func follow(stack []branch, text string) ([]branch, bool) {
	word, rest, _ := strings.Cut(strings.Replace(text, "(", " (", 1), " ")
	rest = strings.ReplaceAll(strings.TrimSpace(rest), " ", "")
	test := strings.NewReplacer("{", "(", "}", ")", `"`, "", "'", "").Replace(rest)
	about := slices.Contains([]string{"KERNELRELEASE", "($(KERNELRELEASE),)", "(,$(KERNELRELEASE))", "$(KERNELRELEASE)"}, test)
	switch word {
	case "ifeq", "ifndef":
		return append(slices.Clone(stack), branch{about, true}), true
	case "ifneq", "ifdef":
		return append(slices.Clone(stack), branch{about, false}), true
	case "else":
		if len(stack) == 0 {
			return stack, true
		}
		next := slices.Clone(stack)
		b := &next[len(next)-1]
		if rest != "" {
			b.known = false // else ifeq ...
		}
		b.empty = !b.empty
		return next, true
	case "endif":
		return stack[:max(0, len(stack)-1)], true
	}
	return stack, false
}

// uncommented cuts the comment off a line of a makefile.
func uncommented(text string) string {
	for i := range len(text) {
		if text[i] == '#' && (i == 0 || text[i-1] != '\\') {
			return text[:i]
		}
	}
	return text
}

// makefiles looks at all makefiles of the source.
func (c *checker) makefiles() {
	files := map[string][]mkLine{}
	var names []string
	for _, name := range c.Names {
		if text, ok := c.Texts[name]; ok && isMakefile(name) {
			files[name] = parseMakefile(text)
			names = append(names, name)
		}
	}
	for _, name := range names {
		c.unames(name, files[name])
		for _, l := range files[name] {
			c.makefileLine(name, l)
		}
	}
	c.objM(files)
}

func (c *checker) makefileLine(file string, l mkLine) {
	switch {
	case l.name == "MAKEFLAGS" && ownJobs().MatchString(" "+l.value):
		c.add("jobs", file, l.line, "MAKEFLAGS has a number of jobs")
	case l.recipe && callsMake().MatchString(l.text) && ownJobs().MatchString(l.text):
		c.add("jobs", file, l.line, "make is called with a number of jobs")
	}
}

var callsUname = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\buname +(-[a-z]*[rva]|--kernel-release|--kernel-version|--all)`)
})

var callsMake = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(^|[\s;&|(@-])(\$[({]MAKE[)}]|g?make)(\s|$)`)
})

var ownJobs = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\s(-j *([0-9]+|\$[({$]\S*)|-j(\s|$)|--jobs\b)`)
})

// objM holds the objects of the conf against obj-m in the makefiles.
func (c *checker) objM(files map[string][]mkLine) {
	if len(files) == 0 {
		if c.Module != nil && !c.generated() && !slices.ContainsFunc(c.Names, isMakefile) {
			c.add("no-makefile", ConfFile, c.lineOf("MAKE", -1), "there is no Makefile nor Kbuild")
		}
		return
	}
	made, whole := objectsMade(files)
	if !whole {
		return
	}
	for _, o := range c.objects() {
		if o.Built == "" || made[o.Built] || c.commandNames(o.Built) {
			continue
		}
		what := o.Built + " is in no obj-m"
		for _, swap := range []string{"-_", "_-"} {
			if other := strings.ReplaceAll(o.Built, swap[:1], swap[1:]); other != o.Built && made[other] {
				what += ", " + other + " is"
			}
		}
		c.add("obj-m", ConfFile, c.lineOfObject(o), "%s", what)
	}
}

// objectsMade returns the objects that makefiles name in obj-m; whole is false if
// there may be more.
func objectsMade(files map[string][]mkLine) (made map[string]bool, whole bool) {
	vars := map[string]string{}
	for _, lines := range files {
		for _, l := range lines {
			if l.name != "" && !strings.HasPrefix(l.name, "obj-") {
				vars[l.name] += " " + l.value
			}
		}
	}
	made, whole = map[string]bool{}, true
	for _, lines := range files {
		for _, l := range lines {
			if strings.HasPrefix(l.name, "obj-") {
				value, known := expand(l.value, vars)
				whole = whole && known
				for _, word := range strings.Fields(value) {
					made[strings.TrimSuffix(path.Base(word), ".o")] = true
				}
				continue
			}
			if strings.HasPrefix(l.text, "include ") || strings.HasPrefix(l.text, "-include ") || strings.Contains(l.text, "$(eval") {
				whole = false
			}
		}
	}
	return made, whole
}

// generated reports whether a script may make the makefiles.
func (c *checker) generated() bool {
	return c.Module.PreBuild != "" || c.has("configure") || c.has("CMakeLists.txt") || c.lineOf("MAKE", -1) > 0
}

// commandNames reports whether MAKE itself tells kbuild of an object.
func (c *checker) commandNames(name string) bool {
	return c.Module != nil && strings.Contains(c.Module.Make, name+".o")
}

var reference = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\$[({]([A-Za-z0-9_.-]+)[)}]`)
})

// expand replaces the variables of a makefile's value by theirs; whole is false if
// some are unknown, or it has functions.
func expand(value string, vars map[string]string) (text string, whole bool) {
	const (
		deepest = 10
		longest = 1 << 16 // what is put in at once
	)
	whole = true
	for range deepest {
		if !strings.Contains(value, "$") {
			break
		}
		left := longest
		value = reference().ReplaceAllStringFunc(value, func(ref string) string {
			v, ok := vars[ref[2:len(ref)-1]]
			if left -= len(v); left < 0 {
				v, ok = "", false
			}
			whole = whole && ok
			return v
		})
	}
	return value, whole && !strings.Contains(value, "$")
}
