// SPDX-License-Identifier: Apache-2.0

// Package draft makes a first dkms.conf of what a module's makefiles and sources say,
// and finds there what a package says of the module. It gets texts and returns texts:
// nothing is run, read or written here.
package draft

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"dkms-go/internal/lint"
	"dkms-go/internal/state"
	"dkms-go/internal/vercmp"
)

// Names of the files that are drafted.
const (
	ConfFile = lint.ConfFile
	MakeFile = "dkms.mk"
)

// Source is what is read of a module's directory.
type Source struct {
	// Dir is the name of the directory.
	Dir string
	// Texts are makefiles and C sources, by their paths below it.
	Texts map[string]string
	// Tags are the names of version control's tags.
	Tags []string
	// Name and Version are what was asked for, or "".
	Name, Version string
}

// Facts are what sources say of their module. What they don't say is "".
type Facts struct {
	License, Description, Author string
}

// Draft is a dkms.conf in the making.
type Draft struct {
	Name, Version string
	Objects       []lint.Made
	Facts
	// Notes tell what its author has to look at.
	Notes []string
}

// Read drafts a conf. The error says what is missing.
func Read(s Source) (Draft, error) {
	objects, whole := lint.Objects(s.Texts)
	if len(objects) == 0 {
		return Draft{}, fmt.Errorf("no obj-m in a Makefile or Kbuild names an object")
	}
	d := Draft{Objects: objects, Facts: Describe(s.Texts)}
	note := func(format string, args ...any) { d.Notes = append(d.Notes, fmt.Sprintf(format, args...)) }
	d.Name = d.name(s)
	d.Version = d.version(s, note)
	if err := (state.ID{Module: d.Name, Version: d.Version}).Check(); err != nil {
		return Draft{}, err
	}
	if !whole {
		note("the makefiles may make more objects than those named: look at BUILT_MODULE_NAME")
	}
	return d, nil
}

// name is what was asked for, that of the only object, or the directory's.
func (d *Draft) name(s Source) string {
	if s.Name != "" {
		return s.Name
	}
	base := regexp.MustCompile(`[-_]v?[0-9][0-9A-Za-z.+~_-]*$`).ReplaceAllString(s.Dir, "")
	if len(d.Objects) == 1 || state.CheckName("module name", base) != nil {
		return d.Objects[0].Name
	}
	return base
}

// firstVersion is the version of a module that says none.
const firstVersion = "0.1"

// version is what was asked for, what the sources say, or the highest tag.
func (d *Draft) version(s Source, note func(string, ...any)) string {
	if s.Version != "" {
		return s.Version
	}
	said := lint.Infos(s.Texts)["VERSION"]
	said = slices.DeleteFunc(said, func(v string) bool { return state.CheckName("module version", v) != nil })
	if len(said) > 1 {
		note("the sources have several versions (%s): PACKAGE_VERSION is the first of them", strings.Join(said, " "))
	}
	if len(said) > 0 {
		return said[0]
	}
	if v := Tagged(d.Name, s.Tags); v != "" {
		return v
	}
	note("no source has a MODULE_VERSION, and there is no tag: PACKAGE_VERSION is made up")
	return firstVersion
}

// Tagged returns the highest version that tags name, as in v1.2, 1.2 or name-1.2; ""
// for none.
func Tagged(name string, tags []string) string {
	best := ""
	for _, tag := range tags {
		v := strings.TrimPrefix(tag, name)
		v = strings.TrimLeft(v, "-_/")
		v = strings.TrimPrefix(strings.TrimPrefix(v, "release-"), "v")
		if v == "" || v[0] < '0' || v[0] > '9' || state.CheckName("module version", v) != nil {
			continue
		}
		if best == "" || vercmp.Natural(v, best) > 0 {
			best = v
		}
	}
	return best
}

// Tags returns the names of the tags in git's packed-refs (gitrepository-layout(5)).
func Tags(packed string) []string {
	var list []string
	for line := range strings.Lines(packed) {
		_, ref, ok := strings.Cut(strings.TrimSpace(line), " ")
		if tag, isTag := strings.CutPrefix(ref, "refs/tags/"); ok && isTag && tag != "" && !strings.HasPrefix(line, "#") {
			list = append(list, tag)
		}
	}
	return list
}

// Describe returns what C sources say of their module.
func Describe(texts map[string]string) Facts {
	infos := lint.Infos(texts)
	first := func(word string) string {
		if len(infos[word]) > 0 {
			return infos[word][0]
		}
		return ""
	}
	f := Facts{Description: first("DESCRIPTION"), Author: first("AUTHOR"), License: spdx(texts)}
	if f.License == "" {
		f.License = licenses()[first("LICENSE")]
	}
	return f
}

// licenses are the SPDX expressions of what MODULE_LICENSE may have, as
// Documentation/process/license-rules.rst of the kernel describes them.
func licenses() map[string]string {
	return map[string]string{
		"GPL": "GPL-2.0-only", "GPL v2": "GPL-2.0-only", "GPL and additional rights": "GPL-2.0-only",
		"Dual MIT/GPL": "GPL-2.0-only OR MIT", "Dual BSD/GPL": "GPL-2.0-only OR BSD-3-Clause", "Dual MPL/GPL": "GPL-2.0-only OR MPL-1.1",
		"Proprietary": "LicenseRef-Proprietary",
	}
}

// spdx returns the expression that most C sources have at their top, "" for none.
func spdx(texts map[string]string) string {
	line := regexp.MustCompile(`SPDX-License-Identifier:\s*\(?([A-Za-z0-9.+-]+(?:\s+(?:OR|AND|WITH)\s+[A-Za-z0-9.+-]+)*)\)?`)
	count := map[string]int{}
	best := ""
	for name, text := range texts {
		if path.Ext(name) != ".c" {
			continue
		}
		m := line.FindStringSubmatch(text[:min(len(text), 1000)])
		if m == nil {
			continue
		}
		e := modern(strings.Join(strings.Fields(m[1]), " "))
		count[e]++
		if n := count[e]; best == "" || n > count[best] || n == count[best] && e < best {
			best = e
		}
	}
	return best
}

// modern gives SPDX's old names of the GPL their new ones, as kernel sources have both.
func modern(e string) string {
	words := strings.Fields(e)
	for i, w := range words {
		switch {
		case strings.HasPrefix(w, "GPL-") && strings.HasSuffix(w, ".0"):
			words[i] = w + "-only"
		case strings.HasPrefix(w, "GPL-") && strings.HasSuffix(w, ".0+"):
			words[i] = strings.TrimSuffix(w, "+") + "-or-later"
		}
	}
	return strings.Join(words, " ")
}
