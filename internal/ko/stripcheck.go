// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"debug/elf"
	"strings"
)

// Section types and flags that debug/elf has no name for.
const (
	shtRELR      = elf.SectionType(19)
	shfLinkOrder = uint64(0x80)
	shfKnown     = uint64(0x7f7) | shfLinkOrder | 1<<21 | 1<<31 // 1<<21: retain, 1<<31: exclude
)

// maxPadding bounds what alignment may add to the output.
const maxPadding = 64 << 20

// checkSections refuses kept sections whose contents or links would need more
// than a copy.
func (s *stripper) checkSections() error {
	var contents, padding uint64
	for i := range s.sections {
		sec := &s.sections[i]
		if s.drop[i] || s.role[i] == roleNull {
			continue
		}
		if sec.align&(sec.align-1) != 0 || sec.align > maxPadding {
			return formatError("%s is aligned to %d", sec.name, sec.align)
		}
		padding += sec.align
		contents += uint64(len(sec.data))
		if padding > maxPadding || contents > uint64(len(s.raw)) {
			return unsupported("sections overlap or are aligned to more than %d bytes in all", maxPadding)
		}
		if s.role[i] != rolePlain {
			continue
		}
		if err := s.checkPlain(sec); err != nil {
			return err
		}
		if r := s.reloc[i]; r != 0 && s.sections[r].flags&^uint64(elf.SHF_INFO_LINK|elf.SHF_GROUP) != 0 {
			return unsupported("%s has flags %#x", s.sections[r].name, s.sections[r].flags)
		}
	}
	return nil
}

func (s *stripper) checkPlain(sec *section) error {
	if !copyable(s.machine, sec.typ) {
		return unsupported("%s has type %v", sec.name, sec.typ)
	}
	for _, p := range []string{".gnu.lto_", ".gnu_object_only"} {
		if strings.HasPrefix(sec.name, p) {
			return unsupported("intermediate code in %s", sec.name)
		}
	}
	if sec.flags&^shfKnown != 0 {
		return unsupported("%s has flags %#x", sec.name, sec.flags)
	}
	if sec.info != 0 {
		return unsupported("%s has information %d", sec.name, sec.info)
	}
	if sec.flags&shfLinkOrder == 0 {
		if sec.link != 0 {
			return unsupported("%s is linked to section %d", sec.name, sec.link)
		}
		return nil
	}
	if sec.link >= uint32(len(s.sections)) {
		return formatError("%s is linked to section %d", sec.name, sec.link)
	}
	if sec.link != 0 && (s.drop[sec.link] || s.role[sec.link] != rolePlain) {
		return unsupported("%s is linked to dropped section %d", sec.name, sec.link)
	}
	return nil
}

// copyable tells whether contents of this type name neither sections nor
// symbols by number.
func copyable(machine elf.Machine, t elf.SectionType) bool {
	switch t {
	case elf.SHT_PROGBITS, elf.SHT_NOBITS, elf.SHT_NOTE, elf.SHT_STRTAB,
		elf.SHT_INIT_ARRAY, elf.SHT_FINI_ARRAY, elf.SHT_PREINIT_ARRAY, elf.SHT_GNU_ATTRIBUTES:
		return true
	case 0x70000001: // unwind tables
		return machine == elf.EM_X86_64 || machine == elf.EM_ARM || machine == elf.EM_IA_64
	case 0x70000003: // build attributes
		return machine == elf.EM_ARM || machine == elf.EM_RISCV || machine == elf.EM_AARCH64
	}
	return false
}

// checkSymbols refuses symbol tables whose order or section indexes need more
// than renumbering.
func (s *stripper) checkSymbols() error {
	seenGlobal := false
	for i, sym := range s.syms {
		if i == 0 {
			if sym != (symbol{}) {
				return unsupported("first symbol that isn't empty")
			}
			continue
		}
		local := sym.bind() == elf.STB_LOCAL
		special := sym.shndx >= elf.SHN_LORESERVE
		switch {
		case local && seenGlobal:
			return unsupported("local symbol %d after a global one", i)
		case local && (sym.shndx == elf.SHN_UNDEF || sym.shndx == elf.SHN_COMMON):
			return unsupported("local symbol %d is undefined", i)
		case special && sym.shndx != elf.SHN_ABS && sym.shndx != elf.SHN_COMMON:
			return unsupported("symbol %d in section %#x", i, int(sym.shndx))
		case !special && int(sym.shndx) >= len(s.sections):
			return formatError("symbol %d in section %d", i, int(sym.shndx))
		case !local && sym.typ() == elf.STT_SECTION:
			return unsupported("global section symbol %d", i)
		}
		seenGlobal = !local
		if !special && sym.shndx != elf.SHN_UNDEF && s.needed[i] && s.removed(int(sym.shndx)) {
			return unsupported("a relocation names symbol %d in a dropped section", i)
		}
	}
	return nil
}

// removed tells whether a section has no counterpart a symbol can point to.
func (s *stripper) removed(i int) bool { return s.drop[i] || s.role[i] != rolePlain }

// keepSymbol applies the rules of strip -g to one symbol.
func (s *stripper) keepSymbol(i int) bool {
	sym := s.syms[i]
	special := sym.shndx >= elf.SHN_LORESERVE || sym.shndx == elf.SHN_UNDEF
	switch {
	case !special && s.role[sym.shndx] == roleGroup:
		return s.needed[i] && !s.drop[sym.shndx]
	case !special && s.removed(int(sym.shndx)):
		return false
	case sym.typ() == elf.STT_FILE || sym.typ() == elf.STT_SECTION:
		return s.needed[i]
	}
	return true
}
