// SPDX-License-Identifier: Apache-2.0

package vouch

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"dkms-go/internal/dsse"
	"dkms-go/internal/prebuilt"
	"dkms-go/internal/prebuilt/oci"
)

// Keys are those that a hub trusts, and the one that it signs with.
type Keys struct {
	Trusted []dsse.Key
	Own     ed25519.PrivateKey
}

// Import puts the bundle in a file into a repository, in the form in which dkms pushes
// it, with the signature that it has, and with one by the hub's key. It must be signed by
// one of those that are trusted.
func Import(ctx context.Context, store ociregistry.Interface, file, to string, k Keys) (Contribution, error) {
	var c Contribution
	f, err := os.Open(file)
	if err != nil {
		return c, err
	}
	defer f.Close()
	b, err := prebuilt.Read(f, k.Trusted)
	if err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	digest, err := prebuilt.KeyOf(b.Manifest).Digest()
	if err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	client := &http.Client{Transport: inside{ociserver.New(store, nil)}}
	nobody := func(string) (string, string) { return "", "" }
	repo, err := oci.Open(&url.URL{Scheme: "oci", Host: "store", Path: "/" + to}, oci.Access{Client: client, Password: nobody})
	if err != nil {
		return c, err
	}
	if _, err := repo.Push(ctx, b, digest, nil); err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	if c, err = Read(ctx, store, to, digest); err != nil {
		return c, err
	}
	return c, Promote(ctx, store, c, Way{From: to, To: to}, k.Own)
}

// inside has a handler of this process answer requests.
type inside struct{ http.Handler }

// RoundTrip is that of http.RoundTripper.
func (i inside) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	a := &answer{header: http.Header{}, code: http.StatusOK}
	asked := r.Clone(r.Context())
	asked.RequestURI = r.URL.RequestURI()
	i.ServeHTTP(a, asked)
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.code, http.StatusText(a.code)), StatusCode: a.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()), Request: r,
	}, nil
}

// answer is what a handler says.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
