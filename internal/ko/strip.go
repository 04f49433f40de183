// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"debug/elf"
	"fmt"
	"strings"
)

// Strip returns a relocatable object without its debugging sections, as
// "strip -g" of GNU binutils does: sections are dropped and renumbered, file
// symbols and section symbols that no relocation needs go away, and what is
// left is written in the layout binutils uses, so that for usual kernel
// objects the result is the same byte for byte. Data after the ELF file, such
// as a signature, is dropped. The input is not changed.
//
// It fails with ErrFormat for a damaged file and with ErrUnsupported for
// shapes that only the strip program handles.
func Strip(data []byte) ([]byte, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("stripping object: %w", err)
	}
	s, err := newStripper(o)
	if err != nil {
		return nil, fmt.Errorf("stripping object: %w", err)
	}
	return s.write(), nil
}

// role is what a section is for, which decides how it is rewritten.
type role int

const (
	rolePlain role = iota
	roleNull
	roleSymtab
	roleStrtab
	roleReloc
	roleGroup
)

// stripper holds the plan of one Strip call. Indexes are those of the input
// unless said otherwise.
type stripper struct {
	*object
	syms    []symbol
	role    []role
	drop    []bool
	reloc   []int // relocation section of each section, 0 for none
	needed  []bool
	symtabI int

	out     []section // output sections
	number  []uint32  // output index of each kept section
	symbol  []uint32  // output index of each kept symbol
	strtab  *stringTable
	content [][]byte
}

func newStripper(o *object) (*stripper, error) {
	s := &stripper{object: o}
	for _, step := range []func() error{
		s.checkHeader, s.classify, s.chooseSections, s.loadSymbols, s.markNeeded, s.checkSections, s.checkSymbols,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *stripper) checkHeader() error {
	switch {
	case s.typ != elf.ET_REL:
		return unsupported("object type %v", s.typ)
	case s.phnum != 0:
		return unsupported("program headers in a relocatable object")
	case len(s.sections) == 0 || s.sections[0].typ != elf.SHT_NULL:
		return unsupported("section table without null entry")
	case len(s.sections) >= int(elf.SHN_LORESERVE):
		return unsupported("%d sections", len(s.sections))
	}
	return nil
}

// classify finds the role of each section and pairs relocations with their
// targets.
func (s *stripper) classify() error {
	n := len(s.sections)
	s.role = make([]role, n)
	s.drop = make([]bool, n)
	s.reloc = make([]int, n)
	s.symtabI = s.object.symtab()
	if s.symtabI == 0 {
		return unsupported("no symbol table")
	}
	for i, sec := range s.sections {
		switch sec.typ {
		case elf.SHT_NULL:
			s.role[i] = roleNull
			if i != 0 {
				return unsupported("null section %d", i)
			}
		case elf.SHT_SYMTAB:
			s.role[i] = roleSymtab
			if i != s.symtabI {
				return unsupported("second symbol table")
			}
		case elf.SHT_GROUP:
			s.role[i] = roleGroup
		case elf.SHT_REL, elf.SHT_RELA:
			s.role[i] = roleReloc
			if err := s.pairReloc(i); err != nil {
				return err
			}
		case elf.SHT_STRTAB:
			if i == s.shstrndx || i == int(s.sections[s.symtabI].link) {
				s.role[i] = roleStrtab
			}
		}
	}
	return nil
}

func (s *stripper) pairReloc(i int) error {
	sec := &s.sections[i]
	target := int(sec.info)
	switch {
	case sec.info >= uint32(len(s.sections)) || target == 0:
		return formatError("%s applies to section %d", sec.name, sec.info)
	case int(sec.link) != s.symtabI:
		return unsupported("%s uses symbol table %d", sec.name, sec.link)
	case sec.flags&uint64(elf.SHF_ALLOC) != 0:
		return unsupported("loaded relocation section %s", sec.name)
	case s.reloc[target] != 0:
		return unsupported("two relocation sections for section %d", target)
	case sec.entsize != uint64(s.relocSize(sec.typ)) || uint64(len(sec.data))%sec.entsize != 0:
		return formatError("%s has %d bytes in entries of %d", sec.name, len(sec.data), sec.entsize)
	}
	switch s.sections[target].typ {
	case elf.SHT_NULL, elf.SHT_SYMTAB, elf.SHT_GROUP, elf.SHT_REL, elf.SHT_RELA, elf.SHT_NOBITS:
		return unsupported("%s applies to a section of type %v", sec.name, s.sections[target].typ)
	}
	s.reloc[target] = i
	return nil
}

func (s *stripper) relocSize(t elf.SectionType) int {
	if t == elf.SHT_RELA {
		return 3 * s.wordSize()
	}
	return 2 * s.wordSize()
}

// isDebug tells whether strip -g drops the section: it goes by the name alone,
// for sections that are not loaded (binutils, bfd/elf.c).
func isDebug(sec *section) bool {
	if sec.flags&uint64(elf.SHF_ALLOC) != 0 {
		return false
	}
	for _, p := range []string{".debug", ".gnu.debuglto_.debug_", ".gnu.linkonce.wi.", ".zdebug", ".line", ".stab"} {
		if strings.HasPrefix(sec.name, p) {
			return true
		}
	}
	return sec.name == ".gdb_index"
}

// chooseSections decides what is dropped: debugging sections, their
// relocations, empty relocation sections and groups without a member left.
func (s *stripper) chooseSections() error {
	for i := range s.sections {
		if s.role[i] != rolePlain {
			continue
		}
		s.drop[i] = isDebug(&s.sections[i])
		if r := s.reloc[i]; r != 0 {
			s.drop[r] = s.drop[i] || len(s.sections[r].data) == 0
		}
	}
	for i := range s.sections {
		if s.role[i] != roleGroup {
			continue
		}
		members, err := s.groupMembers(i)
		if err != nil {
			return err
		}
		s.drop[i] = true
		for _, m := range members {
			if s.role[m] == rolePlain && !s.drop[m] {
				s.drop[i] = false
			}
		}
	}
	return nil
}

// groupMembers returns the section indexes in group section i (gabi, "Section
// Groups").
func (s *stripper) groupMembers(i int) ([]int, error) {
	sec := &s.sections[i]
	if len(sec.data) < 4 || len(sec.data)%4 != 0 || int(sec.link) != s.symtabI {
		return nil, formatError("group section %d", i)
	}
	var members []int
	for off := 4; off < len(sec.data); off += 4 {
		m := s.order.Uint32(sec.data[off:])
		if m == 0 || m >= uint32(len(s.sections)) {
			return nil, formatError("group section %d has member %d", i, m)
		}
		r := s.role[m]
		if r != rolePlain && r != roleReloc {
			return nil, unsupported("group section %d has member %d", i, m)
		}
		members = append(members, int(m))
	}
	return members, nil
}

func (s *stripper) loadSymbols() error {
	syms, err := s.object.symbols()
	if err != nil {
		return err
	}
	if len(syms) == 0 {
		return unsupported("empty symbol table")
	}
	s.syms = syms
	return nil
}

// markNeeded notes the symbols that kept relocations and groups name.
func (s *stripper) markNeeded() error {
	s.needed = make([]bool, len(s.syms))
	for i := range s.sections {
		if s.drop[i] {
			continue
		}
		switch s.role[i] {
		case roleGroup:
			sig := s.sections[i].info
			if sig == 0 || sig >= uint32(len(s.syms)) {
				return formatError("signature of group section %d", i)
			}
			s.needed[sig] = true
		case roleReloc:
			if err := s.markRelocs(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stripper) markRelocs(i int) error {
	sec := &s.sections[i]
	size := s.relocSize(sec.typ)
	for off := 0; off < len(sec.data); off += size {
		sym := s.relocSymbol(sec.data[off:])
		if sym >= uint32(len(s.syms)) {
			return formatError("%s names symbol %d of %d", sec.name, sym, len(s.syms))
		}
		s.needed[sym] = true
	}
	return nil
}

// relocSymbol returns the symbol index of a relocation entry. In 64-bit MIPS
// files the index comes first in the file, whatever the byte order.
func (s *stripper) relocSymbol(entry []byte) uint32 {
	switch {
	case s.is64 && s.machine == elf.EM_MIPS:
		return s.order.Uint32(entry[8:])
	case s.is64:
		return uint32(s.order.Uint64(entry[8:]) >> 32)
	}
	return s.order.Uint32(entry[4:]) >> 8
}

func (s *stripper) setRelocSymbol(entry []byte, sym uint32) {
	switch {
	case s.is64 && s.machine == elf.EM_MIPS:
		s.order.PutUint32(entry[8:], sym)
	case s.is64:
		info := s.order.Uint64(entry[8:])
		s.order.PutUint64(entry[8:], uint64(sym)<<32|info&0xffffffff)
	default:
		info := s.order.Uint32(entry[4:])
		s.order.PutUint32(entry[4:], sym<<8|info&0xff)
	}
}
