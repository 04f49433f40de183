// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"dkms-go/test/lab"
)

// TestSources has a machine without tools get its module from a registry and from a web
// server, by the hooks of kernels too, and another one build what they haven't.
func TestSources(t *testing.T) {
	_, k := lab.Kernels(t)
	cert, key, ca := authority(t)
	b, m := builder(t), target(t)
	www, log := website(t, b.Path("srv"), cert, key)
	port := registry(t, cert, key)
	oci, https := "oci://"+name+":"+port+"/site/modules", "https://"+name+":"+www+"/dkms"
	authorities, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	for _, machine := range []machine{b, m} {
		machine.write("etc/hosts", "127.0.0.1 "+name+"\n")
		machine.write("etc/dkms/ca.pem", string(authorities))
		machine.write("etc/dkms/trust.d/farm.pub", string(b.read("root/key.pub")))
		machine.write("etc/dkms/framework.conf.d/ca.conf", "prebuilt_ca=/etc/dkms/ca.pem\n")
	}
	b.ok("build", "tiny/1.0", "-k", k)
	pushed := b.ok("push", "tiny/1.0", "-k", k, "--to", oci, "--sign", "/root/key")
	says(t, pushed, "Pushed: "+oci+"@sha256:", "tiny-1.0-6.12.117_2bdeb12-amd64-x86__64")
	b.ok("push", "tiny/1.0", "-k", k, "--to", oci, "--sign", "/root/key") // once more
	b.ok("push", "tiny/1.0", "-k", k, "--to", "file:///srv/dkms", "--sign", "/root/key")
	readByOras(t, port, authorities, b.read("var/lib/dkms/tiny/1.0/"+k+"/"+arch+"/module/tiny.ko.xz"))

	// A machine that has never had the module, by its name.
	says(t, m.ends(42, "pull", "tiny/1.0", "-k", k), "No source of prebuilts is named")
	says(t, m.ok("pull", "tiny/1.0", "-k", k, "--from", oci), "Installing ")
	says(t, m.ok("status", "--json"), `"origin": "prebuilt"`, `"source": "`+oci+`"`)

	// A kernel's hook, by the key, in one request.
	m.ok("unbuild", "tiny/1.0", "-k", k)
	m.write("etc/dkms/framework.conf.d/sources.conf", "prebuilt_sources=\""+https+" "+oci+"\"\n")
	before := requests(t, log)
	says(t, m.ok("hook", "image", k), "Using the prebuilt tiny/1.0 for kernel "+k+" from "+https+", signed by /etc/dkms/trust.d/farm.pub.")
	if n := requests(t, log) - before; n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	says(t, m.ok("status"), "tiny/1.0, "+k+", "+arch+": installed")
	says(t, m.MustRun("modprobe", "-n", "-v", "-S", k, "tiny").Stdout, "updates/dkms/tiny.ko")

	// What the web server has is changed: the next source is asked.
	m.ok("unbuild", "tiny/1.0", "-k", k)
	files, _ := filepath.Glob(b.Path("srv/dkms/tiny/*.tar.gz"))
	if len(files) != 1 {
		t.Fatalf("files %q", files)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	evil := repack(t, good, func(h *tar.Header, data []byte) []byte {
		if strings.HasSuffix(h.Name, ".ko.xz") {
			data[len(data)/2] ^= 1
		}
		return data
	})
	if err := os.WriteFile(files[0], evil, 0o644); err != nil {
		t.Fatal(err)
	}
	says(t, m.ok("autoinstall", "-k", k), "from "+https+": ", "its digest is another", "Using the prebuilt tiny/1.0 for kernel "+k+" from "+oci)
	says(t, m.ok("status", "--verbose"), "asked before: "+https+": ")
	os.WriteFile(files[0], good, 0o644)

	// Another build of the kernel: another key, and nothing for it.
	m.ok("unbuild", "tiny/1.0", "-k", k)
	m.MustRun("cp", "/boot/config-"+k, "/var/config")
	m.MustRun("sh", "-c", "sed -i 's/^CONFIG_HZ=.*/CONFIG_HZ=999/' /boot/config-"+k)
	says(t, m.ends(42, "pull", "tiny/1.0", "-k", k), "There is no prebuilt of tiny/1.0", "it has none")
	says(t, m.ends(42, "install", "tiny/1.0", "-k", k), "came prebuilt, without its source", https+": it has none; "+oci+": it has none")
	says(t, m.ok("hook", "image", k), "tiny/1.0") // harmless, and told
	says(t, m.ok("status"), "tiny/1.0: added")
	m.MustRun("cp", "/var/config", "/boot/config-"+k)
	says(t, m.ok("hook", "image", k), "Using the prebuilt") // the failure isn't remembered

	fallBack(t, b, k, https)
	wrongAuthority(t, m, k, https)
}

// fallBack has a machine with tools build what no source has, or no source answers for.
func fallBack(t *testing.T, b machine, k, https string) {
	t.Helper()
	b.module("2.0", "")
	b.write("etc/dkms/framework.conf.d/sources.conf", "result_cache=off\nprebuilt_sources=\"https://"+name+":"+freePort(t)+" "+https+"\"\n")
	said := b.ok("install", "tiny/2.0", "-k", k)
	says(t, said, "No prebuilt of tiny/2.0 for kernel "+k, "connection refused", https+": it has none", "Building module(s)")
	says(t, b.ok("status", "--json"), `"origin": "local"`, `"outcome": "it has none"`)
}

// wrongAuthority has a server whose certificate another authority has issued.
func wrongAuthority(t *testing.T, m machine, k, https string) {
	t.Helper()
	_, _, other := authority(t)
	text, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	m.write("etc/dkms/ca.pem", string(text))
	m.ok("unbuild", "tiny/1.0", "-k", k)
	says(t, m.ends(42, "pull", "tiny/1.0", "-k", k, "--from", https), "certificate")
}

func requests(t *testing.T, log string) int {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// readByOras reads with an independent client what was pushed: the bundle by its tag,
// the object, and what refers to it.
func readByOras(t *testing.T, port string, authorities, object []byte) {
	t.Helper()
	ctx := context.Background()
	repo, err := remote.NewRepository("127.0.0.1:" + port + "/site/modules")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authorities)
	repo.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	desc, text, err := fetchAll(ctx, repo, "tiny-1.0-6.12.117_2bdeb12-amd64-x86__64")
	if err != nil {
		t.Fatal(err)
	}
	var m spec.Manifest
	if err := json.Unmarshal(text, &m); err != nil || m.ArtifactType != "application/vnd.dkms.bundle.v1" || m.Annotations["vnd.dkms.module"] != "tiny" {
		t.Errorf("%v %s", err, text)
	}
	found := false
	for _, layer := range m.Layers {
		data, err := content.FetchAll(ctx, repo, layer)
		if err != nil {
			t.Error(err)
		}
		found = found || layer.Annotations[spec.AnnotationTitle] == "objects/tiny.ko.xz" && bytes.Equal(data, object)
	}
	if !found {
		t.Error("oras doesn't read the object")
	}
	kinds := map[string]int{}
	err = repo.Referrers(ctx, desc, "", func(list []spec.Descriptor) error {
		for _, d := range list {
			kinds[d.ArtifactType]++
		}
		return nil
	})
	for _, kind := range []string{"application/vnd.dsse.envelope.v1+json", "application/vnd.in-toto+json", "application/vnd.dkms.log.v1"} {
		if err != nil || kinds[kind] != 1 {
			t.Errorf("%d of %s: %v", kinds[kind], kind, err)
		}
	}
}

func fetchAll(ctx context.Context, repo *remote.Repository, tag string) (spec.Descriptor, []byte, error) {
	desc, body, err := repo.FetchReference(ctx, tag)
	if err != nil {
		return desc, nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return desc, text, err
}

// TestNever traces a machine that names sources and says never: no address of a network
// is connected to, nor a socket for one made.
func TestNever(t *testing.T) {
	_, k := lab.Kernels(t)
	b := builder(t)
	b.write("etc/dkms/framework.conf.d/sources.conf", "prebuilt=never\nprebuilt_sources=\"https://127.0.0.1:9 oci://127.0.0.1:9/x\"\n")
	b.ok("add", "tiny/1.0")
	trace := func(code int, args ...string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "trace")
		r := lab.Exec(t, "strace", append([]string{"-f", "-o", file, "-e", "trace=socket,connect", "chroot", b.Dir, "/usr/sbin/dkms"}, args...)...)
		if r.Code != code {
			t.Fatalf("dkms %q: %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, c := range []struct {
		code int
		args []string
	}{
		{0, []string{"autoinstall", "-k", k}},
		{0, []string{"install", "tiny/1.0", "-k", k, "--force"}},
		{0, []string{"hook", "image", k}},
		{42, []string{"pull", "tiny/1.0", "-k", k}},
		{42, []string{"pull", "tiny/1.0", "-k", k, "--from", "https://127.0.0.1:9"}},
		{42, []string{"push", "tiny/1.0", "-k", k, "--to", "oci://127.0.0.1:9/x", "--sign", "/root/key"}},
	} {
		if text := trace(c.code, c.args...); strings.Contains(text, "AF_INET") {
			t.Errorf("dkms %q:\n%s", c.args, text)
		}
	}
	// The trace sees one where it is asked for.
	b.write("etc/dkms/framework.conf.d/sources.conf", "prebuilt_sources=https://127.0.0.1:9\n")
	b.write("etc/dkms/trust.d/key.pub", string(b.read("root/key.pub")))
	if text := trace(42, "pull", "tiny/1.0", "-k", k); !strings.Contains(text, "AF_INET") {
		t.Errorf("strace doesn't show a connection:\n%s", text)
	}
}
