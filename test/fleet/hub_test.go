// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// hub is a running dkms-hub.
type hub struct {
	t                  *testing.T
	program, data, url string
}

// newHub runs a hub until the test ends.
func newHub(t *testing.T) hub {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	h := hub{t, filepath.Join(dir, "dkms-hub"), filepath.Join(dir, "data"), name + ":" + port}
	if out, err := exec.Command("go", "build", "-o", h.program, "dkms-go/cmd/dkms-hub").CombinedOutput(); err != nil {
		t.Fatalf("building dkms-hub: %v\n%s", err, out)
	}
	serve(t, port, h.program, "--data", h.data, "serve", "--listen", "127.0.0.1:"+port, "--name", name)
	return h
}

// ok runs a command of the hub's.
func (h hub) ok(args ...string) string {
	h.t.Helper()
	out, err := exec.Command(h.program, append([]string{"--data", h.data}, args...)...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("dkms-hub %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (h hub) file(elem ...string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{h.data}, elem...)...))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

// page fetches a page as an operator does.
func (h hub) page(path string) string {
	h.t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(h.file("tls", "ca.crt")))
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, strings.Replace(h.url, name, "127.0.0.1", 1))
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DialContext: dial}}
	r, err := http.NewRequest(http.MethodGet, "https://"+h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.SetBasicAuth("operator", strings.TrimSpace(h.file("operator.token")))
	answer, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: %s %s, %v", path, answer.Status, text, err)
	}
	return string(text)
}

// TestHub has one host contribute what it has built, and another one get it from the hub,
// once that vouches for it.
func TestHub(t *testing.T) {
	_, k := lab.Kernels(t)
	h := newHub(t)
	b, m := builder(t), target(t)
	modules, contributed := "oci://"+h.url+"/modules", "oci://"+h.url+"/contributed"
	for name, machine := range map[string]machine{"builder": b, "bare": m} {
		machine.write("etc/hosts", "127.0.0.1 fleet.test\n")
		machine.write("root/ca.crt", h.file("tls", "ca.crt"))
		machine.write("etc/dkms/trust.d/hub.pub", h.file("hub.key.pub"))
		machine.write("etc/dkms/framework.conf.d/sources.conf", "prebuilt_sources="+modules+"\n")
		if name == "bare" {
			says(t, machine.ends(42, "pull", "tiny/1.0", "-k", k), "certificate")
		}
		says(t, machine.ok("hub", "enrol", "https://"+h.url, h.ok("code"), "--ca", "/root/ca.crt", "--name", name), "This host is "+name+" at https://"+h.url)
	}

	// What is contributed is nobody's until the hub vouches for it.
	b.ok("build", "tiny/1.0", "-k", k)
	says(t, b.ends(6, "push", "tiny/1.0", "-k", k, "--to", modules, "--sign", "/root/key"), "403")
	b.ok("push", "tiny/1.0", "-k", k, "--to", contributed, "--sign", "/root/key")
	before := m.sum()
	says(t, m.ends(42, "pull", "tiny/1.0", "-k", k), modules+": it has none")
	says(t, m.ends(42, "pull", "tiny/1.0", "-k", k, "--from", contributed), "not signed by a trusted key")
	if m.sum() != before {
		t.Error("what was refused has changed something")
	}
	offered := h.ok("contributions")
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(offered)
	says(t, offered, "tiny/1.0, "+k+", "+arch+": sha256:")
	says(t, h.ok("promote", digest), "The hub vouches for tiny/1.0")
	if left := h.ok("contributions"); left != "" {
		t.Errorf("still offered: %s", left)
	}
	h.ok("promote", digest) // once more

	says(t, m.ok("pull", "tiny/1.0", "-k", k), "signed by /etc/dkms/trust.d/hub.pub", "Installing ")
	says(t, m.ok("status", "--json"), `"origin": "prebuilt"`, `"source": "`+modules+`"`)
	says(t, m.MustRun("modprobe", "-n", "-v", "-S", k, "tiny").Stdout, "tiny.ko")
	says(t, h.page("/hosts/bare"), "tiny", `<td class="ready">ready</td><td>prebuilt</td>`)
	says(t, h.page("/modules/tiny"), `<td class="ready">1</td>`, "waiting")

	// Another build of the same release: another key, and nothing for it.
	m.ok("remove", "tiny/1.0", "--all")
	m.MustRun("sh", "-c", "sed -i 's/^CONFIG_HZ=.*/CONFIG_HZ=999/' /boot/config-"+k)
	says(t, m.ends(42, "pull", "tiny/1.0", "-k", k), "another build than the one that tiny/1.0 was built for")

	// Bundles of a directory: the good one is taken, and the one that is changed told of.
	b.module("2.0", "")
	b.ok("build", "tiny/2.0", "-k", k)
	b.ok("export", "tiny/2.0", "-k", k, "--sign", "/root/key", "--output", "/srv")
	shelf := t.TempDir()
	file := filepath.Join("debian", "12", "tiny-"+k+"-2.0.tar.gz")
	if err := os.MkdirAll(filepath.Join(shelf, "debian", "12"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{file: b.read("srv/tiny-" + k + "-2.0.tar.gz"), "torn.tar.gz": []byte("torn")} {
		if err := os.WriteFile(filepath.Join(shelf, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(h.program, "--data", h.data, "import", shelf, "--trust", b.Path("root/key.pub")).CombinedOutput()
	if err == nil {
		t.Error("a torn bundle, and no error")
	}
	says(t, string(out), file+": tiny/2.0", "Not taken: ", "torn.tar.gz: not a bundle", "1 of 2 bundles were not taken")
	m.MustRun("sh", "-c", "sed -i 's/^CONFIG_HZ=.*/CONFIG_HZ=250/' /boot/config-"+k)
	says(t, m.ok("pull", "tiny/2.0", "-k", k), "signed by /etc/dkms/trust.d/hub.pub")

	h.ok("revoke", "bare")
	says(t, m.ends(43, "hub", "report"), "unknown or was revoked")
	says(t, h.ok("audit"), "builder push contributed:", "operator promote tiny/1.0", "operator revoke bare")
}
