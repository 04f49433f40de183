// SPDX-License-Identifier: Apache-2.0

package prebuilt

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/dsse"
	"dkms-go/internal/fingerprint"
)

var digest = strings.Repeat("ab", 32)

func keyPair(seed byte) (ed25519.PrivateKey, []dsse.Key) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return private, []dsse.Key{{Name: "key", Public: private.Public().(ed25519.PublicKey)}}
}

func sample() (Manifest, map[string][]byte) {
	return Manifest{
			Module: "hello", Version: "1.0", Source: digest,
			Kernel:  fingerprint.Kernel{Release: "6.1.0-18-amd64", Arch: "x86_64", UTSVersion: "#1", Options: digest, Exports: digest, HasCRCs: true},
			Objects: []Object{{File: File{Path: "objects/hello.ko.xz"}, Name: "hello", Location: "/kernel/extra", Vermagic: "6.1.0-18-amd64 SMP"}},
			Files:   []File{{Path: ConfPath}, {Path: "conf/scripts/post.sh", Executable: true}, {Path: LogPath}},
			Build:   Build{Date: time.Unix(1e9, 0).UTC(), Tool: "test", Origin: "local"},
		}, map[string][]byte{
			"objects/hello.ko.xz": []byte("object"), ConfPath: []byte("PACKAGE_NAME=hello\n"), "conf/scripts/post.sh": []byte("#!/bin/sh\n"), LogPath: []byte("log\n"),
		}
}

func packed(t testing.TB, key ed25519.PrivateKey) []byte {
	t.Helper()
	m, content := sample()
	b, err := New(m, content, key)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRoundTrip(t *testing.T) {
	private, trusted := keyPair(1)
	data := packed(t, private)
	if !bytes.Equal(data, packed(t, private)) {
		t.Error("two bundles of the same differ")
	}
	b, err := Read(bytes.NewReader(data), trusted)
	if err != nil {
		t.Fatal(err)
	}
	_, content := sample()
	for path, want := range content {
		if got := b.Content(path); !bytes.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	if b.Manifest.FileName() != "hello-6.1.0-18-amd64-1.0.tar.gz" || b.By.Name != "key" || b.Complete() != nil {
		t.Errorf("%q, by %v", b.Manifest.FileName(), b.By)
	}
}

// TestEveryByte changes each byte of a bundle: none of the changes is taken, unless it
// unpacks to the same (deflate has bits that mean nothing).
func TestEveryByte(t *testing.T) {
	private, trusted := keyPair(1)
	data := packed(t, private)
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		if _, err := Read(bytes.NewReader(bad), trusted); err == nil && !bytes.Equal(gunzipped(bad), gunzipped(data)) {
			t.Errorf("byte %d of %d: taken", i, len(data))
		}
	}
	for i := 0; i < len(data); i += 7 {
		if _, err := Read(bytes.NewReader(data[:i]), trusted); err == nil {
			t.Errorf("cut at %d: taken", i)
		}
	}
}

// entry is one of a made-up bundle.
type entry struct {
	name string
	data []byte
	kind byte
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for _, e := range entries {
		h := tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.data)), Mode: 0o644}
		if e.kind != 0 {
			h.Typeflag, h.Size, h.Linkname, e.data = e.kind, 0, "/etc/passwd", nil
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write(e.data)
	}
	w.Close()
	zip.Close()
	return out.Bytes()
}

func TestRefused(t *testing.T) {
	private, trusted := keyPair(1)
	stranger, _ := keyPair(2)
	m, content := sample()
	b, err := New(m, content, private)
	if err != nil {
		t.Fatal(err)
	}
	head := []entry{{manifestName, b.Text, 0}, {signatureName, b.Envelope, 0}}
	var all []entry
	for _, f := range b.Manifest.Contents() {
		all = append(all, entry{f.Path, content[f.Path], 0})
	}
	with := func(entries ...entry) []byte { return tarOf(t, append(append([]entry{}, head...), entries...)...) }
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"unsigned":       {packed(t, nil), ErrUnsigned},
		"stranger":       {packed(t, stranger), dsse.ErrUnknownKey},
		"other manifest": {tarOf(t, append([]entry{{manifestName, bytes.Replace(b.Text, []byte("hello"), []byte("jello"), 1), 0}, head[1]}, all...)...), dsse.ErrSignature},
		"traversal":      {with(all[0], entry{"../../etc/passwd", content["objects/hello.ko.xz"], 0}), ErrFormat},
		"absolute":       {with(entry{"/etc/passwd", nil, 0}), ErrFormat},
		"link":           {with(entry{ConfPath, nil, tar.TypeSymlink}), ErrFormat},
		"hard link":      {with(all[0], entry{"objects/hello.ko.xz", nil, tar.TypeLink}), ErrFormat},
		"order":          {with(all[1], all[0], all[2], all[3]), ErrFormat},
		"missing":        {with(all[0], all[1]), ErrFormat},
		"one too many":   {with(append(all, entry{"objects/evil.ko", []byte("x"), 0})...), ErrFormat},
		"longer":         {with(all[0], entry{all[1].name, []byte("object and more"), 0}), ErrFormat},
		"shorter":        {with(all[0], entry{all[1].name, []byte("obj"), 0}), ErrFormat},
		"other content":  {with(all[0], entry{all[1].name, []byte("obfect"), 0}), ErrFormat},
		"no gzip":        {b.Text, ErrFormat},
		"empty":          {nil, ErrFormat},
		"no tar":         {gzipped([]byte(strings.Repeat("x", 2000))), ErrFormat},
		"more behind":    {append(packed(t, private), "more"...), ErrFormat},
		"a tar behind":   {append(packed(t, private), packed(t, private)...), ErrFormat},
	} {
		if _, err := Read(bytes.NewReader(c.data), trusted); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Read(bytes.NewReader(with(all...)), trusted); err != nil {
		t.Errorf("the same by hand: %v", err)
	}
}

func gzipped(data []byte) []byte {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	zip.Write(data)
	zip.Close()
	return out.Bytes()
}

func gunzipped(data []byte) []byte {
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		return nil
	}
	return text
}

// endless is what a compressed file of a few KiB can become.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBomb(t *testing.T) {
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	w := tar.NewWriter(zip)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: manifestName, Size: 1 << 30, Mode: 0o644})
	io.Copy(w, io.LimitReader(endless{}, 32<<20))
	zip.Close()
	if _, err := Read(&bomb, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("%v", err)
	}
}

func TestManifests(t *testing.T) {
	for name, change := range map[string]func(*Manifest){
		"module":     func(m *Manifest) { m.Module = "../x" },
		"version":    func(m *Manifest) { m.Version = "a/b" },
		"kernel":     func(m *Manifest) { m.Kernel.Release = "../../boot" },
		"arch":       func(m *Manifest) { m.Kernel.Arch = "." },
		"object":     func(m *Manifest) { m.Objects[0].Path = "objects/../hello.ko" },
		"other name": func(m *Manifest) { m.Objects[0].Name = "jello" },
		"no object":  func(m *Manifest) { m.Objects[0].Path = "objects/hello.txt" },
		"location":   func(m *Manifest) { m.Objects[0].Location = "/kernel/../../etc" },
		"relative":   func(m *Manifest) { m.Objects[0].Location = "kernel" },
		"none":       func(m *Manifest) { m.Objects = nil },
		"twice":      func(m *Manifest) { m.Objects = append(m.Objects, m.Objects[0]) },
		"script":     func(m *Manifest) { m.Files[1].Path = "conf/../../etc/cron.d/x" },
		"hidden":     func(m *Manifest) { m.Files[1].Path = "conf/.x" },
		"elsewhere":  func(m *Manifest) { m.Files[1].Path = "etc/cron.d/x" },
		"no conf":    func(m *Manifest) { m.Files = m.Files[1:] },
		"two confs":  func(m *Manifest) { m.Files[1].Path = ConfPath },
		"source":     func(m *Manifest) { m.Source = "" },
		"vermagic":   func(m *Manifest) { m.Objects[0].Vermagic = "" },
	} {
		m, content := sample()
		change(&m)
		if _, err := New(m, content, nil); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, content := sample()
	b, err := New(m, content, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"unknown field": strings.Replace(string(b.Text), "{", `{"x": 1,`, 1),
		"two values":    string(b.Text) + "{}",
		"later form":    strings.Replace(string(b.Text), Schema, "dkms-bundle/2", 1),
		"negative size": strings.Replace(string(b.Text), `"size": 6`, `"size": -6`, 1),
		"huge":          strings.Replace(string(b.Text), `"size": 6`, `"size": 9000000000000`, 1),
	} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKey(t *testing.T) {
	m, _ := sample()
	want, err := KeyOf(m).Digest()
	if err != nil {
		t.Fatal(err)
	}
	same := m
	same.Kernel.Compiler, same.Kernel.Signer, same.Build.Tool = "gcc", "01", "another"
	if got, _ := KeyOf(same).Digest(); got != want {
		t.Error("what only one of two machines tells has changed the key")
	}
	for name, change := range map[string]func(*Manifest){
		"module": func(m *Manifest) { m.Module = "x" }, "version": func(m *Manifest) { m.Version = "2" },
		"source": func(m *Manifest) { m.Source = strings.Repeat("cd", 32) }, "options": func(m *Manifest) { m.Options = digest },
		"release": func(m *Manifest) { m.Kernel.Release = "6.2" }, "arch": func(m *Manifest) { m.Kernel.Arch = "aarch64" },
		"uts": func(m *Manifest) { m.Kernel.UTSVersion = "#2" }, "config": func(m *Manifest) { m.Kernel.Options = "x" },
		"exports": func(m *Manifest) { m.Kernel.Exports = "x" },
	} {
		other, _ := sample()
		change(&other)
		if got, err := KeyOf(other).Digest(); err != nil || got == want {
			t.Errorf("%s: the key stays the same, %v", name, err)
		}
	}
	m.Kernel.Exports = ""
	if _, err := KeyOf(m).Digest(); err == nil || !strings.Contains(err.Error(), "exported symbols") {
		t.Errorf("%v", err)
	}
}

func FuzzManifest(f *testing.F) {
	m, content := sample()
	b, err := New(m, content, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Text)
	f.Add([]byte(`{"schema":"dkms-bundle/1"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		for _, c := range m.Contents() {
			if !local(c.Path) || c.Size < 0 {
				t.Errorf("%q of %d bytes", c.Path, c.Size)
			}
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := Parse(again); err != nil || n.StateKey() != m.StateKey() {
			t.Errorf("written again: %v", err)
		}
	})
}

func FuzzRead(f *testing.F) {
	private, trusted := keyPair(1)
	f.Add(packed(f, private))
	f.Add(packed(f, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Read(bytes.NewReader(data), trusted)
		if err == nil && (b.Manifest.Module != "hello" || string(b.Content("objects/hello.ko.xz")) != "object") {
			t.Errorf("%+v was never signed", b.Manifest)
		}
	})
}
