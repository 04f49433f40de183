// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"debug/elf"
)

// A Fact is something that depmod(8) takes from an object.
type Fact int

// The kinds of facts, in the order in which Facts tells them.
const (
	// Exported is a symbol that the object offers. Without symbol CRCs it may be
	// a symbol's namespace as well: depmod takes all of __ksymtab_strings.
	Exported Fact = iota
	// Needed is a symbol that the object doesn't define, without the dot that
	// PowerPC puts before functions.
	Needed
	// Alias, SoftDep and WeakDep are values in modinfo.
	Alias
	SoftDep
	WeakDep
)

// Facts tells everything that depmod takes from an uncompressed object, each
// kind in the object's own order. The text belongs to data. Where kmod would
// only warn, or read past a table's end, it is ErrFormat (kmod's
// libkmod-elf.c: sections are found by name, the first one counts).
func Facts(data []byte, tell func(Fact, []byte)) error {
	o, err := parseObject(data)
	if err != nil {
		return err
	}
	if o.shstrndx == 0 || o.shstrndx >= len(o.sections) || !terminated(o.sections[o.shstrndx].data) {
		return formatError("section names")
	}
	table := map[string][]byte{}
	for _, name := range []string{".symtab", ".strtab", ".modinfo", "__versions", "__ksymtab_strings"} {
		for i := 1; i < len(o.sections); i++ {
			if s := &o.sections[i]; s.name == name {
				if s.data == nil {
					return formatError("section %s has no content", name)
				}
				table[name] = s.data
				break
			}
		}
	}
	if err := o.exportFacts(table, tell); err != nil {
		return err
	}
	if err := o.needFacts(table, tell); err != nil {
		return err
	}
	modinfoFacts(table[".modinfo"], tell)
	return nil
}

func terminated(table []byte) bool { return len(table) > 0 && table[len(table)-1] == 0 }

// eachSymbol walks through the symbol table without its first entry.
func (o *object) eachSymbol(table map[string][]byte, visit func(symbol, []byte) error) error {
	tab, names := table[".symtab"], table[".strtab"]
	size := o.symsize()
	if len(tab) < size || len(tab)%size != 0 || !terminated(names) {
		return formatError("symbol table of %d bytes", len(tab))
	}
	for at := size; at < len(tab); at += size {
		s, off := o.parseSymbol(tab[at:])
		if uint64(off) >= uint64(len(names)) {
			return formatError("name of symbol %d", at/size)
		}
		name := names[off:]
		if err := visit(s, name[:bytes.IndexByte(name, 0)]); err != nil {
			return err
		}
	}
	return nil
}

// exportFacts tells the symbols that have a CRC, or all exported names.
func (o *object) exportFacts(table map[string][]byte, tell func(Fact, []byte)) error {
	found := false
	err := o.eachSymbol(table, func(_ symbol, name []byte) error {
		if name, ok := bytes.CutPrefix(name, []byte("__crc_")); ok {
			if len(name) == 0 {
				return formatError("a CRC for no symbol")
			}
			found = true
			tell(Exported, name)
		}
		return nil
	})
	if err == nil && !found {
		for name := range bytes.SplitSeq(table["__ksymtab_strings"], []byte{0}) {
			if len(name) > 0 {
				tell(Exported, name)
			}
		}
	}
	return err
}

// needFacts tells the undefined symbols, then what else has a version.
func (o *object) needFacts(table map[string][]byte, tell func(Fact, []byte)) error {
	names, err := o.versionNames(table["__versions"])
	if err != nil {
		return err
	}
	first := make(map[string]int, len(names))
	for i, name := range names {
		if _, ok := first[string(name)]; !ok {
			first[string(name)] = i
		}
	}
	sparc := o.machine == elf.EM_SPARC || o.machine == elf.EM_SPARCV9
	const register = 13 // STT_REGISTER: the name of a global register
	err = o.eachSymbol(table, func(s symbol, name []byte) error {
		if s.shndx != elf.SHN_UNDEF || sparc && s.typ() == register || len(name) == 0 {
			return nil
		}
		if i, ok := first[string(name)]; ok {
			names[i] = nil
		}
		return need(name, tell)
	})
	for _, name := range names {
		if err == nil && name != nil {
			err = need(name, tell)
		}
	}
	return err
}

func need(name []byte, tell func(Fact, []byte)) error {
	name = bytes.TrimPrefix(name, []byte("."))
	if len(name) == 0 {
		return formatError("a symbol without a name")
	}
	tell(Needed, name)
	return nil
}

// versionNames returns the symbols in __versions (struct modversion_info).
func (o *object) versionNames(table []byte) ([][]byte, error) {
	const entry = 64
	if len(table)%entry != 0 {
		return nil, nil // kmod ignores it then
	}
	names := make([][]byte, 0, len(table)/entry)
	for ; len(table) > 0; table = table[entry:] {
		name, _, ok := bytes.Cut(table[o.wordSize():entry], []byte{0})
		if !ok {
			return nil, formatError("a name in __versions")
		}
		names = append(names, name)
	}
	return names, nil
}

func modinfoFacts(info []byte, tell func(Fact, []byte)) {
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := bytes.Cut(entry, []byte{'='})
		switch string(key) {
		case "alias":
			tell(Alias, value)
		case "softdep":
			tell(SoftDep, value)
		case "weakdep":
			tell(WeakDep, value)
		}
	}
}
