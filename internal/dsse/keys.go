// SPDX-License-Identifier: Apache-2.0

package dsse

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/durable"
	"dkms-go/internal/untrusted"
)

// maxKey bounds a key's file, in bytes.
const maxKey = 64 << 10

// Generate makes a key: its private part in the file path (PKCS #8 in PEM, as
// `openssl genpkey -algorithm ed25519`), which only its owner may read, and its public
// part in path.pub. The error wraps fs.ErrExist if one of the files is there.
func Generate(path string) (ed25519.PublicKey, error) {
	for _, p := range []string{path, path + ".pub"} {
		if _, err := os.Lstat(p); err == nil {
			return nil, fmt.Errorf("making a key: %s: %w", p, fs.ErrExist)
		}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	err = durable.Replace(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
	if err == nil {
		err = publish(path, public)
	}
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return public, nil
}

// Publish writes the public part of the key in the file path to path.pub.
func Publish(path string) error {
	private, err := LoadPrivate(path)
	if err != nil {
		return err
	}
	return publish(path, private.Public().(ed25519.PublicKey))
}

func publish(path string, public ed25519.PublicKey) error {
	open, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	return durable.Replace(path+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: open}), 0o644)
}

// LoadPrivate reads the private part of a key. A file that others may read is refused.
func LoadPrivate(path string) (ed25519.PrivateKey, error) {
	if fi, err := os.Stat(path); err == nil && fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading the key %s: others may read it: chmod 600 %s", path, path)
	}
	block, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, fmt.Errorf("reading the key %s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading the key %s: it is no ed25519 key", path)
	}
	return private, nil
}

// LoadPublic reads the public part of a key.
func LoadPublic(path string) (Key, error) {
	block, err := readPEM(path, "PUBLIC KEY")
	if err != nil {
		return Key{}, err
	}
	key, err := x509.ParsePKIXPublicKey(block)
	if err != nil {
		return Key{}, fmt.Errorf("reading the key %s: %w", path, err)
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return Key{}, fmt.Errorf("reading the key %s: it is no ed25519 key", path)
	}
	return Key{Name: path, Public: public}, nil
}

// LoadDir reads all keys *.pub of a directory, which need not exist. One that can't be
// read is an error: nobody would notice that it is passed over.
func LoadDir(dir string) ([]Key, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the trusted keys: %w", err)
	}
	var keys []Key
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".pub") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		key, err := LoadPublic(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readPEM reads the one block of a file.
func readPEM(path, kind string) ([]byte, error) {
	text, err := untrusted.ReadLinked(path, maxKey)
	if err != nil {
		return nil, fmt.Errorf("reading the key %s: %w", path, err)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != kind || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("reading the key %s: it isn't one block %q in PEM", path, kind)
	}
	return block.Bytes, nil
}
