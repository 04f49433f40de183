// SPDX-License-Identifier: Apache-2.0

// Package sign holds the signatures that dkms makes against those of the kernel's
// sign-file, of openssl and of modinfo, and makes keys for tests of signing.
package sign

import (
	"os"
	"path/filepath"
	"testing"

	"dkms-go/test/lab"
)

// Pair is a private key in PEM form, a certificate in DER form.
type Pair struct{ Key, Cert string }

// RSA and EC are arguments for openssl genpkey.
func RSA(bits string) []string {
	return []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:" + bits}
}

// EC names a curve: P-256, P-384.
func EC(curve string) []string {
	return []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:" + curve}
}

// SelfSigned makes a key with a certificate of its own in a directory.
func SelfSigned(tb testing.TB, dir, name string, args []string) Pair {
	tb.Helper()
	p := Pair{filepath.Join(dir, name+".key"), filepath.Join(dir, name+".der")}
	lab.MustExec(tb, "openssl", append([]string{"genpkey", "-out", p.Key}, args...)...)
	lab.MustExec(tb, "openssl", "req", "-x509", "-key", p.Key, "-outform", "DER", "-out", p.Cert, "-days", "999", "-subj", "/O=test/CN="+name)
	return p
}

// Authority makes, as docs/signing.md tells, a certificate authority, and a key
// whose certificate it has issued.
func Authority(tb testing.TB, dir, name string) (ca, leaf Pair) {
	tb.Helper()
	ca = Pair{filepath.Join(dir, name+"-ca.key"), filepath.Join(dir, name+"-ca.der")}
	leaf = Pair{filepath.Join(dir, name+"-leaf.key"), filepath.Join(dir, name+"-leaf.der")}
	lab.MustExec(tb, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca.Key, "-outform", "DER", "-out", ca.Cert, "-days", "9999", "-subj", "/CN="+name+" authority",
		"-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
	request, extensions := filepath.Join(dir, name+".csr"), filepath.Join(dir, name+".ext")
	lab.MustExec(tb, "openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", leaf.Key, "-out", request, "-subj", "/CN="+name+" signer")
	const text = "basicConstraints=critical,CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=codeSigning\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
	if err := os.WriteFile(extensions, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
	lab.MustExec(tb, "openssl", "x509", "-req", "-in", request, "-CA", ca.Cert, "-CAkey", ca.Key, "-CAcreateserial", "-days", "365", "-extfile", extensions, "-outform", "DER", "-out", leaf.Cert)
	return ca, leaf
}
