// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"dkms-go/internal/prebuilt"
	"dkms-go/internal/state"
)

var query = prebuilt.Query{Result: state.Key{ID: state.ID{Module: "m", Version: "1"}, Kernel: "6.1", Arch: "x86_64"}, Key: strings.Repeat("ab", 32)}

func fetch(t *testing.T, h http.HandlerFunc) error {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	u, err := url.Parse(s.URL + "/base")
	if err != nil {
		t.Fatal(err)
	}
	client, err := Client(nil, "dkms-test")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Source{u, client}.Fetch(context.Background(), query, nil)
	return err
}

// TestHostile has servers that answer as they shouldn't.
func TestHostile(t *testing.T) {
	asked := 0
	err := fetch(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/base/m/"+query.Key+".tar.gz" || r.UserAgent() != "dkms-test" {
			t.Errorf("%s by %q", r.URL, r.UserAgent())
		}
		http.NotFound(w, r)
	})
	if !errors.Is(err, prebuilt.ErrNone) || asked != 1 {
		t.Errorf("%v after %d requests", err, asked)
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"error":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "500"},
		"nobody": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, "403"},
		"empty":  {func(http.ResponseWriter, *http.Request) {}, "not a bundle"},
		"page":   {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>log in</html>")) }, "not a bundle"},
		"circle": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), 302) }, "too often"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("\x1f\x8b"))
		}, "not a bundle"},
	} {
		if err := fetch(t, c.answer); err == nil || errors.Is(err, prebuilt.ErrNone) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRedirects(t *testing.T) {
	from, to := &http.Request{URL: &url.URL{Scheme: "https"}}, &http.Request{URL: &url.URL{Scheme: "http"}}
	if err := sentOn(to, []*http.Request{from}); err == nil {
		t.Error("sent on from https to http")
	}
}
