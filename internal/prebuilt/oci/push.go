// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"dkms-go/internal/prebuilt"
)

// Push puts a bundle under its key and under a tag that people can read, with what
// refers to it: the signature, provenance that sign signs, and the log.
func (s *Source) Push(ctx context.Context, b *prebuilt.Bundle, key string, sign prebuilt.Signer) (string, error) {
	subject, err := s.push(ctx, b, key, sign)
	if err != nil {
		return "", fmt.Errorf("pushing to %s: %w", s, err)
	}
	return fmt.Sprintf("%s@%s (tags %s, %s)", s, subject.Digest, key, HumanTag(b.Manifest.StateKey())), nil
}

// push puts the contents there, then the manifest by its digest, what refers to it, and
// last the tags: who finds the bundle by a tag finds all of it.
func (s *Source) push(ctx context.Context, b *prebuilt.Bundle, key string, sign prebuilt.Signer) (descriptor, error) {
	m := manifest{SchemaVersion: 2, MediaType: typeManifest, ArtifactType: TypeBundle, Annotations: annotations(b.Manifest, key)}
	config, err := s.repo.pushBlob(ctx, prebuilt.PayloadType, b.Text)
	if err != nil {
		return config, err
	}
	m.Config = &config
	for _, f := range b.Manifest.Contents() {
		data := b.Content(f.Path)
		if f.Path == prebuilt.LogPath || data == nil {
			continue
		}
		kind := typeFile
		if strings.HasPrefix(f.Path, "objects/") {
			kind = typeObject
		}
		layer, err := s.repo.pushBlob(ctx, kind, data)
		if err != nil {
			return layer, err
		}
		layer.Annotations = map[string]string{"org.opencontainers.image.title": f.Path}
		m.Layers = append(m.Layers, layer)
	}
	desc, err := s.repo.pushManifest(ctx, m)
	if err == nil {
		err = s.refer(ctx, b, desc, sign)
	}
	if err != nil {
		return desc, err
	}
	return s.repo.pushManifest(ctx, m, HumanTag(b.Manifest.StateKey()), key)
}

// annotations tell of a bundle without its manifest.
func annotations(m prebuilt.Manifest, key string) map[string]string {
	all := map[string]string{
		"org.opencontainers.image.created": m.Build.Date.UTC().Format(time.RFC3339), "org.opencontainers.image.title": m.FileName(),
		"vnd.dkms.key": key, "vnd.dkms.module": m.Module, "vnd.dkms.version": m.Version, "vnd.dkms.source": m.Source,
		"vnd.dkms.kernel.release": m.Kernel.Release, "vnd.dkms.kernel.arch": m.Kernel.Arch, "vnd.dkms.kernel.uts-version": m.Kernel.UTSVersion,
		"vnd.dkms.kernel.compiler": m.Kernel.Compiler, "vnd.dkms.kernel.options": m.Kernel.Options, "vnd.dkms.kernel.exports": m.Kernel.Exports,
	}
	for name, value := range all {
		if value == "" {
			delete(all, name)
		}
	}
	return all
}

// refer pushes what refers to a bundle.
func (s *Source) refer(ctx context.Context, b *prebuilt.Bundle, subject descriptor, sign prebuilt.Signer) error {
	provenance, err := Provenance(b, strings.TrimPrefix(subject.Digest, "sha256:"), sign)
	if err != nil {
		return err
	}
	for _, r := range []struct {
		kind string
		data []byte
	}{{TypeSignature, b.Envelope}, {TypeProvenance, provenance}, {TypeLog, b.Content(prebuilt.LogPath)}} {
		if len(r.data) == 0 {
			continue
		}
		if err := s.attach(ctx, r.kind, r.data, subject); err != nil {
			return err
		}
	}
	return nil
}

// attach pushes one content that refers to a manifest.
func (s *Source) attach(ctx context.Context, kind string, data []byte, subject descriptor) error {
	layer, err := s.repo.pushBlob(ctx, kind, data)
	if err != nil {
		return err
	}
	config, err := s.repo.pushBlob(ctx, typeEmpty, []byte("{}"))
	if err != nil {
		return err
	}
	_, err = s.repo.pushManifest(ctx, manifest{
		SchemaVersion: 2, MediaType: typeManifest, ArtifactType: kind, Config: &config, Layers: []descriptor{layer},
		Subject: &descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
	return err
}

// Provenance returns a signed statement of how a bundle was built (in-toto attestation
// framework, Statement v1; SLSA provenance v1), nil if nothing signs.
func Provenance(b *prebuilt.Bundle, manifest string, sign prebuilt.Signer) ([]byte, error) {
	if sign == nil {
		return nil, nil
	}
	type subject struct {
		Name   string            `json:"name"`
		Digest map[string]string `json:"digest"`
	}
	m := b.Manifest
	subjects := []subject{{m.FileName(), map[string]string{"sha256": manifest}}}
	for _, o := range m.Objects {
		subjects = append(subjects, subject{o.Path, map[string]string{"sha256": o.SHA256}})
	}
	statement, err := json.Marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "subject": subjects, "predicateType": "https://slsa.dev/provenance/v1",
		"predicate": map[string]any{
			"buildDefinition": map[string]any{
				"buildType":          "https://dkms-go/build/v1",
				"externalParameters": map[string]any{"module": m.Module, "version": m.Version, "kernel": m.Kernel, "options": m.Options},
				"internalParameters": map[string]any{"make": m.Build.Make, "compiler": m.Build.Compiler},
				"resolvedDependencies": []any{
					map[string]any{"name": "source", "digest": map[string]string{"sha256": m.Source}},
				},
			},
			"runDetails": map[string]any{
				"builder":  map[string]any{"id": "https://dkms-go/" + m.Build.Origin, "version": map[string]string{"dkms": m.Build.Tool}},
				"metadata": map[string]any{"startedOn": m.Build.Date.UTC().Format(time.RFC3339)},
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("writing provenance: %w", err)
	}
	return sign(TypeProvenance, statement)
}
