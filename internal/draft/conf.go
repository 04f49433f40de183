// SPDX-License-Identifier: Apache-2.0

package draft

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Conf returns the text of a dkms.conf. Every value is quoted, so that no shell takes
// anything in it for more than text. Maintainer is a name with an address, or "".
func (d *Draft) Conf(maintainer string) string {
	var b strings.Builder
	set := func(name, value string) { fmt.Fprintf(&b, "%s=%s\n", name, quoted(value)) }
	b.WriteString("# The module for dkms; dkms.conf(5) has all directives.\n")
	set("PACKAGE_NAME", d.Name)
	set("PACKAGE_VERSION", d.Version)
	if line := d.makeLine(); line != "" {
		fmt.Fprintf(&b, "MAKE[0]=\"%s\"\n", line)
	}
	for i, o := range d.Objects {
		set(fmt.Sprintf("BUILT_MODULE_NAME[%d]", i), o.Name)
		if o.Dir != "" {
			set(fmt.Sprintf("BUILT_MODULE_LOCATION[%d]", i), o.Dir+"/")
		}
		set(fmt.Sprintf("DEST_MODULE_LOCATION[%d]", i), "/updates")
	}
	set("AUTOINSTALL", "yes")
	b.WriteString("\n# For dkms mkdeb and dkms mkrpm; other commands pass over it.\n")
	for _, f := range []struct{ name, value, example string }{
		{"PACKAGE_DESCRIPTION", d.Description, "what it is for, in a few words"},
		{"PACKAGE_LICENSE", d.License, "GPL-2.0-only"},
		{"PACKAGE_MAINTAINER", maintainer, "Name <name@example.org>"},
		{"PACKAGE_HOMEPAGE", "", "https://example.org/"},
	} {
		if f.value == "" {
			fmt.Fprintf(&b, "#%s=%s\n", f.name, quoted(f.example))
			continue
		}
		set(f.name, f.value)
	}
	return b.String()
}

// makeLine is the command of MAKE, "" where the default does: kbuild comes to all
// objects from the top, and no option of the kernel has to be set.
func (d *Draft) makeLine() string {
	var roots, configs []string
	for _, o := range d.Objects {
		if !slices.Contains(roots, o.Root) {
			roots = append(roots, o.Root)
		}
		if o.Config != "" && !slices.Contains(configs, o.Config+"=m") {
			configs = append(configs, o.Config+"=m")
		}
	}
	if len(roots) == 1 && roots[0] == "" && len(configs) == 0 {
		return ""
	}
	var lines []string
	for _, root := range roots {
		dir := strings.TrimSuffix("$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build/"+root, "/")
		words := append([]string{"make", "-C", "$kernel_source_dir", "M=" + escaped(dir)}, configs...)
		lines = append(lines, strings.Join(append(words, "modules"), " "))
	}
	return strings.Join(lines, " && ")
}

// escaped keeps what is special to bash in double quotes from being so, except for the
// variables of dkms at the beginning.
func escaped(dir string) string {
	const known = "$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build"
	return known + inQuotes(strings.TrimPrefix(dir, known))
}

// quoted is a value as bash reads it back.
func quoted(s string) string { return `"` + inQuotes(s) + `"` }

func inQuotes(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s)
}

// Makefile returns the text of dkms.mk.
func Makefile() string {
	return `# Packages of this module, for dkms. At the end of the Makefile say:
#
#   -include dkms.mk
#
# or call it by its name: make -f dkms.mk dkms-packages
DKMS ?= dkms
DKMS_OUTPUT ?= .
DKMS_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

.PHONY: dkms-deb dkms-rpm dkms-packages
dkms-deb:
	$(DKMS) mkdeb $(DKMSFLAGS) --output $(DKMS_OUTPUT) $(DKMS_DIR)
dkms-rpm:
	$(DKMS) mkrpm $(DKMSFLAGS) --output $(DKMS_OUTPUT) $(DKMS_DIR)
dkms-packages:
	$(DKMS) mkpackages $(DKMSFLAGS) --output $(DKMS_OUTPUT) $(DKMS_DIR)
`
}
