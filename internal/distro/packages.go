// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"context"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"dkms-go/internal/host"
	"dkms-go/internal/vercmp"
)

// family is how a group of distributions names and installs packages.
type family struct {
	install  string // the command that installs packages
	compiler string // the package that brings a C compiler
	headers  func(Query, context.Context) string
	// versioned is true where each gcc series is a package named after it.
	versioned bool
	// reinstall is the command that installs packages again, with files of theirs
	// that were deleted; owner asks whose a file is, its path to follow.
	reinstall string
	owner     []string
	// tidy is the command that removes kernels and packages that nobody needs.
	tidy string
}

// family returns the family of d. It looks at all words of the ID, so that a
// derivative of a derivative is recognised too; an unknown one is empty.
func (d Distro) family() family {
	for word := range strings.FieldsSeq(d.ID) {
		switch word {
		case "debian", "ubuntu":
			return family{"apt-get install", "build-essential", Query.debian, true,
				"apt-get install --reinstall -o Dpkg::Options::=--force-confmiss", []string{"dpkg-query", "-S"}, "apt-get autoremove --purge"}
		case "fedora", "centos", "rhel":
			return family{"dnf install", "gcc", Query.fedora, false, "dnf reinstall", []string{"rpm", "-qf", "--queryformat", "%{NAME}: \n"}, "dnf remove --oldinstallonly"}
		case "sles", "suse", "opensuse":
			return family{"zypper install", "gcc", Query.suse, false, "zypper install --force", []string{"rpm", "-qf", "--queryformat", "%{NAME}: \n"}, "zypper purge-kernels"}
		case "arch":
			return family{"pacman -S", "base-devel", Query.arch, false, "pacman -S", []string{"pacman", "-Qo", "-q"}, ""}
		case "alpine":
			return family{"apk add", "build-base", Query.alpine, false, "apk fix", nil, ""}
		case "gentoo":
			return family{"emerge", "sys-devel/gcc", Query.gentoo, false, "emerge --oneshot", nil, ""}
		case "void":
			return family{"xbps-install", "base-devel", Query.void, false, "xbps-install -f", nil, "vkpurge rm all"}
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

// ReinstallCommand returns the command line that installs packages again, and puts
// back what was deleted of them, or "" where that isn't known.
func (d Distro) ReinstallCommand(packages ...string) string {
	if f := d.family(); f.reinstall != "" && len(packages) > 0 {
		return strings.Join(append([]string{f.reinstall}, packages...), " ")
	}
	return ""
}

// TidyCommand returns the command line that removes old kernels, or "".
func (d Distro) TidyCommand() string { return d.family().tidy }

// Hooks returns the files by which the packages of a machine's kernels call dkms:
// where each is missing or can't be executed, modules aren't made for new kernels.
func (d Distro) Hooks(p host.Paths) []string {
	for word := range strings.FieldsSeq(d.ID) {
		switch word {
		case "debian", "ubuntu":
			var files []string
			for _, dir := range []string{"postinst.d", "header_postinst.d", "prerm.d"} {
				files = append(files, filepath.Join(p.KernelInstall, dir, "dkms"))
			}
			return files
		case "fedora", "centos", "rhel":
			return []string{p.KernelPlugin}
		case "arch":
			return []string{p.PacmanHook}
		}
	}
	return nil
}

// CommandPackage returns the package that brings a command of the system, "" where
// that isn't known.
func (d Distro) CommandPackage(name string) string {
	if d.family().install == "" {
		return ""
	}
	packages := map[string]string{"ld": "binutils", "depmod": "kmod", "modprobe": "kmod"}
	if name == "pahole" {
		if d.family().versioned {
			return "pahole"
		}
		return "dwarves"
	}
	if pkg := packages[name]; pkg != "" {
		return pkg
	}
	return name
}

// Owner asks the package manager whose a file is, whether it is there or not: ""
// if it doesn't know, or there are several.
func (q Query) Owner(ctx context.Context, d Distro, path string) string {
	argv := d.family().owner
	if argv == nil {
		return ""
	}
	owner := ""
	for _, line := range q.ask(ctx, append(argv[:len(argv):len(argv)], path)...) {
		names, _, _ := strings.Cut(line, ": ")
		if names == "" || strings.ContainsAny(names, " ,") || owner != "" {
			return "" // none, several, or a diversion
		}
		owner, _, _ = strings.Cut(names, ":") // of an architecture
	}
	return owner
}

// ModulePackage returns the package that brings a module by the family's way of
// naming them, if a source has it: "zfs-dkms".
func (q Query) ModulePackage(ctx context.Context, d Distro, module string) string {
	name := strings.ToLower(module) + "-dkms"
	if !d.family().versioned || !moduleName().MatchString(name) || q.policy(ctx, []string{name})[name] == "" {
		return ""
	}
	return name
}

// moduleName matches what can be the name of a Debian package (deb-control(5)).
var moduleName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]+$`)
})

// Newer returns the version of an installed package that a source has and that is
// not the installed one, "" if there is none or that isn't known.
func (q Query) Newer(ctx context.Context, d Distro, pkg string) string {
	if !d.family().versioned || pkg == "" {
		return ""
	}
	installed := q.ask(ctx, "dpkg-query", "-W", "-f", "${Version}\n", pkg)
	candidate := q.policy(ctx, []string{pkg})[pkg]
	if len(installed) != 1 || candidate == "" || vercmp.Deb(candidate, installed[0]) <= 0 {
		return ""
	}
	return candidate
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
