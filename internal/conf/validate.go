// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"fmt"
	"slices"
	"strings"
)

// problems returns what makes the module's conf invalid for any command, in
// upstream's order: names, each object, array lengths, yes/no values. Of objects
// the first few problems are told, and how many there are.
func (m *Module) problems() []string {
	var all []string
	report := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if m.Name == "" {
		report("PACKAGE_NAME is missing")
	}
	if m.Version == "" {
		report("PACKAGE_VERSION is missing")
	}
	var objects []string
	for _, o := range m.Objects {
		objects = append(objects, o.problems()...)
	}
	all = append(all, few(objects)...)
	for _, name := range []string{"built_module_name", "built_module_location", "dest_module_name", "dest_module_location"} {
		if m.Vars[name].Max() >= len(m.Objects) {
			report("%s has more entries than there are modules (%d)", name, len(m.Objects))
		}
	}
	for _, name := range []string{"AUTOINSTALL", "BUILD_DEPENDS_REBUILD", "NO_WEAK_MODULES"} {
		if value := m.Vars.Get(name); value != "" && !isYes(value) && !strings.EqualFold(value, "no") {
			report("%s is %q, it must be yes or no", name, value)
		}
	}
	return all
}

// few shortens a list of problems, of which a conf with one huge index has a hundred
// thousand.
func few(all []string) []string {
	const most = 12
	if len(all) <= most {
		return all
	}
	return append(all[:most:most], fmt.Sprintf("and %d more like these", len(all)-most))
}

// problems returns what is wrong with one object.
func (o Object) problems() []string {
	var all []string
	report := func(format string, args ...any) {
		all = append(all, fmt.Sprintf(format, args...))
	}
	if o.Built == "" {
		report("BUILT_MODULE_NAME[%d] is missing", o.Index)
	}
	if hasObjectSuffix(o.Built) {
		report("BUILT_MODULE_NAME[%d] %q must not end in .o or .ko", o.Index, o.Built)
	}
	if hasObjectSuffix(o.Dest) {
		report("DEST_MODULE_NAME[%d] %q must not end in .o or .ko", o.Index, o.Dest)
	}
	if strings.Contains(o.Dest, "/") {
		report("DEST_MODULE_NAME[%d] %q must be a name without a directory", o.Index, o.Dest)
	}
	switch {
	case o.DestDir == "":
		report("DEST_MODULE_LOCATION[%d] is missing", o.Index)
	case slices.Contains(strings.Split(o.DestDir, "/"), ".."):
		report("DEST_MODULE_LOCATION[%d] %q must not have a ..", o.Index, o.DestDir)
	case !strings.HasPrefix(o.DestDir, "/kernel") && !strings.HasPrefix(o.DestDir, "/updates") && !strings.HasPrefix(o.DestDir, "/extra"):
		report("DEST_MODULE_LOCATION[%d] %q must begin with /kernel, /updates or /extra", o.Index, o.DestDir)
	}
	return all
}

func hasObjectSuffix(name string) bool {
	return strings.HasSuffix(name, ".o") || strings.HasSuffix(name, ".ko")
}

// Strict checks what add, build and install check in addition: the conf has no
// syntax error, no two objects are built to the same file or installed under
// the same name. It returns nil or *Invalid. A module without objects is valid; Warnings says so.
func (m *Module) Strict() error {
	var built, dest []string
	for _, o := range m.Objects {
		built = append(built, o.BuiltDir+o.Built)
		dest = append(dest, o.Dest)
	}
	var all []string
	if m.Malformed != "" {
		all = append(all, m.Malformed)
	}
	all = append(all, few(duplicates(varBuilt, built))...)
	all = append(all, few(duplicates(varDest, dest))...)
	if len(all) > 0 {
		return &Invalid{File: m.File, Problems: all}
	}
	return nil
}

func duplicates(directive string, names []string) []string {
	var all []string
	first := map[string]int{}
	for i, name := range names {
		if k, seen := first[name]; seen {
			all = append(all, fmt.Sprintf("%s[%d] is %q, as is %s[%d]", directive, i, name, directive, k))
			continue
		}
		first[name] = i
	}
	return all
}
