// SPDX-License-Identifier: Apache-2.0

// Package dir has prebuilts in a directory, which may be a copy of what a web server
// has, or mounted from elsewhere: one bundle per key.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"dkms-go/internal/dsse"
	"dkms-go/internal/durable"
	"dkms-go/internal/prebuilt"
)

// Source is a directory.
type Source struct{ Dir string }

func (s Source) String() string { return "file://" + s.Dir }

func (s Source) path(q prebuilt.Query) string {
	return filepath.Join(append([]string{s.Dir}, q.Place()...)...)
}

// Fetch reads a bundle.
func (s Source) Fetch(_ context.Context, q prebuilt.Query, trusted []dsse.Key) (*prebuilt.Bundle, error) {
	path := s.path(q)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(s.Dir); err != nil {
			return nil, fmt.Errorf("reading %s: %w", s, err) // not mounted, say
		}
		return nil, prebuilt.ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s, err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: it is no file", path)
	}
	b, err := q.Read(f, trusted)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// Push writes a bundle, by its key and by its name, in the places of older ones.
func (s Source) Push(_ context.Context, b *prebuilt.Bundle, key string, _ prebuilt.Signer) (string, error) {
	byName := prebuilt.Query{Result: b.Manifest.StateKey()}
	byKey := prebuilt.Query{Result: byName.Result, Key: key}
	data, err := b.Packed()
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.path(byKey)), 0o755)
	}
	for _, q := range []prebuilt.Query{byKey, byName} {
		if err == nil {
			err = durable.Replace(s.path(q), data, 0o644)
		}
	}
	if err != nil {
		return "", fmt.Errorf("writing to %s: %w", s, err)
	}
	return s.path(byKey), nil
}
