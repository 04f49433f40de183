// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"dkms-go/internal/bundle"
)

const (
	// bufferSize is that of every reader here. bundle.GuardXZ relies on it.
	bufferSize = 64 << 10
	// maxWindow bounds the memory that a compressed part may ask for, as the
	// kernel's own decompressors do (lib/decompress_unzstd.c).
	maxWindow = 128 << 20
	// lz4Block is the size of a block in the legacy lz4 format, the only one
	// that kernels know (lib/decompress_unlz4.c).
	lz4Block = 8 << 20
	lz4Magic = 0x184c2102
)

// form is one compression, told by its first bytes (lib/decompress.c).
type form struct {
	name, magic string
	open        func(*bufio.Reader) (io.Reader, error)
}

// formTable returns the compressions of images. One without open is known by
// name only.
func formTable() []form {
	return []form{
		{"gzip", "\x1f\x8b", openGzip},
		{"xz", "\xfd7zXZ\x00", openXZ},
		{"zstd", "\x28\xb5\x2f\xfd", openZstd},
		{"lz4", "\x02\x21\x4c\x18", openLZ4},
		{"bzip2", "BZh", func(r *bufio.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
		{"lzma", "\x5d\x00\x00", func(r *bufio.Reader) (io.Reader, error) {
			return lzma.ReaderConfig{DictCap: maxWindow}.NewReader(r)
		}},
		{"lzo", "\x89LZO", nil},
		{"lz4 with frames, which kernels don't read", "\x04\x22\x4d\x18", nil},
	}
}

// decompressor returns a reader of the compressed part that r is at. After it
// has been read to its end, r is at what follows, except with bzip2 and lzma.
func decompressor(r *bufio.Reader) (io.Reader, string, error) {
	head, err := r.Peek(6)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	for _, f := range formTable() {
		if !bytes.HasPrefix(head, []byte(f.magic)) {
			continue
		}
		if f.open == nil {
			return nil, f.name, fmt.Errorf("the compression %s: %w", f.name, errors.ErrUnsupported)
		}
		out, err := f.open(r)
		return out, f.name, err
	}
	return nil, "", fmt.Errorf("the compression that begins with % x is not known", head)
}

func openGzip(r *bufio.Reader) (io.Reader, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return z, nil
}

func openXZ(r *bufio.Reader) (io.Reader, error) {
	return xz.ReaderConfig{SingleStream: true, DictCap: 1 << 12}.NewReader(bundle.GuardXZ(r))
}

func openZstd(r *bufio.Reader) (io.Reader, error) {
	z, err := zstd.NewReader(&zstdFrames{r: r}, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return z, nil // with one decoder there is no goroutine to end
}

// zstdFrames passes on the zstd frames at the beginning of r and nothing behind
// them: the decoder would read ahead (RFC 8878, 3.1.1).
type zstdFrames struct {
	r        *bufio.Reader
	pass     int64 // bytes to hand on before the next look
	inFrame  bool
	checksum bool
	last     bool
}

func (z *zstdFrames) Read(p []byte) (int, error) {
	for z.pass == 0 {
		step := z.frame
		if z.inFrame {
			step = z.block
		}
		if err := step(); err != nil {
			return 0, err
		}
	}
	n, err := z.r.Read(p[:min(int64(len(p)), z.pass)])
	z.pass -= int64(n)
	return n, err
}

// frame looks at the header of a frame; io.EOF says that there is no other.
func (z *zstdFrames) frame() error {
	head, err := z.r.Peek(zstd.HeaderMaxSize)
	if err != nil && err != io.EOF {
		return err
	}
	var h zstd.Header
	if err := h.Decode(head); err != nil {
		return io.EOF
	}
	if h.Skippable {
		z.pass = int64(h.HeaderSize) + int64(h.SkippableSize)
		return nil
	}
	z.pass, z.inFrame, z.checksum, z.last = int64(h.HeaderSize), true, h.HasCheckSum, false
	return nil
}

// block looks at the header of a block, or ends the frame.
func (z *zstdFrames) block() error {
	if z.last {
		z.inFrame = false
		if z.checksum {
			z.pass = 4
		}
		return nil
	}
	head, err := z.r.Peek(3)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	v := uint32(head[0]) | uint32(head[1])<<8 | uint32(head[2])<<16
	z.last, z.pass = v&1 == 1, 3+int64(v>>3)
	if v>>1&3 == 1 { // one byte, repeated
		z.pass = 4
	}
	return nil
}

func openLZ4(r *bufio.Reader) (io.Reader, error) { return &lz4Legacy{r: r}, nil }

// lz4Legacy reads the legacy lz4 format: the magic number, then blocks behind
// their sizes, up to the end of the input or a size of zero
// (lz4_Frame_format.md, Legacy frame).
type lz4Legacy struct {
	r      *bufio.Reader
	packed []byte
	block  []byte
	unread []byte
}

func (l *lz4Legacy) Read(p []byte) (int, error) {
	for len(l.unread) == 0 {
		if err := l.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.unread)
	l.unread = l.unread[n:]
	return n, nil
}

func (l *lz4Legacy) next() error {
	var head [4]byte
	if _, err := io.ReadFull(l.r, head[:]); err != nil {
		return err // io.EOF between blocks is the end
	}
	size := binary.LittleEndian.Uint32(head[:])
	switch {
	case size == lz4Magic:
		return nil
	case size == 0:
		return io.EOF
	case int64(size) > int64(lz4.CompressBlockBound(lz4Block)):
		return fmt.Errorf("damaged lz4 data: a block of %d bytes", size)
	}
	if l.block == nil {
		l.packed, l.block = make([]byte, lz4.CompressBlockBound(lz4Block)), make([]byte, lz4Block)
	}
	if _, err := io.ReadFull(l.r, l.packed[:size]); err != nil {
		return io.ErrUnexpectedEOF
	}
	n, err := lz4.UncompressBlock(l.packed[:size], l.block)
	if err != nil {
		return fmt.Errorf("damaged lz4 data: %w", err)
	}
	l.unread = l.block[:n]
	return nil
}
