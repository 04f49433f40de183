// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"dkms-go/internal/fleet"
	"dkms-go/internal/hub/ledger"
	"dkms-go/internal/hub/store"
)

// hub is a running one, and its parts.
type hub struct {
	*httptest.Server
	server *Server
	ledger *ledger.Ledger
	log    *bytes.Buffer
}

const operator = "the-operator's-token"

func started(t *testing.T) hub {
	t.Helper()
	dir := t.TempDir()
	l, err := ledger.Open(t.Context(), filepath.Join(dir, "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(dir, "store"), store.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	web := &Server{
		Store: s, Ledger: l, Authority: []byte("the certificate\n"), Operator: operator, Log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	server := httptest.NewTLSServer(web.Handler())
	t.Cleanup(func() { server.Close(); l.Close() })
	return hub{server, web, l, &log}
}

// send sends a request and returns the answer.
func (h hub) send(t *testing.T, method, path, token string, body any) (int, string) {
	t.Helper()
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	default:
		var err error
		if data, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := h.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// enrolled returns the token of a new host.
func (h hub) enrolled(t *testing.T, name string) string {
	t.Helper()
	code, err := h.ledger.NewCode(t.Context(), "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	status, text := h.send(t, "POST", "/api/v1/enrol", "", fleet.Enrolment{Code: code, Name: name})
	var got fleet.Enrolled
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK || got.Token == "" {
		t.Fatalf("enrolling: %d %s, %v", status, text, err)
	}
	if strings.Contains(h.log.String(), code) || strings.Contains(h.log.String(), got.Token) {
		t.Error("the log has a secret")
	}
	return got.Token
}

func report() fleet.Report {
	return fleet.Report{
		Schema: fleet.ReportSchema, Distribution: "debian 12",
		Kernels: []fleet.Kernel{{Release: "6.1.0-56-amd64", Arch: "x86_64", Identity: strings.Repeat("a", 64), Running: true}},
		Modules: []fleet.Module{{Name: "hello", Version: "1.0", Kernel: "6.1.0-56-amd64", Arch: "x86_64", State: fleet.Failed, Reason: "<script>alert(1)</script>"}},
	}
}

func TestReportIsShown(t *testing.T) {
	h := started(t)
	if status, text := h.send(t, "GET", "/", operator, nil); status != http.StatusOK || !strings.Contains(text, "No host has reported") {
		t.Errorf("empty: %d %s", status, text)
	}
	token := h.enrolled(t, "web1")
	if status, text := h.send(t, "POST", "/api/v1/report", token, report()); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, text)
	}
	for path, wants := range map[string][]string{
		"/":                       {"1 host. Modules on them that aren't ready: 1.", `<td class="failed"`, "6.1.0-56-amd64", "hello", "&lt;script&gt;"},
		"/modules/hello":          {`<td class="failed">1</td>`, "&lt;script&gt;"},
		"/kernels/6.1.0-56-amd64": {`href="/modules/hello"`},
		"/hosts":                  {`href="/hosts/web1"`, "hello/1.0 is failed for 6.1.0-56-amd64: &lt;script&gt;", "just now"},
		"/hosts/web1":             {"debian 12", "running", "can't build"},
		"/audit":                  {"<td>web1</td><td>enrol</td>"},
	} {
		status, text := h.send(t, "GET", path, operator, nil)
		if status != http.StatusOK || strings.Contains(text, "<script>alert") {
			t.Errorf("%s: %d %s", path, status, text)
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q:\n%s", path, want, text)
			}
		}
	}
	if status, text := h.send(t, "GET", "/hosts/web2", operator, nil); status != http.StatusNotFound || !strings.Contains(text, `no host \"web2\"`) {
		t.Errorf("no such host: %d %s", status, text)
	}
}

func TestRefused(t *testing.T) {
	h := started(t)
	token := h.enrolled(t, "web1")
	gone := h.enrolled(t, "gone")
	if err := h.ledger.Revoke(t.Context(), "operator", "gone"); err != nil {
		t.Fatal(err)
	}
	bad := report()
	bad.Modules[0].Name = "../x"
	for name, c := range map[string]struct {
		method, path, token string
		body                any
		want                int
	}{
		"page of nobody":         {"GET", "/", "", nil, 401},
		"page of a host":         {"GET", "/", token, nil, 403},
		"audit of a host":        {"GET", "/audit", token, nil, 403},
		"wrong token":            {"GET", "/v2/", "wrong", nil, 401},
		"revoked":                {"GET", "/v2/", gone, nil, 401},
		"registry of nobody":     {"GET", "/v2/modules/hello/tags/list", "", nil, 401},
		"wrong code":             {"POST", "/api/v1/enrol", "", fleet.Enrolment{Code: "x", Name: "web2"}, 403},
		"no JSON":                {"POST", "/api/v1/enrol", "", "{", 400},
		"report of nobody":       {"POST", "/api/v1/report", "", report(), 401},
		"report of the operator": {"POST", "/api/v1/report", operator, report(), 403},
		"bad report":             {"POST", "/api/v1/report", token, bad, 400},
		"long report":            {"POST", "/api/v1/report", token, strings.Repeat(" ", fleet.MaxReport+10), 400},
		"a host pushes":          {"PUT", "/v2/modules/hello/manifests/1", token, "{}", 403},
		"a host deletes":         {"DELETE", "/v2/contributed/hello/manifests/1", token, nil, 403},
		"a host mounts":          {"POST", "/v2/modules/hello/blobs/uploads/?mount=sha256:" + strings.Repeat("a", 64) + "&from=contributed/x", token, nil, 403},
		"a host uploads":         {"POST", "/v2/modules/hello/blobs/uploads/", token, nil, 403},
		"no such page":           {"GET", "/nothing", operator, nil, 404},
	} {
		if status, text := h.send(t, c.method, c.path, c.token, c.body); status != c.want {
			t.Errorf("%s: %d %s, want %d", name, status, text, c.want)
		}
	}
}

// TestRegistry has a client of registries send the token as a password: a host
// contributes, and reads what the operator pushes.
func TestRegistry(t *testing.T) {
	h := started(t)
	client := func(repo, token string) *remote.Repository {
		r, err := remote.NewRepository(strings.TrimPrefix(h.URL, "https://") + "/" + repo)
		if err != nil {
			t.Fatal(err)
		}
		r.Client = &auth.Client{Client: h.Client(), Credential: auth.StaticCredential(r.Reference.Registry, auth.Credential{Username: "any", Password: token})}
		return r
	}
	token := h.enrolled(t, "web1")
	for repo, who := range map[string]string{"contributed/hello": token, "modules/hello": operator} {
		r := client(repo, who)
		desc := content.NewDescriptorFromBytes("application/vnd.oci.image.manifest.v1+json", []byte(`{"schemaVersion":2}`))
		if err := r.PushReference(t.Context(), desc, strings.NewReader(`{"schemaVersion":2}`), "1.0"); err != nil {
			t.Fatalf("%s: %v", repo, err)
		}
		if got, err := client(repo, token).Resolve(t.Context(), "1.0"); err != nil || got.Digest != desc.Digest {
			t.Errorf("%s: %v, %v", repo, got, err)
		}
	}
	log, err := h.ledger.AuditLog(t.Context(), 0, 10)
	if err != nil || len(log) != 3 || !strings.Contains(log[0].Detail+log[1].Detail, "contributed/hello:1.0 sha256:") {
		t.Errorf("audit log %+v, %v", log, err)
	}
}

// TestEvents has a page told of a report, and an end when the hub stops.
func TestEvents(t *testing.T) {
	h := started(t)
	token := h.enrolled(t, "web1")
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("any", operator)
	answer, err := h.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	for _, want := range []string{": hello\n", "\n", "data: changed\n"} {
		if strings.Contains(want, "changed") {
			if status, text := h.send(t, "POST", "/api/v1/report", token, report()); status != http.StatusNoContent {
				t.Fatalf("%d %s", status, text)
			}
		}
		if line, err := lines.ReadString('\n'); line != want || err != nil {
			t.Fatalf("got %q, %v, want %q", line, err, want)
		}
	}
	h.server.Close()
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Errorf("the end: %v", err)
	}
	if status, text := h.send(t, "GET", "/events", token, nil); status != http.StatusForbidden {
		t.Errorf("for a host: %d %s", status, text)
	}
}
