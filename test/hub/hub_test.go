// SPDX-License-Identifier: Apache-2.0

// Package hub runs dkms-hub as a program, by real TLS, and kills it.
package hub

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"dkms-go/internal/fleet"
)

// program builds dkms-hub once.
func program(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dkms-hub")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "dkms-go/cmd/dkms-hub").CombinedOutput(); err != nil {
		t.Fatalf("building dkms-hub: %v\n%s", err, out)
	}
	return path
}

// hub is a running dkms-hub.
type hub struct {
	program, data string
	cmd           *exec.Cmd
	address       string
	client        *http.Client
	operator      string
}

// start runs a hub on a data directory and waits until it serves.
func start(t testing.TB, program, data string) *hub {
	t.Helper()
	h := &hub{program: program, data: data}
	h.cmd = exec.CommandContext(t.Context(), program, "--data", data, "serve", "--listen", "127.0.0.1:0")
	var log bytes.Buffer
	h.cmd.Stderr = &log
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.kill)
	line, _ := bufio.NewReader(out).ReadString('\n')
	m := regexp.MustCompile(`https://(\S+);`).FindStringSubmatch(line)
	if m == nil {
		h.kill()
		t.Fatalf("the hub said %q\n%s", line, &log)
	}
	h.address = m[1]
	pinned, err := os.ReadFile(filepath.Join(data, "tls", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pinned)
	h.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	token, err := os.ReadFile(filepath.Join(data, "operator.token"))
	if err != nil {
		t.Fatal(err)
	}
	h.operator = strings.TrimSpace(string(token))
	return h
}

// kill ends it at once, as by a power cut.
func (h *hub) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// run runs another command on the data directory.
func (h *hub) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), h.program, append([]string{"--data", h.data}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("dkms-hub %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// send sends a request, and fails if the hub can't be reached.
func (h *hub) send(ctx context.Context, method, path, token string, body []byte) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "https://"+h.address+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := h.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// enrol enrols a host by a new code.
func (h *hub) enrol(t *testing.T, name string) string {
	t.Helper()
	ask, _ := json.Marshal(fleet.Enrolment{Code: h.run(t, "code"), Name: name})
	status, text, err := h.send(t.Context(), "POST", "/api/v1/enrol", "", ask)
	var got fleet.Enrolled
	if err != nil || status != http.StatusOK || json.Unmarshal([]byte(text), &got) != nil {
		t.Fatalf("enrolling: %d %s, %v", status, text, err)
	}
	return got.Token
}

// repository is one of the hub's, for the ORAS client.
func (h *hub) repository(t testing.TB, name, token string) *remote.Repository {
	t.Helper()
	r, err := remote.NewRepository(h.address + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	r.Client = &auth.Client{Client: h.client, Credential: auth.StaticCredential(h.address, auth.Credential{Username: "host", Password: token})}
	return r
}

// push pushes an artifact of two layers, and returns the manifest's digest once the hub
// has said that all is there.
func push(ctx context.Context, r *remote.Repository, tag string) (string, error) {
	var layers []string
	for i := range 2 {
		data := bytes.Repeat([]byte(fmt.Sprintf("%s %d %d\n", tag, i, rand.Uint64())), 4000)
		desc := content.NewDescriptorFromBytes("application/octet-stream", data)
		if err := r.Push(ctx, desc, bytes.NewReader(data)); err != nil {
			return "", err
		}
		layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, desc.MediaType, desc.Digest, desc.Size))
	}
	const media = "application/vnd.oci.image.manifest.v1+json"
	text := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/vnd.dkms.test","config":%s,"layers":[%s]}`, media, layers[0], strings.Join(layers, ",")))
	desc := content.NewDescriptorFromBytes(media, text)
	return string(desc.Digest), r.PushReference(ctx, desc, bytes.NewReader(text), tag)
}

// check pulls an artifact, which must be whole.
func check(ctx context.Context, r *remote.Repository, tag, digest string) error {
	desc, err := r.Resolve(ctx, tag)
	if err != nil {
		return err
	}
	if string(desc.Digest) != digest {
		return fmt.Errorf("it is %s, not %s", desc.Digest, digest)
	}
	parts, err := content.Successors(ctx, r, desc)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if _, err := content.FetchAll(ctx, r, part); err != nil { // compares the digest
			return err
		}
	}
	return nil
}

func report(n int) []byte {
	data, _ := json.Marshal(fleet.Report{
		Schema: fleet.ReportSchema, Time: time.Now(), Distribution: fmt.Sprint("debian ", n),
		Kernels: []fleet.Kernel{{Release: "6.1.0-56-amd64", Arch: "x86_64", Running: true}},
		Modules: []fleet.Module{{Name: "hello", Version: "1.0", Kernel: "6.1.0-56-amd64", Arch: "x86_64", State: fleet.Ready}},
	})
	return data
}

// TestKilled kills the hub again and again while hosts push and report. What it had
// said yes to is there afterwards, and all that is there is whole.
func TestKilled(t *testing.T) {
	const rounds, hosts = 12, 4
	bin, data := program(t), filepath.Join(t.TempDir(), "data")
	h := start(t, bin, data)
	tokens := make([]string, hosts)
	for i := range tokens {
		tokens[i] = h.enrol(t, fmt.Sprint("host", i))
	}
	acknowledged := map[string]string{} // digests by tags
	reported := make([]int, hosts)      // the last number that was taken
	var mu sync.Mutex
	n := 0
	for range rounds {
		var all sync.WaitGroup
		for i, token := range tokens {
			r := h.repository(t, "contributed/hello", token)
			all.Go(func() {
				for {
					mu.Lock()
					n++
					mine := n
					mu.Unlock()
					tag := fmt.Sprint("t", mine)
					digest, err := push(t.Context(), r, tag)
					if err != nil {
						return // killed
					}
					status, _, err := h.send(t.Context(), "POST", "/api/v1/report", token, report(mine))
					mu.Lock()
					acknowledged[tag] = digest
					if err == nil && status == http.StatusNoContent {
						reported[i] = mine
					}
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(50+rand.IntN(250)) * time.Millisecond)
		h.kill()
		all.Wait()
		h = start(t, bin, data)
	}
	if len(acknowledged) == 0 {
		t.Fatal("nothing was pushed in any round")
	}
	r := h.repository(t, "contributed/hello", tokens[0])
	var tags []string
	if err := r.Tags(t.Context(), "", func(page []string) error { tags = append(tags, page...); return nil }); err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, tag := range tags {
		there[tag] = true
		digest := acknowledged[tag]
		if digest == "" { // it was killed before it answered
			desc, err := r.Resolve(t.Context(), tag)
			if err != nil {
				t.Fatalf("%s: %v", tag, err)
			}
			digest = string(desc.Digest)
		}
		if err := check(t.Context(), r, tag, digest); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
	for tag := range acknowledged {
		if !there[tag] {
			t.Errorf("%s was acknowledged, and is lost", tag)
		}
	}
	for i, last := range reported {
		var n int
		_, text, err := h.send(t.Context(), "GET", fmt.Sprint("/hosts/host", i), h.operator, nil)
		if _, e := fmt.Sscanf(text[max(0, strings.Index(text, "<p>debian ")):], "<p>debian %d;", &n); err != nil || last > 0 && (e != nil || n < last) {
			t.Errorf("host%d: its report %d is lost, there is %d: %v", i, last, n, err)
		}
	}
	t.Logf("%d kills, %d artifacts acknowledged, %d there", rounds, len(acknowledged), len(tags))
}

// TestBackup copies the data directory of a running hub, and serves the copy.
func TestBackup(t *testing.T) {
	bin, dir := program(t), t.TempDir()
	h := start(t, bin, filepath.Join(dir, "data"))
	token := h.enrol(t, "web1")
	digest, err := push(t.Context(), h.repository(t, "contributed/hello", token), "1.0")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy")
	h.run(t, "backup", copied)
	if out, err := exec.CommandContext(t.Context(), bin, "--data", h.data, "backup", copied).CombinedOutput(); err == nil || !strings.Contains(string(out), "is there already") {
		t.Errorf("a second time: %v %s", err, out)
	}
	h.kill()
	if err := os.RemoveAll(h.data); err != nil {
		t.Fatal(err)
	}
	h = start(t, bin, copied)
	if err := check(t.Context(), h.repository(t, "contributed/hello", token), "1.0", digest); err != nil {
		t.Error(err)
	}
	if got := h.run(t, "hosts"); got != "web1: never reported" {
		t.Errorf("hosts: %q", got)
	}
	h.run(t, "revoke", "web1")
	if status, text, err := h.send(t.Context(), "GET", "/v2/", token, nil); err != nil || status != http.StatusUnauthorized {
		t.Errorf("revoked by the command: %d %s, %v", status, text, err)
	}
	if got := h.run(t, "audit", "--json"); !strings.Contains(got, `"what": "revoke"`) {
		t.Errorf("audit: %s", got)
	}
}

// TestMembership enrols a host as dkms does it, and has it report.
func TestMembership(t *testing.T) {
	bin, dir := program(t), t.TempDir()
	h := start(t, bin, filepath.Join(dir, "data"))
	pinned, err := os.ReadFile(filepath.Join(h.data, "tls", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "hub.json")
	if _, err := fleet.Load(file); !errors.Is(err, fleet.ErrNoHub) {
		t.Errorf("before: %v", err)
	}
	m := fleet.Membership{URL: "https://" + h.address, Name: "web1", Authority: string(pinned)}
	code := h.run(t, "code")
	if err := m.Enrol(t.Context(), code); err != nil {
		t.Fatal(err)
	}
	if err := m.Save(file); err != nil {
		t.Fatal(err)
	}
	if m, err = fleet.Load(file); err != nil {
		t.Fatal(err)
	}
	var r fleet.Report
	if err := json.Unmarshal(report(7), &r); err != nil {
		t.Fatal(err)
	}
	if err := m.Report(t.Context(), r); err != nil {
		t.Error(err)
	}
	if got := h.run(t, "hosts"); !strings.HasPrefix(got, "web1: reported 20") {
		t.Errorf("hosts: %q", got)
	}

	other := start(t, bin, filepath.Join(dir, "other"))
	defer other.kill()
	for name, c := range map[string]struct {
		m    fleet.Membership
		want string
	}{
		"used code":     {fleet.Membership{URL: m.URL, Name: "web2", Authority: m.Authority}, "refused: this enrolment code is unknown, was used, or has expired (403"},
		"wrong CA":      {fleet.Membership{URL: "https://" + other.address, Name: "web2", Authority: m.Authority}, "by another authority than the one that is pinned"},
		"nobody there":  {fleet.Membership{URL: "https://127.0.0.1:1", Name: "web2", Authority: m.Authority}, "can't be reached: "},
		"no TLS":        {fleet.Membership{URL: "http://" + h.address, Name: "web2"}, "is not the address of a hub"},
		"a name":        {fleet.Membership{URL: m.URL, Name: "../x", Authority: m.Authority}, `the name "../x" is empty`},
		"no authority":  {fleet.Membership{URL: m.URL, Name: "web2", Authority: "x"}, "no certificate in PEM"},
		"not even that": {fleet.Membership{URL: m.URL, Name: "web2"}, "certificate"},
	} {
		if err := c.m.Enrol(t.Context(), code); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	h.run(t, "revoke", "web1")
	if err := m.Report(t.Context(), r); err == nil || !strings.Contains(err.Error(), "unknown or was revoked (401") {
		t.Errorf("revoked: %v", err)
	}
}
