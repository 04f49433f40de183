// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dkms-go/internal/dsse"
	"dkms-go/internal/fingerprint"
	"dkms-go/internal/prebuilt"
	"dkms-go/internal/state"
)

// server is a registry in memory, without the API of referrers.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	blobs map[string][]byte

	token bool // it wants one
	asked []string
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{blobs: map[string][]byte{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	if r.URL.Path == "/token" {
		user, password, _ := r.BasicAuth()
		if user != "me" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"token":%q}`, r.URL.Query().Get("scope"))
		return
	}
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	allow := r.Header.Get("Authorization")
	if s.token && (!strings.HasPrefix(allow, "Bearer repository:site/modules:pull") || write && !strings.HasSuffix(allow, "push")) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token",service="test, really"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	body, _ := io.ReadAll(r.Body)
	path := strings.TrimPrefix(r.URL.Path, "/v2/site/modules")
	switch {
	case r.Method == http.MethodPost:
		w.Header().Set("Location", "/v2/site/modules/blobs/uploads/1?state=x")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && strings.HasPrefix(path, "/blobs/uploads/"):
		s.blobs["/blobs/"+r.URL.Query().Get("digest")] = body
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		s.blobs[path], s.blobs["/manifests/"+digestOf(body)] = body, body
		w.WriteHeader(http.StatusCreated)
	case s.blobs[path] != nil:
		w.Write(s.blobs[path])
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *server) open(t *testing.T, config string) *Source {
	t.Helper()
	u, _ := url.Parse("oci://" + strings.TrimPrefix(s.URL, "http://") + "/site/modules")
	source, err := Open(u, Access{Client: s.Client(), Password: Passwords(config)})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func sample(t *testing.T) (*prebuilt.Bundle, prebuilt.Query, []dsse.Key, prebuilt.Signer) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	digest := strings.Repeat("ab", 32)
	b, err := prebuilt.New(prebuilt.Manifest{
		Module: "hello", Version: "1.0~rc1", Source: digest, Build: prebuilt.Build{Tool: "test", Origin: "local"},
		Kernel:  fingerprint.Kernel{Release: "6.1+deb", Arch: "x86_64", UTSVersion: "#1", Options: digest, Exports: digest, HasCRCs: true},
		Objects: []prebuilt.Object{{File: prebuilt.File{Path: "objects/hello.ko"}, Name: "hello", Location: "/extra", Vermagic: "6.1"}},
		Files:   []prebuilt.File{{Path: prebuilt.ConfPath}, {Path: prebuilt.LogPath}},
	}, map[string][]byte{"objects/hello.ko": []byte("object"), prebuilt.ConfPath: []byte("conf"), prebuilt.LogPath: []byte("log")}, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := prebuilt.KeyOf(b.Manifest).Digest()
	if err != nil {
		t.Fatal(err)
	}
	return b, prebuilt.Query{Result: b.Manifest.StateKey(), Key: key}, []dsse.Key{{Name: "key", Public: private.Public().(ed25519.PublicKey)}},
		func(kind string, text []byte) ([]byte, error) { return dsse.Sign(kind, text, private) }
}

func TestPushFetch(t *testing.T) {
	b, q, trusted, sign := sample(t)
	s := newServer(t)
	s.token = true
	config := filepath.Join(t.TempDir(), "config.json")
	os.WriteFile(config, []byte(`{"auths":{"`+strings.TrimPrefix(s.URL, "http://")+`":{"auth":"bWU6c2VjcmV0"}}}`), 0o600)
	source := s.open(t, config)
	for range 2 {
		if _, err := source.Push(context.Background(), b, q.Key, sign); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []prebuilt.Query{q, {Result: q.Result}} {
		got, err := s.open(t, config).Fetch(context.Background(), q, trusted)
		if err != nil || string(got.Content("objects/hello.ko")) != "object" || got.Complete() != nil {
			t.Fatalf("%v %v", got, err)
		}
	}
	if _, err := s.open(t, "").Fetch(context.Background(), q, trusted); err == nil || !strings.Contains(err.Error(), "logging in") {
		t.Errorf("without a password: %v", err)
	}
	for _, m := range s.blobs {
		if bytes.Contains(m, []byte("in-toto.io/Statement")) {
			t.Error("the statement is not in an envelope")
		}
	}
}

// TestOneRequest wants one request for what isn't there.
func TestOneRequest(t *testing.T) {
	_, q, trusted, _ := sample(t)
	s := newServer(t)
	if _, err := s.open(t, "").Fetch(context.Background(), q, trusted); !errors.Is(err, prebuilt.ErrNone) || len(s.asked) != 1 {
		t.Errorf("%v, %q", err, s.asked)
	}
}

// TestHostile has registries that have something else than what was pushed.
func TestHostile(t *testing.T) {
	b, q, trusted, sign := sample(t)
	for name, c := range map[string]struct {
		change func(s *server, tag *manifest)
		want   string
	}{
		"object": {func(s *server, _ *manifest) { s.blobs["/blobs/"+digestOf([]byte("object"))] = []byte("objecT") }, "another digest"},
		"large object": {func(s *server, _ *manifest) {
			s.blobs["/blobs/"+digestOf([]byte("object"))] = []byte("object and more")
		}, "more than 6 bytes"},
		"no object":    {func(s *server, _ *manifest) { delete(s.blobs, "/blobs/"+digestOf([]byte("object"))) }, "is not there"},
		"no signature": {func(s *server, m *manifest) { m.Annotations = nil }, "not signed"}, // another manifest
		"other config": {func(s *server, m *manifest) { m.Config.MediaType = "x" }, "something else"},
		"bad digest":   {func(s *server, m *manifest) { m.Config.Digest = "sha256:../../x" }, "names the config"},
		"no manifest":  {func(s *server, _ *manifest) { s.blobs["/manifests/"+q.Key] = []byte("<html>") }, "not a bundle"},
		"too large":    {func(s *server, _ *manifest) { s.blobs["/manifests/"+q.Key] = make([]byte, maxOuter+1) }, "more than"},
	} {
		s := newServer(t)
		source := s.open(t, "")
		if _, err := source.Push(context.Background(), b, q.Key, sign); err != nil {
			t.Fatal(err)
		}
		tag := "/manifests/" + q.Key
		before := s.blobs[tag]
		m, err := parse(before)
		if err != nil {
			t.Fatal(err)
		}
		c.change(s, &m)
		if text, _ := json.Marshal(m); bytes.Equal(s.blobs[tag], before) {
			s.blobs[tag] = text
		}
		if _, err := source.Fetch(context.Background(), q, trusted); err == nil || errors.Is(err, prebuilt.ErrNone) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What was signed for one key is no answer for another.
	s := newServer(t)
	source := s.open(t, "")
	other := strings.Repeat("cd", 32)
	if _, err := source.Push(context.Background(), b, other, sign); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Fetch(context.Background(), prebuilt.Query{Result: q.Result, Key: other}, trusted); !errors.Is(err, prebuilt.ErrFormat) {
		t.Errorf("under another key: %v", err)
	}
}

func TestTags(t *testing.T) {
	key := func(module, version string) state.Key {
		return state.Key{ID: state.ID{Module: module, Version: version}, Kernel: "6.1", Arch: "x86_64"}
	}
	if got := HumanTag(key("a", "1+2~3")); got != "a-1_2b2_7e3-6.1-x86__64" {
		t.Error(got)
	}
	if HumanTag(key("a", "1+2")) == HumanTag(key("a", "1_2b2")) {
		t.Error("two versions have one tag")
	}
	if got := HumanTag(key(strings.Repeat("a", 150), "1")); len(got) != 128 {
		t.Error(got)
	}
}

func TestAddresses(t *testing.T) {
	for _, bad := range []string{"oci://host", "oci://u:p@host/x", "oci://host/x?y", "ftp://host/x", "http://host/x", "https://", "file://host/x", "file:x", "x"} {
		if _, err := prebuilt.ParseURL(bad); err == nil || strings.Contains(err.Error(), ":p@") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, good := range []string{"oci://host/x/y", "http://127.0.0.1:80/x", "https://host", "file:///x"} {
		if _, err := prebuilt.ParseURL(good); err != nil {
			t.Error(err)
		}
	}
	u, _ := url.Parse("oci://host/Upper/case")
	if _, err := Open(u, Access{}); err == nil {
		t.Error("a name with large letters")
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:00","size":1},"layers":[],"manifests":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parse(text)
		if err != nil {
			return
		}
		for _, d := range append(m.Layers, m.Manifests...) {
			if !isDigest(d.Digest) {
				t.Errorf("%q", d.Digest)
			}
		}
	})
}

func FuzzParameters(f *testing.F) {
	f.Add(`realm="https://x/token",service="a, b",scope=x`)
	f.Fuzz(func(t *testing.T, text string) {
		for name, value := range parameters(text) {
			if !strings.Contains(strings.ToLower(text), name) || !strings.Contains(text, value) {
				t.Errorf("%q: %q is not in %q", name, value, text)
			}
		}
	})
}
