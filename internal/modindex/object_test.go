// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// fake describes an object that has only what depmod reads.
type fake struct {
	exports  []string
	crcs     bool // exported symbols have CRCs, else they are in __ksymtab_strings
	needs    []string
	versions []string
	modinfo  []string
}

// bytes returns the object, for x86-64.
func (f fake) bytes() []byte {
	strtab, symtab := []byte{0}, make([]byte, elf.Sym64Size)
	add := func(name string, index elf.SectionIndex) {
		symbol := make([]byte, elf.Sym64Size)
		binary.LittleEndian.PutUint32(symbol, uint32(len(strtab)))
		symbol[4] = byte(elf.STB_GLOBAL) << 4
		binary.LittleEndian.PutUint16(symbol[6:], uint16(index))
		symtab = append(symtab, symbol...)
		strtab = append(append(strtab, name...), 0)
	}
	var names, versions []byte
	for _, s := range f.exports {
		if f.crcs {
			add("__crc_"+s, elf.SHN_ABS)
		} else {
			names = append(append(names, s...), 0)
		}
	}
	for _, s := range f.needs {
		add(s, elf.SHN_UNDEF)
	}
	for _, s := range f.versions {
		entry := make([]byte, 64)
		copy(entry[8:63], s)
		versions = append(versions, entry...)
	}
	var modinfo []byte
	for _, s := range f.modinfo {
		modinfo = append(append(modinfo, s...), 0)
	}
	return assemble([]part{
		{".modinfo", elf.SHT_PROGBITS, modinfo, 0}, {"__versions", elf.SHT_PROGBITS, versions, 0},
		{"__ksymtab_strings", elf.SHT_PROGBITS, names, 0}, {".symtab", elf.SHT_SYMTAB, symtab, 5}, {".strtab", elf.SHT_STRTAB, strtab, 0},
	})
}

type part struct {
	name string
	typ  elf.SectionType
	data []byte
	link uint32
}

// assemble puts sections into an object; the names come last.
func assemble(parts []part) []byte {
	names := []byte{0}
	offset := map[string]uint32{}
	parts = append(parts, part{".shstrtab", elf.SHT_STRTAB, nil, 0})
	for _, p := range parts {
		offset[p.name] = uint32(len(names))
		names = append(append(names, p.name...), 0)
	}
	parts[len(parts)-1].data = names
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64,
		Shnum: uint16(len(parts) + 1), Shstrndx: uint16(len(parts)),
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	sections := []elf.Section64{{}}
	at := uint64(64)
	for _, p := range parts {
		s := elf.Section64{Name: offset[p.name], Type: uint32(p.typ), Off: at, Size: uint64(len(p.data)), Link: p.link, Addralign: 1}
		if p.typ == elf.SHT_SYMTAB {
			s.Entsize = elf.Sym64Size
		}
		sections = append(sections, s)
		at += s.Size
	}
	header.Shoff = at
	var out bytes.Buffer
	binary.Write(&out, binary.LittleEndian, header)
	for _, p := range parts {
		out.Write(p.data)
	}
	binary.Write(&out, binary.LittleEndian, sections)
	return out.Bytes()
}
