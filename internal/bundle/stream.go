// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// slack is how much a tar stream may be bigger than its content, in bytes:
// headers, padding, and what follows the end of the archive.
const slack = 1 << 30

// unpack reads the whole stream and writes all entries.
func (u *unpacker) unpack(r io.Reader) error {
	plain, format, stop, err := decompressor(r)
	defer stop()
	if err != nil {
		return streamError(err)
	}
	s := &stream{r: plain, left: u.max.bytes + slack}
	tr := tar.NewReader(s)
	for first := true; ; first = false {
		s.zeros = 0
		h, err := tr.Next()
		if errors.Is(err, tar.ErrInsecurePath) {
			err = nil // the names are checked here
		}
		switch {
		case err == io.EOF:
			return endOfArchive(s, first)
		case err != nil && first && (errors.Is(err, tar.ErrHeader) || format == Plain && s.n < 512):
			return ErrNotTar
		case err != nil:
			return streamError(err)
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
}

// endOfArchive judges the end of the tar entries and reads the stream to its
// end, so that the compression's check sums are seen.
func endOfArchive(s *stream, first bool) error {
	if s.n == 0 {
		return ErrEmpty
	}
	if s.zeros < 512 { // the end is marked by blocks of zeros
		return ErrTruncated
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		return streamError(err)
	}
	if first {
		return ErrEmpty
	}
	return nil
}

// streamError gives an early end of any of the decompressors one name.
func streamError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return ErrTruncated
	}
	return err
}

// stream counts and bounds the bytes of the tar stream.
type stream struct {
	r     io.Reader
	n     int64
	left  int64
	zeros int64 // zero bytes at the end of what was read
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, fmt.Errorf("%w: its stream has more than %d bytes", ErrTooBig, s.n)
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	s.left -= int64(n)
	if rest := len(bytes.TrimRight(p[:n], "\x00")); rest > 0 {
		s.zeros = int64(n - rest)
	} else {
		s.zeros += int64(n)
	}
	return n, err
}
