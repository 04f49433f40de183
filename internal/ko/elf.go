// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFormat says that data is not a well-formed ELF object: a bad magic, a
// table or section beyond the end of the file, a name without terminator.
var ErrFormat = errors.New("malformed ELF object")

// ErrUnsupported says that the input is well-formed but has a shape or an
// algorithm this package does not handle; the caller may fall back to the
// external program (strip, sign-file).
var ErrUnsupported = errors.New("not supported")

// section is one section header with its contents; data aliases the input and
// is nil for SHT_NOBITS and SHT_NULL.
type section struct {
	name      string
	nameOff   uint32
	typ       elf.SectionType
	flags     uint64
	addr      uint64
	off, size uint64
	link      uint32
	info      uint32
	align     uint64
	entsize   uint64
	data      []byte
}

// byteOrder is what both binary.LittleEndian and binary.BigEndian offer.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// object is a parsed ELF file of any class and byte order (gabi, chapters
// "ELF Header" and "Sections"). Every section lies within raw.
type object struct {
	raw      []byte
	is64     bool
	order    byteOrder
	typ      elf.Type
	machine  elf.Machine
	phnum    int
	shstrndx int
	sections []section
}

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrUnsupported)
}

// within returns data[off:off+size], or false if that is outside of data.
func within(data []byte, off, size uint64) ([]byte, bool) {
	n := uint64(len(data))
	if off > n || size > n-off {
		return nil, false
	}
	return data[off : off+size : off+size], true
}

// cstring returns the NUL-terminated string at off.
func cstring(table []byte, off uint64) (string, bool) {
	if off >= uint64(len(table)) {
		return "", off == 0
	}
	end := bytes.IndexByte(table[off:], 0)
	if end < 0 {
		return "", false
	}
	return string(table[off : off+uint64(end)]), true
}

// word reads an Elf32_Word or Elf64_Xword at the start of b.
func (o *object) word(b []byte) uint64 {
	if o.is64 {
		return o.order.Uint64(b)
	}
	return uint64(o.order.Uint32(b))
}

// wordSize is the size of an address in bytes.
func (o *object) wordSize() int {
	if o.is64 {
		return 8
	}
	return 4
}

func (o *object) ehsize() int { return 40 + 3*o.wordSize() }
func (o *object) shsize() int { return 16 + 6*o.wordSize() }
func (o *object) symsize() int {
	if o.is64 {
		return elf.Sym64Size
	}
	return elf.Sym32Size
}

// parseObject reads the header and the section table of an ELF file.
func parseObject(data []byte) (*object, error) {
	o, err := parseIdent(data)
	if err != nil {
		return nil, err
	}
	if len(data) < o.ehsize() {
		return nil, formatError("header cut short at %d bytes", len(data))
	}
	w := o.wordSize()
	o.typ = elf.Type(o.order.Uint16(data[16:]))
	o.machine = elf.Machine(o.order.Uint16(data[18:]))
	shoff := o.word(data[24+2*w:])
	tail := data[24+3*w+4:] // e_ehsize and what follows
	o.phnum = int(o.order.Uint16(tail[4:]))
	shentsize := int(o.order.Uint16(tail[6:]))
	shnum := uint64(o.order.Uint16(tail[8:]))
	o.shstrndx = int(o.order.Uint16(tail[10:]))
	if shoff == 0 {
		return o, nil
	}
	if shentsize != o.shsize() {
		return nil, formatError("section header size %d", shentsize)
	}
	first, ok := within(data, shoff, uint64(shentsize))
	if !ok {
		return nil, formatError("section table at %#x is outside of the file", shoff)
	}
	zero := o.parseSection(first)
	if shnum == 0 { // more than SHN_LORESERVE sections
		shnum = zero.size
	}
	if o.shstrndx == int(elf.SHN_XINDEX) {
		o.shstrndx = int(zero.link)
	}
	if shnum > uint64(len(data))/uint64(shentsize) {
		return nil, formatError("%d sections in a file of %d bytes", shnum, len(data))
	}
	table, ok := within(data, shoff, shnum*uint64(shentsize))
	if !ok {
		return nil, formatError("section table at %#x is cut short", shoff)
	}
	return o, o.parseSections(table, int(shnum))
}

func parseIdent(data []byte) (*object, error) {
	if len(data) < elf.EI_NIDENT || string(data[:4]) != elf.ELFMAG {
		return nil, formatError("no ELF magic")
	}
	o := &object{raw: data}
	switch elf.Class(data[elf.EI_CLASS]) {
	case elf.ELFCLASS32:
	case elf.ELFCLASS64:
		o.is64 = true
	default:
		return nil, formatError("class %d", data[elf.EI_CLASS])
	}
	switch elf.Data(data[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
		o.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		o.order = binary.BigEndian
	default:
		return nil, formatError("byte order %d", data[elf.EI_DATA])
	}
	return o, nil
}

func (o *object) parseSection(b []byte) section {
	w := o.wordSize()
	var s section
	s.nameOff = o.order.Uint32(b)
	s.typ = elf.SectionType(o.order.Uint32(b[4:]))
	s.flags = o.word(b[8:])
	s.addr = o.word(b[8+w:])
	s.off = o.word(b[8+2*w:])
	s.size = o.word(b[8+3*w:])
	s.link = o.order.Uint32(b[8+4*w:])
	s.info = o.order.Uint32(b[12+4*w:])
	s.align = o.word(b[16+4*w:])
	s.entsize = o.word(b[16+5*w:])
	return s
}

func (o *object) parseSections(table []byte, n int) error {
	o.sections = make([]section, n)
	for i := range o.sections {
		s := o.parseSection(table[i*o.shsize():])
		if s.typ != elf.SHT_NOBITS && s.typ != elf.SHT_NULL {
			d, ok := within(o.raw, s.off, s.size)
			if !ok {
				return formatError("section %d (%#x+%#x) is outside of the file", i, s.off, s.size)
			}
			s.data = d
		}
		o.sections[i] = s
	}
	if n == 0 {
		return nil
	}
	if o.shstrndx >= n {
		return formatError("section name table %d of %d", o.shstrndx, n)
	}
	names := o.sections[o.shstrndx].data
	for i := range o.sections {
		name, ok := cstring(names, uint64(o.sections[i].nameOff))
		if !ok {
			return formatError("name of section %d", i)
		}
		o.sections[i].name = name
	}
	return nil
}

// section returns the contents of the first section called name, or nil.
func (o *object) section(name string) []byte {
	for i := range o.sections {
		if o.sections[i].name == name {
			return o.sections[i].data
		}
	}
	return nil
}

// symbol is one entry of a symbol table.
type symbol struct {
	name        string
	info, other byte
	shndx       elf.SectionIndex
	value, size uint64
}

func (s symbol) bind() elf.SymBind { return elf.ST_BIND(s.info) }
func (s symbol) typ() elf.SymType  { return elf.ST_TYPE(s.info) }

// symtab returns the index of the symbol table, 0 if there is none.
func (o *object) symtab() int {
	for i := range o.sections {
		if o.sections[i].typ == elf.SHT_SYMTAB {
			return i
		}
	}
	return 0
}

// symbols decodes the symbol table, entry 0 included; nil without a table.
func (o *object) symbols() ([]symbol, error) {
	i := o.symtab()
	if i == 0 {
		return nil, nil
	}
	tab := o.sections[i]
	size := o.symsize()
	if tab.entsize != uint64(size) || len(tab.data)%size != 0 {
		return nil, formatError("symbol table of %d bytes with entries of %d", len(tab.data), tab.entsize)
	}
	if uint64(tab.link) >= uint64(len(o.sections)) {
		return nil, formatError("string table %d of the symbols", tab.link)
	}
	names := o.sections[tab.link].data
	syms := make([]symbol, len(tab.data)/size)
	for i := range syms {
		s, nameOff := o.parseSymbol(tab.data[i*size:])
		name, ok := cstring(names, uint64(nameOff))
		if !ok {
			return nil, formatError("name of symbol %d", i)
		}
		s.name = name
		syms[i] = s
	}
	return syms, nil
}

func (o *object) parseSymbol(b []byte) (symbol, uint32) {
	name := o.order.Uint32(b)
	if o.is64 {
		return symbol{
			info: b[4], other: b[5], shndx: elf.SectionIndex(o.order.Uint16(b[6:])),
			value: o.order.Uint64(b[8:]), size: o.order.Uint64(b[16:]),
		}, name
	}
	return symbol{
		value: uint64(o.order.Uint32(b[4:])), size: uint64(o.order.Uint32(b[8:])),
		info: b[12], other: b[13], shndx: elf.SectionIndex(o.order.Uint16(b[14:])),
	}, name
}
