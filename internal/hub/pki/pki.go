// SPDX-License-Identifier: Apache-2.0

// Package pki is a hub's own certificate authority, by which hosts know it.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dkms-go/internal/durable"
)

const (
	authorityYears = 20
	serverDays     = 397 // what browsers accept (CA/Browser Forum baseline requirements, 6.3.2)
	renewDays      = 60
)

// Authority signs the certificates of one hub.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Open returns the authority whose key and certificate are in dir/ca.pem, and makes
// them if there is nothing of it. Hosts pin the certificate, so one that is lost, but
// in ca.crt, is not replaced.
func Open(dir string) (*Authority, error) {
	a := &Authority{dir: dir}
	text, err := os.ReadFile(a.path("ca.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, lost := os.Stat(a.CertFile()); errors.Is(lost, fs.ErrNotExist) {
			return a, a.create()
		}
		return nil, fmt.Errorf("the key of the certificate authority is gone, and hosts know it: restore %s", a.path("ca.pem"))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the certificate authority: %w", err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate authority in %s: %w", dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is not of an authority with an ECDSA key", a.path("ca.pem"))
	}
	a.cert, a.key = pair.Leaf, key
	return a, a.publish()
}

// publish writes ca.crt.
func (a *Authority) publish() error {
	return durable.Replace(a.CertFile(), certificatePEM(a.cert.Raw), 0o644)
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// CertFile is the file that hosts get.
func (a *Authority) CertFile() string { return a.path("ca.crt") }

func (a *Authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *Authority) create() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "dkms-hub certificate authority"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
	}
	der, err := issue(template, template, key, key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.key = key
	if err := a.save("ca", der, key); err != nil {
		return err
	}
	return a.publish()
}

// issue signs a certificate, under a random serial number.
func issue(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
}

// save writes NAME.pem, with a key and its certificate.
func (a *Authority) save(name string, der []byte, key *ecdsa.PrivateKey) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	return durable.ReplaceParts(a.path(name+".pem"), [][]byte{keyPEM, certificatePEM(der)}, 0o600)
}

// Server returns a certificate for the names and addresses of the hub: the one in
// server.pem while that has them all and is valid for long enough, or a new one.
func (a *Authority) Server(names []string) (tls.Certificate, error) {
	if pair, err := tls.LoadX509KeyPair(a.path("server.pem"), a.path("server.pem")); err == nil && a.serves(pair.Leaf, names) {
		return pair, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "dkms-hub"},
		NotBefore:   now.Add(-time.Hour),
		NotAfter:    now.AddDate(0, 0, serverDays),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := issue(template, a.cert, key, a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := a.save("server", der, key); err != nil {
		return tls.Certificate{}, err
	}
	return tls.LoadX509KeyPair(a.path("server.pem"), a.path("server.pem"))
}

func (a *Authority) serves(leaf *x509.Certificate, names []string) bool {
	return leaf.CheckSignatureFrom(a.cert) == nil && time.Until(leaf.NotAfter) > renewDays*24*time.Hour &&
		!slices.ContainsFunc(names, func(name string) bool { return leaf.VerifyHostname(name) != nil })
}
