// SPDX-License-Identifier: Apache-2.0

// Package abi reads what a kernel offers to objects: its exported symbols with
// their CRCs, its vermagic and the size of its struct module, from the headers
// or, without headers, from the image and the objects that came with it.
// Nothing is loaded and nothing is decided.
package abi

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
)

// kernelItself is the exporter of symbols that no module exports.
const kernelItself = "vmlinux"

// Kernel is what one kernel offers to objects. Each fact is read at its first
// use and kept, so a value stands for the machine as it was then: make a new
// one after something was installed. All methods may be called at the same
// time.
type Kernel struct {
	kernel.Kernel
	paths host.Paths

	config  func() kernel.Config
	base    func() base
	image   func() image
	sample  func() *Sample
	owners  func() map[string][]string // modules.symbols; nil without it
	inside  func() objects
	outside func() objects
	exports sync.Map // path of an object → func() Exports

	mu       sync.Mutex
	problems []error
}

// Open returns a kernel of which nothing has been read. What doesn't exist is
// left out when it is asked for; what is there and can't be read is told by
// Problems.
func Open(p host.Paths, k kernel.Kernel) *Kernel {
	a := &Kernel{Kernel: k, paths: p}
	a.config = sync.OnceValue(a.readConfig)
	a.base = sync.OnceValue(a.readBase)
	a.image = sync.OnceValue(a.readImage)
	a.sample = sync.OnceValue(a.readSample)
	a.owners = sync.OnceValue(a.readOwners)
	a.inside = sync.OnceValue(func() objects { return a.walk("kernel") })
	a.outside = sync.OnceValue(a.walkOutside)
	return a
}

// Prefetch reads what nearly every object is held against, so that it is at
// hand when it is asked for.
func (a *Kernel) Prefetch() {
	a.config()
	a.base()
	a.sample()
}

// Problems returns what was there and couldn't be read up to now.
func (a *Kernel) Problems() []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.problems)
}

func (a *Kernel) problem(err error) {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.problems = append(a.problems, err)
}

// Config returns the configuration: that of the headers, that of the image, or
// the one inside the image if that is read anyway. It is nil if there is none.
func (a *Kernel) Config() kernel.Config {
	if c := a.config(); c != nil {
		return c
	}
	if a.base().origin == "" {
		return nil
	}
	return a.base().config
}

func (a *Kernel) readConfig() kernel.Config {
	c, err := a.Kernel.Config()
	if err == nil && len(c) > 0 {
		return c
	}
	a.problem(err)
	for _, path := range a.paths.Configs(a.Release) {
		c, err := kernel.ReadConfig(path)
		if err == nil && len(c) > 0 {
			return c
		}
		a.problem(err)
	}
	return nil
}

// Exports are the symbols that one file offers to objects.
type Exports interface {
	Lookup(symbol string) (ko.Export, bool)
	All() iter.Seq[ko.Export] // in no order
	Len() int
}

// exportMap are the Exports of a file that has to be read whole.
type exportMap map[string]ko.Export

func (m exportMap) Lookup(symbol string) (ko.Export, bool) { e, ok := m[symbol]; return e, ok }
func (m exportMap) All() iter.Seq[ko.Export]               { return maps.Values(m) }
func (m exportMap) Len() int                               { return len(m) }

// base are the exports of the kernel without what else is on the disk.
type base struct {
	exports Exports
	origin  string // the file they are from, "" if there is none
	modules bool   // the kernel's own modules are among them
	config  kernel.Config
}

// readBase prefers the list of the headers, which costs least, then such a
// list that came with the image, then the image. A list without symbols of the
// kernel itself, as an unfinished build leaves it, doesn't count.
func (a *Kernel) readBase() base {
	lists := append([]string{filepath.Join(a.SourceDir, "Module.symvers")}, a.paths.Symvers(a.Release)...)
	for _, path := range lists {
		exports, err := readSymvers(path)
		a.problem(err)
		if err == nil && exports.Has(kernelItself) {
			return base{exports: exports, origin: path, modules: true}
		}
	}
	if i := a.image(); i.exports != nil {
		return base{exports: exportMap(i.exports), origin: i.path, config: i.config}
	}
	return base{}
}

func readSymvers(path string) (*ko.Symvers, error) {
	data, err := ko.Read(path)
	if err != nil {
		return nil, err
	}
	exports, err := ko.ParseSymvers(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return exports, nil
}

// image is what a kernel's image tells.
type image struct {
	path    string
	exports map[string]ko.Export // nil if they can't be read
	config  kernel.Config        // the one inside, or nil
	class   elf.Class
	machine elf.Machine
}

func (a *Kernel) readImage() image {
	for _, path := range a.paths.Images(a.Release) {
		data, err := ReadImage(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		i := image{path: path}
		if err == nil {
			err = a.fillImage(&i, data)
		}
		if err != nil {
			a.problem(fmt.Errorf("reading what %s exports: %w", path, err))
			continue
		}
		return i
	}
	return image{}
}

func (a *Kernel) fillImage(i *image, data []byte) error {
	v, err := openVmlinux(data)
	if err != nil {
		return err
	}
	c := a.config()
	if c == nil {
		if text := ikconfig(data); text != "" {
			i.config = kernel.ParseConfig(text)
			c = i.config
		}
	}
	if c == nil {
		return errors.New("the kernel's configuration, which tells the form of its CRCs, isn't there")
	}
	i.class, i.machine = v.class, v.machine
	i.exports, err = v.exports(c["CONFIG_MODULE_REL_CRCS"] == "y")
	return err
}

// readOwners reads depmod's text index of symbols, lines "alias symbol:NAME
// MODULE" (modules.symbols, depmod(8)).
func (a *Kernel) readOwners() map[string][]string {
	path := filepath.Join(a.Tree, "modules.symbols")
	data, err := ko.Read(path)
	if err != nil {
		a.problem(err)
		return nil
	}
	out := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		rest, ok := strings.CutPrefix(line, "alias symbol:")
		symbol, module, named := strings.Cut(strings.TrimSpace(rest), " ")
		if ok && named {
			out[symbol] = append(out[symbol], moduleName(module))
		}
	}
	return out
}

// moduleName returns the name that the kernel has for a module or an object,
// of which path is the file, with or without ".ko": it knows no minus.
func moduleName(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if n, _, ok := ko.SplitName(name); ok {
		name = n
	}
	return strings.ReplaceAll(name, "-", "_")
}
