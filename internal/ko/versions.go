// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strings"
)

// Version is one symbol an object needs with the CRC of the declaration it was
// built with (CONFIG_MODVERSIONS).
type Version struct {
	Symbol string
	CRC    uint32
}

// Versions returns the symbol CRCs an object was built with, sorted by symbol:
// those in __versions (struct modversion_info, 64 bytes each) and those in
// __version_ext_crcs and __version_ext_names, which kernels since 6.14 may use
// for long names. The first place that names a symbol counts, the extended
// one first, as in the kernel (kernel/module/version.c). It is empty for
// objects built without CONFIG_MODVERSIONS.
func Versions(data []byte) ([]Version, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("reading symbol versions: %w", err)
	}
	out, err := o.versions()
	if err != nil {
		return nil, fmt.Errorf("reading symbol versions: %w", err)
	}
	return out, nil
}

func (o *object) versions() ([]Version, error) {
	out, err := o.extendedVersions()
	if err != nil {
		return nil, err
	}
	const entry = 64
	table := o.section("__versions")
	if len(table)%entry != 0 {
		return nil, formatError("__versions has %d bytes", len(table))
	}
	for ; len(table) > 0; table = table[entry:] {
		name, _, _ := bytes.Cut(table[o.wordSize():entry], []byte{0})
		out = append(out, Version{string(name), uint32(o.word(table))})
	}
	slices.SortStableFunc(out, func(a, b Version) int { return strings.Compare(a.Symbol, b.Symbol) })
	return slices.CompactFunc(out, func(a, b Version) bool { return a.Symbol == b.Symbol }), nil
}

func (o *object) extendedVersions() ([]Version, error) {
	crcs, names := o.section("__version_ext_crcs"), o.section("__version_ext_names")
	if len(crcs)%4 != 0 {
		return nil, formatError("__version_ext_crcs has %d bytes", len(crcs))
	}
	var out []Version
	for ; len(crcs) > 0; crcs = crcs[4:] {
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			return nil, formatError("__version_ext_names has fewer names than CRCs")
		}
		names = rest
		out = append(out, Version{string(name), o.order.Uint32(crcs)})
	}
	return out, nil
}

// Undefined returns the symbols an object needs from the kernel or other
// modules, sorted, weak ones included.
func Undefined(data []byte) ([]string, error) {
	_, syms, err := parseSymbols(data)
	if err != nil {
		return nil, fmt.Errorf("reading undefined symbols: %w", err)
	}
	var out []string
	for _, i := range imports(syms) {
		out = append(out, i.Symbol)
	}
	return out, nil
}

func parseSymbols(data []byte) (*object, []symbol, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, nil, err
	}
	syms, err := o.symbols()
	return o, syms, err
}

// Exports returns the symbols an object offers to other modules, sorted. They
// are found by the __ksymtab_ symbols; CRC and Namespace are zero if the
// object does not tell, and Module is the name in struct module.
func Exports(data []byte) ([]Export, error) {
	o, syms, err := parseSymbols(data)
	if err != nil {
		return nil, fmt.Errorf("reading exports: %w", err)
	}
	return o.exports(syms), nil
}

func (o *object) exports(syms []symbol) []Export {
	crcs, spaces := map[string]uint32{}, map[string]string{}
	for _, s := range syms {
		if name, ok := strings.CutPrefix(s.name, "__crc_"); ok {
			crcs[name] = o.symbolCRC(s)
		} else if name, ok := strings.CutPrefix(s.name, "__kstrtabns_"); ok {
			spaces[name], _ = cstring(o.symbolData(s), 0)
		}
	}
	var out []Export
	for _, s := range syms {
		name, ok := strings.CutPrefix(s.name, "__ksymtab_")
		if !ok || s.shndx == elf.SHN_UNDEF || int(s.shndx) >= len(o.sections) {
			continue
		}
		kind := "EXPORT_SYMBOL"
		if strings.HasPrefix(strings.TrimLeft(o.sections[s.shndx].name, "_"), "ksymtab_gpl") || o.gplFlag(s) {
			kind = "EXPORT_SYMBOL_GPL"
		}
		out = append(out, Export{CRC: crcs[name], Symbol: name, Module: o.moduleName(), Type: kind, Namespace: spaces[name]})
	}
	slices.SortStableFunc(out, func(a, b Export) int { return strings.Compare(a.Symbol, b.Symbol) })
	return slices.CompactFunc(out, func(a, b Export) bool { return a.Symbol == b.Symbol })
}

// gplFlag reads the flags of an exported symbol in objects of kernels that
// have them in place of a section of GPL-only symbols: __kflagstab has a byte
// for each entry of __ksymtab, of which bit 0 is KSYM_FLAG_GPL_ONLY
// (include/linux/module_symbol.h).
func (o *object) gplFlag(s symbol) bool {
	flags, table := o.section("__kflagstab"), uint64(len(o.sections[s.shndx].data))
	if len(flags) == 0 || table == 0 || s.value >= table {
		return false
	}
	return flags[s.value*uint64(len(flags))/table]&1 != 0
}

// symbolData returns the bytes of the section of s from its value on.
func (o *object) symbolData(s symbol) []byte {
	if s.shndx == elf.SHN_UNDEF || int(s.shndx) >= len(o.sections) {
		return nil
	}
	d := o.sections[s.shndx].data
	return d[min(s.value, uint64(len(d))):]
}

// symbolCRC returns the CRC a __crc_ symbol stands for: its value if absolute,
// else the word it points to.
func (o *object) symbolCRC(s symbol) uint32 {
	if s.shndx == elf.SHN_ABS {
		return uint32(s.value)
	}
	if d := o.symbolData(s); len(d) >= 4 {
		return o.order.Uint32(d)
	}
	return 0
}
