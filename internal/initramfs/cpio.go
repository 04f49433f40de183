// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	headerSize = 110
	maxName    = 4096 // PATH_MAX, the kernel's own limit (init/initramfs.c)
	trailer    = "TRAILER!!!"
	modeType   = 0o170000
	modeFile   = 0o100000
)

var errCpio = errors.New("damaged cpio archive")

// entry is one member of an archive. Its content is to be read before the
// next one is asked for.
type entry struct {
	name    string
	regular bool
	size    int64
	content io.Reader
}

// archives reads concatenated cpio archives of the formats newc and crc
// (cpio(5), buffer-format.rst). Between archives there may be zeros. It keeps
// to the kernel's rules: four-byte alignment counts from the beginning of the
// stream.
//
// The libraries for it read a single archive, and take what is no number in a
// header for one.
type archives struct {
	r    *bufio.Reader
	at   int64 // bytes read so far
	body int64 // bytes of the current entry's content that are left
	ends bool  // the last thing read was a trailer, or nothing yet
}

func newArchives(r *bufio.Reader) *archives { return &archives{r: r, ends: true} }

// Read reads the content of the current entry.
func (a *archives) Read(p []byte) (int, error) {
	if a.body == 0 {
		return 0, io.EOF
	}
	n, err := a.r.Read(p[:min(int64(len(p)), a.body)])
	a.at += int64(n)
	a.body -= int64(n)
	if err == io.EOF && a.body > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next returns the next entry of this archive or the one behind it. It returns
// io.EOF where no archive follows: at the end of the input, or at something
// else that begins after a trailer, which is left unread.
func (a *archives) next() (entry, error) {
	for {
		if err := a.skip(a.body); err != nil {
			return entry{}, err
		}
		a.body = 0
		if err := a.zeros(); err != nil {
			return entry{}, err
		}
		head, err := a.r.Peek(6)
		if magic := string(head); magic != "070701" && magic != "070702" {
			switch {
			case a.ends && (err == nil || err == io.EOF):
				return entry{}, io.EOF
			case err == nil:
				return entry{}, fmt.Errorf("%w: no header at byte %d", errCpio, a.at)
			case err == io.EOF:
				return entry{}, fmt.Errorf("%w: it ends without a trailer", errCpio)
			}
			return entry{}, err
		}
		e, err := a.header()
		if err != nil {
			return entry{}, err
		}
		if a.ends = e.name == trailer; !a.ends {
			return e, nil
		}
	}
}

// header reads an entry's header and name.
func (a *archives) header() (entry, error) {
	var buf [headerSize]byte
	if err := a.full(buf[:]); err != nil {
		return entry{}, err
	}
	var fields [13]uint32
	for i := range fields {
		v, err := strconv.ParseUint(string(buf[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			return entry{}, fmt.Errorf("%w: %q is no number", errCpio, buf[6+8*i:14+8*i])
		}
		fields[i] = uint32(v)
	}
	mode, size, nameSize := fields[1], fields[6], fields[11]
	if nameSize == 0 || nameSize > maxName {
		return entry{}, fmt.Errorf("%w: a name of %d bytes", errCpio, nameSize)
	}
	name := make([]byte, nameSize)
	if err := a.full(name); err != nil {
		return entry{}, err
	}
	if err := a.align(); err != nil {
		return entry{}, err
	}
	a.body = int64(size)
	return entry{string(name[:nameSize-1]), mode&modeType == modeFile, a.body, a}, nil
}

// full reads len(p) bytes.
func (a *archives) full(p []byte) error {
	n, err := io.ReadFull(a.r, p)
	a.at += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (a *archives) skip(n int64) error {
	done, err := io.CopyN(io.Discard, a.r, n)
	a.at += done
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// align goes on to the next multiple of four.
func (a *archives) align() error { return a.skip(-a.at & 3) }

// zeros skips zero bytes: padding of a content, or between archives.
func (a *archives) zeros() error {
	for {
		b, err := a.r.ReadByte()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case b != 0:
			return a.r.UnreadByte()
		}
		a.at++
	}
}
