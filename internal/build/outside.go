// SPDX-License-Identifier: Apache-2.0

package build

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// outside returns the first file found of which a build, just done in w.dir, tells
// that it was read although it belongs neither to the module nor to the kernel's
// headers or the compiler; "" if there is none. Such a build isn't a function of
// its known inputs. It looks at the headers that kbuild noted (the kernel's
// scripts/basic/fixdep.c), at links that lead out of the source, and at what
// makefiles read themselves; what other programs read it can't tell.
func (w *work) outside() string {
	found := readByMake(w.Conf.Make)
	if found != "" {
		return found
	}
	here := resolved(w.dir)
	inside := []string{w.dir + "/", here + "/", "/usr/lib/", "/usr/lib64/", "/usr/include/"} // compilers' own headers
	for _, dir := range []string{w.Kernel.SourceDir, resolved(w.Kernel.SourceDir)} {
		inside = append(inside, dir+"/", filepath.Dir(dir)+"/linux-")
	}
	filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			if to, err := filepath.EvalSymlinks(path); err == nil && !below(to, []string{here + "/"}) {
				found = to
			}
		case !d.Type().IsRegular():
		case strings.HasPrefix(d.Name(), ".") && strings.HasSuffix(d.Name(), ".cmd"):
			found = w.told(path, func(text string) string { return noted(text, inside) })
		case isMakefile(d.Name()):
			found = w.told(path, readByMake)
		}
		if found != "" {
			return fs.SkipAll
		}
		return nil
	})
	return found
}

func resolved(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// maxText bounds the files of a build directory that are looked into, in bytes.
const maxText = 16 << 20

// told returns what see finds in a file below the build directory. One that can't
// be looked into counts as outside itself.
func (w *work) told(path string, see func(text string) string) string {
	name, err := filepath.Rel(w.dir, path)
	if err != nil {
		return path
	}
	text, err := w.inside.Read(name, maxText)
	if err != nil {
		return path
	}
	return see(string(text))
}

// below reports whether a path begins with one of the texts; one that ends with a
// slash stands for that directory, too.
func below(path string, beginnings []string) bool {
	return slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(path+"/", b) })
}

// noted returns the first file that begins otherwise than with one of some texts among the dependencies
// in a file of kbuild's: the lines from "deps_" to the first without a backslash.
func noted(text string, inside []string) string {
	in := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "deps_") || strings.HasPrefix(line, "source_") {
			in = true
			_, line, _ = strings.Cut(line, ":=")
		}
		if !in {
			continue
		}
		path, more := strings.CutSuffix(line, "\\")
		path, in = strings.TrimSpace(path), more
		if filepath.IsAbs(path) && !below(filepath.Clean(path), inside) {
			return path
		}
	}
	return ""
}

func isMakefile(name string) bool {
	return strings.HasPrefix(name, "Makefile") || strings.HasPrefix(name, "GNUmakefile") || strings.HasPrefix(name, "Kbuild") || strings.HasSuffix(name, ".mk")
}

// makeReads matches what makes make, or a shell that it starts, read a file
// outside: a path that doesn't begin in the module's directory.
var makeReads = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("(?m)(?:\\$\\((?:shell|wildcard|file)\\s(?:[^)\\n]*[\\s<'\"=])?|`(?:[^`\\n]*[\\s<'\"=])?|^\\s*[-s]?include\\s+(?:[^\\n#]*\\s)?)((?:/|~|\\.\\./)[\\w.~/-]*)")
})

// readByMake returns the first path outside that a makefile, or a MAKE, reads.
func readByMake(text string) string {
	if m := makeReads().FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}
