// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// family is how a group of distributions names and installs packages.
type family struct {
	install  string // the command that installs packages
	compiler string // the package that brings a C compiler
	headers  func(Query, context.Context) string
	// versioned is true where each gcc series is a package named after it.
	versioned bool
}

// family returns the family of d. It looks at all words of the ID, so that a
// derivative of a derivative is recognised too; an unknown one is empty.
func (d Distro) family() family {
	for word := range strings.FieldsSeq(d.ID) {
		switch word {
		case "debian", "ubuntu":
			return family{"apt-get install", "build-essential", Query.debian, true}
		case "fedora", "centos", "rhel":
			return family{"dnf install", "gcc", Query.fedora, false}
		case "sles", "suse", "opensuse":
			return family{"zypper install", "gcc", Query.suse, false}
		case "arch":
			return family{"pacman -S", "base-devel", Query.arch, false}
		case "alpine":
			return family{"apk add", "build-base", Query.alpine, false}
		case "gentoo":
			return family{"emerge", "sys-devel/gcc", Query.gentoo, false}
		case "void":
			return family{"xbps-install", "base-devel", Query.void, false}
		}
	}
	return family{}
}

// InstallCommand returns the command line that installs packages, or "" where
// that isn't known.
func (d Distro) InstallCommand(packages ...string) string {
	install := d.family().install
	if install == "" {
		return ""
	}
	return strings.Join(append([]string{install}, packages...), " ")
}

// seriesCC matches the name of a gcc of one series, "x86_64-linux-gnu-gcc-12".
var seriesCC = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[a-z0-9_]+-linux-gnu-)?(gcc-[0-9]+)$`)
})

// CompilerPackage returns the name of the package that brings the compiler
// cc, which may have a directory; with an empty cc, the package that brings
// the usual one. It is "" where that isn't known.
func (d Distro) CompilerPackage(cc string) string {
	f := d.family()
	cc = path.Base(cc)
	if f.install == "" {
		return ""
	}
	if series := seriesCC().FindStringSubmatch(cc); f.versioned && series != nil {
		return series[1]
	}
	if strings.HasPrefix(cc, "clang") {
		return "clang"
	}
	return f.compiler
}

// ProgramPackage returns the name of the package that brings a program that builds
// call, or "" where that isn't known.
func (d Distro) ProgramPackage(program string) string {
	name := path.Base(program)
	switch {
	case d.family().install == "":
		return ""
	case usualCC().MatchString(name):
		return d.CompilerPackage(name)
	case name == "pahole" && !d.is("debian", "ubuntu", "arch", "alpine"):
		return "dwarves"
	case name == "depmod" || name == "modinfo" || name == "modprobe":
		return "kmod"
	case slices.Contains(strings.Fields(sameName), name):
		return name
	}
	return ""
}

// sameName are programs whose packages have their name everywhere.
const sameName = "autoconf automake bc bison cmake cpio curl ed file flex gawk git libtool m4 make pahole patch perl python3 rsync unzip wget xz zstd"

// usualCC matches what a compiler is called without a path.
var usualCC = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[a-z0-9_]+-linux-gnu-)?(?:gcc|cc|clang)(?:-[0-9.]+)?$`)
})
