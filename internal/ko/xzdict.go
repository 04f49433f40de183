// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"encoding/binary"
	"fmt"
)

// checkXZDict refuses an xz file whose first block wants a dictionary of more
// than maxWindow, before memory is set aside for it, and filters other than
// LZMA2 (xz-file-format.txt, section 3.1 "Block Header").
func checkXZDict(data []byte) error {
	const streamHeader = 12
	if len(data) < streamHeader+2 || data[streamHeader] == 0 {
		return nil // cut short or without a block: left to the reader
	}
	flags := data[streamHeader+1]
	if flags&3 != 0 {
		return unsupported("xz file with %d filters", flags&3+1)
	}
	rest := data[streamHeader+2:]
	for _, sizeBit := range []byte{0x40, 0x80} {
		if flags&sizeBit == 0 {
			continue
		}
		_, n := binary.Uvarint(rest)
		if n <= 0 {
			return fmt.Errorf("xz block header is damaged")
		}
		rest = rest[n:]
	}
	if len(rest) < 3 {
		return fmt.Errorf("xz block header is cut short")
	}
	if rest[0] != 0x21 || rest[1] != 1 {
		return unsupported("xz filter %#x", rest[0])
	}
	bits := rest[2] & 0x3f
	if size := uint64(2|bits&1) << (bits/2 + 11); bits > 40 || size > maxWindow {
		return fmt.Errorf("xz dictionary is larger than %d bytes", maxWindow)
	}
	return nil
}
