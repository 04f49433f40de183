// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"path"
	"regexp"
	"strings"
)

// sources looks at C files for versions, and at what is shipped with them.
func (c *checker) sources() {
	built := 0
	for _, name := range c.Names {
		if what := product(name); what != "" {
			if built++; built <= mostShipped {
				c.add("shipped", name, 0, "%s", what)
			}
		}
	}
	if built > mostShipped {
		c.add("shipped", ".", 0, "and %d more files that a build has made", built-mostShipped)
	}
	c.versions()
}

// mostShipped is how many files of a build are named one by one.
const mostShipped = 5

// product tells of a file that kbuild makes what it is, "" of others.
func product(name string) string {
	base := path.Base(name)
	switch {
	case strings.HasSuffix(base, ".ko"), strings.HasSuffix(base, ".ko.xz"), strings.HasSuffix(base, ".ko.zst"), strings.HasSuffix(base, ".ko.gz"):
		return "a built module is shipped"
	case strings.HasSuffix(base, ".o"):
		return "a compiled object is shipped; one without source is named .o_shipped or .o_binary"
	case strings.HasSuffix(base, ".mod.c"), strings.HasSuffix(base, ".mod"), strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".cmd"), base == "modules.order":
		return "kbuild has made it, for another kernel"
	}
	return ""
}

// versions holds MODULE_VERSION against PACKAGE_VERSION.
func (c *checker) versions() {
	if c.Module == nil {
		return
	}
	call := regexp.MustCompile(`\bMODULE_VERSION\s*\(([^;]*?)\)\s*;?`)
	literal := regexp.MustCompile(`^\s*"([^"]*)"\s*$`)
	macros := c.macros()
	sources, versions := 0, 0
	for _, name := range c.Names {
		text, ok := c.Texts[name]
		if !ok || path.Ext(name) != ".c" && path.Ext(name) != ".h" || strings.HasSuffix(name, ".mod.c") {
			continue
		}
		sources++
		code := withoutComments(text)
		for _, m := range call.FindAllStringSubmatchIndex(code, -1) {
			if strings.HasSuffix(strings.TrimRight(code[:m[0]], " \t"), "define") {
				continue
			}
			versions++
			value := strings.TrimSpace(code[m[2]:m[3]])
			if v, ok := macros[value]; ok {
				value = v
			}
			if v := literal.FindStringSubmatch(value); v != nil && v[1] != c.Module.Version && c.Module.Version != "" {
				c.add("version", name, 1+strings.Count(code[:m[0]], "\n"), "MODULE_VERSION is %q and PACKAGE_VERSION %q", v[1], c.Module.Version)
			}
		}
	}
	if sources > 0 && versions == 0 {
		c.add("no-version", ConfFile, c.lineOf("PACKAGE_VERSION", -1), "no source has a MODULE_VERSION")
	}
}

// macros are the string literals that sources define, where a name has only one.
func (c *checker) macros() map[string]string {
	define := regexp.MustCompile(`(?m)^[ \t]*#[ \t]*define[ \t]+([A-Za-z_][A-Za-z0-9_]*)[ \t]+("[^"\n]*")[ \t]*\r?$`)
	found := map[string]string{}
	for _, name := range c.Names {
		text, ok := c.Texts[name]
		if !ok || path.Ext(name) != ".c" && path.Ext(name) != ".h" {
			continue
		}
		for _, m := range define.FindAllStringSubmatch(withoutComments(text), -1) {
			if old, known := found[m[1]]; known && old != m[2] {
				found[m[1]] = "several"
				continue
			}
			found[m[1]] = m[2]
		}
	}
	return found
}

// withoutComments blanks the comments of C code; lines keep their numbers.
func withoutComments(text string) string {
	b := []byte(text)
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"' || b[i] == '\'':
			i = endOfLiteral(b, i)
		case b[i] == '/' && i+1 < len(b) && b[i+1] == '/':
			for ; i < len(b) && b[i] != '\n'; i++ {
				b[i] = ' '
			}
		case b[i] == '/' && i+1 < len(b) && b[i+1] == '*':
			for b[i], b[i+1] = ' ', ' '; i < len(b); i++ {
				if b[i] == '*' && i+1 < len(b) && b[i+1] == '/' {
					b[i], b[i+1] = ' ', ' '
					break
				}
				if b[i] != '\n' {
					b[i] = ' '
				}
			}
		}
	}
	return string(b)
}

// endOfLiteral returns where a literal of C ends that begins at i.
func endOfLiteral(b []byte, i int) int {
	quote := b[i]
	for i++; i < len(b) && b[i] != quote && b[i] != '\n'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}
