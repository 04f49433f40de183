// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"debug/elf"
	"slices"
)

// write lays out the stripped object the way binutils does for relocatable
// files: groups first, each section followed by its relocations, then the
// three tables; in the file, contents come first, then symbols, then
// relocations, then section names and the section table.
func (s *stripper) write() []byte {
	s.enumerate()
	s.writeSymbols()
	for i := range s.sections {
		if s.drop[i] {
			continue
		}
		switch s.role[i] {
		case roleReloc:
			s.writeRelocs(i)
		case roleGroup:
			s.writeGroup(i)
		}
	}
	return s.assemble()
}

// enumerate gives the kept sections their output numbers and headers.
func (s *stripper) enumerate() {
	s.out = make([]section, 1, len(s.sections))
	s.number = make([]uint32, len(s.sections))
	for i := range s.sections {
		if s.role[i] == roleGroup && !s.drop[i] {
			s.push(i)
		}
	}
	for i := range s.sections {
		if s.role[i] != rolePlain || s.drop[i] {
			continue
		}
		s.push(i)
		if r := s.reloc[i]; r != 0 && !s.drop[r] {
			s.push(r)
		}
	}
	word := uint64(s.wordSize())
	s.out = append(s.out,
		section{name: ".symtab", typ: elf.SHT_SYMTAB, align: word, entsize: uint64(s.symsize())},
		section{name: ".strtab", typ: elf.SHT_STRTAB, align: 1},
		section{name: ".shstrtab", typ: elf.SHT_STRTAB, align: 1})
	symtab := uint32(len(s.out) - 3)
	s.out[symtab].link = symtab + 1
	for i := range s.sections {
		if s.number[i] != 0 {
			s.relink(i, symtab)
		}
	}
}

func (s *stripper) push(i int) {
	sec := s.sections[i]
	sec.align = max(sec.align, 1)
	s.number[i] = uint32(len(s.out))
	s.out = append(s.out, sec)
}

// relink translates the section numbers in one output header.
func (s *stripper) relink(i int, symtab uint32) {
	h := &s.out[s.number[i]]
	switch s.role[i] {
	case roleReloc:
		target := &s.sections[h.info]
		h.name = ".rela" + target.name
		if h.typ == elf.SHT_REL {
			h.name = ".rel" + target.name
		}
		h.info = s.number[h.info]
		h.link = symtab
		h.flags |= uint64(elf.SHF_INFO_LINK)
		h.align = uint64(s.wordSize())
	case roleGroup:
		h.link = symtab
	default:
		h.link = s.number[h.link]
	}
}

// writeSymbols builds the symbol table and its strings.
func (s *stripper) writeSymbols() {
	symtab, strtab := &s.out[len(s.out)-3], &s.out[len(s.out)-2]
	s.symbol = make([]uint32, len(s.syms))
	kept := []int{0}
	names := newStringTable()
	locals := 1
	for i := 1; i < len(s.syms); i++ {
		if !s.keepSymbol(i) {
			continue
		}
		s.symbol[i] = uint32(len(kept))
		kept = append(kept, i)
		if s.syms[i].bind() == elf.STB_LOCAL {
			locals++
		}
		if s.syms[i].typ() != elf.STT_SECTION {
			names.add(s.syms[i].name)
		}
	}
	strtab.data = names.finish()
	symtab.info = uint32(locals)
	symtab.data = make([]byte, 0, len(kept)*s.symsize())
	for _, i := range kept {
		sym := s.syms[i]
		var name uint32
		if sym.typ() != elf.STT_SECTION {
			name = names.at(sym.name)
		}
		if sym.shndx < elf.SHN_LORESERVE {
			sym.shndx = elf.SectionIndex(s.number[sym.shndx])
		}
		symtab.data = s.appendSymbol(symtab.data, sym, name)
	}
}

func (s *stripper) appendSymbol(b []byte, sym symbol, name uint32) []byte {
	o := s.order
	b = o.AppendUint32(b, name)
	if s.is64 {
		b = append(b, sym.info, sym.other)
		b = o.AppendUint16(b, uint16(sym.shndx))
		b = o.AppendUint64(b, sym.value)
		return o.AppendUint64(b, sym.size)
	}
	b = o.AppendUint32(b, uint32(sym.value))
	b = o.AppendUint32(b, uint32(sym.size))
	b = append(b, sym.info, sym.other)
	return o.AppendUint16(b, uint16(sym.shndx))
}

func (s *stripper) writeRelocs(i int) {
	h := &s.out[s.number[i]]
	h.data = slices.Clone(h.data)
	size := s.relocSize(h.typ)
	for off := 0; off < len(h.data); off += size {
		entry := h.data[off:]
		s.setRelocSymbol(entry, s.symbol[s.relocSymbol(entry)])
	}
}

// writeGroup lists the kept members of a group.
func (s *stripper) writeGroup(i int) {
	h := &s.out[s.number[i]]
	members, _ := s.groupMembers(i) // checked by chooseSections
	data := slices.Clone(h.data[:4])
	for _, m := range members {
		if !s.drop[m] {
			data = s.order.AppendUint32(data, s.number[m])
		}
	}
	h.data = data
	h.info = s.symbol[h.info]
}

// assemble assigns file offsets and writes the file.
func (s *stripper) assemble() []byte {
	n := len(s.out)
	names := newStringTable()
	for _, name := range s.nameOrder() {
		names.add(name)
	}
	s.out[n-1].data = names.finish()

	buf := make([]byte, s.ehsize(), len(s.raw))
	place := func(h *section) {
		buf = pad(buf, h.align)
		h.off = uint64(len(buf))
		if h.typ != elf.SHT_NOBITS {
			h.size = uint64(len(h.data))
		}
		buf = append(buf, h.data...)
	}
	isReloc := func(h *section) bool { return h.typ == elf.SHT_REL || h.typ == elf.SHT_RELA }
	for i := 1; i < n-3; i++ {
		if !isReloc(&s.out[i]) {
			place(&s.out[i])
		}
	}
	place(&s.out[n-3])
	place(&s.out[n-2])
	for i := 1; i < n-3; i++ {
		if isReloc(&s.out[i]) {
			place(&s.out[i])
		}
	}
	place(&s.out[n-1])

	buf = pad(buf, uint64(s.wordSize()))
	shoff := uint64(len(buf))
	for i := range s.out {
		s.out[i].nameOff = names.at(s.out[i].name)
		buf = s.appendSection(buf, &s.out[i])
	}
	s.putHeader(buf, shoff)
	return buf
}

// nameOrder returns section names in the order strip enters them: the tables,
// then sections in input order, each with its relocations.
func (s *stripper) nameOrder() []string {
	names := []string{".symtab", ".strtab", ".shstrtab"}
	for i := range s.sections {
		if s.number[i] == 0 || s.role[i] == roleReloc {
			continue
		}
		names = append(names, s.out[s.number[i]].name)
		if r := s.reloc[i]; r != 0 && s.number[r] != 0 {
			names = append(names, s.out[s.number[r]].name)
		}
	}
	return names
}

func pad(buf []byte, align uint64) []byte {
	if rest := uint64(len(buf)) & (align - 1); align > 1 && rest != 0 {
		return append(buf, make([]byte, align-rest)...)
	}
	return buf
}

func (s *stripper) appendWord(b []byte, v uint64) []byte {
	if s.is64 {
		return s.order.AppendUint64(b, v)
	}
	return s.order.AppendUint32(b, uint32(v))
}

func (s *stripper) appendSection(b []byte, h *section) []byte {
	b = s.order.AppendUint32(b, h.nameOff)
	b = s.order.AppendUint32(b, uint32(h.typ))
	for _, v := range []uint64{h.flags, h.addr, h.off, h.size} {
		b = s.appendWord(b, v)
	}
	b = s.order.AppendUint32(b, h.link)
	b = s.order.AppendUint32(b, h.info)
	b = s.appendWord(b, h.align)
	return s.appendWord(b, h.entsize)
}

// putHeader copies the ELF header and sets the fields that describe the
// section table.
func (s *stripper) putHeader(buf []byte, shoff uint64) {
	copy(buf[:s.ehsize()], s.raw)
	w := s.wordSize()
	copy(buf[24+2*w:], s.appendWord(nil, shoff))
	tail := buf[24+3*w+4:]
	s.order.PutUint16(tail, uint16(s.ehsize()))
	s.order.PutUint16(tail[6:], uint16(s.shsize()))
	s.order.PutUint16(tail[8:], uint16(len(s.out)))
	s.order.PutUint16(tail[10:], uint16(len(s.out)-1))
}
