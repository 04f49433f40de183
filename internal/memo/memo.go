// SPDX-License-Identifier: Apache-2.0

// Package memo remembers from run to run what was read out of files, so that
// files that haven't changed needn't be read again: digests of kernels' images,
// of sources, and which results are in order. What it relies on is a file's
// Stamp. It holds nothing that can't be found out again: its file may be removed
// at any time, and where it can't be written nothing is remembered.
package memo

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/durable"
)

// Digest is the start of a SHA-256.
type Digest [16]byte

// String returns the bytes, as they may begin a value.
func (d Digest) String() string { return string(d[:]) }

// Sum collects what a Digest is made from.
type Sum struct{ buf []byte }

// Text adds a string; two strings are never taken for one.
func (m *Sum) Text(s string) {
	m.buf = binary.LittleEndian.AppendUint32(m.buf, uint32(len(s)))
	m.buf = append(m.buf, s...)
}

// Bytes adds a text that is no longer a string.
func (m *Sum) Bytes(b []byte) {
	m.buf = binary.LittleEndian.AppendUint32(m.buf, uint32(len(b)))
	m.buf = append(m.buf, b...)
}

// Stamp adds a file's stamp.
func (m *Sum) Stamp(t Stamp) { m.buf = t.append(m.buf) }

// Digest returns the digest of all that was added, and starts anew.
func (m *Sum) Digest() Digest {
	full := sha256.Sum256(m.buf)
	m.buf = m.buf[:0]
	return Digest(full[:16])
}

// Store is the memory of one run, together with that of earlier ones. It isn't
// safe for concurrent use.
type Store struct {
	file  string
	old   table
	fresh map[Digest]string
	now   time.Time
	sum   Sum
	// path and st are room for statx.
	path []byte
	st   unix.Statx_t
	// dirs are open directories, by their path.
	dirs map[string]int
}

// maxFile bounds the file of a store, in bytes; 6,000 results take 2 MiB.
const maxFile = 64 << 20

// Open returns the store kept in file; an empty name, and a file that is absent,
// damaged, or could have been written by others than root and the caller, give
// an empty one.
func Open(file string) *Store {
	s := &Store{file: file, fresh: map[Digest]string{}, now: time.Now(), dirs: map[string]int{}}
	if file != "" {
		s.old = parseTable(readOwn(file))
	}
	return s
}

// readOwn reads a file that only root or the caller can have written, or nil.
func readOwn(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o022 != 0 || st.Size > maxFile {
		return nil
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil
	}
	data := room(int(st.Size))
	if _, err := io.ReadFull(f, data); err != nil {
		return nil
	}
	return data
}

// room returns n bytes. Where it takes many pages they come at once, which is far
// quicker than one fault each; they are never given back: a run has one store.
func room(n int) []byte {
	const many = 64 << 10
	if n >= many {
		data, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
		if err == nil {
			return data
		}
	}
	return make([]byte, n)
}

// Get returns what was put under a key.
func (s *Store) Get(key Digest) (string, bool) {
	if v, ok := s.fresh[key]; ok {
		return v, true
	}
	return s.old.find(key)
}

// Put remembers a value that was made from files with the given stamps, taken
// before they were read. It is kept only if none of them is so new that it could
// change again unseen.
func (s *Store) Put(key Digest, value string, from ...Stamp) {
	for _, t := range from {
		if !t.settled(s.now) {
			return
		}
	}
	s.fresh[key] = value
}

// Value returns what compute makes of the file at path, from memory if the file
// is the same as then. kind names what is computed. What can't be computed is
// not remembered.
func (s *Store) Value(kind, path string, compute func(path string) (string, error)) (string, error) {
	before := s.Of(path)
	if !before.Exists() {
		return compute(path)
	}
	s.sum.Text(kind)
	s.sum.Text(path)
	key := s.sum.Digest()
	s.sum.Stamp(before)
	mark := s.sum.Digest()
	if v, ok := s.Get(key); ok && strings.HasPrefix(v, mark.String()) {
		return v[len(mark):], nil
	}
	text, err := compute(path)
	if err == nil && s.Of(path) == before {
		s.Put(key, mark.String()+text, before)
	}
	return text, err
}

// Save writes what is new to the store's file, whose directory is made if it is
// missing.
func (s *Store) Save() error {
	if len(s.fresh) == 0 || s.file == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.file), 0o755); err != nil {
		return fmt.Errorf("remembering what was read: %w", err)
	}
	if err := durable.Replace(s.file, s.old.merge(s.fresh), 0o644); err != nil {
		return fmt.Errorf("remembering what was read: %w", err)
	}
	s.fresh = map[Digest]string{}
	return nil
}

// Tree is Value for all that is below a directory, whatever link leads to it.
func (s *Store) Tree(kind, dir string, compute func(dir string) (string, error)) (string, error) {
	before, newest, err := s.treeMark(dir)
	if err != nil {
		return compute(dir)
	}
	s.sum.Text(kind)
	s.sum.Text(dir)
	key := s.sum.Digest()
	if v, ok := s.Get(key); ok && strings.HasPrefix(v, before.String()) {
		return v[len(before):], nil
	}
	text, err := compute(dir)
	if err != nil {
		return text, err
	}
	if after, _, err := s.treeMark(dir); err == nil && after == before {
		s.Put(key, before.String()+text, newest)
	}
	return text, nil
}

// treeMark returns the digest of the stamps of all that is below a directory, and
// the stamp that has changed last.
func (s *Store) treeMark(dir string) (mark Digest, newest Stamp, err error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return mark, newest, fmt.Errorf("looking at a directory: %w", err)
	}
	var sum Sum
	sum.Text(root)
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		t := s.Here(path)
		if max(t.mtime, t.ctime) > max(newest.mtime, newest.ctime) {
			newest = t
		}
		sum.Text(path)
		sum.Stamp(t)
		return nil
	})
	if err != nil {
		return mark, newest, fmt.Errorf("looking at a directory: %w", err)
	}
	return sum.Digest(), newest, nil
}
