// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociref"

	"dkms-go/internal/durable"
)

// remove removes a file and waits for the disk.
func remove(path string, unknown error) error {
	if err := os.Remove(path); err != nil {
		return missing(err, unknown)
	}
	return durable.Sync(filepath.Dir(path))
}

// DeleteBlob takes a blob from a repository. The content goes with Collect.
func (s *Store) DeleteBlob(ctx context.Context, repo string, d ociregistry.Digest) error {
	if _, err := s.ResolveBlob(ctx, repo, d); err != nil {
		return err
	}
	return remove(s.repo(repo, "_blobs", d.Encoded()), ociregistry.ErrBlobUnknown)
}

// DeleteManifest takes a manifest, and the tags that name it, from a repository.
func (s *Store) DeleteManifest(ctx context.Context, repo string, d ociregistry.Digest) error {
	if _, err := s.ResolveManifest(ctx, repo, d); err != nil {
		return err
	}
	name := d.Encoded()
	for tag, err := range s.Tags(ctx, repo, "") {
		if err != nil {
			return err
		}
		path := s.repo(repo, "_tags", tag)
		if text, err := os.ReadFile(path); err == nil && string(text) == name {
			if err := remove(path, nil); err != nil {
				return err
			}
		}
	}
	if err := remove(s.repo(repo, "_manifests", name), ociregistry.ErrManifestUnknown); err != nil {
		return err
	}
	lists, _ := filepath.Glob(s.repo(repo, "_referrers", "*", name))
	for _, path := range lists {
		if err := remove(path, nil); err != nil {
			return err
		}
	}
	return nil
}

// DeleteTag takes a tag from a repository; the manifest stays.
func (s *Store) DeleteTag(_ context.Context, repo, tag string) error {
	if err := s.known(repo); err != nil {
		return err
	}
	if !ociref.IsValidTag(tag) {
		return ociregistry.ErrManifestUnknown
	}
	return remove(s.repo(repo, "_tags", tag), ociregistry.ErrManifestUnknown)
}

// Collect removes the contents that no repository has and that are older than an
// age, and returns how many bytes that were. An age of some hours leaves those in
// peace that are on their way into a repository.
func (s *Store) Collect(ctx context.Context, age time.Duration) (freed int64, err error) {
	wanted := map[string]bool{}
	for repo, err := range s.Repositories(ctx, "") {
		if err != nil {
			return 0, err
		}
		for _, sub := range []string{"_blobs", "_manifests"} {
			all, err := names(s.repo(repo, sub), "")
			if err != nil {
				return 0, err
			}
			for _, name := range all {
				wanted[name] = true
			}
		}
	}
	before := time.Now().Add(-age)
	err = filepath.WalkDir(filepath.Join(s.dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || wanted[d.Name()] || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		fi, err := d.Info()
		if err != nil || fi.ModTime().After(before) {
			return err
		}
		freed += fi.Size()
		return os.Remove(path)
	})
	return freed, errors.Join(err, s.sweep(before))
}
