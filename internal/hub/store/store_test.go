// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
)

func opened(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// client returns an ORAS client for a repository of the store, by HTTP.
func client(t *testing.T, s *Store, repo string) *remote.Repository {
	t.Helper()
	server := httptest.NewServer(ociserver.New(s, nil))
	t.Cleanup(server.Close)
	r, err := remote.NewRepository(strings.TrimPrefix(server.URL, "http://") + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	r.PlainHTTP = true
	return r
}

// pushed pushes an artifact with one layer, and returns its descriptor.
func pushed(t *testing.T, r *remote.Repository, text string, subject *ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	layer := content.NewDescriptorFromBytes("application/octet-stream", []byte(text))
	if err := r.Push(t.Context(), layer, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	desc, err := oras.PackManifest(t.Context(), r, oras.PackManifestVersion1_1, "application/vnd.dkms.test", oras.PackManifestOptions{
		Layers: []ocispec.Descriptor{layer}, Subject: subject,
		ManifestAnnotations: map[string]string{ocispec.AnnotationCreated: "2000-01-01T00:00:00Z"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

// TestOras pushes and pulls with a client that others wrote, before and after the store
// is opened again.
func TestOras(t *testing.T) {
	dir := t.TempDir()
	r := client(t, opened(t, dir), "modules/hello")
	desc := pushed(t, r, "an object", nil)
	if err := r.Tag(t.Context(), desc, "1.0"); err != nil {
		t.Fatal(err)
	}
	signature := pushed(t, r, "a signature", &desc)

	r = client(t, opened(t, dir), "modules/hello")
	got, err := r.Resolve(t.Context(), "1.0")
	if err != nil || got.Digest != desc.Digest || got.Size != desc.Size {
		t.Errorf("resolved %v, %v, want %v", got, err, desc)
	}
	data, err := content.FetchAll(t.Context(), r, got)
	if err != nil || digest.FromBytes(data) != desc.Digest {
		t.Errorf("fetched %q, %v", data, err)
	}
	var referrers []ocispec.Descriptor
	err = r.Referrers(t.Context(), desc, "application/vnd.dkms.test", func(page []ocispec.Descriptor) error {
		referrers = append(referrers, page...)
		return nil
	})
	if err != nil || len(referrers) != 1 || referrers[0].Digest != signature.Digest || referrers[0].ArtifactType != "application/vnd.dkms.test" {
		t.Errorf("referrers %v, %v, want %v", referrers, err, signature)
	}
	var tags []string
	if err := r.Tags(t.Context(), "", func(page []string) error { tags = append(tags, page...); return nil }); err != nil || !slices.Equal(tags, []string{"1.0"}) {
		t.Errorf("tags %q, %v", tags, err)
	}
	if err := r.Delete(t.Context(), desc); err != nil {
		t.Error(err)
	}
	if _, err := r.Resolve(t.Context(), "1.0"); err == nil {
		t.Error("the tag of a deleted manifest is there")
	}
}

// TestChunks sends a blob in pieces, by several writers, as a client does that was cut
// off in between.
func TestChunks(t *testing.T) {
	s := opened(t, t.TempDir())
	ctx := t.Context()
	w, err := s.PushBlobChunked(ctx, "a/b", 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "first,")
	id := w.ID()
	w.Close()
	if _, err := s.PushBlobChunkedResume(ctx, "a/b", id, 3, 0); !errors.Is(err, ociregistry.ErrRangeInvalid) {
		t.Errorf("at a wrong offset: %v", err)
	}
	if w, err = s.PushBlobChunkedResume(ctx, "a/b", id, 6, 0); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "second")
	if _, err := w.Commit(digest.FromString("another")); !errors.Is(err, ociregistry.ErrDigestInvalid) {
		t.Errorf("another digest: %v", err)
	}
	d := digest.FromString("first,second")
	if _, err := w.Commit(d); err != nil {
		t.Fatal(err)
	}
	b, err := s.GetBlobRange(ctx, "a/b", d, 4, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if text, _ := io.ReadAll(b); string(text) != "t,se" {
		t.Errorf("range %q", text)
	}
	if _, err := s.PushBlobChunkedResume(ctx, "a/b", id, -1, 0); !errors.Is(err, ociregistry.ErrBlobUploadUnknown) {
		t.Errorf("after the end: %v", err)
	}
}

// TestRefused tries what must change nothing on disk.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Limits{Blob: 10, Manifest: 400})
	if err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	ctx := t.Context()
	blob := func(repo, text string, d ociregistry.Digest) error {
		_, err := s.PushBlob(ctx, repo, ociregistry.Descriptor{Digest: d, Size: int64(len(text))}, strings.NewReader(text))
		return err
	}
	image := func(repo, tag, text string) error {
		_, err := s.PushManifest(ctx, repo, tag, []byte(text), ocispec.MediaTypeImageManifest)
		return err
	}
	for what, err := range map[string]error{
		"a name that leads out":   blob("../x", "text", digest.FromString("text")),
		"a name of the store":     blob("a/_tags", "text", digest.FromString("text")),
		"a wrong digest":          blob("a", "text", digest.FromString("other")),
		"another algorithm":       blob("a", "text", digest.SHA512.FromString("text")),
		"a blob that is too long": blob("a", "text of more", digest.FromString("text of more")),
		"an absent layer":         image("a", "t", `{"layers":[{"digest":"`+string(digest.FromString("x"))+`","size":1}]}`),
		"no JSON":                 image("a", "t", `{`),
		"another media type":      image("a", "t", `{"mediaType":"application/x"}`),
		"a tag that leads out":    image("a", "../t", `{}`),
		"a long manifest":         image("a", "t", `{"annotations":{"a":"`+strings.Repeat("a", 400)+`"}}`),
		"a subject without hash":  image("a", "t", `{"subject":{"digest":"sha256:../../x"}}`),
	} {
		var refusal ociregistry.Error
		if !errors.As(err, &refusal) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := s.ResolveTag(ctx, "a", "t"); !errors.Is(err, ociregistry.ErrNameUnknown) {
		t.Errorf("a repository that isn't there: %v", err)
	}
	if after := listing(t, dir); !slices.Equal(before, after) {
		t.Errorf("left behind: %q", after)
	}
}

func listing(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		all = append(all, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCollect keeps what a repository has, and what is young.
func TestCollect(t *testing.T) {
	s := opened(t, t.TempDir())
	ctx := context.Background()
	keep := func(repo, text string) ociregistry.Digest {
		d := digest.FromString(text)
		if _, err := s.PushBlob(ctx, repo, ociregistry.Descriptor{Digest: d, Size: int64(len(text))}, bytes.NewBufferString(text)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	first, second := keep("a", "first"), keep("a", "second")
	if _, err := s.MountBlob(ctx, "a", "b", first); err != nil {
		t.Fatal(err)
	}
	for _, d := range []ociregistry.Digest{first, second} {
		if err := s.DeleteBlob(ctx, "a", d); err != nil {
			t.Fatal(err)
		}
	}
	if freed, err := s.Collect(ctx, time.Hour); freed != 0 || err != nil {
		t.Errorf("young: %d, %v", freed, err)
	}
	if freed, err := s.Collect(ctx, -time.Hour); freed != int64(len("second")) || err != nil {
		t.Errorf("old: %d, %v", freed, err)
	}
	if _, err := s.ResolveBlob(ctx, "b", first); err != nil {
		t.Errorf("what another repository has: %v", err)
	}
}
