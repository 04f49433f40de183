// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"

	"dkms-go/internal/ko"
)

// vmlinux is the ELF file of a kernel.
type vmlinux struct {
	class   elf.Class
	order   elf.Data
	machine elf.Machine
	file    *elf.File
}

func openVmlinux(data []byte) (vmlinux, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return vmlinux{}, fmt.Errorf("reading the kernel's ELF file: %w", err)
	}
	return vmlinux{f.Class, f.Data, f.Machine, f}, nil
}

// span is a section in memory.
type span struct {
	addr uint64
	data []byte
}

// at returns the bytes from an address on.
func (s span) at(addr uint64) ([]byte, bool) {
	if addr < s.addr || addr-s.addr >= uint64(len(s.data)) {
		return nil, false
	}
	return s.data[addr-s.addr:], true
}

func (v vmlinux) span(name string) (span, error) {
	s := v.file.Section(name)
	if s == nil || s.Type == elf.SHT_NOBITS {
		return span{}, nil
	}
	if s.Flags&elf.SHF_COMPRESSED != 0 || s.Size > maxImage {
		return span{}, fmt.Errorf("section %s: %w", name, ErrUnknown)
	}
	data, err := s.Data()
	if err != nil {
		return span{}, fmt.Errorf("reading section %s: %w", name, err)
	}
	return span{s.Addr, data}, nil
}

// ksymtab is one table of exported symbols with what belongs to it.
type ksymtab struct {
	kind                string // EXPORT_SYMBOL or EXPORT_SYMBOL_GPL
	entries, crcs       span
	flags               []byte
	strings             span
	order               binary.ByteOrder
	relativeCRC, hasCRC bool
	crcSpans            []span // where relative CRCs lead to
}

// exports reads the tables of exported symbols (include/linux/export.h,
// export-internal.h, include/asm-generic/export.h): __ksymtab and
// __ksymtab_gpl have an entry per symbol, and __kcrctab, __kcrctab_gpl a CRC
// at the same place. relativeCRC says that these are offsets to where the CRC
// is (CONFIG_MODULE_REL_CRCS, Linux 4.10 to 5.18). It fails with ErrUnknown if
// the tables have another shape.
func (v vmlinux) exports(relativeCRC bool) (map[string]ko.Export, error) {
	strings, err := v.span("__ksymtab_strings")
	if err != nil {
		return nil, err
	}
	flags, err := v.span("__kflagstab")
	if err != nil {
		return nil, err
	}
	out := map[string]ko.Export{}
	for _, suffix := range []string{"", "_gpl"} {
		t := ksymtab{kind: "EXPORT_SYMBOL", strings: strings, order: v.file.ByteOrder, relativeCRC: relativeCRC}
		if suffix == "_gpl" {
			t.kind = "EXPORT_SYMBOL_GPL"
		} else {
			t.flags = flags.data
		}
		if t.entries, err = v.span("__ksymtab" + suffix); err != nil {
			return nil, err
		}
		if t.crcs, err = v.span("__kcrctab" + suffix); err != nil {
			return nil, err
		}
		if relativeCRC {
			if t.crcSpans, err = v.constants(); err != nil {
				return nil, err
			}
		}
		if err := t.read(out); err != nil {
			return nil, fmt.Errorf("reading __ksymtab%s: %w", suffix, err)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no exported symbols in sections of their own: %w", ErrUnknown)
	}
	return out, nil
}

// constants returns the sections that relative CRCs may lead to.
func (v vmlinux) constants() ([]span, error) {
	var out []span
	for _, name := range []string{".rodata", ".data..ro_after_init", "__param", ".init.rodata"} {
		s, err := v.span(name)
		if err != nil {
			return nil, err
		}
		if len(s.data) > 0 {
			out = append(out, s)
		}
	}
	return out, nil
}

func (t *ksymtab) read(out map[string]ko.Export) error {
	if len(t.entries.data) == 0 {
		return nil
	}
	size, err := t.entrySize()
	if err != nil {
		return err
	}
	n := len(t.entries.data) / size
	t.hasCRC = len(t.crcs.data) > 0
	if t.hasCRC && len(t.crcs.data) != 4*n {
		return fmt.Errorf("%d bytes of CRCs for %d symbols: %w", len(t.crcs.data), n, ErrUnknown)
	}
	if t.flags != nil && len(t.flags) != n {
		return fmt.Errorf("%d flags for %d symbols: %w", len(t.flags), n, ErrUnknown)
	}
	for i := range n {
		e, err := t.entry(i, size)
		if err != nil {
			return err
		}
		out[e.Symbol] = e
	}
	return nil
}

// entrySize tells the form of the entries, of which there are two with offsets
// relative to their own place (CONFIG_HAVE_ARCH_PREL32_RELOCATIONS): value and
// name, and since Linux 5.4 namespace. It is the one that all entries read
// well in.
func (t *ksymtab) entrySize() (int, error) {
	for _, size := range []int{12, 8} {
		if len(t.entries.data)%size != 0 {
			continue
		}
		good := true
		for i := 0; good && i < len(t.entries.data)/size; i++ {
			_, err := t.entry(i, size)
			good = err == nil
		}
		if good {
			return size, nil
		}
	}
	return 0, fmt.Errorf("entries that are not relative to their place: %w", ErrUnknown)
}

func (t *ksymtab) entry(i, size int) (ko.Export, error) {
	e := ko.Export{Module: kernelItself, Type: t.kind}
	var ok bool
	if e.Symbol, ok = t.text(i*size + 4); !ok || !isSymbol(e.Symbol) {
		return e, fmt.Errorf("name of symbol %d: %w", i, ErrUnknown)
	}
	if size == 12 && t.order.Uint32(t.entries.data[i*size+8:]) != 0 {
		if e.Namespace, ok = t.text(i*size + 8); !ok || !isText(e.Namespace) {
			return e, fmt.Errorf("namespace of symbol %s: %w", e.Symbol, ErrUnknown)
		}
	}
	if t.flags != nil && i < len(t.flags) && t.flags[i]&1 != 0 {
		e.Type = "EXPORT_SYMBOL_GPL"
	}
	if t.hasCRC {
		if e.CRC, ok = t.crc(4 * i); !ok {
			return e, fmt.Errorf("CRC of symbol %s: %w", e.Symbol, ErrUnknown)
		}
	}
	return e, nil
}

// text returns the string that the offset at off leads to.
func (t *ksymtab) text(off int) (string, bool) {
	rel := int64(int32(t.order.Uint32(t.entries.data[off:])))
	b, ok := t.strings.at(t.entries.addr + uint64(off) + uint64(rel))
	if !ok {
		return "", false
	}
	const maxName = 1 << 10
	end := bytes.IndexByte(b[:min(len(b), maxName)], 0)
	if end < 0 {
		return "", false
	}
	return string(b[:end]), true
}

func (t *ksymtab) crc(off int) (uint32, bool) {
	v := t.order.Uint32(t.crcs.data[off:])
	if !t.relativeCRC {
		return v, true
	}
	if v == 0 {
		return 0, true // a weak symbol without CRC
	}
	addr := t.crcs.addr + uint64(off) + uint64(int64(int32(v)))
	for _, s := range t.crcSpans {
		if b, ok := s.at(addr); ok && len(b) >= 4 {
			return t.order.Uint32(b), true
		}
	}
	return 0, false
}

// isSymbol reports whether s can be the name of a symbol of C or Rust.
func isSymbol(s string) bool { return s != "" && isText(s) }

func isText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
