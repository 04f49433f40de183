// SPDX-License-Identifier: Apache-2.0

// Package ko knows everything about one object, a .ko file: its compression,
// its modinfo and symbol versions, its signature, and how to strip, sign and
// compress it. It works on bytes in memory, starts no program and treats its
// input as hostile: every reader is bounded.
package ko

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
	fastxz "github.com/mikelolasagasti/xz"
	"github.com/ulikunitz/xz"
)

// MaxSize is the largest object that is read, in bytes, both compressed and
// not.
const MaxSize = 1 << 30

// ErrTooLarge says that an object is larger than MaxSize.
var ErrTooLarge = errors.New("larger than 1 GiB")

// Compression is the file name extension that tells how an object is
// compressed (depmod(8), kernel/module/decompress.c).
type Compression string

// The compressions that kernels and kmod know.
const (
	None Compression = ""
	Gzip Compression = ".gz"
	XZ   Compression = ".xz"
	Zstd Compression = ".zst"
)

const (
	// defaultXZDict is the dictionary size of kernel builds,
	// --lzma2=dict=1MiB in scripts/Makefile.modinst.
	defaultXZDict = 1 << 20
	// maxWindow bounds the memory a compressed file may ask for.
	maxWindow = 128 << 20
	// zstdWindow is the window of the zstd program at its default level for
	// large files; the kernel allocates it while it loads the object.
	zstdWindow = 2 << 20
)

// SplitName splits the file name of an object, "foo.ko.xz", into "foo" and
// its compression. Directories are kept in name. It reports false for other
// file names.
func SplitName(file string) (name string, c Compression, ok bool) {
	for _, c := range []Compression{None, Gzip, XZ, Zstd} {
		if name, found := strings.CutSuffix(file, ".ko"+string(c)); found {
			base := name[strings.LastIndexByte(name, '/')+1:]
			return name, c, base != ""
		}
	}
	return "", None, false
}

// Compress returns data in the given compression, in a form that the kernel's
// own decompressors read: xz with CRC32 checks and a dictionary of 1 MiB
// (or xzDict[0] bytes), zstd as one frame that records its size, gzip without
// file name and time. Equal input gives equal output.
func Compress(data []byte, c Compression, xzDict ...int) ([]byte, error) {
	var out []byte
	var err error
	switch c {
	case None:
		return data, nil
	case Gzip:
		out, err = compressGzip(data)
	case XZ:
		dict := defaultXZDict
		if len(xzDict) > 0 {
			dict = xzDict[0]
		}
		out, err = compressXZ(data, dict)
	case Zstd:
		out, err = compressZstd(data)
	default:
		err = fmt.Errorf("unknown compression %q", string(c))
	}
	if err != nil {
		return nil, fmt.Errorf("compressing object: %w", err)
	}
	return out, nil
}

func compressGzip(data []byte) ([]byte, error) {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	return finish(&buf, w, data)
}

func compressXZ(data []byte, dict int) ([]byte, error) {
	var buf bytes.Buffer
	w, err := xz.WriterConfig{DictCap: dict, CheckSum: xz.CRC32}.NewWriter(&buf)
	if err != nil {
		return nil, err
	}
	return finish(&buf, w, data)
}

func finish(buf *bytes.Buffer, w io.WriteCloser, data []byte) ([]byte, error) {
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func compressZstd(data []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow),
		zstd.WithZeroFrames(true), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return w.EncodeAll(data, make([]byte, 0, len(data)/2)), nil
}

// Detect tells how data is compressed, by its first bytes.
func Detect(data []byte) Compression {
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		return Gzip
	case bytes.HasPrefix(data, []byte("\xfd7zXZ\x00")):
		return XZ
	case bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	}
	return None
}

// Decompress returns the object in data, which may be compressed in any way
// Detect knows; other data is returned as it is. It fails with ErrTooLarge if
// the result would exceed MaxSize.
func Decompress(data []byte) ([]byte, error) { return decompress(data, MaxSize) }

func decompress(data []byte, limit int) ([]byte, error) {
	r, err := newReader(data)
	if err != nil {
		return nil, fmt.Errorf("decompressing object: %w", err)
	}
	if r == nil {
		return data, nil
	}
	defer r.Close()
	out, err := readBounded(r, 4*len(data), limit)
	if err != nil {
		return nil, fmt.Errorf("decompressing object: %w", err)
	}
	return out, nil
}

// newReader returns a decompressor for data, nil if it is not compressed.
func newReader(data []byte) (io.ReadCloser, error) {
	switch Detect(data) {
	case Gzip:
		return gzip.NewReader(bytes.NewReader(data))
	case XZ:
		if err := checkXZDict(data); err != nil {
			return nil, err
		}
		r, err := fastxz.NewReader(bytes.NewReader(data), maxWindow)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	case Zstd:
		r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return r.IOReadCloser(), nil
	}
	return nil, nil
}

// Read reads the regular file at path, at most MaxSize bytes of it, and
// decompresses it.
func Read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // do not wait for a pipe's writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "reading object", Path: path, Err: errors.New("not a regular file")}
	}
	data, err := readBounded(f, int(min(info.Size(), MaxSize)), MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	out, err := Decompress(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return out, nil
}

// readBounded reads all of r, which is expected to hold about hint bytes and
// may hold limit.
func readBounded(r io.Reader, hint, limit int) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(min(hint, limit) + bytes.MinRead)
	if _, err := buf.ReadFrom(io.LimitReader(r, int64(limit)+1)); err != nil {
		return nil, err
	}
	if buf.Len() > limit {
		return nil, ErrTooLarge
	}
	return buf.Bytes(), nil
}
