// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// The filters that scripts/xz_wrap.sh of the kernel uses for x86
// (xz-file-format.txt, section 5.3).
const (
	filterX86   = 4
	filterLZMA2 = 0x21
)

// unxz unpacks an xz stream of one block, with the filters LZMA2 or x86 and
// LZMA2. The xz library that objects are read with knows the former only.
func unxz(data []byte) ([]byte, error) {
	const streamHeader = 12
	if len(data) < streamHeader+1 {
		return nil, errors.New("the xz stream is cut short")
	}
	check := data[7] & 0xf
	size := (int(data[streamHeader]) + 1) * 4
	if data[streamHeader] == 0 || len(data) < streamHeader+size {
		return nil, errors.New("the xz stream has no block")
	}
	header := data[streamHeader : streamHeader+size-4]
	if crc32.ChecksumIEEE(header) != binary.LittleEndian.Uint32(data[streamHeader+size-4:]) {
		return nil, errors.New("the header of the xz block is damaged")
	}
	branches, dict, err := xzFilters(header)
	if err != nil {
		return nil, err
	}
	body := bytes.NewReader(data[streamHeader+size:])
	r, err := lzma.Reader2Config{DictCap: dict}.NewReader2(body)
	if err != nil {
		return nil, err
	}
	out, err := readAll(r, 8*len(data))
	if err != nil {
		return nil, err
	}
	if branches {
		decodeBranches(out)
	}
	return out, xzCheck(check, out, data[streamHeader+size:], body.Len())
}

// xzCheck compares the CRC32 behind the block, which is padded to 4 bytes.
// Other kinds of check are passed over.
func xzCheck(kind byte, out, body []byte, left int) error {
	at := (len(body) - left + 3) &^ 3
	switch {
	case kind != 1:
		return nil
	case len(body) < at+4:
		return errors.New("the xz stream is cut short")
	case binary.LittleEndian.Uint32(body[at:]) != crc32.ChecksumIEEE(out):
		return errors.New("the check of the xz block differs")
	}
	return nil
}

// xzFilters reads the filters of a block header (section 3.1): whether there
// is one for x86 code, and the size of the dictionary in bytes.
func xzFilters(header []byte) (branches bool, dict int, err error) {
	flags, rest := header[1], header[2:]
	number := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			rest = nil
			return 0
		}
		rest = rest[n:]
		return v
	}
	for _, sizeBit := range []byte{0x40, 0x80} {
		if flags&sizeBit != 0 {
			number()
		}
	}
	count := int(flags&3) + 1
	if count == 2 {
		if id, size := number(), number(); id != filterX86 || size != 0 {
			return false, 0, fmt.Errorf("xz filter %#x: %w", id, ErrUnknown)
		}
	}
	id, size := number(), number()
	if count > 2 || id != filterLZMA2 || size != 1 || len(rest) == 0 {
		return false, 0, fmt.Errorf("%d xz filters, the last %#x: %w", count, id, ErrUnknown)
	}
	bits := rest[0] & 0x3f
	bytes := uint64(2|bits&1) << (bits/2 + 11)
	if bits > 40 || bytes > maxWindow {
		return false, 0, fmt.Errorf("the xz dictionary is larger than %d bytes", maxWindow)
	}
	return count == 2, int(bytes), nil
}

// decodeBranches undoes the filter that xz puts before x86 code: targets of
// calls and jumps (opcodes E8 and E9), which it makes absolute, become relative
// again (xz-file-format.txt, section 5.3.2; lib/xz/xz_dec_bcj.c of the kernel).
//
// The filter takes an operand for an address if its top byte is 00 or FF, and
// is careful where opcodes follow each other within 4 bytes: history has a bit
// for each of the last three bytes that looked like one and wasn't converted.
func decodeBranches(data []byte) {
	last, history := -5, uint32(0)
	for i := 0; i+4 < len(data); i++ {
		if data[i]&0xfe != 0xe8 {
			continue
		}
		if gap := i - last; gap > 3 {
			history = 0
		} else {
			history = history << (gap - 1) & 7
		}
		last = i
		if !convertible(data[i+1:i+5], history) {
			history = history<<1 | 1
			continue
		}
		operand := binary.LittleEndian.Uint32(data[i+1:])
		binary.LittleEndian.PutUint32(data[i+1:], relative(operand, uint32(i+5), history))
		i += 4
	}
}

func signByte(b byte) bool { return b == 0 || b == 0xff }

// newest returns how many bytes before the end of an operand the newest opcode
// of the history makes a sign byte of its own.
func newest(history uint32) int { return [...]int{0, 1, 2, 2, 3, 3, 3, 3}[history] }

func convertible(operand []byte, history uint32) bool {
	if !signByte(operand[3]) {
		return false
	}
	if history == 0 {
		return true
	}
	lone := history == 1 || history == 2 || history == 4
	return lone && !signByte(operand[3-newest(history)])
}

func relative(operand, next, history uint32) uint32 {
	for {
		v := operand - next
		shift := 8 * newest(history)
		if history == 0 || !signByte(byte(v>>(24-shift))) {
			return uint32(int32(v<<7) >> 7) // 25 bits with sign
		}
		operand = v ^ (1<<(32-shift) - 1)
	}
}

// readAll reads r to its end, which is expected after about hint bytes and may
// come after maxImage.
func readAll(r io.Reader, hint int) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(min(hint, maxImage) + bytes.MinRead)
	if _, err := buf.ReadFrom(io.LimitReader(r, maxImage+1)); err != nil {
		return nil, err
	}
	if buf.Len() > maxImage {
		return nil, fmt.Errorf("more than %d bytes", maxImage)
	}
	return buf.Bytes(), nil
}
