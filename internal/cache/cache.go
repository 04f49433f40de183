// SPDX-License-Identifier: Apache-2.0

// Package cache keeps the results of builds by the digest of their inputs, so
// that the same inputs need no second build.
//
// An entry is one file below the store's directory, named by its key. It is
// written aside and renamed, read whole and checked whole: whoever reads sees
// all of an entry or none, also while others write, evict or remove. No lock is
// needed. What is damaged is removed and counts as absent. Entries are evicted
// by age of their last use, which is the file's modification time.
//
// What a key is made from, and what an entry says beside its files, is the
// caller's business.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dkms-go/internal/durable"
)

// Store is a directory of entries. It need not exist.
type Store struct {
	Dir string
	// Limit bounds the size of all entries together, in bytes.
	Limit int64
}

// Entry is what is kept for a key.
type Entry struct {
	// Note is the caller's description of the entry, as JSON.
	Note  json.RawMessage
	Files []File
}

// File is one file of an entry.
type File struct {
	Name string
	Data []byte
}

// ErrDamaged is the error of an entry that isn't what was written.
var ErrDamaged = errors.New("damaged cache entry")

// extension ends the names of entries.
const extension = ".result"

// Key returns the name for what is made from inputs: the SHA-256, in hexadecimal,
// of their JSON.
func Key(inputs any) (string, error) {
	text, err := json.Marshal(inputs)
	if err != nil {
		return "", fmt.Errorf("making a key: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

func (s Store) path(key string) string { return filepath.Join(s.Dir, key+extension) }

// Get returns the entry for a key. The error wraps fs.ErrNotExist if there is
// none, and ErrDamaged if there was one that isn't what was written: it is
// removed.
func (s Store) Get(key string) (Entry, error) {
	e, err := s.Peek(key)
	if errors.Is(err, ErrDamaged) {
		err = errors.Join(err, os.RemoveAll(s.path(key)))
	}
	return e, err
}

// Peek is Get, and removes nothing.
func (s Store) Peek(key string) (Entry, error) {
	path := s.path(key)
	fi, err := os.Lstat(path)
	if err != nil {
		return Entry{}, fmt.Errorf("reading the result cache: %w", err)
	}
	var data []byte
	if fi.Mode().IsRegular() && fi.Size() <= maxEntry {
		if data, err = os.ReadFile(path); err != nil {
			return Entry{}, fmt.Errorf("reading the result cache: %w", err)
		}
	}
	e, err := decode(key, data)
	if err != nil {
		return Entry{}, fmt.Errorf("%w %s: %w", ErrDamaged, path, err)
	}
	return e, nil
}

// Used notes that an entry was of use: it is then among the last to be evicted.
// Who may not write there notes nothing.
func (s Store) Used(key string) {
	now := time.Now()
	os.Chtimes(s.path(key), now, now)
}

// Drop removes the entry for a key, if there is one.
func (s Store) Drop(key string) error {
	if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dropping a result: %w", err)
	}
	return nil
}

// Put keeps an entry in place of an older one for the key, then evicts others
// until all fit into the limit. One that is larger than the limit is not kept.
func (s Store) Put(key string, e Entry) error {
	head, size, err := encode(key, e)
	if err != nil {
		return fmt.Errorf("keeping a result: %w", err)
	}
	if size > s.Limit || size > maxEntry {
		return nil
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return fmt.Errorf("keeping a result: %w", err)
	}
	parts := [][]byte{head}
	for _, f := range e.Files {
		parts = append(parts, f.Data)
	}
	if err := durable.ReplaceParts(s.path(key), parts, 0o644); err != nil {
		return fmt.Errorf("keeping a result: %w", err)
	}
	return s.evict(key)
}

// Stats tells what a store holds.
type Stats struct {
	Entries int
	// Bytes is the size of all entries.
	Bytes int64
	// Oldest and Newest are when entries were last of use; zero if there are
	// none.
	Oldest, Newest time.Time
}

// Stats counts the entries. A store that doesn't exist is empty.
func (s Store) Stats() (Stats, error) {
	files, err := s.list()
	st := Stats{}
	for _, f := range files {
		st.Entries++
		st.Bytes += f.size
		if st.Oldest.IsZero() || f.used.Before(st.Oldest) {
			st.Oldest = f.used
		}
		if f.used.After(st.Newest) {
			st.Newest = f.used
		}
	}
	return st, err
}

// stored is the file of an entry.
type stored struct {
	path string
	size int64
	used time.Time
}

// abandoned is the age at which a file that was being written counts as left by
// a process that was killed.
const abandoned = time.Hour

// list returns the entries, and removes what was left half written.
func (s Store) list() ([]stored, error) {
	names, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the result cache: %w", err)
	}
	var files []stored
	for _, d := range names {
		path := filepath.Join(s.Dir, d.Name())
		fi, err := d.Info()
		switch {
		case err != nil: // removed by another process
		case strings.HasSuffix(d.Name(), extension):
			files = append(files, stored{path, fi.Size(), fi.ModTime()})
		case strings.HasPrefix(d.Name(), ".") && time.Since(fi.ModTime()) > abandoned:
			os.Remove(path)
		}
	}
	return files, nil
}

// evict removes what was of use longest ago until all fits into the limit; key
// stays. What another process has removed meanwhile is counted as gone.
func (s Store) evict(key string) error {
	files, err := s.list()
	if err != nil {
		return err
	}
	total := int64(0)
	for _, f := range files {
		total += f.size
	}
	slices.SortFunc(files, func(a, b stored) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if total <= s.Limit {
			return nil
		}
		if f.path == s.path(key) {
			continue
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("evicting a result: %w", err)
		}
		total -= f.size
	}
	return nil
}
