// SPDX-License-Identifier: Apache-2.0

package headers

import (
	"regexp"
	"strings"
	"sync"
)

var directive = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\s*#\s*(ifdef|ifndef|if|elif|else|endif)\b\s*(.*)$`)
})

// guards are the conditions that a line is under.
type guards []string

// take follows a line of the preprocessor, and reports whether it was a condition.
func (g *guards) take(line string) bool {
	m := directive().FindStringSubmatch(line)
	if m == nil {
		return false
	}
	rest, _, _ := strings.Cut(m[2], "/*")
	rest = strings.TrimSpace(rest)
	top := len(*g) - 1
	switch m[1] {
	case "ifdef":
		*g = append(*g, "defined("+rest+")")
	case "ifndef":
		*g = append(*g, "!defined("+rest+")")
	case "if":
		*g = append(*g, rest)
	case "else":
		if top >= 0 {
			(*g)[top] = "!(" + (*g)[top] + ")"
		}
	case "elif":
		if top >= 0 {
			(*g)[top] = rest
		}
	case "endif":
		if top >= 0 {
			*g = (*g)[:top]
		}
	}
	return true
}

// conditional reports whether it depends on the kernel.
func (g guards) conditional() bool {
	for _, c := range g {
		for _, word := range []string{"CONFIG_", "LINUX_VERSION", "KERNEL_VERSION", "HAVE", "COMPAT", "RHEL", "KERNEL"} {
			if strings.Contains(c, word) {
				return true
			}
		}
	}
	return false
}

// options are those of the conditions that are about the kernel's options.
func (g guards) options() []string {
	list := []string{}
	for _, c := range g {
		if strings.Contains(c, "CONFIG_") {
			list = append(list, c)
		}
	}
	return list
}

// text searches one file.
func (s *search) text(data, name string) {
	var g guards
	lines := strings.Split(data, "\n")
	depth := -1 // of braces inside the structure that has the member; -1 outside
	comment := false
	for i, line := range lines {
		if inside := comment; strings.Contains(line, "/*") || inside {
			open, closed := strings.LastIndex(line, "/*"), strings.LastIndex(line, "*/")
			comment = open > closed || inside && closed < 0
			if inside || strings.HasPrefix(strings.TrimSpace(line), "/*") && closed < 0 {
				continue
			}
		}
		if g.take(line) {
			continue
		}
		if s.Kind == Member {
			depth = s.member(lines, i, depth, g, name)
			continue
		}
		if strings.Contains(line, s.Name) && s.form.MatchString(line) {
			s.add(declaration(lines, i), name, i+1, g)
		}
	}
}

// member follows the braces of the structure, and returns the new depth.
func (s *search) member(lines []string, i, depth int, g guards, name string) int {
	line := code(lines[i])
	if depth < 0 {
		if !strings.Contains(line, s.Of) || !s.open.MatchString(line) {
			return depth
		}
		depth = 0
	} else if s.form.MatchString(line) && depth > 0 {
		s.add(declaration(lines, i), name, i+1, g)
	}
	opened := strings.Count(line, "{")
	if depth == 0 && opened == 0 {
		if strings.Contains(line, ";") || strings.TrimSpace(line) != "" && !s.open.MatchString(line) {
			return -1
		}
		return 0
	}
	s.found.Owner = true
	if depth += opened - strings.Count(line, "}"); depth <= 0 {
		return -1
	}
	return depth
}

// code is a line without its comment.
func code(line string) string {
	if at := strings.Index(line, "/*"); at >= 0 {
		if end := strings.Index(line[at:], "*/"); end >= 0 {
			return line[:at] + line[at+end+2:]
		}
		return line[:at]
	}
	line, _, _ = strings.Cut(line, "//")
	return line
}

// declaration is the text that begins at a line, up to what ends it.
func declaration(lines []string, i int) string {
	var b strings.Builder
	macro := strings.HasPrefix(strings.TrimSpace(lines[i]), "#")
	for _, line := range lines[i:min(len(lines), i+8)] {
		part, more := strings.CutSuffix(strings.TrimRight(line, " \t\r"), "\\")
		part = code(part)
		if at := strings.IndexAny(part, ";{"); at >= 0 && !macro {
			b.WriteString(part[:at+1])
			break
		}
		b.WriteString(part + " ")
		if macro && !more || b.Len() > maxDeclaration {
			break
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// add keeps a declaration. A call of a macro at the beginning of a line looks like a
// function's definition but for its body.
func (s *search) add(text, name string, line int, g guards) {
	f := &s.found
	body := strings.HasSuffix(text, "{")
	if !body && s.Kind == Name && strings.HasPrefix(strings.TrimPrefix(text, s.Name), "(") && strings.HasPrefix(text, s.Name) {
		return
	}
	f.Defined = f.Defined || body
	f.Free = f.Free || !g.conditional()
	if !f.there {
		f.there, f.File, f.Line = true, name, line
	}
	f.Guards = append(f.Guards, g.options())
	if len(f.Declaration)+len(text) < maxDeclaration {
		f.Declaration += text + ";"
	}
}
