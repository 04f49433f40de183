// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"dkms-go/internal/headers"
)

// Question returns what the headers of the kernels, and the module's source, are to
// be asked for; false if they have nothing to say.
func (d *Diagnosis) Question() (headers.Query, bool) {
	s := d.Subject
	if s == nil || s.Name == "" || d.Class != API && d.Class != Code && d.Class != Dependency {
		return headers.Query{}, false
	}
	q := headers.Query{Name: lastWord(s.Name), Of: lastWord(s.Of)}
	switch s.Kind {
	case Member:
		q.Kind = headers.Member
		if s.Of == "" {
			return headers.Query{}, false
		}
	case Symbol:
		q.Kind = headers.Export
	case Header:
		q.Kind, q.Name = headers.File, s.Name
	case Callback:
		q.Kind = headers.Callback
	case Function, Macro, Type, Name2:
		q.Kind = headers.Name
	default:
		return headers.Query{}, false
	}
	return q, q.Valid()
}

func lastWord(s string) string { return s[strings.LastIndexByte(s, ' ')+1:] }

// Answer takes in what was found: first what the module's own source has, then each
// kernel. A kernel that could not be searched is not among them.
func (d *Diagnosis) Answer(own headers.Found, kernels []headers.Kernel) {
	target := headers.Found{}
	for _, k := range kernels {
		if k.Release == d.facts.Kernel {
			target = k.Found
		}
	}
	d.sort(kernels, target)
	switch s := d.Subject; {
	case s.Kind == Symbol:
		d.answerSymbol(own, target)
	case s.Kind == Member && own.Owner && !target.Owner:
		d.Class = Code
	case s.Kind != Member && own.There() && own.Free && len(d.Has) == 0 && !target.There() && s.Kind != Header:
		d.Class = Code
	case d.Class == API || d.Class == Code && s.Kind == Name2 && !s.changed && len(d.Has) > 0 && !target.There():
		d.Class = API
		d.answerName(target)
	}
	d.conclude()
}

// sort tells which kernels have it as the module expects.
func (d *Diagnosis) sort(kernels []headers.Kernel, target headers.Found) {
	s := d.Subject
	for _, k := range kernels {
		has := k.There() && !d.leftOut(k.Found, k.Config)
		switch {
		case s.Kind == Callback:
			has = signature(k.Declaration, s.Name) != "" && sameSignature(k.Declaration, s)
		case s.changed && k.Release == d.facts.Kernel:
			has = false
		case s.changed && s.Kind == Symbol:
			has = k.There() && k.Declaration != target.Declaration
		case s.changed:
			has = has && plain(k.Declaration) != plain(target.Declaration)
		}
		if has {
			d.Has = append(d.Has, k.Release)
			if sameVersion(k.Release, d.facts.Kernel) {
				d.similar = append(d.similar, k.Release)
			}
		} else {
			d.Lacks = append(d.Lacks, k.Release)
		}
	}
}

// answerName corrects the class of a name that the kernel should declare.
func (d *Diagnosis) answerName(target headers.Found) {
	if d.Subject.changed {
		return
	}
	d.where = target.File
	switch {
	case target.There() && d.leftOut(target, d.facts.Config):
		d.Class = Config
	case !target.There() && len(d.similar) > 0 && len(d.Lacks) > 0:
		d.Class = Config
	}
}

// leftOut reports whether conditions of the preprocessor leave a declaration out,
// by the kernel's configuration, and keeps the options.
func (d *Diagnosis) leftOut(f headers.Found, config func(string) (string, bool)) bool {
	if config == nil || len(f.Guards) == 0 {
		return false
	}
	for _, all := range f.Guards { // of one place in the headers each
		options := false
		for _, g := range all {
			if holds, known := evaluate(g, config); known && !holds {
				options = true
				if f.Of == d.facts.Kernel {
					d.needs = append(d.needs, optionName().FindAllString(g, -1)...)
				}
			}
		}
		if !options {
			d.needs = nil
			return false
		}
	}
	slices.Sort(d.needs)
	d.needs = slices.Compact(d.needs)
	return true
}

var guardTerm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(!?)\s*(?:defined\s*\(?\s*|IS_ENABLED\s*\(\s*|IS_BUILTIN\s*\(\s*|IS_MODULE\s*\(\s*|IS_REACHABLE\s*\(\s*)(CONFIG_[A-Z0-9_]+)\s*\)?`)
})

// evaluate tells whether a condition on options holds; known is false for one that
// is about something else, or mixes "and" with "or".
func evaluate(condition string, config func(string) (string, bool)) (holds, known bool) {
	negate := strings.HasPrefix(condition, "!(")
	if negate {
		condition = strings.TrimSuffix(strings.TrimPrefix(condition, "!("), ")")
	}
	and, or := strings.Contains(condition, "&&"), strings.Contains(condition, "||")
	rest := guardTerm().ReplaceAllString(condition, "")
	if and && or || strings.Trim(rest, " ()&|") != "" {
		return false, false
	}
	holds = and || !or
	for _, g := range guardTerm().FindAllStringSubmatch(condition, -1) {
		v, _ := config(g[2])
		on := (v == "y" || v == "m") != (g[1] == "!")
		known = true
		if or {
			holds = holds || on
		} else {
			holds = holds && on
		}
	}
	return holds != negate, known
}

// answerSymbol tells who should export a symbol.
func (d *Diagnosis) answerSymbol(own, target headers.Found) {
	switch {
	case d.Class != Dependency:
	case len(d.facts.Depends) > 0 && len(d.Has) == 0:
	case own.Defined && len(d.Has) == 0 && !target.Declared:
		d.Class = Code
	case len(d.similar) > 0:
		d.Class = Config
	case len(d.Has) > 0 || target.Declared:
		d.Class = API
		if target.Declared && len(d.Has) == 0 && d.leftOut(target, d.facts.Config) {
			d.Class = Config
		}
	}
}

var versionOf = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\d+\.\d+(?:\.\d+)?(?:-\d+)?`) })

// sameVersion reports whether two releases are flavours of one version.
func sameVersion(a, b string) bool {
	return a != b && versionOf().FindString(a) != "" && versionOf().FindString(a) == versionOf().FindString(b)
}

var blanks = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\s+`) })

// plain is a declaration without what doesn't matter.
func plain(declaration string) string {
	return strings.TrimSpace(blanks().ReplaceAllString(declaration, " "))
}

// signature is the part of a declaration that has a member with a function's address.
func signature(declaration, member string) string {
	p, err := regexp.Compile(`[\w \t*]*\(\s*\*\s*` + regexp.QuoteMeta(member) + `\s*\)\s*\([^;]*\)`)
	if err != nil {
		return ""
	}
	return p.FindString(declaration)
}

var typeName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[A-Za-z_]\w*|\*`) })

// sameSignature reports whether a kernel's declarations of a member have one with
// the type that the module has: the same words in order, parameters' names aside.
func sameSignature(declarations string, s *Subject) bool {
	want := typeName().FindAllString(s.Has, -1)
	for _, declaration := range strings.Split(declarations, ";") {
		text := signature(declaration+";", s.Name)
		if text == "" {
			text = signature(declaration, s.Name)
		}
		if text == "" || strings.Count(text, ",") != strings.Count(s.Has, ",") {
			continue
		}
		i := 0
		for _, word := range typeName().FindAllString(text, -1) {
			if i < len(want) && word == want[i] {
				i++
			}
		}
		first := typeName().FindString(strings.TrimPrefix(strings.TrimSpace(text), "const "))
		if i == len(want) && first == typeName().FindString(strings.TrimPrefix(s.Has, "const ")) {
			return true
		}
	}
	return false
}
