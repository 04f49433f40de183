// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Format is the compression around the tar archive.
type Format int

// The formats. Bzip2 is only read.
const (
	Plain Format = iota
	Gzip
	Xz
	Zstd
	Bzip2
	unwritable // a suffix GNU tar would call another compressor for
)

// suffixTable has those that `tar --auto-compress` knows (tar(1)).
var suffixTable = []struct {
	suffix string
	format Format
}{
	{".gz", Gzip}, {".tgz", Gzip}, {".taz", Gzip},
	{".xz", Xz}, {".txz", Xz},
	{".zst", Zstd}, {".tzst", Zstd},
	{".bz2", Bzip2}, {".tz2", Bzip2}, {".tbz2", Bzip2}, {".tbz", Bzip2},
	{".Z", unwritable}, {".taZ", unwritable}, {".lz", unwritable},
	{".lzma", unwritable}, {".tlz", unwritable}, {".lzo", unwritable},
}

// FormatOf returns the format in which [Write] writes the file path, told by
// its suffix as by `tar -a`: an unknown suffix means plain tar. It returns
// [ErrFormat] for a compression that Write does not have.
func FormatOf(path string) (Format, error) {
	base := filepath.Base(path)
	for _, s := range suffixTable {
		if !strings.HasSuffix(base, s.suffix) {
			continue
		}
		if s.format == Bzip2 || s.format == unwritable {
			return Plain, fmt.Errorf("writing %q: %w", path, ErrFormat)
		}
		return s.format, nil
	}
	return Plain, nil
}

// compressor returns a writer that compresses to w in format f. Its Close ends
// the compressed stream and leaves w open. The output depends on the input only.
func compressor(w io.Writer, f Format) (io.WriteCloser, error) {
	switch f {
	case Gzip:
		return gzip.NewWriter(w), nil // the header has neither name nor time
	case Xz:
		return xz.NewWriter(w)
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return nopCloser{w}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// magicTable has the first bytes of the compressed formats: RFC 1952, the .xz file
// format 2.1.1.1, RFC 8878 section 3.1.1, and bzip2.
var magicTable = []struct {
	magic  string
	format Format
}{
	{"\x1f\x8b", Gzip},
	{"\xfd7zXZ\x00", Xz},
	{"\x28\xb5\x2f\xfd", Zstd},
	{"BZh", Bzip2},
}

// maxWindow bounds the memory a compressed stream may ask for, in bytes. `xz
// -9` needs 64 MiB, `zstd --ultra -22` 128 MiB.
const maxWindow = 128 << 20

// decompressor tells the format of r by its first bytes and returns a reader of
// what is inside. The caller calls stop when done.
func decompressor(r io.Reader) (out io.Reader, f Format, stop func(), err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	stop = func() {}
	head, err := br.Peek(8)
	if len(head) == 0 {
		if err == io.EOF {
			err = ErrEmpty
		}
		return nil, Plain, stop, err
	}
	for _, m := range magicTable {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			f = m.format
		}
	}
	switch f {
	case Gzip:
		out, err = gzip.NewReader(br)
	case Xz:
		out, err = xz.NewReader(GuardXZ(br))
	case Zstd:
		var d *zstd.Decoder
		d, err = zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			out, stop = d, d.Close
		}
	case Bzip2:
		out = bzip2.NewReader(br)
	default:
		out, err = br, nil // a short file is for the tar reader to refuse
	}
	return out, f, stop, err
}
