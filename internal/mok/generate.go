// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"time"

	"dkms-go/internal/durable"
	"dkms-go/internal/ko"
)

const (
	keyBits   = 2048 // what every shim and firmware takes
	validDays = 36500
	subject   = "DKMS module signing key"
)

// generate makes an RSA key, a PEM file of mode 0600 without a passphrase, and
// its certificate. Neither file may exist. Both are complete on disk or not
// there at all; a kill between them leaves a key that only needs a certificate.
func generate(key, cert string) error {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	der, err := selfSign(private)
	if err != nil {
		return err
	}
	if err := place(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600); err != nil {
		return err
	}
	return place(cert, der, 0o644)
}

// selfCertify makes a certificate for an existing key.
func (r Request) selfCertify(key, cert string) error {
	passphrase, err := r.passphrase()
	if err != nil {
		return err
	}
	private, err := ko.LoadKey(key, passphrase)
	if err != nil {
		return err
	}
	der, err := selfSign(private)
	if err != nil {
		return err
	}
	return place(cert, der, 0o644)
}

// selfSign returns a DER certificate for code signing that isn't an authority
// (kernel source, Documentation/admin-guide/module-signing.rst).
func selfSign(key crypto.Signer) ([]byte, error) {
	id, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: subject},
		NotBefore:             now,
		NotAfter:              now.AddDate(0, 0, validDays),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
		SubjectKeyId:          id,
		AuthorityKeyId:        id,
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// keyID returns the SHA-1 of a public key's bits (RFC 5280, 4.2.1.2, method 1).
func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, err
	}
	sum := sha1.Sum(info.Key.Bytes)
	return sum[:], nil
}

// place writes a new file: aside, synced, then linked to its name, which fails
// if anything has that name by then.
func place(path string, data []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".mok-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return durable.Sync(dir)
}
