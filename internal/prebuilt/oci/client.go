// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"dkms-go/internal/prebuilt"
)

// descriptor names a content (image specification, descriptor.md).
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// manifest is a manifest, or with Manifests an index (image specification, manifest.md,
// image-index.md).
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        *descriptor       `json:"config,omitempty"`
	Layers        []descriptor      `json:"layers,omitempty"`
	Manifests     []descriptor      `json:"manifests,omitempty"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeEmpty    = "application/vnd.oci.empty.v1+json"
)

// digestOf returns the digest of a content as registries write it.
func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// isDigest reports whether a text is a digest of the only kind that is taken here.
func isDigest(s string) bool {
	hash, ok := strings.CutPrefix(s, "sha256:")
	b, err := hex.DecodeString(hash)
	return ok && err == nil && len(b) == sha256.Size && strings.ToLower(hash) == hash
}

// errAbsent is that of what a registry answers it hasn't.
var errAbsent = errors.New("not there")

// repository is a client of one repository (distribution specification 1.1).
type repository struct {
	base     *url.URL // of the registry
	name     string
	client   *http.Client
	password func(host string) (user, password string)

	mu    sync.Mutex
	allow string // the header Authorization that the registry has asked for
}

// at returns the address of something of the repository.
func (r *repository) at(elem ...string) *url.URL {
	return r.base.JoinPath(append([]string{"v2", r.name}, elem...)...)
}

// call is one request.
type call struct {
	method string
	url    *url.URL
	kind   string // Content-Type of body
	body   []byte
	accept string
	write  bool // log in for writing
}

// do makes a request, after logging in if the registry asks for it. Answers but those of
// success are errors; that of what isn't there wraps errAbsent.
func (r *repository) do(ctx context.Context, c call) (*http.Response, error) {
	res, err := r.once(ctx, c)
	if err == nil && res.StatusCode == http.StatusUnauthorized {
		challenge := res.Header.Get("WWW-Authenticate")
		drain(res)
		if err := r.logIn(ctx, challenge, c.write); err != nil {
			return nil, fmt.Errorf("logging in: %w", err)
		}
		res, err = r.once(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return res, nil
	}
	defer drain(res)
	if res.StatusCode == http.StatusNotFound {
		return nil, errAbsent
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 500))
	return nil, fmt.Errorf("%s %s: it answers %s %.300q", c.method, c.url.Path, res.Status, text)
}

func (r *repository) once(ctx context.Context, c call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, c.url.String(), bytes.NewReader(c.body))
	if err != nil {
		return nil, err
	}
	if c.kind != "" {
		req.Header.Set("Content-Type", c.kind)
	}
	if c.accept != "" {
		req.Header.Set("Accept", c.accept)
	}
	r.mu.Lock()
	if r.allow != "" && c.url.Host == r.base.Host && c.url.Scheme == r.base.Scheme { // uploads may go elsewhere
		req.Header.Set("Authorization", r.allow)
	}
	r.mu.Unlock()
	res, err := r.client.Do(req)
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err // the address is said anyway
	}
	return res, err
}

// drain ends an answer, so that its connection serves again.
func drain(res *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	res.Body.Close()
}

// read reads an answer of at most limit bytes.
func read(res *http.Response, limit int64) ([]byte, error) {
	defer res.Body.Close()
	var data bytes.Buffer
	if _, err := io.Copy(&data, io.LimitReader(res.Body, limit+1)); err != nil {
		return nil, err
	}
	if int64(data.Len()) > limit {
		return nil, fmt.Errorf("%w: an answer has more than %d bytes", prebuilt.ErrFormat, limit)
	}
	return data.Bytes(), nil
}

// manifest fetches a manifest by tag or digest, and returns its digest and size too.
func (r *repository) manifest(ctx context.Context, reference string) (manifest, descriptor, error) {
	res, err := r.do(ctx, call{method: http.MethodGet, url: r.at("manifests", reference), accept: typeManifest + ", " + typeIndex})
	if err != nil {
		return manifest{}, descriptor{}, err
	}
	text, err := read(res, maxOuter)
	if err != nil {
		return manifest{}, descriptor{}, err
	}
	d := descriptor{MediaType: typeManifest, Digest: digestOf(text), Size: int64(len(text))}
	if isDigest(reference) && reference != d.Digest {
		return manifest{}, d, fmt.Errorf("%w: the manifest %s has another digest", prebuilt.ErrFormat, reference)
	}
	m, err := parse(text)
	return m, d, err
}

// parse reads a manifest or an index.
func parse(text []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%w: a manifest of the registry: %w", prebuilt.ErrFormat, err)
	}
	for _, d := range append(append([]descriptor{}, m.Layers...), m.Manifests...) {
		if !isDigest(d.Digest) || d.Size < 0 {
			return m, fmt.Errorf("%w: a manifest of the registry names the content %.100q of %d bytes", prebuilt.ErrFormat, d.Digest, d.Size)
		}
	}
	if m.Config != nil && (!isDigest(m.Config.Digest) || m.Config.Size < 0) {
		return m, fmt.Errorf("%w: a manifest of the registry names the config %.100q", prebuilt.ErrFormat, m.Config.Digest)
	}
	return m, nil
}

// blob fetches a content of that digest and of at most limit bytes.
func (r *repository) blob(ctx context.Context, digest string, limit int64) ([]byte, error) {
	res, err := r.do(ctx, call{method: http.MethodGet, url: r.at("blobs", digest)})
	if errors.Is(err, errAbsent) {
		return nil, fmt.Errorf("%w: the content %s is not there", prebuilt.ErrFormat, digest)
	}
	if err != nil {
		return nil, err
	}
	data, err := read(res, limit)
	if err == nil && digestOf(data) != digest {
		err = fmt.Errorf("%w: the content %s has another digest", prebuilt.ErrFormat, digest)
	}
	return data, err
}

// pushBlob puts a content there unless it is.
func (r *repository) pushBlob(ctx context.Context, kind string, data []byte) (descriptor, error) {
	d := descriptor{MediaType: kind, Digest: digestOf(data), Size: int64(len(data))}
	res, err := r.do(ctx, call{method: http.MethodHead, url: r.at("blobs", d.Digest), write: true})
	if err == nil {
		drain(res)
		return d, nil
	}
	if !errors.Is(err, errAbsent) {
		return d, err
	}
	uploads := r.at("blobs", "uploads")
	uploads.Path += "/"
	if res, err = r.do(ctx, call{method: http.MethodPost, url: uploads, write: true}); err != nil {
		return d, err
	}
	drain(res)
	to, err := uploads.Parse(res.Header.Get("Location"))
	if err != nil {
		return d, fmt.Errorf("the registry says to upload to %.200q: %w", res.Header.Get("Location"), err)
	}
	q := to.Query()
	q.Set("digest", d.Digest)
	to.RawQuery = q.Encode()
	if res, err = r.do(ctx, call{method: http.MethodPut, url: to, kind: "application/octet-stream", body: data, write: true}); err != nil {
		return d, err
	}
	drain(res)
	return d, nil
}

// pushManifest puts a manifest there, by tags or, with none, by its digest. What refers
// to another one is listed for registries without the API of referrers
// (distribution specification, "Pushing Manifests with Subject").
func (r *repository) pushManifest(ctx context.Context, m manifest, tags ...string) (descriptor, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return descriptor{}, fmt.Errorf("writing a manifest: %w", err)
	}
	d := descriptor{MediaType: m.MediaType, Digest: digestOf(text), Size: int64(len(text)), ArtifactType: m.ArtifactType, Annotations: m.Annotations}
	if len(tags) == 0 {
		tags = []string{d.Digest}
	}
	for _, tag := range tags {
		res, err := r.do(ctx, call{method: http.MethodPut, url: r.at("manifests", tag), kind: m.MediaType, body: text, write: true})
		if err != nil {
			return d, err
		}
		drain(res)
		if m.Subject != nil && res.Header.Get("OCI-Subject") == "" {
			return d, r.list(ctx, *m.Subject, d)
		}
	}
	return d, nil
}

// fallback is the tag under which what refers to a manifest is listed where the registry
// has no API for it (distribution specification, "Referrers Tag Schema").
func fallback(digest string) string { return strings.Replace(digest, ":", "-", 1) }

// list adds a manifest to the list of those that refer to another one.
func (r *repository) list(ctx context.Context, subject, d descriptor) error {
	index, _, err := r.manifest(ctx, fallback(subject.Digest))
	if err != nil && !errors.Is(err, errAbsent) {
		return err
	}
	for _, there := range index.Manifests {
		if there.Digest == d.Digest {
			return nil
		}
	}
	index = manifest{SchemaVersion: 2, MediaType: typeIndex, Manifests: append(index.Manifests, d)}
	_, err = r.pushManifest(ctx, index, fallback(subject.Digest))
	return err
}

// referrers lists what refers to a manifest and has that type, as far as the first
// answer of the registry tells.
func (r *repository) referrers(ctx context.Context, digest, kind string) ([]descriptor, error) {
	u := r.at("referrers", digest)
	u.RawQuery = url.Values{"artifactType": {kind}}.Encode()
	res, err := r.do(ctx, call{method: http.MethodGet, url: u, accept: typeIndex})
	var index manifest
	switch {
	case errors.Is(err, errAbsent):
		index, _, err = r.manifest(ctx, fallback(digest))
		if errors.Is(err, errAbsent) {
			return nil, nil
		}
	case err == nil:
		var text []byte
		if text, err = read(res, maxOuter); err == nil {
			index, err = parse(text)
		}
	}
	var list []descriptor
	for _, d := range index.Manifests {
		if d.ArtifactType == kind {
			list = append(list, d)
		}
	}
	return list, err
}
