// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// openssl runs the tool and returns what it prints.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// samePair checks with openssl that key and cert belong together.
func samePair(t *testing.T, key, cert string) {
	t.Helper()
	if openssl(t, "pkey", "-in", key, "-pubout") != openssl(t, "x509", "-inform", "DER", "-in", cert, "-noout", "-pubkey") {
		t.Errorf("%s isn't the certificate of %s", cert, key)
	}
}

func TestGenerateLikeOpenssl(t *testing.T) {
	dir := t.TempDir()
	key, cert := dir+"/mok.key", dir+"/mok.pub"
	if err := generate(key, cert); err != nil {
		t.Fatal(err)
	}
	samePair(t, key, cert)
	text := openssl(t, "x509", "-inform", "DER", "-in", cert, "-noout", "-text")
	for _, want := range []string{
		"Version: 3", "Issuer: CN = DKMS module signing key", "Subject: CN = DKMS module signing key", "Public-Key: (2048 bit)",
		"sha256WithRSAEncryption", "Extended Key Usage: \n                Code Signing", "CA:FALSE", "Digital Signature", "Subject Key Identifier", "Authority Key Identifier",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the certificate lacks %q:\n%s", want, text)
		}
	}
	// The identifier is the one that openssl computes.
	openssl(t, "req", "-new", "-x509", "-key", key, "-subj", "/CN=x", "-outform", "DER", "-out", dir+"/other")
	if a, b := parse(t, cert), parse(t, dir+"/other"); string(a.SubjectKeyId) != string(b.SubjectKeyId) {
		t.Errorf("subject key id %x, openssl has %x", a.SubjectKeyId, b.SubjectKeyId)
	}
	c := parse(t, cert)
	if days := c.NotAfter.Sub(c.NotBefore) / (24 * time.Hour); days != validDays {
		t.Errorf("valid for %d days", days)
	}
	for path, want := range map[string]os.FileMode{key: 0o600, cert: 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func parse(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	der, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A key without a certificate gets one only when that is asked for.
func TestCertifyExistingKeys(t *testing.T) {
	for name, args := range map[string]string{
		"PKCS#8": "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out KEY",
		"PKCS#1": "genrsa -traditional -out KEY 2048",
		"EC":     "ecparam -name prime256v1 -genkey -out KEY", // parameters come first
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			key := m.dir + "/dkms/mok.key"
			openssl(t, strings.Fields(strings.ReplaceAll(args, "KEY", key))...)
			before := m.read("dkms/mok.key")
			m.unsigned("the key dkms/mok.key has no certificate dkms/mok.pub")
			m.said = nil
			if err := GenerateMOK(t.Context(), m.Request, m.say); err != nil || m.read("dkms/mok.key") != before {
				t.Fatalf("GenerateMOK = %v, said %q", err, m.said)
			}
			m.wantSaid(signingKey, publicCert, "Making a new certificate for the existing key...")
			samePair(t, key, m.dir+"/dkms/mok.pub")
		})
	}
}

func TestPlaceNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := place(path, []byte("new"), 0o600); err == nil {
		t.Error("place had no error")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "old" {
		t.Errorf("the file has %q, %v", data, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
