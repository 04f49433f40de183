// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"
)

// Object is what a kernel looks at before it takes an object in.
type Object struct {
	Info *Info
	Type elf.Type // ET_REL for objects that can be loaded
	// Class, Order and Machine are of the ELF header (e_ident, e_machine).
	Class   elf.Class
	Order   elf.Data
	Machine elf.Machine
	// ModuleSize is the size of struct module in bytes, the size of the section
	// .gnu.linkonce.this_module; 0 without it.
	ModuleSize int
	// Imports are the symbols the object needs, sorted by name.
	Imports []Import
	// Versions are those of the function Versions. Versioned reports whether
	// the object has a table of them at all.
	Versions  []Version
	Versioned bool
	// Exports are those of the function Exports.
	Exports []Export
}

// Import is one symbol that an object needs.
type Import struct {
	Symbol string
	Weak   bool // the kernel loads the object without it
}

// ParseObject reads an uncompressed object. It fails with ErrFormat if data is
// not a well-formed ELF file.
func ParseObject(data []byte) (*Object, error) {
	o, syms, err := parseSymbols(data)
	if err != nil {
		return nil, fmt.Errorf("reading object: %w", err)
	}
	versions, err := o.versions()
	if err != nil {
		return nil, fmt.Errorf("reading symbol versions: %w", err)
	}
	return &Object{
		Info: o.info(), Type: o.typ, Class: elf.Class(data[elf.EI_CLASS]), Order: elf.Data(data[elf.EI_DATA]),
		Machine: o.machine, ModuleSize: len(o.section(".gnu.linkonce.this_module")),
		Imports: imports(syms), Versions: versions,
		Versioned: len(o.section("__versions")) > 0 || len(o.section("__version_ext_crcs")) > 0,
		Exports:   o.exports(syms),
	}, nil
}

// imports returns the undefined symbols. One that has two entries is weak if
// both are.
func imports(syms []symbol) []Import {
	var out []Import
	for _, s := range syms {
		if s.shndx == elf.SHN_UNDEF && s.name != "" && s.bind() != elf.STB_LOCAL {
			out = append(out, Import{s.name, s.bind() == elf.STB_WEAK})
		}
	}
	slices.SortFunc(out, func(a, b Import) int {
		if a.Symbol == b.Symbol && a.Weak != b.Weak && b.Weak {
			return -1
		}
		return strings.Compare(a.Symbol, b.Symbol)
	})
	return slices.CompactFunc(out, func(a, b Import) bool { return a.Symbol == b.Symbol })
}

// GPLOnly reports whether only modules under a licence that is compatible with
// the GPL may use the symbol (include/linux/export.h of all versions).
func (e Export) GPLOnly() bool {
	return e.Type == "EXPORT_SYMBOL_GPL" || e.Type == "EXPORT_UNUSED_SYMBOL_GPL"
}

// XZCheck returns the kind of check at the end of each block of an xz file:
// "None", "CRC32", "CRC64", "SHA-256", or "unknown" (xz-file-format.txt,
// section 2.1.1.2). The kernel's own decoder reads the first two
// (lib/xz/xz_dec_stream.c). It reports false for other data.
func XZCheck(data []byte) (string, bool) {
	const flags = 7
	if Detect(data) != XZ || len(data) <= flags {
		return "", false
	}
	switch data[flags] & 0xf {
	case 0:
		return "None", true
	case 1:
		return "CRC32", true
	case 4:
		return "CRC64", true
	case 10:
		return "SHA-256", true
	}
	return "unknown", true
}
