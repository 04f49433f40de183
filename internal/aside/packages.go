// SPDX-License-Identifier: Apache-2.0

package aside

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"dkms-go/internal/run"
)

// Package is a Debian package in a file.
type Package struct {
	File, Name, Version string
	// Depends are the names of the packages that it depends on, the first of
	// alternatives.
	Depends []string
}

// maxPackages bounds how many packages of a directory are looked at.
const maxPackages = 1000

// Packages reads what the .deb files at paths, which are files or directories with
// such files, say of themselves (dpkg-deb(1)). Of a directory only those count that
// may have headers of kernels, or the programs that building with them takes.
func Packages(ctx context.Context, env, paths []string) ([]Package, error) {
	var list []Package
	for _, path := range paths {
		files := []string{path}
		fi, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("looking for packages: %w", err)
		}
		if fi.IsDir() {
			if files, err = filepath.Glob(filepath.Join(path, "*.deb")); err != nil || len(files) > maxPackages {
				return nil, fmt.Errorf("looking for packages in %s: it has %d", path, len(files))
			}
		}
		for _, file := range files {
			if fi.IsDir() && !headersName().MatchString(filepath.Base(file)) {
				continue
			}
			p, err := readPackage(ctx, env, file)
			if err != nil {
				return nil, err
			}
			list = append(list, p)
		}
	}
	return list, nil
}

// headersName matches the names of packages of headers (linux-headers-…,
// proxmox-headers-…, raspberrypi-kernel-headers) and of linux-kbuild.
var headersName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`headers|kbuild`)
})

func readPackage(ctx context.Context, env []string, file string) (Package, error) {
	p := Package{File: file}
	abs, err := filepath.Abs(file)
	if err != nil {
		return p, fmt.Errorf("reading the package %q: %w", file, err)
	}
	p.File = abs
	out, err := run.Cmd{Argv: []string{"dpkg-deb", "-f", abs, "Package", "Version", "Depends"}, Env: env}.Output(ctx)
	if err != nil {
		return p, fmt.Errorf("reading the package %q: %w", file, err)
	}
	p.Name, p.Version, p.Depends = ParseControl(string(out))
	if p.Name == "" {
		return p, fmt.Errorf("reading the package %q: it has no name", file)
	}
	return p, nil
}

// ParseControl reads the fields that a package, or apt-cache(8) for one, tells of
// itself (deb-control(5)): name, version, and the first of each of the alternatives
// that it depends on.
func ParseControl(text string) (name, version string, depends []string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.HasPrefix(line, " "):
		case key == "Package" && name == "":
			name = value
		case key == "Version" && version == "":
			version = value
		case key == "Depends" && depends == nil:
			for d := range strings.SplitSeq(value, ",") {
				if words := strings.Fields(d); len(words) > 0 {
					depends = append(depends, words[0])
				}
			}
		}
	}
	return name, version, depends
}

// Choose returns the packages that headers of the named kernels are in: those that
// are called after one, and what they depend on; all if none is named so.
func Choose(list []Package, releases []string) []Package {
	var chosen []Package
	var add func(p Package)
	add = func(p Package) {
		if slices.ContainsFunc(chosen, func(c Package) bool { return c.File == p.File }) {
			return
		}
		chosen = append(chosen, p)
		for _, d := range p.Depends {
			for _, other := range list {
				if other.Name == d {
					add(other)
				}
			}
		}
	}
	for _, p := range list {
		for _, r := range releases {
			if strings.HasSuffix(p.Name, "-headers-"+r) {
				add(p)
			}
		}
	}
	if len(chosen) == 0 {
		return list
	}
	return chosen
}

// Kernels are the releases whose headers are in the place.
func (p *Place) Kernels() []string {
	found, _ := filepath.Glob(p.Path(Modules, "*", "build"))
	var list []string
	for _, path := range found {
		list = append(list, filepath.Base(filepath.Dir(path)))
	}
	return list
}

// Has reports whether anything is in a directory of the place.
func (p *Place) Has(name string) bool {
	entries, err := os.ReadDir(p.Path(name))
	return err == nil && len(entries) > 0
}
