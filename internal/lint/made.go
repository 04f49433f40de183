// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Made is an object that makefiles name in obj-m.
type Made struct {
	// Name is without .ko, Dir the directory of its source, "" for the top one.
	Name, Dir string
	// Config is the kernel's option, CONFIG_X, that has to be m for it, or "".
	Config string
	// Root is the highest directory from which kbuild comes to Dir.
	Root string
}

// Objects returns the objects that the makefiles among texts name, in the order of
// directories and lines. Where a directory has a Kbuild, kbuild reads that
// (Documentation/kbuild/modules.rst, 3.2). What only counts by hand, without
// KERNELRELEASE, is passed over. whole is false if there may be more.
func Objects(texts map[string]string) (list []Made, whole bool) {
	whole = true
	below := map[string]string{} // a directory and the one whose makefile names it
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		dir := strings.TrimPrefix(path.Dir(name), ".")
		switch base := path.Base(name); {
		case base != "Makefile" && base != "Kbuild":
			continue
		case base == "Makefile" && texts[path.Join(dir, "Kbuild")] != "":
			continue
		}
		m := madeIn(parseMakefile(texts[name]), dir)
		list, whole = append(list, m.objects...), whole && m.whole
		for _, sub := range m.subdirs {
			below[sub] = dir
		}
	}
	slices.SortStableFunc(list, func(a, b Made) int { return strings.Compare(a.Dir, b.Dir) })
	seen := map[string]bool{}
	list = slices.DeleteFunc(list, func(m Made) bool {
		double := seen[m.Name]
		seen[m.Name] = true
		return double
	})
	for i, m := range list {
		list[i].Root = rootOf(m.Dir, below)
	}
	return list, whole
}

// rootOf returns the highest directory from which kbuild comes to dir. An object may
// stand in a subdirectory of its makefile's.
func rootOf(dir string, below map[string]string) string {
	const deepest = 50
	for range deepest {
		up, ok := below[dir]
		if !ok {
			break
		}
		dir = up
	}
	return dir
}

// made is what one makefile names.
type made struct {
	objects []Made
	subdirs []string
	whole   bool
}

func madeIn(lines []mkLine, dir string) made {
	m := made{whole: true}
	vars := map[string]string{}
	for _, l := range lines {
		if l.name != "" && !strings.HasPrefix(l.name, "obj-") && !l.byHand {
			vars[l.name] += " " + l.value
		}
	}
	for _, l := range lines {
		option, ok := strings.CutPrefix(l.name, "obj-")
		if !ok || l.byHand {
			continue
		}
		config := ""
		if ref := reference().FindStringSubmatch(option); ref != nil {
			config = ref[1]
			if strings.TrimSpace(vars[config]) != "" {
				config = "" // the makefile sets it itself
			}
		}
		value, known := expand(l.value, vars)
		m.whole = m.whole && known
		for _, word := range strings.Fields(value) {
			name, object := strings.CutSuffix(word, ".o")
			switch clean := path.Join(dir, name); {
			case strings.HasPrefix(clean, "..") || path.IsAbs(name):
			case object && plainName(path.Base(name)):
				m.objects = append(m.objects, Made{Name: path.Base(name), Dir: strings.TrimPrefix(path.Dir(clean), "."), Config: config})
				if sub := strings.TrimPrefix(path.Dir(clean), "."); sub != dir {
					m.subdirs = append(m.subdirs, sub)
				}
			case strings.HasSuffix(word, "/"):
				m.subdirs = append(m.subdirs, clean)
			}
		}
	}
	return m
}

// plainName reports whether a word can be the name of an object.
func plainName(s string) bool {
	return s != "" && s[0] != '.' && s[0] != '-' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.") == ""
}

// Infos returns what C sources say of themselves by MODULE_VERSION and its like, by
// the word behind "MODULE_": VERSION, LICENSE, DESCRIPTION, AUTHOR. A value is that of
// string literals, or of a macro that has one; others are passed over. Each comes
// once, in the order of files.
func Infos(texts map[string]string) map[string][]string {
	call := regexp.MustCompile(`\bMODULE_(VERSION|LICENSE|DESCRIPTION|AUTHOR)\s*\(([^;]*?)\)\s*;`)
	c := &checker{Source: Source{Texts: texts, Names: slices.Sorted(maps.Keys(texts))}}
	macros := c.macros()
	infos := map[string][]string{}
	for _, name := range c.Names {
		if path.Ext(name) != ".c" && path.Ext(name) != ".h" || strings.HasSuffix(name, ".mod.c") {
			continue
		}
		for _, m := range call.FindAllStringSubmatch(withoutComments(texts[name]), -1) {
			if v, ok := literalOf(m[2], macros); ok && !slices.Contains(infos[m[1]], v) {
				infos[m[1]] = append(infos[m[1]], v)
			}
		}
	}
	return infos
}

// literalOf returns the text of string literals side by side, and of macros that stand
// for one.
func literalOf(code string, macros map[string]string) (string, bool) {
	part := regexp.MustCompile(`^\s*("(?:[^"\\\n]|\\.)*"|[A-Za-z_][A-Za-z0-9_]*)`)
	text, any := "", false
	for strings.TrimSpace(code) != "" {
		m := part.FindStringSubmatch(code)
		if m == nil {
			return "", false
		}
		value := m[1]
		if v, ok := macros[value]; ok {
			value = v
		}
		if !strings.HasPrefix(value, `"`) {
			return "", false
		}
		text += strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\n`, " ", `\t`, " ").Replace(value[1 : len(value)-1])
		any, code = true, code[len(m[0]):]
	}
	return strings.Join(strings.Fields(text), " "), any
}
