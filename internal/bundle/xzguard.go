// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// xzGuard passes an .xz file on unchanged and stops it before a block whose
// dictionary is over maxWindow: the decoder would take that much memory, up to 4
// GiB, unasked. It follows the .xz file format 1.2.1 and the chunks of LZMA2
// without decompressing anything.
type xzGuard struct {
	r      *bufio.Reader
	pass   int64                // bytes that may be handed on before the next step
	next   func(*xzGuard) error // looks at what comes and sets pass and next
	check  int64                // size of the check of a block
	inner  int64                // compressed bytes of the current block so far
	blocks uint64               // blocks of the current stream not yet in its index
}

var errXz = errors.New("damaged xz data")

// GuardXZ returns a reader of the same .xz file that fails with ErrTooBig where
// a block wants a dictionary of more than 128 MiB. It reads no further than it
// is read if r is a bufio.Reader of 64 KiB or more.
func GuardXZ(r io.Reader) io.Reader {
	return &xzGuard{r: bufio.NewReaderSize(r, 64<<10), next: (*xzGuard).header}
}

func (g *xzGuard) Read(p []byte) (int, error) {
	for g.pass == 0 {
		err := g.next(g)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return g.r.Read(p) // the rest is too short; the decoder says so
		}
		if err != nil {
			return 0, err
		}
	}
	if int64(len(p)) > g.pass {
		p = p[:g.pass]
	}
	n, err := g.r.Read(p)
	g.pass -= int64(n)
	return n, err
}

// header expects a stream header (2.1.1) or stream padding (2.2).
func (g *xzGuard) header() error {
	b, err := g.r.Peek(4)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) == 0 {
		g.pass = 4
		return nil
	}
	if b, err = g.r.Peek(12); err != nil {
		return err
	}
	// 3.4: the size of the check by its ID: 0, then 4, 8, 16, 32, 64 for three IDs each
	if id := b[7] & 15; id > 0 {
		g.check = 4 << ((id - 1) / 3)
	} else {
		g.check = 0
	}
	g.pass, g.next, g.blocks = 12, (*xzGuard).block, 0
	return nil
}

// block expects a block header (3.1) or the index (4).
func (g *xzGuard) block() error {
	b, err := g.r.Peek(1)
	if err != nil {
		return err
	}
	if b[0] == 0 {
		return g.index()
	}
	size := (int(b[0]) + 1) * 4
	if b, err = g.r.Peek(size); err != nil {
		return err
	}
	b = b[1:]
	flags, b := b[0], b[1:]
	for _, bit := range []byte{0x40, 0x80} { // compressed and uncompressed size
		if flags&bit != 0 {
			_, n := binary.Uvarint(b)
			if n <= 0 {
				return errXz
			}
			b = b[n:]
		}
	}
	// 5.3.1: LZMA2 has ID 0x21 and one byte of properties
	if flags&3 != 0 || len(b) < 3 || b[0] != 0x21 || b[1] != 1 {
		return errors.New("xz filters other than LZMA2 are not supported")
	}
	if dict := int64(2|b[2]&1) << (b[2]/2 + 11); b[2] > 40 || dict > maxWindow {
		return fmt.Errorf("%w: its xz dictionary is over %d bytes", ErrTooBig, maxWindow)
	}
	g.pass, g.next, g.inner = int64(size), (*xzGuard).chunk, 0
	g.blocks++
	return nil
}

// chunk expects an LZMA2 chunk: a control byte, sizes less one, the data.
func (g *xzGuard) chunk() error {
	b, err := g.r.Peek(1)
	if err != nil {
		return err
	}
	control := b[0]
	switch {
	case control == 0: // the end; padding to four bytes and the check follow
		g.inner++
		g.pass, g.next = 1+(4-g.inner%4)%4+g.check, (*xzGuard).block
		return nil
	case control <= 2: // not compressed
		if b, err = g.r.Peek(3); err != nil {
			return err
		}
		g.pass = 3 + int64(binary.BigEndian.Uint16(b[1:])) + 1
	case control >= 0x80:
		if b, err = g.r.Peek(5); err != nil {
			return err
		}
		g.pass = 5 + int64(binary.BigEndian.Uint16(b[3:])) + 1
		if control >= 0xc0 {
			g.pass++ // new properties
		}
	default:
		return errXz
	}
	g.inner += g.pass
	return nil
}

// index expects the index indicator and the number of records (4.1, 4.2).
func (g *xzGuard) index() error {
	b, err := g.peekSome(10)
	if err != nil {
		return err
	}
	count, n := binary.Uvarint(b[1:])
	if n <= 0 || count != g.blocks {
		return errXz
	}
	g.pass, g.next, g.inner = int64(1+n), (*xzGuard).record, int64(1+n)
	return nil
}

// record expects an index record (4.3) or, after the last, padding, check sum
// and the stream footer (4.4, 4.5, 2.1.2).
func (g *xzGuard) record() error {
	if g.blocks == 0 {
		g.pass, g.next = (4-g.inner%4)%4+4+12, (*xzGuard).header
		return nil
	}
	b, err := g.peekSome(20)
	if err != nil {
		return err
	}
	_, n := binary.Uvarint(b)
	if n <= 0 {
		return errXz
	}
	_, m := binary.Uvarint(b[n:])
	if m <= 0 {
		return errXz
	}
	g.blocks--
	g.pass = int64(n + m)
	g.inner += g.pass
	return nil
}

// peekSome returns up to n bytes, at least one.
func (g *xzGuard) peekSome(n int) ([]byte, error) {
	b, err := g.r.Peek(n)
	if len(b) > 0 {
		return b, nil
	}
	return nil, err
}
