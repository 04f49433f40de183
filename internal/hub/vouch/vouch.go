// SPDX-License-Identifier: Apache-2.0

// Package vouch makes what hosts have contributed what a hub vouches for: it signs the
// bundle's manifest, and puts the bundle where hosts look. Nothing that is contributed
// is ever handed out as vouched for without that.
package vouch

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"cuelabs.dev/go/oci/ociregistry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"dkms-go/internal/dsse"
	"dkms-go/internal/prebuilt"
	"dkms-go/internal/prebuilt/oci"
)

// Contribution is a bundle in a repository.
type Contribution struct {
	Digest   ociregistry.Digest
	Manifest prebuilt.Manifest
	// Key is what hosts look it up by.
	Key string
	// text is what is signed, outer the registry's manifest.
	text, outer []byte
}

// Read reads a bundle by its digest or tag, and holds the repository against its
// manifest: each content is there, by its digest and size. The contents' own digests
// were compared when they came.
func Read(ctx context.Context, store ociregistry.Interface, repo, reference string) (Contribution, error) {
	var c Contribution
	var r ociregistry.BlobReader
	var err error
	if strings.Contains(reference, ":") {
		r, err = store.GetManifest(ctx, repo, ociregistry.Digest(reference))
	} else {
		r, err = store.GetTag(ctx, repo, reference)
	}
	if err != nil {
		return c, fmt.Errorf("reading %.200q of %s: %w", reference, repo, err)
	}
	c.Digest = r.Descriptor().Digest
	if c.outer, err = all(r, nil); err != nil {
		return c, err
	}
	var outer ocispec.Manifest
	if err := json.Unmarshal(c.outer, &outer); err != nil || outer.ArtifactType != oci.TypeBundle || outer.Config.MediaType != prebuilt.PayloadType {
		return c, fmt.Errorf("%s of %s is no bundle", c.Digest, repo)
	}
	if outer.Config.Size > prebuilt.MaxManifest {
		return c, fmt.Errorf("the manifest of %s is too long", c.Digest)
	}
	if c.text, err = all(store.GetBlob(ctx, repo, outer.Config.Digest)); err != nil {
		return c, err
	}
	if c.Manifest, err = prebuilt.Parse(c.text); err != nil {
		return c, fmt.Errorf("%s of %s: %w", c.Digest, repo, err)
	}
	if c.Key, err = prebuilt.KeyOf(c.Manifest).Digest(); err != nil {
		return c, fmt.Errorf("%s of %s: %w", c.Digest, repo, err)
	}
	for _, f := range c.Manifest.Contents() {
		d := digest.NewDigestFromEncoded(digest.SHA256, f.SHA256)
		got, err := store.ResolveBlob(ctx, repo, d)
		if f.Path == prebuilt.LogPath && errors.Is(err, ociregistry.ErrBlobUnknown) {
			continue // for people
		}
		if err == nil && got.Size != f.Size {
			err = fmt.Errorf("it has %d bytes, not %d", got.Size, f.Size)
		}
		if err != nil {
			return c, fmt.Errorf("%s of %s: %s: %w", c.Digest, repo, f.Path, err)
		}
	}
	return c, nil
}

// all reads what was opened, which the store has bounded.
func all(r ociregistry.BlobReader, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// List returns the bundles of a repository, in order of their tags. What is there and
// is no bundle is passed over.
func List(ctx context.Context, store ociregistry.Interface, repo string) ([]Contribution, error) {
	var list []Contribution
	for tag, err := range store.Tags(ctx, repo, "") {
		if errors.Is(err, ociregistry.ErrNameUnknown) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		c, err := Read(ctx, store, repo, tag)
		if err == nil && !slices.ContainsFunc(list, func(o Contribution) bool { return o.Digest == c.Digest }) {
			list = append(list, c)
		}
	}
	return list, nil
}

// Way is from which repository to which a bundle goes.
type Way struct{ From, To string }

// Promote signs a bundle and puts it into another repository, under its key and under a
// tag that people can read. The tags come last: who finds it finds all of it, and a kill
// in between is mended by promoting it again.
func Promote(ctx context.Context, store ociregistry.Interface, c Contribution, w Way, key ed25519.PrivateKey) error {
	envelope, err := dsse.Sign(prebuilt.PayloadType, c.text, key)
	if err != nil {
		return err
	}
	var outer ocispec.Manifest
	if err := json.Unmarshal(c.outer, &outer); err != nil {
		return err
	}
	for _, part := range append(outer.Layers, outer.Config) {
		if _, err := store.MountBlob(ctx, w.From, w.To, part.Digest); err != nil {
			return fmt.Errorf("promoting %s: %w", c.Digest, err)
		}
	}
	subject, err := store.PushManifest(ctx, w.To, "", c.outer, ocispec.MediaTypeImageManifest)
	if err == nil {
		err = attach(ctx, store, w.To, envelope, subject)
	}
	for _, tag := range []string{oci.HumanTag(c.Manifest.StateKey()), c.Key} {
		if err == nil {
			_, err = store.PushManifest(ctx, w.To, tag, c.outer, ocispec.MediaTypeImageManifest)
		}
	}
	if err != nil {
		return fmt.Errorf("promoting %s: %w", c.Digest, err)
	}
	return nil
}

// attach pushes a signature that refers to a manifest.
func attach(ctx context.Context, store ociregistry.Interface, repo string, envelope []byte, subject ociregistry.Descriptor) error {
	put := func(media string, data []byte) (ociregistry.Descriptor, error) {
		desc := ociregistry.Descriptor{MediaType: media, Digest: digest.FromBytes(data), Size: int64(len(data))}
		return store.PushBlob(ctx, repo, desc, strings.NewReader(string(data)))
	}
	layer, err := put(oci.TypeSignature, envelope)
	if err != nil {
		return err
	}
	config, err := put(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	if err != nil {
		return err
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: oci.TypeSignature, Config: config, Layers: []ociregistry.Descriptor{layer}, Subject: &subject}
	m.SchemaVersion = 2
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = store.PushManifest(ctx, repo, "", text, ocispec.MediaTypeImageManifest)
	return err
}
