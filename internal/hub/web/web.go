// SPDX-License-Identifier: Apache-2.0

// Package web is what a hub says by HTTP: the OCI distribution API for hosts and for
// any client of registries, the few calls of hosts, and the pages for people.
package web

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ocifilter"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"dkms-go/internal/fleet"
	"dkms-go/internal/hub/ledger"
)

// Server answers the requests of hosts and people.
type Server struct {
	Store  ociregistry.Interface
	Ledger *ledger.Ledger
	// Authority is the certificate that hosts pin, in PEM.
	Authority []byte
	// Public is the key that signs what the hub vouches for, in PEM.
	Public []byte
	// Operator is the token of who may do everything.
	Operator string
	Log      *slog.Logger

	changes changes
}

// caller is who sent a request.
type caller struct {
	operator bool
	host     *ledger.Host // nil for others
}

// String is the name for the audit log.
func (c caller) String() string {
	if c.operator {
		return "operator"
	}
	return c.host.Name
}

// Handler returns what answers all requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	for name, text := range map[string][]byte{"ca.crt": s.Authority, "hub.pub": s.Public} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-pem-file")
			w.Write(text)
		})
	}
	mux.HandleFunc("POST /api/v1/enrol", s.enrol)
	mux.Handle("POST /api/v1/report", s.known(s.report))
	mux.Handle("GET /events", s.known(s.events))
	mux.Handle("/v2/", s.known(s.registry))
	s.pages(mux)
	return s.logged(mux)
}

// logged notes each request, without what is secret in it.
func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &status{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(seen, r)
		s.Log.InfoContext(r.Context(), "request", "from", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "status", seen.code)
	})
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// failure is the answer to a request that can't be served.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }

func refuse(code int, format string, args ...any) error {
	return &failure{code, fmt.Errorf(format, args...)}
}

// fail answers with an error; what isn't the client's fault is told in the log only.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var f *failure
	if !errors.As(err, &f) {
		s.Log.ErrorContext(r.Context(), "failed", "path", r.URL.Path, "error", err)
		f = &failure{http.StatusInternalServerError, errors.New("the hub has failed; its log says why")}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": f.Error()})
}

// authenticate finds out who sent a request: by a bearer token, or by the password of
// basic authentication, as clients of registries and browsers send it.
func (s *Server) authenticate(r *http.Request) (caller, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, token, ok = r.BasicAuth()
	}
	if !ok || token == "" {
		return caller{}, refuse(http.StatusUnauthorized, "who is asking? Send the token of a host, which dkms-hub code and dkms enrol give, or the operator's")
	}
	if subtle.ConstantTimeCompare([]byte(token), []byte(s.Operator)) == 1 {
		return caller{operator: true}, nil
	}
	host, err := s.Ledger.Authenticate(r.Context(), token)
	if errors.Is(err, ledger.ErrToken) {
		return caller{}, &failure{http.StatusUnauthorized, err}
	}
	return caller{host: &host}, err
}

// known hands requests on with who sent them.
func (s *Server) known(next func(http.ResponseWriter, *http.Request, caller)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.authenticate(r)
		var f *failure
		if errors.As(err, &f) {
			w.Header().Set("WWW-Authenticate", `Basic realm="dkms-hub", charset="UTF-8"`)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		next(w, r, who)
	})
}

// readJSON reads the body of a request.
func readJSON(r *http.Request, limit int64, into any) error {
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "reading the request: %w", err)
	}
	return nil
}

// enrol gives a host a token for a code.
func (s *Server) enrol(w http.ResponseWriter, r *http.Request) {
	var ask fleet.Enrolment
	err := readJSON(r, 1<<12, &ask)
	var token string
	if err == nil {
		token, err = s.Ledger.Enrol(r.Context(), ask.Code, ask.Name)
	}
	switch {
	case errors.Is(err, ledger.ErrCode):
		err = &failure{http.StatusForbidden, err}
	case errors.Is(err, ledger.ErrTaken):
		err = &failure{http.StatusConflict, err}
	case fleet.CheckName(ask.Name) != nil:
		err = &failure{http.StatusBadRequest, err}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(fleet.Enrolled{Token: token})
}

// report takes what a host has.
func (s *Server) report(w http.ResponseWriter, r *http.Request, who caller) {
	if who.host == nil {
		s.fail(w, r, refuse(http.StatusForbidden, "only a host reports"))
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, fleet.MaxReport+1))
	var report fleet.Report
	if err == nil {
		report, err = fleet.ReadReport(data)
	}
	if err != nil {
		s.fail(w, r, &failure{http.StatusBadRequest, err})
		return
	}
	if err := s.Ledger.Report(r.Context(), who.host.ID, report); err != nil {
		s.fail(w, r, err)
		return
	}
	s.changes.notify()
	w.WriteHeader(http.StatusNoContent)
}

// The repositories of a hub that mean something to it, with those below them.
const (
	Modules     = "modules"     // prebuilt modules that the hub vouches for
	Contributed = "contributed" // those that hosts have built, not yet looked at
)

// below reports whether a repository is the named one, or below it.
func below(repo, name string) bool { return repo == name || strings.HasPrefix(repo, name+"/") }

// registry serves the OCI distribution API. A host reads all, and writes only what it
// contributes; it deletes nothing.
func (s *Server) registry(w http.ResponseWriter, r *http.Request, who caller) {
	var store ociregistry.Interface = ocifilter.AccessChecker(s.Store, func(repo string, access ocifilter.AccessKind) error {
		switch {
		case who.operator:
			return nil
		case access == ocifilter.AccessRead || access == ocifilter.AccessList:
			return nil
		case access == ocifilter.AccessWrite && below(repo, Contributed):
			return nil
		}
		return fmt.Errorf("%w: a host may write to %s only", ociregistry.ErrDenied, Contributed)
	})
	store = &contributions{Interface: store, server: s, who: who}
	ociserver.New(store, nil).ServeHTTP(w, r)
}

// contributions notes who has pushed what.
type contributions struct {
	ociregistry.Interface
	server *Server
	who    caller
}

func (c *contributions) PushManifest(ctx context.Context, repo, tag string, data []byte, media string) (ociregistry.Descriptor, error) {
	desc, err := c.Interface.PushManifest(ctx, repo, tag, data, media)
	if err == nil {
		c.server.changes.notify()
		err = c.server.Ledger.Audit(ctx, c.who.String(), "push", fmt.Sprintf("%s:%s %s", repo, tag, desc.Digest))
	}
	return desc, err
}
