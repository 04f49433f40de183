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
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"dkms-go/internal/durable"
)

const (
	keyBits      = 2048 // what every shim and firmware takes
	validDays    = 36500
	maxKeyFile   = 1 << 20 // bytes
	subject      = "DKMS module signing key"
	pemPKCS8     = "PRIVATE KEY"
	pemPKCS1     = "RSA PRIVATE KEY"
	pemEC        = "EC PRIVATE KEY"
	pemEncrypted = "ENCRYPTED PRIVATE KEY"
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
	if err := place(key, pem.EncodeToMemory(&pem.Block{Type: pemPKCS8, Bytes: encoded}), 0o600); err != nil {
		return err
	}
	return place(cert, der, 0o644)
}

// certify makes a certificate for an existing key.
func certify(key, cert string) error {
	private, err := readKey(key)
	if err != nil {
		return fmt.Errorf("reading the key %s: %w", key, err)
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

// readKey reads the first private key of a PEM file, which must not need a
// passphrase.
func readKey(path string) (crypto.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, err
	}
	return parseKey(data)
}

func parseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == pemEncrypted || block.Headers["DEK-Info"] != "" {
			return nil, errors.New("the key needs a passphrase")
		}
		var key any
		var err error
		switch block.Type {
		case pemPKCS8:
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case pemPKCS1:
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case pemEC:
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	return nil, errors.New("no private key in PEM form that can sign")
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
