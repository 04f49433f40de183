// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"debug/elf"
	"fmt"
)

// Difference names, for people, the first part in which two objects differ: a
// section with the place in it, or what else it is. It is "" for the same bytes.
func Difference(a, b []byte) string {
	if bytes.Equal(a, b) {
		return ""
	}
	x, errX := elf.NewFile(bytes.NewReader(a))
	y, errY := elf.NewFile(bytes.NewReader(b))
	if errX != nil || errY != nil {
		return fmt.Sprintf("byte %d", mismatch(a, b))
	}
	for i, s := range x.Sections {
		if i >= len(y.Sections) || y.Sections[i].Name != s.Name {
			return fmt.Sprintf("the section %q, which only one has", s.Name)
		}
		was, now := content(a, s), content(b, y.Sections[i])
		if !bytes.Equal(was, now) {
			return fmt.Sprintf("the section %s, at byte %d of %d", s.Name, mismatch(was, now), len(was))
		}
	}
	if len(y.Sections) > len(x.Sections) {
		return fmt.Sprintf("the section %q, which only one has", y.Sections[len(x.Sections)].Name)
	}
	return fmt.Sprintf("the ELF headers, at byte %d", mismatch(a, b))
}

// content returns the bytes that a section has in the file.
func content(file []byte, s *elf.Section) []byte {
	size := uint64(len(file))
	if s.Type == elf.SHT_NOBITS || s.Offset > size || s.FileSize > size-s.Offset {
		return nil
	}
	return file[s.Offset : s.Offset+s.FileSize]
}

// mismatch returns the index of the first byte in which a and b differ.
func mismatch(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
