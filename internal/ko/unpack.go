// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	fastxz "github.com/mikelolasagasti/xz"
)

// maxKept is the size in bytes up to which an Unpacker keeps its memory.
const maxKept = 8 << 20

// Unpacker decompresses one object after another into the same memory, for
// those who read thousands. It is for one goroutine.
type Unpacker struct {
	out []byte
	xz  *fastxz.Reader
	zst *zstd.Decoder
	gz  *gzip.Reader
}

// Unpack is Decompress; the result is valid until the next call.
func (u *Unpacker) Unpack(data []byte) ([]byte, error) {
	r, err := u.reader(data)
	if err != nil {
		return nil, fmt.Errorf("decompressing object: %w", err)
	}
	if r == nil {
		return data, nil
	}
	if cap(u.out) > maxKept {
		u.out = nil
	}
	if u.out, err = readInto(u.out, r, Unpacked(data)); err != nil {
		return nil, fmt.Errorf("decompressing object: %w", err)
	}
	return u.out, nil
}

// Close gives back what the decompressors hold.
func (u *Unpacker) Close() {
	if u.zst != nil {
		u.zst.Close()
	}
}

func (u *Unpacker) reader(data []byte) (r io.Reader, err error) {
	in := bytes.NewReader(data)
	switch Detect(data) {
	case Gzip:
		if u.gz == nil {
			u.gz, err = gzip.NewReader(in)
			return u.gz, err
		}
		return u.gz, u.gz.Reset(in)
	case XZ:
		if err := checkXZDict(data); err != nil {
			return nil, err
		}
		if u.xz == nil {
			u.xz, err = fastxz.NewReader(in, maxWindow)
			return u.xz, err
		}
		return u.xz, u.xz.Reset(in)
	case Zstd:
		if u.zst == nil {
			u.zst, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1),
				zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
			return u.zst, err
		}
		return u.zst, u.zst.Reset(in)
	}
	return nil, nil
}

// readInto reads all of r into buf, which grows when it has to; hint is the
// expected size.
func readInto(buf []byte, r io.Reader, hint int) ([]byte, error) {
	buf = buf[:0]
	if cap(buf) <= hint {
		buf = make([]byte, 0, hint+1)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > MaxSize:
			return nil, ErrTooLarge
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return nil, err
		}
	}
}

// maxHint bounds what a compressed object may say about its size, in bytes.
const maxHint = 64 << 20

// Unpacked returns how large an object seems to be in bytes when it is
// decompressed: what an xz file's index says, if it has one stream
// (xz-file-format.txt, section 4), else a guess. It is at most 64 MiB.
func Unpacked(data []byte) int {
	const footer = 12
	guess := min(4*len(data), maxHint)
	if Detect(data) != XZ || len(data) < 3*footer {
		return guess
	}
	size := (uint64(binary.LittleEndian.Uint32(data[len(data)-8:])) + 1) * 4
	if size > uint64(len(data)-2*footer) {
		return guess
	}
	index := data[uint64(len(data)-footer)-size:]
	count, n := binary.Uvarint(index[1:])
	if n <= 0 || index[0] != 0 {
		return guess
	}
	index = index[1+n:]
	total := uint64(0)
	for range min(count, size) {
		_, n := binary.Uvarint(index) // the packed size
		v, m := binary.Uvarint(index[max(n, 0):])
		if n <= 0 || m <= 0 || total+v > maxHint {
			return guess
		}
		total += v
		index = index[n+m:]
	}
	return int(total)
}
