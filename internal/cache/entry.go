// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Format is the version of an entry's format.
const Format = 2

// The bounds of an entry and of its manifest, in bytes.
const (
	maxEntry    = 1 << 30
	maxManifest = 16 << 20
)

// An entry's file is a line
//
//	dkms-result FORMAT SHA-256-OF-MANIFEST SIZE-OF-MANIFEST
//
// then the manifest, as JSON, then the contents of its files one after another.
// Every byte of it is under a digest or has only one form.
type manifest struct {
	Key   string          `json:"key"`
	Note  json.RawMessage `json:"note"`
	Files []listed        `json:"files"`
}

type listed struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func heading(text []byte) string {
	return fmt.Sprintf("dkms-result %d %s %d\n", Format, digest(text), len(text))
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// encode returns what stands before the files' contents, and the size of all.
func encode(key string, e Entry) (head []byte, size int64, err error) {
	m := manifest{Key: key, Note: e.Note, Files: []listed{}}
	for _, f := range e.Files {
		m.Files = append(m.Files, listed{f.Name, int64(len(f.Data)), digest(f.Data)})
		size += int64(len(f.Data))
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, 0, err
	}
	if len(text) > maxManifest {
		return nil, 0, fmt.Errorf("its description has %d bytes", len(text))
	}
	head = append([]byte(heading(text)), text...)
	return head, size + int64(len(head)), nil
}

// decode returns the entry that data, which it keeps, holds for a key.
func decode(key string, data []byte) (Entry, error) {
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	var format, size int
	var sum string
	if _, err := fmt.Sscanf(string(line[:min(len(line), 200)]), "dkms-result %d %s %d", &format, &sum, &size); err != nil {
		return Entry{}, fmt.Errorf("it has no heading: %w", err)
	}
	if size < 0 || size > min(maxManifest, len(rest)) {
		return Entry{}, fmt.Errorf("its manifest of %d bytes is cut short", size)
	}
	text, rest := rest[:size], rest[size:]
	if heading(text) != string(line)+"\n" {
		return Entry{}, fmt.Errorf("its manifest has another digest, or another format than %d", Format)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Entry{}, fmt.Errorf("reading its manifest: %w", err)
	}
	if m.Key != key {
		return Entry{}, fmt.Errorf("it is for the key %q", m.Key)
	}
	e := Entry{Note: m.Note}
	for _, l := range m.Files {
		if l.Size < 0 || l.Size > int64(len(rest)) {
			return Entry{}, fmt.Errorf("%q is cut short", l.Name)
		}
		f := File{l.Name, rest[:l.Size:l.Size]}
		if digest(f.Data) != l.SHA256 {
			return Entry{}, fmt.Errorf("%q has another digest", l.Name)
		}
		e.Files, rest = append(e.Files, f), rest[l.Size:]
	}
	if len(rest) > 0 {
		return Entry{}, fmt.Errorf("it has %d bytes too many", len(rest))
	}
	return e, nil
}
