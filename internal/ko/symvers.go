// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"iter"
	"strconv"
	"strings"
)

// Export is one symbol offered to modules.
type Export struct {
	CRC       uint32
	Symbol    string
	Module    string // "vmlinux" or the path of the object without .ko
	Type      string // EXPORT_SYMBOL, EXPORT_SYMBOL_GPL ...; "" in files of 3 columns
	Namespace string
}

// Bounds of a Module.symvers file: a kernel has some 30 thousand exports.
const (
	maxSymversLine  = 64 << 10
	maxSymversLines = 1 << 20
	maxSymversSize  = 1 << 30
)

// Symvers are the symbols of a Module.symvers file. Of the tens of thousands
// that a kernel has few are asked for: the text is kept with an index of its
// lines by symbol, and a line becomes an Export when it is asked for.
type Symvers struct {
	text []byte
	// slots are a hash table with open addressing: where in text the line of a
	// symbol begins, plus one; 0 is a free slot. Their number is a power of two
	// and more than twice that of the symbols.
	slots []uint32
	seed  maphash.Seed
	n     int
}

// ParseSymvers reads a Module.symvers file (Documentation/kbuild/modules.rst,
// "Symbols and Module.symvers"): tab separated columns CRC, symbol, module and,
// since 2.6.18, export type and, since 5.3, namespace, which kernels before
// 5.6 wrote in the third column. The first line for a symbol counts. Empty
// lines are skipped; any other line is an error that names it. The text must
// not change afterwards.
func ParseSymvers(text []byte) (*Symvers, error) {
	lines := bytes.Count(text, []byte{'\n'}) + 1
	if lines > maxSymversLines+1 || len(text) > maxSymversSize {
		return nil, fmt.Errorf("reading Module.symvers: more than %d lines or %d bytes", maxSymversLines, maxSymversSize)
	}
	size := 4
	for size < 2*lines {
		size *= 2
	}
	s := &Symvers{text: text, slots: make([]uint32, size), seed: maphash.MakeSeed()}
	for at, n := 0, 1; at < len(text); n++ {
		line := lineAt(text, at)
		if len(line) > 0 && line[0] != '\n' && string(line) != "\r\n" {
			if err := checkSymversLine(line); err != nil {
				return nil, fmt.Errorf("reading Module.symvers: line %d: %w", n, err)
			}
			s.add(at)
		}
		at += len(line)
	}
	return s, nil
}

// lineAt returns the line that begins at at, with its end.
func lineAt(text []byte, at int) []byte {
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		return text[at : at+i+1]
	}
	return text[at:]
}

// checkSymversLine tells cheaply that a line has the columns that split will
// find.
func checkSymversLine(line []byte) error {
	if len(line) > maxSymversLine {
		return fmt.Errorf("%.40q... has more than %d bytes", line, maxSymversLine)
	}
	if tabs := bytes.Count(line, []byte{'\t'}); tabs < 2 || tabs > 4 || len(symbolOf(line)) == 0 {
		return fmt.Errorf("%q has no 3 to 5 columns", trimLine(line))
	}
	if _, ok := parseCRC(line[:bytes.IndexByte(line, '\t')]); !ok {
		return fmt.Errorf("%q is not a CRC", line[:bytes.IndexByte(line, '\t')])
	}
	return nil
}

// symbolOf returns the second column.
func symbolOf(line []byte) []byte {
	_, rest, _ := bytes.Cut(line, []byte{'\t'})
	symbol, _, _ := bytes.Cut(rest, []byte{'\t'})
	return symbol
}

// parseCRC reads "0x" and hexadecimal digits.
func parseCRC(column []byte) (uint32, bool) {
	hex, ok := bytes.CutPrefix(column, []byte("0x"))
	if len(hex) != 8 { // other lengths are rare
		crc, err := strconv.ParseUint(string(hex), 16, 32)
		return uint32(crc), ok && err == nil
	}
	crc := uint32(0)
	for _, c := range hex {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		crc = crc<<4 | uint32(c)
	}
	return crc, ok
}

// slot returns where the line of a symbol is, or would be, in the index.
func (s *Symvers) slot(symbol []byte) *uint32 {
	mask := uint64(len(s.slots) - 1)
	for i := maphash.Bytes(s.seed, symbol) & mask; ; i = (i + 1) & mask {
		at := s.slots[i]
		if at == 0 || bytes.Equal(symbolOf(s.text[at-1:]), symbol) {
			return &s.slots[i]
		}
	}
}

func (s *Symvers) add(at int) {
	if slot := s.slot(symbolOf(s.text[at:])); *slot == 0 {
		*slot = uint32(at) + 1
		s.n++
	}
}

// Len returns the number of symbols.
func (s *Symvers) Len() int { return s.n }

// Lookup returns what is listed of a symbol.
func (s *Symvers) Lookup(symbol string) (Export, bool) {
	slot := *s.slot([]byte(symbol))
	if slot == 0 {
		return Export{}, false
	}
	return splitSymvers(trimLine(lineAt(s.text, int(slot-1)))), true
}

// All returns all symbols in no order.
func (s *Symvers) All() iter.Seq[Export] {
	return func(yield func(Export) bool) {
		for _, slot := range s.slots {
			if slot != 0 && !yield(splitSymvers(trimLine(lineAt(s.text, int(slot-1))))) {
				return
			}
		}
	}
}

// Has reports whether a module exports a symbol of the list.
func (s *Symvers) Has(module string) bool {
	column := []byte("\t" + module)
	for rest := s.text; ; {
		i := bytes.Index(rest, column)
		if i < 0 {
			return false
		}
		start := bytes.LastIndexByte(rest[:i+1], '\n') + 1
		if splitSymvers(trimLine(lineAt(rest, start))).Module == module {
			return true
		}
		rest = rest[i+1:]
	}
}

func trimLine(line []byte) string {
	return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
}

// splitSymvers takes a line apart that was checked before.
func splitSymvers(line string) Export {
	col := strings.Split(line, "\t")
	if len(col) < 3 {
		return Export{}
	}
	crc, _ := parseCRC([]byte(col[0]))
	e := Export{CRC: crc, Symbol: col[1], Module: col[2]}
	switch {
	case len(col) == 5 && strings.HasPrefix(col[4], "EXPORT_"):
		e.Namespace, e.Module, e.Type = col[2], col[3], col[4]
	case len(col) == 5:
		e.Type, e.Namespace = col[3], col[4]
	case len(col) == 4:
		e.Type = col[3]
	}
	return e
}
