// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

func TestServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"hub.example.org", "192.0.2.1"}
	first, err := a.Server(names)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := os.ReadFile(a.CertFile())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pinned)
	for _, name := range names {
		if _, err := first.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	again, err := a.Server(names)
	if err != nil || !again.Leaf.Equal(first.Leaf) {
		t.Errorf("another certificate for the same names, %v", err)
	}
	more, err := a.Server([]string{"other.example.org"})
	if err != nil || more.Leaf.VerifyHostname("other.example.org") != nil {
		t.Errorf("a new name: %v", err)
	}
	if now, _ := os.ReadFile(a.CertFile()); !bytes.Equal(now, pinned) {
		t.Error("the authority has changed")
	}
	for _, name := range []string{"ca.pem", "server.pem"} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
}

// TestHalf has one of both files only: a lost key is no new authority, a lost
// certificate is written again.
func TestHalf(t *testing.T) {
	dir := t.TempDir()
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := os.ReadFile(a.CertFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(a.CertFile()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err != nil {
		t.Error(err)
	}
	if now, _ := os.ReadFile(a.CertFile()); !bytes.Equal(now, pinned) {
		t.Error("the authority has changed")
	}
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("without the key: no error")
	}
}
