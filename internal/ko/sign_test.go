// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func testSigner(t testing.TB) *Signer {
	t.Helper()
	s, err := LoadSigner("testdata/key.pem", "testdata/cert.der", nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hashNames() []string {
	var out []string
	for _, h := range hashAlgorithms() {
		out = append(out, h.name)
	}
	return out
}

// TestSignGolden compares with files that the kernel's sign-file 6.1 signed.
func TestSignGolden(t *testing.T) {
	input := readFile(t, "testdata/input")
	for _, hash := range []string{"sha1", "sha256", "sha512", "sha3-256"} {
		got, err := Sign(input, testSigner(t), hash)
		if err != nil {
			t.Fatal(err)
		}
		if want := readFile(t, "testdata/signed."+hash); !bytes.Equal(got, want) {
			t.Errorf("%s: differs from sign-file:\n%x\nwant\n%x", hash, got, want)
		}
	}
}

// signFile finds the kernel's program on this machine, "" without one.
func signFile() string {
	if p := os.Getenv("DKMS_SIGN_FILE"); p != "" {
		return p
	}
	for _, pattern := range []string{
		"/usr/lib/linux-kbuild-*/scripts/sign-file",
		"/usr/src/linux-headers-*/scripts/sign-file",
		"/usr/src/kernels/*/scripts/sign-file",
		"/lib/modules/*/build/scripts/sign-file",
		"../../.lab/*/scripts/sign-file",
		"../../.lab/*/*/*/*/*/scripts/sign-file",
	} {
		if m, _ := filepath.Glob(pattern); len(m) > 0 {
			return m[0]
		}
	}
	return ""
}

// TestSignConfirm compares with sign-file where the machine has one;
// TestSignGolden and TestSignOpenSSL hold everywhere.
func TestSignConfirm(t *testing.T) {
	program := signFile()
	if program == "" {
		t.Log("no sign-file on this machine; DKMS_SIGN_FILE may name one")
		return
	}
	dir := t.TempDir()
	input := compile(t, moduleSource)
	signed := filepath.Join(dir, "signed")
	for _, hash := range hashNames() {
		for round, data := range [][]byte{readFile(t, input), readFile(t, "testdata/signed.sha256")} {
			in := filepath.Join(dir, "in")
			writeFile(t, in, data)
			run(t, program, hash, "testdata/key.pem", "testdata/cert.der", in, signed)
			got, err := Sign(data, testSigner(t), hash)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, readFile(t, signed)) {
				t.Errorf("%s, round %d: differs from %s", hash, round, program)
			}
		}
	}
}

// makeKey makes a key and a certificate with openssl.
func makeKey(t testing.TB, args ...string) (key, cert string) {
	t.Helper()
	dir := t.TempDir()
	key, cert = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	run(t, "openssl", append([]string{"genpkey", "-out", key}, args...)...)
	run(t, "openssl", "req", "-x509", "-key", key, "-passin", "pass:secret", "-out", cert, "-days", "9", "-subj", "/CN=made by test")
	return key, cert
}

// TestSignOpenSSL lets openssl verify our signatures.
func TestSignOpenSSL(t *testing.T) {
	keys := map[string][]string{
		"rsa": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		"ec":  {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
	}
	input := readFile(t, "testdata/input")
	for name, args := range keys {
		t.Run(name, func(t *testing.T) {
			key, cert := makeKey(t, args...)
			s, err := LoadSigner(key, cert, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, hash := range hashNames() {
				if name == "ec" && strings.HasPrefix(hash, "sha3") {
					continue // not every openssl knows the combination
				}
				signed, err := Sign(input, s, hash)
				if err != nil {
					t.Fatal(err)
				}
				opensslVerify(t, signed, cert)
				checkVerify(t, signed, s, hash)
			}
		})
	}
}

func opensslVerify(t *testing.T, signed []byte, cert string) {
	t.Helper()
	content, cms, _, _, err := splitSignature(signed)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in, sig := filepath.Join(dir, "in"), filepath.Join(dir, "sig")
	writeFile(t, in, content)
	writeFile(t, sig, cms)
	run(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", sig, "-content", in,
		"-certfile", cert, "-nointern", "-noverify", "-out", filepath.Join(dir, "out"))
}

func checkVerify(t *testing.T, signed []byte, s *Signer, hash string) {
	t.Helper()
	sig, ok, err := ParseSignature(signed)
	if err != nil || !ok {
		t.Fatalf("ParseSignature = %v, %v", ok, err)
	}
	if sig.Hash != hash || sig.Signer != s.Cert.Issuer.CommonName || sig.IDType != "PKCS#7" {
		t.Errorf("ParseSignature = %+v", sig)
	}
	content := Unsigned(signed)
	if err := sig.Verify(content, s.Cert); err != nil {
		t.Error(err)
	}
	changed := bytes.Clone(content)
	changed[3] ^= 1
	if err := sig.Verify(changed, s.Cert); !errors.Is(err, ErrSignature) {
		t.Errorf("Verify of changed content = %v", err)
	}
	if other := testSigner(t).Cert; !other.Equal(s.Cert) {
		if err := sig.Verify(content, other); !errors.Is(err, ErrSignature) {
			t.Errorf("Verify with another certificate = %v", err)
		}
	}
}

// TestVerifyForms reads messages of openssl in other forms the kernel takes.
func TestVerifyForms(t *testing.T) {
	s := testSigner(t)
	dir := t.TempDir()
	cert, out := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "out")
	run(t, "openssl", "x509", "-inform", "DER", "-in", "testdata/cert.der", "-out", cert)
	input := readFile(t, "testdata/input")
	for name, flags := range map[string][]string{
		"attributes":             {"-nocerts"},
		"key identifier":         {"-nocerts", "-noattr", "-keyid"},
		"certificate":            {"-noattr"},
		"attributes, identifier": {"-keyid"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "openssl", append([]string{"cms", "-sign", "-binary", "-md", "sha256", "-outform", "DER", "-in", "testdata/input",
				"-signer", cert, "-inkey", "testdata/key.pem", "-out", out}, flags...)...)
			cms := readFile(t, out)
			signed := append(bytes.Clone(input), cms...)
			signed = append(signed, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, byte(len(cms)>>8), byte(len(cms)))
			signed = append(signed, signatureMagic...)
			sig, ok, err := ParseSignature(signed)
			if !ok || err != nil {
				t.Fatalf("ParseSignature = %v, %v", ok, err)
			}
			if err := sig.Verify(Unsigned(signed), s.Cert); err != nil {
				t.Error(err)
			}
			if err := sig.Verify(input[1:], s.Cert); !errors.Is(err, ErrSignature) {
				t.Errorf("Verify of changed content = %v", err)
			}
		})
	}
}

func TestUnsigned(t *testing.T) {
	input := readFile(t, "testdata/input")
	once := readFile(t, "testdata/signed.sha256")
	twice, err := Sign(once, testSigner(t), "sha512")
	if err != nil {
		t.Fatal(err)
	}
	damaged := append(bytes.Repeat([]byte{0xff}, 20), signatureMagic...)
	for name, tt := range map[string]struct{ in, want []byte }{
		"none":    {input, input},
		"once":    {once, input},
		"twice":   {twice, input},
		"damaged": {damaged, damaged},
	} {
		if got := Unsigned(tt.in); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: Unsigned = %q", name, got)
		}
	}
	if _, ok, err := ParseSignature(damaged); !ok || err == nil {
		t.Errorf("ParseSignature of damaged data = %v, %v", ok, err)
	}
	if _, ok, err := ParseSignature(input); ok || err != nil {
		t.Errorf("ParseSignature of unsigned data = %v, %v", ok, err)
	}
}

func TestParseLegacySignature(t *testing.T) {
	data := "content" + "Some Signer" + "\x01\xab" + "bits" +
		"\x01\x04\x01\x0b\x02\x00\x00\x00\x00\x00\x00\x04" + signatureMagic
	s, ok, err := ParseSignature([]byte(data))
	if !ok || err != nil {
		t.Fatalf("ParseSignature = %v, %v", ok, err)
	}
	if s.Signer != "Some Signer" || s.KeyID != "01:AB" || s.Hash != "sha256" || s.IDType != "X509" {
		t.Errorf("ParseSignature = %+v", s)
	}
	if err := s.Verify([]byte("content"), testSigner(t).Cert); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Verify = %v", err)
	}
}

// TestLoadSigner reads every key format openssl writes.
func TestLoadSigner(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	_, other := makeKey(t, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	ecKey, ecCert := makeKey(t, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	edKey, edCert := makeKey(t, "-algorithm", "ED25519")
	const key, cert = "testdata/key.pem", "testdata/cert.der"
	run(t, "openssl", "pkey", "-in", key, "-traditional", "-out", file("pkcs1"))
	run(t, "openssl", "pkey", "-in", ecKey, "-traditional", "-out", file("sec1"))
	run(t, "openssl", "pkcs8", "-topk8", "-in", key, "-passout", "pass:secret", "-out", file("pbes2"))
	run(t, "openssl", "pkcs8", "-topk8", "-in", key, "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1", "-passout", "pass:secret", "-out", file("old"))
	run(t, "openssl", "pkcs8", "-topk8", "-in", key, "-v2", "aria-128-cbc", "-passout", "pass:secret", "-out", file("aria"))
	run(t, "openssl", "pkey", "-in", key, "-traditional", "-aes256", "-passout", "pass:secret", "-out", file("dek"))
	writeFile(t, file("both"), append(readFile(t, ecCert), readFile(t, ecKey)...))
	writeFile(t, file("text"), []byte("no key"))
	tests := []struct {
		name, key, cert, passphrase string
		want                        error
		text                        string
	}{
		{"pkcs8", key, cert, "", nil, ""},
		{"pkcs1", file("pkcs1"), cert, "", nil, ""},
		{"sec1", file("sec1"), ecCert, "", nil, ""},
		{"one file", file("both"), file("both"), "", nil, ""},
		{"encrypted", file("pbes2"), cert, "secret", nil, ""},
		{"encrypted, old hash", file("old"), cert, "secret", nil, ""},
		{"wrong passphrase", file("pbes2"), cert, "wrong", ErrPassphrase, ""},
		{"no passphrase", file("pbes2"), cert, "", ErrPassphrase, ""},
		{"other cipher", file("aria"), cert, "secret", ErrUnsupported, ""},
		{"traditional encryption, no passphrase", file("dek"), cert, "", ErrPassphrase, ""},
		{"traditional encryption", file("dek"), cert, "secret", ErrUnsupported, ""},
		{"token", "pkcs11:object=mok", cert, "", ErrUnsupported, ""},
		{"mismatch", ecKey, other, "", nil, "does not belong to"},
		{"mismatch of type", key, other, "", nil, "does not belong to"},
		{"no key", file("text"), cert, "", nil, "no PEM private key"},
		{"no certificate", key, file("text"), "", nil, "neither DER nor PEM"},
		{"missing key", file("missing"), cert, "", os.ErrNotExist, ""},
		{"missing certificate", key, file("missing"), "", os.ErrNotExist, ""},
		{"key as certificate", key, key, "", nil, "neither DER nor PEM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := LoadSigner(tt.key, tt.cert, []byte(tt.passphrase))
			switch {
			case tt.want != nil && !errors.Is(err, tt.want):
				t.Errorf("LoadSigner = %v, want %v", err, tt.want)
			case tt.text != "" && (err == nil || !strings.Contains(err.Error(), tt.text)):
				t.Errorf("LoadSigner = %v, want %q", err, tt.text)
			case tt.want == nil && tt.text == "" && (err != nil || s.Key == nil):
				t.Errorf("LoadSigner = %v", err)
			}
		})
	}
	ed, err := LoadSigner(edKey, edCert, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(nil, ed, "sha512"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Sign with Ed25519 = %v", err)
	}
	if _, err := Sign(nil, testSigner(t), "md5"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Sign with md5 = %v", err)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"), []byte("x"))
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), []byte(nil))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128-CBC,00\n\nMAA=\n-----END RSA PRIVATE KEY-----\n"), []byte("x"))
	f.Fuzz(func(t *testing.T, data, passphrase []byte) {
		if key, err := parseKey(data, passphrase); (key == nil) == (err == nil) {
			t.Errorf("parseKey(%q) = %v, %v", data, key, err)
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	f.Add(readFile(f, "testdata/signed.sha256"))
	f.Add([]byte(signatureMagic))
	cert := testSigner(f).Cert
	f.Fuzz(func(t *testing.T, data []byte) {
		content := Unsigned(data)
		if !bytes.HasPrefix(data, content) {
			t.Fatal("Unsigned is no prefix")
		}
		if s, _, err := ParseSignature(data); err == nil && s != nil {
			_ = s.Verify(content, cert)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	s, input := testSigner(b), readFile(b, "testdata/input")
	for b.Loop() {
		if _, err := Sign(input, s, "sha512"); err != nil {
			b.Fatal(err)
		}
	}
}

// What is no file is refused as a key, and not waited for.
func TestLoadKeyFromPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path, nil); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("error %v", err)
	}
}
