// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// ErrPassphrase says that a private key is encrypted and the passphrase is
// missing or wrong.
var ErrPassphrase = errors.New("missing or wrong passphrase")

// maxKeyFile bounds key and certificate files, in bytes.
const maxKeyFile = 1 << 20

// LoadSigner reads a private key in PEM (PKCS#8, encrypted with PBES2 or not,
// PKCS#1 or SEC 1) and its certificate in DER or PEM. The passphrase is only
// used for encrypted keys. A key that does not belong to the certificate is an
// error; a PKCS#11 URI and key formats of other kinds give ErrUnsupported.
func LoadSigner(keyPath, certPath string, passphrase []byte) (*Signer, error) {
	if strings.HasPrefix(keyPath, "pkcs11:") {
		return nil, unsupported("signing key %q", keyPath)
	}
	key, err := LoadKey(keyPath, passphrase)
	if err != nil {
		return nil, err
	}
	cert, err := LoadCertificate(certPath)
	if err != nil {
		return nil, err
	}
	if !Pair(key.Public(), cert) {
		return nil, fmt.Errorf("signing key %s does not belong to certificate %s", keyPath, certPath)
	}
	return &Signer{Key: key, Cert: cert}, nil
}

// Pair reports whether a certificate is that of a public key.
func Pair(public crypto.PublicKey, cert *x509.Certificate) bool {
	p, ok := public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && p.Equal(cert.PublicKey)
}

// LoadKey reads the private key of LoadSigner.
func LoadKey(path string, passphrase []byte) (crypto.Signer, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading signing key: %w", err)
	}
	key, err := parseKey(data, passphrase)
	if err != nil {
		return nil, fmt.Errorf("reading signing key %s: %w", path, err)
	}
	return key, nil
}

// LoadCertificate reads an X.509 certificate in DER or PEM.
func LoadCertificate(path string) (*x509.Certificate, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading certificate: %w", err)
	}
	if !bytes.HasPrefix(data, []byte{0x30}) {
		block := findPEM(data, "CERTIFICATE")
		if block == nil {
			return nil, fmt.Errorf("reading certificate %s: neither DER nor PEM", path)
		}
		data = block.Bytes
	}
	cert, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("reading certificate %s: %w", path, err)
	}
	return cert, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return nil, err
	} else if fi.Mode()&(os.ModeNamedPipe|os.ModeSocket|os.ModeCharDevice) != 0 {
		return nil, fmt.Errorf("reading %s: it is no file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("reading %s: larger than %d bytes", path, maxKeyFile)
	}
	return data, nil
}

// Passphrase reads the first line of a file, which nobody but its owner may
// read.
func Passphrase(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s may be read by others than its owner (mode %#o)", path, info.Mode().Perm())
	}
	var data []byte
	if err == nil {
		data, err = readKeyFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// findPEM returns the first block whose type ends in kind.
func findPEM(data []byte, kind string) *pem.Block {
	for {
		block, rest := pem.Decode(data)
		if block == nil || strings.HasSuffix(block.Type, kind) {
			return block
		}
		data = rest
	}
}

func parseKey(data, passphrase []byte) (crypto.Signer, error) {
	block := findPEM(data, "PRIVATE KEY")
	if block == nil {
		return nil, errors.New("no PEM private key")
	}
	if block.Headers["DEK-Info"] != "" {
		if len(passphrase) == 0 {
			return nil, ErrPassphrase
		}
		return nil, unsupported("traditional PEM encryption (convert it with openssl pkcs8 -topk8)")
	}
	der := block.Bytes
	switch block.Type {
	case "RSA PRIVATE KEY":
		return asSigner(x509.ParsePKCS1PrivateKey(der))
	case "EC PRIVATE KEY":
		return asSigner(x509.ParseECPrivateKey(der))
	case "PRIVATE KEY":
		return asSigner(x509.ParsePKCS8PrivateKey(der))
	case "ENCRYPTED PRIVATE KEY":
		plain, err := decryptPKCS8(der, passphrase)
		if err != nil {
			return nil, err
		}
		key, err := asSigner(x509.ParsePKCS8PrivateKey(plain))
		if err != nil {
			return nil, ErrPassphrase // one padding in 256 passes by chance
		}
		return key, nil
	}
	return nil, unsupported("key format %q", block.Type)
}

// asSigner narrows the result of a key parser.
func asSigner[T any](key T, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, err
	}
	s, ok := any(key).(crypto.Signer)
	if !ok {
		return nil, unsupported("key type %T", key)
	}
	return s, nil
}
