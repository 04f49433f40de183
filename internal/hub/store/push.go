// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociref"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dkms-go/internal/durable"
)

// manifest is what the store reads of the manifests that it keeps: of images and
// artifacts, and of indexes.
type manifest struct {
	MediaType    string                   `json:"mediaType"`
	ArtifactType string                   `json:"artifactType"`
	Config       *ociregistry.Descriptor  `json:"config"`
	Layers       []ociregistry.Descriptor `json:"layers"`
	Manifests    []ociregistry.Descriptor `json:"manifests"`
	Subject      *ociregistry.Descriptor  `json:"subject"`
	Annotations  map[string]string        `json:"annotations"`
}

// readManifest reads a manifest. Those of media types that the specification doesn't
// have are kept as they are, and refer to nothing.
func readManifest(data []byte, media string) (manifest, error) {
	var m manifest
	if media != ocispec.MediaTypeImageManifest && media != ocispec.MediaTypeImageIndex {
		return m, nil
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ociregistry.ErrManifestInvalid, err)
	}
	if m.MediaType != "" && m.MediaType != media {
		return m, fmt.Errorf("%w: it says that it is %q, and was sent as %q", ociregistry.ErrManifestInvalid, m.MediaType, media)
	}
	return m, nil
}

// referrer describes a manifest as an entry of a list of referrers.
func (s *Store) referrer(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := s.ResolveManifest(ctx, repo, d)
	if err != nil {
		return desc, err
	}
	data, err := os.ReadFile(s.blob(d.Encoded()))
	if err != nil {
		return desc, missing(err, ociregistry.ErrManifestUnknown)
	}
	m, err := readManifest(data, desc.MediaType)
	desc.ArtifactType, desc.Annotations = m.ArtifactType, m.Annotations
	if desc.ArtifactType == "" && m.Config != nil {
		desc.ArtifactType = m.Config.MediaType
	}
	return desc, err
}

// PushManifest keeps a manifest, whose parts must be there, and has the tag name it.
func (s *Store) PushManifest(ctx context.Context, repo, tag string, data []byte, media string) (ociregistry.Descriptor, error) {
	desc := ociregistry.Descriptor{MediaType: media, Digest: digest.FromBytes(data), Size: int64(len(data))}
	switch {
	case !ociref.IsValidRepository(repo):
		return desc, ociregistry.ErrNameInvalid
	case tag != "" && !ociref.IsValidTag(tag):
		return desc, fmt.Errorf("%w: %q is no tag", ociregistry.ErrManifestInvalid, tag)
	case desc.Size > s.limits.Manifest:
		return desc, fmt.Errorf("%w: a manifest may have %d bytes", ociregistry.ErrSizeInvalid, s.limits.Manifest)
	case media == "" || strings.ContainsAny(media, "\r\n"):
		return desc, fmt.Errorf("%w: no media type", ociregistry.ErrManifestInvalid)
	}
	m, err := readManifest(data, media)
	if err == nil {
		err = s.complete(ctx, repo, m)
	}
	subject := ""
	if err == nil && m.Subject != nil {
		subject, err = hexOf(m.Subject.Digest)
	}
	if err != nil {
		return desc, err
	}
	name := desc.Digest.Encoded()
	if err := s.keep(name, data); err != nil {
		return desc, err
	}
	// The list of referrers leaves out what isn't a manifest of the repository yet.
	if subject != "" {
		if err := write(s.repo(repo, "_referrers", subject, name), ""); err != nil {
			return desc, err
		}
	}
	if err := write(s.repo(repo, "_manifests", name), media); err != nil {
		return desc, err
	}
	if tag != "" {
		return desc, write(s.repo(repo, "_tags", tag), name)
	}
	return desc, nil
}

// complete checks that a repository has what a manifest refers to, but its subject.
func (s *Store) complete(ctx context.Context, repo string, m manifest) error {
	parts := m.Layers
	if m.Config != nil {
		parts = append(parts, *m.Config)
	}
	for _, part := range parts {
		got, err := s.ResolveBlob(ctx, repo, part.Digest)
		if err == nil && got.Size != part.Size {
			err = fmt.Errorf("it has %d bytes, not %d", got.Size, part.Size)
		}
		if err != nil {
			return fmt.Errorf("%w: blob %s: %w", ociregistry.ErrManifestBlobUnknown, part.Digest, err)
		}
	}
	for _, part := range m.Manifests {
		if _, err := s.ResolveManifest(ctx, repo, part.Digest); err != nil {
			return fmt.Errorf("%w: manifest %s: %w", ociregistry.ErrManifestBlobUnknown, part.Digest, err)
		}
	}
	return nil
}

// keep writes a content by its digest, if it isn't there. One that is there is new
// again, for Collect.
func (s *Store) keep(name string, data []byte) error {
	path := s.blob(name)
	now := time.Now()
	if err := os.Chtimes(path, now, now); err == nil {
		return nil
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.Replace(path, data, 0o444)
}

// PushBlob keeps a blob that comes in one piece.
func (s *Store) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	w, err := s.PushBlobChunked(ctx, repo, 0)
	if err != nil {
		return desc, err
	}
	defer w.Cancel()
	n, err := io.Copy(w, r)
	if err == nil && desc.Size >= 0 && n != desc.Size {
		err = fmt.Errorf("%w: %d bytes came, not %d", ociregistry.ErrSizeInvalid, n, desc.Size)
	}
	if err != nil {
		return desc, err
	}
	got, err := w.Commit(desc.Digest)
	got.MediaType = desc.MediaType
	return got, err
}

// MountBlob gives a repository a blob that another one has.
func (s *Store) MountBlob(ctx context.Context, from, to string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc, err := s.ResolveBlob(ctx, from, d)
	if err == nil && !ociref.IsValidRepository(to) {
		err = ociregistry.ErrNameInvalid
	}
	if err != nil {
		return desc, err
	}
	return desc, write(s.repo(to, "_blobs", d.Encoded()), "")
}

// chunk is how many bytes a client should send at once.
const chunk = 8 << 20

// upload is a blob that is on its way.
type upload struct {
	s        *Store
	repo, id string
	file     *os.File // nil once closed
	size     int64
}

// PushBlobChunked begins an upload.
func (s *Store) PushBlobChunked(_ context.Context, repo string, _ int) (ociregistry.BlobWriter, error) {
	if !ociref.IsValidRepository(repo) {
		return nil, ociregistry.ErrNameInvalid
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	u := &upload{s: s, repo: repo, id: hex.EncodeToString(id)}
	var err error
	u.file, err = os.OpenFile(u.path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
	return u, err
}

// PushBlobChunkedResume goes on with an upload at an offset, which must be its end; -1
// stands for that.
func (s *Store) PushBlobChunkedResume(_ context.Context, repo, id string, offset int64, _ int) (ociregistry.BlobWriter, error) {
	if !ociref.IsValidRepository(repo) {
		return nil, ociregistry.ErrNameInvalid
	}
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	u := &upload{s: s, repo: repo, id: id}
	file, err := os.OpenFile(u.path(), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, missing(err, ociregistry.ErrBlobUploadUnknown)
	}
	fi, err := file.Stat()
	if err == nil && offset >= 0 && offset != fi.Size() {
		err = ociregistry.ErrRangeInvalid
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	u.file, u.size = file, fi.Size()
	return u, nil
}

func (u *upload) path() string { return filepath.Join(u.s.dir, "uploads", u.id) }

func (u *upload) Write(p []byte) (int, error) {
	if u.file == nil {
		return 0, fs.ErrClosed
	}
	if u.size+int64(len(p)) > u.s.limits.Blob {
		return 0, fmt.Errorf("%w: a blob may have %d bytes", ociregistry.ErrSizeInvalid, u.s.limits.Blob)
	}
	n, err := u.file.Write(p)
	u.size += int64(n)
	return n, err
}

// Close ends this writer, not the upload.
func (u *upload) Close() error {
	if u.file == nil {
		return nil
	}
	err := u.file.Close()
	u.file = nil
	return err
}

func (u *upload) Size() int64    { return u.size }
func (u *upload) ChunkSize() int { return chunk }
func (u *upload) ID() string     { return u.id }

// Cancel removes the upload. After a Commit it does nothing.
func (u *upload) Cancel() error {
	err := u.Close()
	if e := os.Remove(u.path()); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// Commit makes the upload a blob of the repository, if its digest is d.
func (u *upload) Commit(d ociregistry.Digest) (ociregistry.Descriptor, error) {
	desc := ociregistry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: u.size}
	name, err := hexOf(d)
	if err != nil {
		return desc, err
	}
	if u.file == nil {
		return desc, fs.ErrClosed
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(u.file, 0, u.size)); err != nil {
		return desc, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != name {
		return desc, fmt.Errorf("%w: it is sha256:%s", ociregistry.ErrDigestInvalid, got)
	}
	path := u.s.blob(name)
	err = errors.Join(u.file.Sync(), u.Close())
	if err == nil {
		err = makeDir(filepath.Dir(path))
	}
	if err == nil {
		err = os.Rename(u.path(), path)
	}
	if err == nil {
		err = durable.Sync(filepath.Dir(path))
	}
	if err == nil {
		err = write(u.s.repo(u.repo, "_blobs", name), "")
	}
	return desc, err
}
