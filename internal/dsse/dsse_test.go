// SPDX-License-Identifier: Apache-2.0

package dsse

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const kind = "application/vnd.test+json"

func key(t testing.TB, seed byte) (ed25519.PrivateKey, Key) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return private, Key{Name: "key", Public: private.Public().(ed25519.PublicKey)}
}

// TestPreAuth is the example of the protocol's text (dsse/protocol.md, "Test Vectors").
func TestPreAuth(t *testing.T) {
	got := string(preAuth("http://example.com/HelloWorld", []byte("hello world")))
	if want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVerify(t *testing.T) {
	private, mine := key(t, 1)
	_, other := key(t, 2)
	text := []byte(`{"a":1}`)
	good, err := Sign(kind, text, private)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := Sign(kind, text, private); !bytes.Equal(good, again) {
		t.Error("two signatures differ")
	}
	payload, by, err := Verify(good, kind, []Key{other, mine})
	if err != nil || !bytes.Equal(payload, text) || !by.Public.Equal(mine.Public) {
		t.Errorf("%q %v %v", payload, by, err)
	}
	changed := strings.Replace(string(good), base64.StdEncoding.EncodeToString(text), base64.StdEncoding.EncodeToString([]byte(`{"a":2}`)), 1)
	for name, c := range map[string]struct {
		envelope string
		kind     string
		trusted  []Key
		want     error
	}{
		"no key":        {string(good), kind, nil, ErrUnknownKey},
		"another key":   {string(good), kind, []Key{other}, ErrUnknownKey},
		"other payload": {changed, kind, []Key{mine}, ErrSignature},
		"another type":  {string(good), "text/plain", []Key{mine}, ErrFormat},
		"unknown field": {strings.Replace(string(good), "{", `{"x":1,`, 1), kind, []Key{mine}, ErrFormat},
		"two values":    {string(good) + "{}", kind, []Key{mine}, ErrFormat},
		"no signature":  {`{"payloadType":"` + kind + `","payload":"","signatures":[]}`, kind, []Key{mine}, ErrFormat},
		"bad base64":    {`{"payloadType":"` + kind + `","payload":"!","signatures":[{"keyid":"","sig":""}]}`, kind, []Key{mine}, ErrFormat},
		"empty":         {"", kind, []Key{mine}, ErrFormat},
		"too large":     {strings.Repeat(" ", MaxEnvelope+1), kind, []Key{mine}, ErrFormat},
	} {
		payload, _, err := Verify([]byte(c.envelope), c.kind, c.trusted)
		if !errors.Is(err, c.want) || payload != nil {
			t.Errorf("%s: %q, %v", name, payload, err)
		}
	}
}

// TestKeys has openssl read our keys, and us read its.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "k")
	public, err := Generate(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Generate(file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second key: %v", err)
	}
	loaded, err := LoadPublic(file + ".pub")
	if err != nil || !loaded.Public.Equal(public) {
		t.Errorf("%v %v", loaded, err)
	}
	private, err := LoadPrivate(file)
	if err != nil || !private.Public().(ed25519.PublicKey).Equal(public) {
		t.Errorf("%v", err)
	}
	openssl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("openssl", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	ours, _ := os.ReadFile(file + ".pub")
	if got := openssl("pkey", "-in", file, "-pubout"); got != string(ours) {
		t.Errorf("openssl has the public key\n%s, we\n%s", got, ours)
	}
	theirs := filepath.Join(dir, "theirs")
	openssl("genpkey", "-algorithm", "ed25519", "-out", theirs)
	openssl("pkey", "-in", theirs, "-pubout", "-out", theirs+".pub")
	os.Chmod(theirs, 0o600)
	if _, err := LoadPrivate(theirs); err != nil {
		t.Error(err)
	}
	os.Chmod(theirs, 0o644)
	if _, err := LoadPrivate(theirs); err == nil || !strings.Contains(err.Error(), "others may read it") {
		t.Errorf("a key that others may read: %v", err)
	}
	if keys, err := LoadDir(dir); err != nil || len(keys) != 2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if keys, err := LoadDir(filepath.Join(dir, "none")); err != nil || keys != nil {
		t.Errorf("%v %v", keys, err)
	}
	openssl("genpkey", "-algorithm", "rsa", "-out", filepath.Join(dir, "rsa"))
	openssl("pkey", "-in", filepath.Join(dir, "rsa"), "-pubout", "-out", filepath.Join(dir, "rsa.pub"))
	if _, err := LoadDir(dir); err == nil || !strings.Contains(err.Error(), "no ed25519 key") {
		t.Errorf("an RSA key: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	private, mine := key(f, 1)
	good, _ := Sign(kind, []byte("text"), private)
	f.Add(good)
	f.Add([]byte(`{"payloadType":"","payload":"","signatures":[{"keyid":"","sig":""}]}`))
	f.Fuzz(func(t *testing.T, envelope []byte) {
		payload, _, err := Verify(envelope, kind, []Key{mine})
		if err == nil && string(payload) != "text" { // only that was ever signed
			t.Errorf("%q counts as signed: %q", payload, envelope)
		}
		if err != nil && payload != nil {
			t.Error("a payload in spite of ", err)
		}
	})
}
