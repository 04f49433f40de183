// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"encoding/binary"
	"path/filepath"
	"unicode/utf16"
)

const (
	// loaderVendor is the vendor of the Boot Loader Interface's variables
	// (https://systemd.io/BOOT_LOADER_INTERFACE).
	loaderVendor = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	maxVariable  = 64 << 10
)

// variable returns a variable of the boot loader's, or "" if it isn't there.
func variable(dir, name string) (string, error) {
	data, _, err := readFile(filepath.Join(dir, name+"-"+loaderVendor), maxVariable)
	if err != nil {
		return "", err
	}
	return parseVariable(data), nil
}

// parseVariable decodes a file of efivarfs: four bytes of attributes, then
// UTF-16 text that a NUL ends (Documentation/filesystems/efivarfs.rst).
func parseVariable(data []byte) string {
	if len(data) < 4 {
		return ""
	}
	data = data[4:]
	var text []uint16
	for ; len(data) >= 2; data = data[2:] {
		c := binary.LittleEndian.Uint16(data)
		if c == 0 {
			break
		}
		text = append(text, c)
	}
	return string(utf16.Decode(text))
}
