// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/ko"
)

// objects are object files by the name of the module, in an order that the
// module index gives: what modprobe takes first.
type objects map[string][]string

// walk lists the object files below a directory of the kernel's tree.
func (a *Kernel) walk(dir string) objects {
	out := objects{}
	// A walk of "dir/." starts behind a link.
	_ = filepath.WalkDir(filepath.Join(a.Tree, dir)+"/.", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what can't be read isn't there
		}
		if _, _, ok := ko.SplitName(d.Name()); ok {
			name := moduleName(d.Name())
			out[name] = append(out[name], filepath.Clean(path))
		}
		return nil
	})
	return out
}

// walkOutside lists the objects that didn't come with the kernel: those in any
// directory of its tree but "kernel" and the links to the headers.
func (a *Kernel) walkOutside() objects {
	out := objects{}
	entries, err := os.ReadDir(a.Tree)
	if err != nil {
		return out
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == "kernel" || e.Name() == "build" || e.Name() == "source" {
			continue
		}
		for name, paths := range a.walk(e.Name()) {
			out[name] = append(out[name], paths...)
		}
	}
	index := ModuleIndex(a.Tree)
	for name, paths := range out {
		slices.SortStableFunc(paths, func(x, y string) int { return a.rank(x, index[name]) - a.rank(y, index[name]) })
	}
	return out
}

// rank orders files of one module: the one that the index has first, then by
// directory as depmod searches by default (depmod.d(5), "search").
func (a *Kernel) rank(path, indexed string) int {
	if path == indexed {
		return -1
	}
	rel, _ := filepath.Rel(a.Tree, path)
	if i := slices.Index([]string{"updates", "extra", "weak-updates"}, strings.Split(rel, "/")[0]); i >= 0 {
		return i
	}
	return math.MaxInt8
}

// ModuleIndex reads modules.dep of a kernel's tree: the file that modprobe
// takes for each module (modules.dep(5)). It is empty without that file.
func ModuleIndex(tree string) map[string]string {
	out := map[string]string{}
	data, err := ko.Read(filepath.Join(tree, "modules.dep"))
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(data)) {
		path, _, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(tree, path)
		}
		out[moduleName(path)] = path
	}
	return out
}

// Sample is what one of the kernel's own objects tells of the kernel.
type Sample struct {
	Path       string
	Vermagic   string
	Class      elf.Class
	Order      elf.Data
	Machine    elf.Machine
	ModuleSize int // size of struct module in bytes
}

// Sample returns the facts of a small object that came with the kernel, nil if
// there is none.
func (a *Kernel) Sample() *Sample { return a.sample() }

// readSample takes the first small object that says that it came with the
// kernel (modinfo "intree"): others may have been installed among them.
func (a *Kernel) readSample() *Sample {
	const small, tries = 64 << 10, 64
	var found *Sample
	n := 0
	_ = filepath.WalkDir(filepath.Join(a.Tree, "kernel")+"/.", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if _, _, ok := ko.SplitName(d.Name()); !ok {
			return nil
		}
		if info, err := d.Info(); err != nil || info.Size() > small {
			return nil
		}
		if found = a.asSample(filepath.Clean(path)); found != nil {
			return fs.SkipAll
		}
		if n++; n == tries {
			return fs.SkipAll
		}
		return nil
	})
	return found
}

func (a *Kernel) asSample(path string) *Sample {
	data, err := ko.Read(path)
	if err != nil {
		return nil
	}
	o, err := ko.ParseObject(data)
	if err != nil || o.Info.Get("intree") != "Y" || o.Info.Vermagic() == "" {
		return nil
	}
	return &Sample{path, o.Info.Vermagic(), o.Class, o.Order, o.Machine, o.ModuleSize}
}

// objectExports returns the symbols that an object exports, none if it can't be
// read.
func (a *Kernel) objectExports(path string) Exports {
	read, _ := a.exports.LoadOrStore(path, onceExports(a, path))
	return read.(func() Exports)()
}

// ReadExports returns the symbols of one more exporter: an object, compressed
// or not, or a file in the form of Module.symvers, which is told by its name.
// With an error there are none.
func ReadExports(path string) (Exports, error) {
	out := exportMap{}
	if _, _, ok := ko.SplitName(path); !ok {
		list, err := readSymvers(path)
		if err != nil {
			return out, err
		}
		return list, nil
	}
	data, err := ko.Read(path)
	if err != nil {
		return out, err
	}
	list, err := ko.Exports(data)
	if err != nil {
		return out, fmt.Errorf("%s: %w", path, err)
	}
	for _, e := range list {
		out[e.Symbol] = e
	}
	return out, nil
}
