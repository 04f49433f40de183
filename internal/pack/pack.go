// SPDX-License-Identifier: Apache-2.0

// Package pack makes .deb and .rpm files of a module: of its source, for any kernel,
// or of the objects that were built for one. It gets values and returns bytes: the
// same package gives the same bytes. Nothing is run, and nothing of the machine is
// read but the source that [Gather] is given.
package pack

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"dkms-go/internal/host"
	"dkms-go/internal/state"
)

// Format is a kind of package.
type Format string

// The formats.
const (
	Deb Format = "deb"
	RPM Format = "rpm"
)

// Package is what is written into a package, in either format.
type Package struct {
	Format Format
	// Name, Version and Arch are the package's own, in the format's spelling.
	Name, Version, Arch string
	// Maintainer is a name with an address in angle brackets. Summary is one line,
	// Description what follows it. License is an SPDX expression.
	Maintainer, Summary, Description, Homepage, License string
	// Author has written the module; without one the maintainer counts.
	Author string
	// Depends, Recommends and Conflicts are in the format's syntax.
	Depends, Recommends, Conflicts []string
	// Scripts are the maintainer scripts, by the format's names.
	Scripts map[string]string
	Files   []File
	// Time is that of all files and of the package.
	Time time.Time
}

// File is a file of a package. All belong to root.
type File struct {
	// Name is the path below the root, without a slash before it.
	Name string
	// Link is the target of a symbolic link, Dir says that it is a directory, Exec
	// that it may be executed.
	Link      string
	Dir, Exec bool
	Body      []byte
}

// mode returns the permissions of a file.
func (f File) mode() int64 {
	switch {
	case f.Link != "":
		return 0o777
	case f.Dir, f.Exec:
		return 0o755
	}
	return 0o644
}

func (p *Package) author() string {
	if p.Author != "" {
		return p.Author
	}
	return p.Maintainer
}

// release is the release of all rpm packages: a module's version counts.
const release = "1"

// File returns the name of the package's file.
func (p *Package) File() string {
	if p.Format == RPM {
		return fmt.Sprintf("%s-%s-%s.%s.rpm", p.Name, p.Version, release, p.Arch)
	}
	return fmt.Sprintf("%s_%s_%s.deb", p.Name, p.Version, p.Arch)
}

// Bytes returns the content of the package's file.
func (p *Package) Bytes() ([]byte, error) {
	if p.Format == RPM {
		return p.rpm()
	}
	return p.deb()
}

// Check reports what keeps a package from being made: one clear error, that names the
// field.
func (p *Package) Check() error {
	for _, f := range []struct{ name, value string }{
		{"maintainer", p.Maintainer}, {"description", p.Summary}, {"homepage", p.Homepage}, {"license", p.License}, {"author", p.Author},
	} {
		if strings.ContainsFunc(f.value, unicode.IsControl) {
			return fmt.Errorf("the %s %q is not one line of text", f.name, f.value)
		}
	}
	if p.Summary == "" {
		return fmt.Errorf("the description is empty")
	}
	if err := p.checkName(); err != nil {
		return err
	}
	if err := CheckVersion(p.Format, p.Version); err != nil {
		return err
	}
	for _, d := range slices.Concat(p.Depends, p.Recommends, p.Conflicts) {
		if err := checkRelation(p.Format, d); err != nil {
			return err
		}
	}
	return nil
}

// Source makes the package of a module's source. files are those of the source, as
// Gather returns them; the package's own version may differ from the module's.
func Source(f Format, id state.ID, version string, files []File) *Package {
	p := &Package{Format: f, Name: PackageName(f, id.Module) + "-dkms", Version: version, Depends: []string{"dkms"}}
	p.Description = fmt.Sprintf("This package has the source of the kernel module %s, of which DKMS builds the module for each kernel that is installed.", id.Module)
	top := path.Join(below(host.Default().SourceTree), id.Module+"-"+id.Version)
	p.Files = append(p.Files, File{Name: top, Dir: true})
	for _, file := range files {
		file.Name = path.Join(top, file.Name)
		p.Files = append(p.Files, file)
	}
	p.Arch, p.Scripts = "all", debSource(id, p.Name)
	if f == RPM {
		p.Arch, p.Scripts = "noarch", rpmSource(id)
	}
	return p
}

// Objects makes the package of what was built of a module for one kernel. files are
// the objects; initramfs says that they belong into the initramfs. The error names an
// architecture that the format doesn't know.
func Objects(f Format, key state.Key, version string, files []File, initramfs bool) (*Package, error) {
	p := &Package{Format: f, Name: PackageName(f, key.Module) + "-modules-" + key.Kernel, Version: version}
	p.Description = fmt.Sprintf("This package has the kernel module %s, built for the kernel %s and no other.", key.Module, key.Kernel)
	dir := path.Join(below(host.Default().KernelTree(key.Kernel)), "updates/dkms")
	for d := dir; d != "."; d = path.Dir(d) {
		if strings.Contains(d, "/updates") { // those above are the kernel's
			p.Files = append(p.Files, File{Name: d, Dir: true})
		}
	}
	for _, file := range files {
		file.Name = path.Join(dir, file.Name)
		p.Files = append(p.Files, file)
	}
	p.Conflicts = []string{PackageName(f, key.Module) + "-dkms"}
	p.Scripts = objectScripts(f, key.Kernel, initramfs)
	p.Depends, p.Arch = []string{"linux-image-" + key.Kernel, "kmod"}, debArch(key.Arch)
	if f == RPM {
		p.Depends, p.Arch = []string{"kernel-core-uname-r = " + key.Kernel, "kmod"}, key.Arch
	}
	if p.Arch == "" {
		return nil, fmt.Errorf("dpkg has no name for the architecture %q", key.Arch)
	}
	return p, nil
}

// below is a path without the slash before it.
func below(place string) string { return strings.TrimPrefix(place, "/") }

// debArch returns dpkg's name of an architecture, "" for one that it has none for.
// They are those of /usr/share/dpkg/cputable, by what uname calls them.
func debArch(uname string) string {
	return map[string]string{
		"x86_64": "amd64", "aarch64": "arm64", "i686": "i386", "i586": "i386", "i386": "i386", "armv7l": "armhf", "armv6l": "armel",
		"ppc64le": "ppc64el", "ppc64": "ppc64", "s390x": "s390x", "riscv64": "riscv64", "loongarch64": "loong64", "mips64": "mips64el",
		"amd64": "amd64", "arm64": "arm64", "armhf": "armhf", "ppc64el": "ppc64el",
	}[uname]
}

// parents returns the directories above all files, each once, sorted with the files.
func (p *Package) sorted(parents bool) []File {
	seen := map[string]bool{}
	var all []File
	for _, f := range p.Files {
		for d := path.Dir(f.Name); parents && d != "." && !seen[d]; d = path.Dir(d) {
			seen[d] = true
			all = append(all, File{Name: d, Dir: true})
		}
		if f.Dir && seen[f.Name] {
			continue
		}
		seen[f.Name] = true
		all = append(all, f)
	}
	slices.SortStableFunc(all, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b File) bool { return a.Name == b.Name })
}
