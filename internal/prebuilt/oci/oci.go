// SPDX-License-Identifier: Apache-2.0

// Package oci has prebuilts in a repository of an OCI registry: a manifest per bundle,
// with the bundle's manifest as its config and a layer per content, under a tag that is
// the key. The signature refers to it, as do provenance and the log of the build
// (OCI distribution and image specifications 1.1).
package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"dkms-go/internal/dsse"
	"dkms-go/internal/prebuilt"
	"dkms-go/internal/state"
)

// The types of artifacts and of their contents.
const (
	TypeBundle     = "application/vnd.dkms.bundle.v1"
	TypeSignature  = "application/vnd.dsse.envelope.v1+json"
	TypeProvenance = "application/vnd.in-toto+json"
	TypeLog        = "application/vnd.dkms.log.v1"
	typeObject     = "application/vnd.dkms.object.v1"
	typeFile       = "application/vnd.dkms.file.v1"
)

// maxSignatures bounds how many signatures of one bundle are looked at.
const maxSignatures = 32

// maxOuter bounds a manifest of the registry, in bytes (distribution specification,
// "Pushing Manifests": registries take 4 MiB).
const maxOuter = 4 << 20

// Source is a repository.
type Source struct {
	name string
	repo *repository
}

// Access is how a registry is spoken to.
type Access struct {
	Client *http.Client
	// Password returns who asks, by the registry's host and port; "" for nobody.
	Password func(host string) (user, password string)
	// TLS says that it is spoken also to a registry on this machine, which other
	// programs take to have none.
	TLS bool
}

// Open returns the repository of an address oci://REGISTRY/PATH.
func Open(u *url.URL, a Access) (*Source, error) {
	path := strings.Trim(u.Path, "/")
	// distribution specification, "Pulling manifests"
	if !regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`).MatchString(path) {
		return nil, fmt.Errorf("%s names no repository: a path of a registry has small letters and digits, with . _ - between them", u)
	}
	base := &url.URL{Scheme: "https", Host: u.Host}
	if prebuilt.Loopback(u) && !a.TLS {
		base.Scheme = "http"
	}
	return &Source{name: u.String(), repo: &repository{base: base, name: path, client: a.Client, password: a.Password}}, nil
}

func (s *Source) String() string { return s.name }

// Fetch asks for the key's tag, then for signatures; objects are fetched once one of
// them is by a trusted key.
func (s *Source) Fetch(ctx context.Context, q prebuilt.Query, trusted []dsse.Key) (*prebuilt.Bundle, error) {
	b, err := s.fetch(ctx, q, trusted)
	if err != nil && !errors.Is(err, prebuilt.ErrNone) {
		return nil, fmt.Errorf("asking %s: %w", s, err)
	}
	return b, err
}

func (s *Source) fetch(ctx context.Context, q prebuilt.Query, trusted []dsse.Key) (*prebuilt.Bundle, error) {
	tag := q.Key
	if tag == "" {
		tag = HumanTag(q.Result)
	}
	outer, desc, err := s.repo.manifest(ctx, tag)
	if errors.Is(err, errAbsent) {
		return nil, prebuilt.ErrNone
	}
	if err != nil {
		return nil, err
	}
	if outer.Config == nil || outer.Config.MediaType != prebuilt.PayloadType {
		return nil, fmt.Errorf("%w: what it has under %s is something else", prebuilt.ErrFormat, tag)
	}
	text, err := s.repo.blob(ctx, outer.Config.Digest, prebuilt.MaxManifest)
	if err != nil {
		return nil, err
	}
	b, err := s.signed(ctx, desc.Digest, text, trusted)
	if err == nil {
		err = q.Check(b)
	}
	if err != nil {
		return nil, err
	}
	for _, f := range b.Manifest.Contents() {
		if f.Path == prebuilt.LogPath {
			continue // for people, who ask the registry for it
		}
		data, err := s.repo.blob(ctx, "sha256:"+f.SHA256, f.Size)
		if err == nil {
			err = b.Add(f, data)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// signed returns the bundle of a manifest by the first signature of a trusted key.
func (s *Source) signed(ctx context.Context, subject string, text []byte, trusted []dsse.Key) (*prebuilt.Bundle, error) {
	list, err := s.repo.referrers(ctx, subject, TypeSignature)
	if err != nil {
		return nil, err
	}
	worst := prebuilt.ErrUnsigned
	for _, d := range list[:min(len(list), maxSignatures)] {
		envelope, err := s.envelope(ctx, d)
		if err != nil {
			return nil, err
		}
		b, err := prebuilt.Open(text, envelope, trusted)
		if err == nil {
			return b, nil
		}
		worst = err
	}
	return nil, worst
}

// envelope fetches the only content of a signature.
func (s *Source) envelope(ctx context.Context, d descriptor) ([]byte, error) {
	m, _, err := s.repo.manifest(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != 1 {
		return nil, fmt.Errorf("%w: a signature has %d contents", prebuilt.ErrFormat, len(m.Layers))
	}
	return s.repo.blob(ctx, m.Layers[0].Digest, dsse.MaxEnvelope)
}

// HumanTag returns a tag that people can read: MODULE-VERSION-KERNEL-ARCH. What a tag
// can't hold, such as + and ~, is written as _ and its code, and _ twice (distribution specification,
// "Pulling manifests": [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}).
func HumanTag(k state.Key) string {
	var b strings.Builder
	for _, c := range []byte(k.Module + "-" + k.Version + "-" + k.Kernel + "-" + k.Arch) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '-' {
			b.WriteByte(c)
		} else if c == '_' {
			b.WriteString("__")
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	const longest, digits = 128, 12
	tag := b.String()
	if len(tag) > longest {
		sum := sha256.Sum256([]byte(tag))
		tag = tag[:longest-digits-1] + "-" + hex.EncodeToString(sum[:])[:digits]
	}
	return tag
}
