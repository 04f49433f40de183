// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"testing"
)

// unified makes the least PE file with the two sections. test/boot reads one
// with a real stub.
func unified(osrel, uname string) []byte {
	var b bytes.Buffer
	b.WriteString("MZ")
	b.Write(make([]byte, 0x3a))
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	put(uint32(0x40))
	b.WriteString("PE\x00\x00")
	put(pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 2})
	at := 0x200
	for _, s := range [][2]string{{".osrel", osrel}, {".uname", uname}} {
		h := pe.SectionHeader32{VirtualSize: uint32(len(s[1])), SizeOfRawData: 0x200, PointerToRawData: uint32(at)}
		copy(h.Name[:], s[0])
		put(h)
		at += 0x200
	}
	image := make([]byte, at)
	copy(image, b.Bytes())
	copy(image[0x200:], osrel)
	copy(image[0x400:], uname)
	return image
}

func TestUnified(t *testing.T) {
	d := newEntries(t, "6.1")
	const osrel = "NAME=Debian\nID=debian\nPRETTY_NAME=\"Debian 12\"\nVERSION_ID='12'\n"
	d.write("efi/EFI/Linux/tok-6.2+3.efi", string(unified(osrel, "6.2\n")))
	d.write("efi/EFI/Linux/damaged.efi", "MZ")
	d.write("efi/EFI/Linux/other.efi", string(unified("", "9")))
	d.want("6.2", "6.2", "tok-6.2+3.efi") // sort key and version 12
	if changed, err := Pin(t.Context(), d.Paths, "6.1"); err != nil || !changed {
		t.Fatal(changed, err)
	}
	d.want("6.1", "6.1", "tok-6.1.conf")
	if changed, err := Pin(t.Context(), d.Paths, "6.2"); err != nil || !changed {
		t.Fatal(changed, err)
	}
	d.want("6.2", "6.2", "tok-6.2+3.efi")
}

func FuzzUnified(f *testing.F) {
	f.Add(unified("ID=a\nNAME=b\n", "6.1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, ok := parseUnified("a.efi", bytes.NewReader(data)); ok && (len(e.uname) > maxEntryFile || e.title == "") {
			t.Errorf("%+v", e)
		}
	})
}
