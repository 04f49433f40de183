// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"path"
	"regexp"
	"strings"
)

// family is how a group of distributions names and installs packages.
type family struct {
	install  string // the command that installs packages
	compiler string // the package that brings a C compiler
	headers  func(release string) string
	// versioned is true where each gcc series is a package named after it.
	versioned bool
}

// family returns the family of d. It looks at all words of the ID, so that a
// derivative of a derivative is recognised too; an unknown one is empty.
func (d Distro) family() family {
	for word := range strings.FieldsSeq(d.ID) {
		switch word {
		case "debian", "ubuntu":
			return family{"apt-get install", "build-essential", debianHeaders, true}
		case "fedora", "centos", "rhel":
			return family{"dnf install", "gcc", fedoraHeaders, false}
		case "sles", "suse", "opensuse":
			return family{"zypper install", "gcc", suseHeaders, false}
		case "arch":
			return family{"pacman -S", "base-devel", archHeaders, false}
		case "alpine":
			return family{"apk add", "build-base", alpineHeaders, false}
		case "gentoo":
			return family{"emerge", "sys-devel/gcc", gentooHeaders, false}
		case "void":
			return family{"xbps-install", "base-devel", voidHeaders, false}
		}
	}
	return family{}
}

// HeadersPackage returns the name of the package that brings the headers of a
// kernel, or "" where that isn't known.
func (d Distro) HeadersPackage(release string) string {
	if f := d.family(); f.headers != nil {
		return f.headers(release)
	}
	return ""
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
var seriesCC = regexp.MustCompile(`^(?:[a-z0-9_]+-linux-gnu-)?(gcc-[0-9]+)$`)

// CompilerPackage returns the name of the package that brings the compiler
// cc, which may have a directory; with an empty cc, the package that brings
// the usual one. It is "" where that isn't known.
func (d Distro) CompilerPackage(cc string) string {
	f := d.family()
	cc = path.Base(cc)
	if f.install == "" {
		return ""
	}
	if series := seriesCC.FindStringSubmatch(cc); f.versioned && series != nil {
		return series[1]
	}
	if strings.HasPrefix(cc, "clang") {
		return "clang"
	}
	return f.compiler
}

func debianHeaders(release string) string { return "linux-headers-" + release }

// fedoraHeaders knows the variants that Fedora and its relatives mark by
// "+name" at the end of the release, and Oracle's "uek" in it.
func fedoraHeaders(release string) string {
	base, variant, found := strings.Cut(release, "+")
	switch {
	case found:
		return "kernel-" + variant + "-devel-" + base
	case strings.Contains(release, "uek."):
		return "kernel-uek-devel-" + release
	default:
		return "kernel-devel-" + release
	}
}

// suseHeaders takes the flavour, which ends the release ("-default"). The
// version is left out: a package's version has parts that the release lacks.
func suseHeaders(release string) string {
	return "kernel-" + flavour(release, "default", "default", "azure", "rt", "64kb", "debug", "kvmsmall", "pae", "vanilla", "longterm") + "-devel"
}

func archHeaders(release string) string {
	if f := flavour(release, "", "lts", "zen", "hardened", "rt"); f != "" {
		return "linux-" + f + "-headers"
	}
	return "linux-headers"
}

func alpineHeaders(release string) string {
	return "linux-" + flavour(release, "lts", "lts", "virt", "edge", "rpi", "stable") + "-dev"
}

func gentooHeaders(release string) string {
	if strings.HasSuffix(release, "-dist") {
		return "sys-kernel/gentoo-kernel"
	}
	return "sys-kernel/gentoo-sources"
}

// voidHeaders takes the series, the first two numbers of the release.
func voidHeaders(release string) string {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return "linux-headers"
	}
	return "linux" + parts[0] + "." + parts[1] + "-headers"
}

// flavour returns the last part of a release, after its last hyphen, if it is
// one of the known ones, else usual.
func flavour(release, usual string, known ...string) string {
	last := release[strings.LastIndexByte(release, '-')+1:]
	for _, k := range known {
		if last == k {
			return k
		}
	}
	return usual
}
