// SPDX-License-Identifier: Apache-2.0

// Package verify tells, without loading anything, whether a kernel would load
// objects: it holds what the objects say of themselves against what abi reads
// of the kernel. The rules are those of the kernel's loader (kernel/module/
// main.c, version.c, signing.c, decompress.c); what the facts don't tell is
// not judged, and the report says against what an object was held.
package verify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/abi"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
)

// Code is the kind of a problem; programs may rely on its text.
type Code string

// The kinds of problems.
const (
	Unreadable  Code = "unreadable"    // no object, or a damaged one
	ELF         Code = "elf"           // for another machine
	Vermagic    Code = "vermagic"      // for another release or configuration
	Size        Code = "struct-module" // struct module has another size
	Missing     Code = "symbol"        // a symbol that nobody exports
	Version     Code = "crc"           // a symbol that changed
	NoVersions  Code = "modversions"   // without CRCs where the kernel has them
	Licence     Code = "licence"       // uses symbols that its licence doesn't give it
	Namespace   Code = "namespace"     // uses symbols of a namespace it doesn't import
	Signature   Code = "signature"     // damaged, or absent where one is needed
	Compression Code = "compression"   // in a form that the target doesn't read
	Result      Code = "result"        // good, but its result in the DKMS tree has lost it
)

// File is an object to be checked.
type File struct {
	// Name is what reports call it, a file name.
	Name string
	// Path is where it is, or will be, below the kernel's tree; a file there
	// is not taken for another exporter. It may be empty if Data is given.
	Path string
	// Data are the bytes as on disk, maybe compressed; read from Path if nil.
	Data []byte
	// Object are the bytes that Data has inside, if the caller knows them.
	Object []byte
}

// Target is what the objects are held against.
type Target struct {
	Kernel *abi.Kernel
	// Exporters are paths of further objects and Module.symvers files whose
	// symbols the objects may use: results of modules that they depend on.
	Exporters []string
	// AnyRelease lets in objects that were built for another release where the
	// kernel would, which compares CRCs in its place (CONFIG_MODVERSIONS); for
	// weak-updates. Without it another release is refused.
	AnyRelease bool
	// Certificates are those of signers whose signatures are verified; others
	// are only read.
	Certificates []*x509.Certificate
	// Readable tells whether the target's kmod reads a compression; nil if that
	// isn't known.
	Readable func(ko.Compression) bool
}

// Problem is one finding about an object.
type Problem struct {
	Code Code
	// Refuse says that the kernel wouldn't load the object, or not safely.
	// Without it the problem is a warning.
	Refuse bool
	// Text is one line that names the symbol or field and both values.
	Text string
}

// Report is what was found about one object.
type Report struct {
	Name string // as in File
	Path string // as in File
	// Vermagic, SrcVersion and Signer are what the object says, "" if nothing.
	Vermagic, SrcVersion, Signer string
	// Signature is nil if there is none, or none that can be read.
	Signature *ko.Signature
	// Against names what the object was held against: "Module.symvers",
	// "vmlinuz-6.1.0", other objects, "configuration". It is empty if nothing
	// is known of the kernel but its release.
	Against []string
	// Unchecked has a line for each thing that couldn't be read.
	Unchecked []string
	Problems  []Problem
}

// Refused reports whether there is a problem that keeps the object out.
func (r Report) Refused() bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Refuse })
}

// Refusal returns the problems that keep objects out as one error, nil if there
// are none.
func Refusal(reports []Report) error {
	var all []error
	for _, r := range reports {
		for _, p := range r.Problems {
			if p.Refuse {
				all = append(all, fmt.Errorf("%s: %s", r.Name, p.Text))
			}
		}
	}
	return errors.Join(all...)
}

// Objects checks objects that are installed together, in their order: they may
// use each other's symbols, also if an older object of that name is on the
// disk. One report is returned for each.
func Objects(files []File, target Target) []Report {
	s := &set{Target: target, config: target.Kernel.Config(), sample: target.Kernel.Sample()}
	s.extra, s.unchecked = readExporters(target.Exporters)
	checks := make([]*check, len(files))
	for i, f := range files {
		checks[i] = s.read(f)
		s.paths = append(s.paths, f.Path)
	}
	for _, c := range checks {
		if c.object == nil {
			continue
		}
		for _, e := range c.object.Exports {
			s.own = append(s.own, abi.Symbol{Export: e, File: c.report.Name})
		}
	}
	s.index()
	reports := make([]Report, len(files))
	for i, c := range checks {
		if c.object != nil {
			c.run()
		}
		for _, err := range target.Kernel.Problems() {
			c.report.Unchecked = append(c.report.Unchecked, err.Error())
		}
		c.report.Unchecked = append(c.report.Unchecked, s.unchecked...)
		reports[i] = c.report
	}
	return reports
}

// set is what the checks of one call have in common.
type set struct {
	Target
	config    kernel.Config
	sample    *abi.Sample
	own       []abi.Symbol
	extra     []abi.Symbol
	bySymbol  map[string]abi.Symbol // own and extra
	paths     []string
	unchecked []string
}

func readExporters(paths []string) (all []abi.Symbol, unread []string) {
	for _, path := range paths {
		exports, err := abi.ReadExports(path)
		if err != nil {
			unread = append(unread, fmt.Sprintf("reading the exported symbols of %s: %v", path, err))
		}
		for e := range exports.All() {
			all = append(all, abi.Symbol{Export: e, File: path})
		}
	}
	return all, unread
}

// index makes the set's own symbols count before those of further exporters.
func (s *set) index() {
	s.bySymbol = map[string]abi.Symbol{}
	for _, e := range slices.Concat(s.own, s.extra) {
		if _, ok := s.bySymbol[e.Symbol]; !ok {
			s.bySymbol[e.Symbol] = e
		}
	}
}

// check is the check of one object.
type check struct {
	*set
	raw, data []byte // as on disk, and decompressed
	object    *ko.Object
	report    Report
}

func (c *check) refuse(code Code, format string, args ...any) {
	c.report.Problems = append(c.report.Problems, Problem{code, true, fmt.Sprintf(format, args...)})
}

func (c *check) warn(code Code, format string, args ...any) {
	c.report.Problems = append(c.report.Problems, Problem{code, false, fmt.Sprintf(format, args...)})
}

// against notes that a file was used.
func (c *check) against(file string) {
	if name := filepath.Base(file); file != "" && !slices.Contains(c.report.Against, name) {
		c.report.Against = append(c.report.Against, name)
	}
}

// read reads an object; the check has none if it can't be read.
func (s *set) read(f File) *check {
	c := &check{set: s, raw: f.Data, data: f.Object, report: Report{Name: f.Name, Path: f.Path}}
	if c.report.Name == "" {
		c.report.Name = filepath.Base(f.Path)
	}
	err := error(nil)
	if c.raw == nil {
		c.raw, err = readFile(f.Path)
	}
	if err == nil && c.data == nil {
		c.data, err = ko.Decompress(c.raw)
	}
	if err == nil {
		c.object, err = ko.ParseObject(c.data)
	}
	if err != nil {
		c.refuse(Unreadable, "%v", err)
		return c
	}
	info := c.object.Info
	c.report.Vermagic, c.report.SrcVersion = info.Vermagic(), info.SrcVersion()
	return c
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > ko.MaxSize:
		return nil, fmt.Errorf("%s: %w", path, ko.ErrTooLarge)
	}
	return os.ReadFile(path)
}

// run makes all checks, in the order in which the kernel makes them.
func (c *check) run() {
	c.compression()
	c.signature()
	if !c.elf() {
		return
	}
	c.vermagic()
	c.size()
	c.symbols()
}

// known reports whether anything is known of the kernel but its release.
func (s *set) known() bool {
	symbols, _ := s.Kernel.Exports()
	return symbols != nil || s.sample != nil || s.wholeConfig()
}

// wholeConfig reports whether the configuration is one of a kernel with
// modules and not an excerpt.
func (s *set) wholeConfig() bool {
	const least = 100
	return len(s.config) >= least && s.config.Enabled("CONFIG_MODULES")
}

// splitVermagic cuts a vermagic (include/linux/vermagic.h) in release and
// options.
func splitVermagic(v string) (release, options string) {
	release, options, _ = strings.Cut(v, " ")
	return release, strings.TrimSpace(options)
}
