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

// Open returns the authority whose ca.crt and ca.key are in dir, and makes them if
// neither is there: hosts pin the certificate, so a lost one is never replaced unasked.
func Open(dir string) (*Authority, error) {
	a := &Authority{dir: dir}
	certPEM, err := os.ReadFile(a.CertFile())
	keyPEM, err2 := os.ReadFile(a.path("ca.key"))
	if errors.Is(err, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist) {
		return a, a.create()
	}
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("reading the certificate authority: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate authority in %s: %w", dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is not the certificate of an authority with an ECDSA key", a.CertFile())
	}
	a.cert, a.key = pair.Leaf, key
	return a, nil
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
	return a.save("ca", der, key)
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

// save writes NAME.key and then NAME.crt.
func (a *Authority) save(name string, der []byte, key *ecdsa.PrivateKey) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	if err := durable.Replace(a.path(name+".key"), keyPEM, 0o600); err != nil {
		return err
	}
	return durable.Replace(a.path(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// Server returns a certificate for the names and addresses of the hub: the one in
// server.crt while that has them all and is valid for long enough, or a new one.
func (a *Authority) Server(names []string) (tls.Certificate, error) {
	if pair, err := tls.LoadX509KeyPair(a.path("server.crt"), a.path("server.key")); err == nil && a.serves(pair.Leaf, names) {
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
	return tls.LoadX509KeyPair(a.path("server.crt"), a.path("server.key"))
}

func (a *Authority) serves(leaf *x509.Certificate, names []string) bool {
	return leaf.CheckSignatureFrom(a.cert) == nil && time.Until(leaf.NotAfter) > renewDays*24*time.Hour &&
		!slices.ContainsFunc(names, func(name string) bool { return leaf.VerifyHostname(name) != nil })
}
