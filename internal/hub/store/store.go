// SPDX-License-Identifier: Apache-2.0

// Package store keeps what an OCI registry has in a directory: the truth of a hub.
// Everything else that a hub knows of modules is derived from it.
//
//	blobs/<xx>/<hex>                  a blob or manifest, by its SHA-256
//	repos/<name>/_blobs/<hex>         the repository has the blob; empty
//	repos/<name>/_manifests/<hex>     it has the manifest; holds the media type
//	repos/<name>/_tags/<tag>          holds the digest of a manifest, in hex
//	repos/<name>/_referrers/<subject hex>/<hex>   a manifest that refers to another; empty
//	uploads/<id>                      what has come of a blob so far
//
// A file is written aside, synced and renamed, and what it names is there before it:
// a kill at any moment leaves what was, or what shall be. Names of repositories are
// those of the distribution specification, whose components don't begin with "_".
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociref"
	"github.com/opencontainers/go-digest"

	"dkms-go/internal/durable"
)

// Limits bound what a client may store, in bytes.
type Limits struct {
	Blob, Manifest int64
}

// DefaultLimits are those of a hub: the largest known module has 90 MB of objects,
// a kernel kit 120 MB; the specification asks for manifests of 4 MiB at least.
func DefaultLimits() Limits { return Limits{Blob: 1 << 30, Manifest: 4 << 20} }

// Store is an ociregistry.Interface on a directory. Its methods may be called
// concurrently; one process at a time writes to a directory.
type Store struct {
	*ociregistry.Funcs
	dir    string
	limits Limits
}

// Open returns the store in dir, which is made if it isn't there, and removes what
// uploads have left that nobody went on with for a day.
func Open(dir string, limits Limits) (*Store, error) {
	s := &Store{dir: dir, limits: limits}
	for _, sub := range []string{"blobs", "repos", "uploads"} {
		if err := makeDir(filepath.Join(dir, sub)); err != nil {
			return nil, err
		}
	}
	return s, s.sweep(time.Now().Add(-24 * time.Hour))
}

// sweep removes the uploads that were last written to before a time.
func (s *Store) sweep(before time.Time) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "uploads"))
	for _, e := range entries {
		fi, e2 := e.Info()
		if e2 == nil && fi.ModTime().Before(before) {
			err = errors.Join(err, os.Remove(filepath.Join(s.dir, "uploads", e.Name())))
		}
	}
	return err
}

// makeDir makes a directory and all above it, and syncs what it was made in.
func makeDir(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.Sync(parent)
}

// write makes a file, with the directories above it.
func write(path, text string) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.Replace(path, []byte(text), 0o644)
}

func (s *Store) blob(hex string) string { return filepath.Join(s.dir, "blobs", hex[:2], hex) }

func (s *Store) repo(name string, below ...string) string {
	return filepath.Join(slices.Concat([]string{s.dir, "repos", filepath.FromSlash(name)}, below)...)
}

// hexOf returns the hex digits of a digest, which must be a SHA-256.
func hexOf(d ociregistry.Digest) (string, error) {
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("%w: %q is no SHA-256", ociregistry.ErrDigestInvalid, d)
	}
	return d.Encoded(), nil
}

// known returns the error for a repository that isn't there.
func (s *Store) known(repo string) error {
	if !ociref.IsValidRepository(repo) {
		return ociregistry.ErrNameInvalid
	}
	for _, sub := range []string{"_blobs", "_manifests"} {
		if _, err := os.Stat(s.repo(repo, sub)); err == nil {
			return nil
		}
	}
	return ociregistry.ErrNameUnknown
}

// place returns the entry of a repository for a digest below sub, what it holds, and
// the size of the content. unknown is the error if there is none.
func (s *Store) place(repo, sub string, d ociregistry.Digest, unknown error) (ociregistry.Descriptor, error) {
	var none ociregistry.Descriptor
	if err := s.known(repo); err != nil {
		return none, err
	}
	hex, err := hexOf(d)
	if err != nil {
		return none, err
	}
	media, err := os.ReadFile(s.repo(repo, sub, hex))
	if err != nil {
		return none, missing(err, unknown)
	}
	fi, err := os.Stat(s.blob(hex))
	if err != nil {
		return none, missing(err, unknown)
	}
	desc := ociregistry.Descriptor{MediaType: string(media), Digest: d, Size: fi.Size()}
	if desc.MediaType == "" {
		desc.MediaType = "application/octet-stream"
	}
	return desc, nil
}

// missing turns the error for an absent file into one of the registry's.
func missing(err, unknown error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return unknown
	}
	return err
}

// reader is an open blob, or a part of one.
type reader struct {
	io.Reader
	io.Closer
	desc ociregistry.Descriptor
}

func (r *reader) Descriptor() ociregistry.Descriptor { return r.desc }

func (s *Store) open(desc ociregistry.Descriptor, err error) (ociregistry.BlobReader, error) {
	if err != nil {
		return nil, err
	}
	f, err := os.Open(s.blob(desc.Digest.Encoded()))
	if err != nil {
		return nil, err
	}
	return &reader{f, f, desc}, nil
}

// ResolveBlob tells the size of a blob.
func (s *Store) ResolveBlob(_ context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	return s.place(repo, "_blobs", d, ociregistry.ErrBlobUnknown)
}

// ResolveManifest tells the size and the media type of a manifest.
func (s *Store) ResolveManifest(_ context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	return s.place(repo, "_manifests", d, ociregistry.ErrManifestUnknown)
}

// ResolveTag is ResolveManifest for the one that a tag names.
func (s *Store) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	if err := s.known(repo); err != nil {
		return ociregistry.Descriptor{}, err
	}
	if !ociref.IsValidTag(tag) {
		return ociregistry.Descriptor{}, ociregistry.ErrManifestUnknown
	}
	hex, err := os.ReadFile(s.repo(repo, "_tags", tag))
	if err != nil {
		return ociregistry.Descriptor{}, missing(err, ociregistry.ErrManifestUnknown)
	}
	return s.ResolveManifest(ctx, repo, digest.NewDigestFromEncoded(digest.SHA256, string(hex)))
}

// GetBlob opens a blob.
func (s *Store) GetBlob(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return s.open(s.ResolveBlob(ctx, repo, d))
}

// GetManifest opens a manifest.
func (s *Store) GetManifest(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return s.open(s.ResolveManifest(ctx, repo, d))
}

// GetTag opens the manifest that a tag names.
func (s *Store) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	return s.open(s.ResolveTag(ctx, repo, tag))
}

// GetBlobRange opens the bytes of a blob from start on, up to but not including end,
// or to its end if that is negative or behind it.
func (s *Store) GetBlobRange(ctx context.Context, repo string, d ociregistry.Digest, start, end int64) (ociregistry.BlobReader, error) {
	desc, err := s.ResolveBlob(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	if end < 0 || end > desc.Size {
		end = desc.Size
	}
	if start < 0 || start > end {
		return nil, ociregistry.ErrRangeInvalid
	}
	f, err := os.Open(s.blob(d.Encoded()))
	if err != nil {
		return nil, err
	}
	return &reader{io.NewSectionReader(f, start, end-start), f, desc}, nil
}

// names returns the names in a directory behind after, in order; none if it isn't there.
func names(dir, after string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, e := range entries {
		if name := e.Name(); name > after && !strings.HasPrefix(name, ".") {
			all = append(all, name)
		}
	}
	return all, err
}

// Tags yields the tags of a repository behind after, in order.
func (s *Store) Tags(_ context.Context, repo, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := s.known(repo)
		var tags []string
		if err == nil {
			tags, err = names(s.repo(repo, "_tags"), after)
		}
		each(tags, err, yield)
	}
}

func each(all []string, err error, yield func(string, error) bool) {
	if err != nil {
		yield("", err)
		return
	}
	for _, one := range all {
		if !yield(one, nil) {
			return
		}
	}
}

// Repositories yields the names of all repositories behind after, in order.
func (s *Store) Repositories(_ context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		top := filepath.Join(s.dir, "repos")
		var all []string
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() || path == top {
				return err
			}
			if strings.HasPrefix(d.Name(), "_") {
				return fs.SkipDir
			}
			name, _ := filepath.Rel(top, path)
			if name = filepath.ToSlash(name); name > after && s.known(name) == nil {
				all = append(all, name)
			}
			return nil
		})
		slices.Sort(all)
		each(all, err, yield)
	}
}

// Referrers yields the manifests of a repository whose subject is the one of digest d, in
// order of their digests; of one artifact type if that isn't "". The subject need not
// be there.
func (s *Store) Referrers(ctx context.Context, repo string, d ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	return func(yield func(ociregistry.Descriptor, error) bool) {
		hex, err := hexOf(d)
		var all []string
		if err == nil {
			all, err = names(s.repo(repo, "_referrers", hex), "")
		}
		if err != nil {
			yield(ociregistry.Descriptor{}, err)
			return
		}
		for _, referrer := range all {
			desc, err := s.referrer(ctx, repo, digest.NewDigestFromEncoded(digest.SHA256, referrer))
			if errors.Is(err, ociregistry.ErrManifestUnknown) {
				continue // deleted just now
			}
			if err == nil && artifactType != "" && desc.ArtifactType != artifactType {
				continue
			}
			if !yield(desc, err) {
				return
			}
		}
	}
}
