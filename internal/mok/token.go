// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"dkms-go/internal/ko"
	"dkms-go/internal/run"
)

// tokenTime bounds one operation of a token, which may be far away.
const tokenTime = time.Minute

// token is a private key behind a PKCS #11 URI (RFC 7512). The module of a token
// is a shared library, which this program, being static, can't load: openssl(1)
// does it, by its engine or its provider for PKCS #11. It never asks for a PIN.
type token struct {
	uri string
	pin []byte
	// args tell openssl where keys come from, form that the key is one of those.
	args, form []string
	env        []string
	temp       string
	public     crypto.PublicKey
	ctx        context.Context
	mu         *sync.Mutex // one operation at a time
}

// tokenSigner finds the key and holds it against the certificate. Without
// openssl it is ErrUnsupported: the kernel's sign-file may do.
func (r Request) tokenSigner(ctx context.Context, key, certPath string, pin []byte) (*ko.Signer, error) {
	cert, err := ko.LoadCertificate(certPath)
	if err != nil {
		return nil, err
	}
	if _, err := r.LookPath("openssl"); err != nil {
		return nil, fmt.Errorf("the key %s needs openssl: %w", key, ko.ErrUnsupported)
	}
	t := &token{env: r.Environ, temp: r.Paths.Temp, public: cert.PublicKey, ctx: ctx, mu: &sync.Mutex{}}
	t.uri, t.pin = splitPIN(key)
	if t.pin == nil {
		t.pin = pin
	}
	public, err := t.find()
	if err != nil {
		return nil, fmt.Errorf("finding the key %s: %w", t.uri, err)
	}
	if !ko.Pair(public, cert) {
		return nil, fmt.Errorf("signing key %s does not belong to certificate %s", t.uri, certPath)
	}
	return &ko.Signer{Key: t, Cert: cert}, nil
}

// find reads the key's public half, first with the engine, of which openssl up
// to 3 knows, then with the provider.
func (t *token) find() (crypto.PublicKey, error) {
	var out []byte
	for _, way := range []struct{ args, form, in []string }{
		{[]string{"-engine", "pkcs11"}, []string{"-keyform", "engine"}, []string{"-inform", "engine"}},
		{[]string{"-provider", "default", "-provider", "pkcs11"}, nil, nil},
	} {
		t.args, t.form = way.args, way.form
		var err error
		out, err = t.openssl("pkey", append(way.in, "-in", t.uri, "-pubout"))
		var exit *run.ExitError
		if errors.As(err, &exit) && !strings.Contains(string(exit.Stderr), `"pkcs11" set`) && way.form != nil {
			continue // there is no engine
		}
		if err != nil {
			return nil, err
		}
		break
	}
	block, _ := pem.Decode(out)
	if block == nil {
		return nil, errors.New("openssl printed no public key")
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}

// openssl runs one of its commands with the key's options before the others.
func (t *token) openssl(command string, args []string) ([]byte, error) {
	argv := append([]string{"openssl", command}, t.args...)
	environ := t.env
	if len(t.pin) > 0 {
		argv = append(argv, "-passin", "env:"+PassphraseEnv)
		environ = append(environ[:len(environ):len(environ)], PassphraseEnv+"="+string(t.pin))
	}
	out, err := run.Cmd{Argv: append(argv, args...), Env: environ, Session: true, Timeout: tokenTime}.Output(t.ctx)
	var exit *run.ExitError
	if errors.As(err, &exit) {
		return nil, &tokenError{exit, plainWords(string(exit.Stderr))}
	}
	return out, err
}

// tokenError is what openssl said in place of a line of its own.
type tokenError struct {
	exit  *run.ExitError
	words string
}

func (e *tokenError) Error() string { return e.words }
func (e *tokenError) Unwrap() error { return e.exit }

// plainWords makes one line of what openssl says: the lines for people, and the
// reasons in those for programmers.
func plainWords(text string) string {
	var words []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if _, rest, ok := strings.Cut(line, ":error:"); ok {
			if fields := strings.Split(rest, ":"); len(fields) > 3 {
				line = fields[3]
			}
		}
		if line != "" && !strings.Contains(line, `"pkcs11" set`) && len(words) < 6 {
			words = append(words, line)
		}
	}
	if len(words) == 0 {
		return "openssl failed and said nothing"
	}
	return strings.Join(words, "; ")
}

// Public returns the key of the certificate, to which find has held the token's.
func (t *token) Public() crypto.PublicKey { return t.public }

// Sign makes a PKCS #1 1.5 or ECDSA signature of a digest (crypto.Signer), and
// checks it.
func (t *token) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, err := os.CreateTemp(t.temp, "dkms-digest-*") // the input of openssl is where it would read a PIN
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", t.uri, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(digest)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("signing with %s: %w", t.uri, err)
	}
	args := append([]string{"-sign"}, t.form...)
	hash := strings.Replace(strings.ToLower(opts.HashFunc().String()), "sha-", "sha", 1)
	signature, err := t.openssl("pkeyutl", append(args, "-inkey", t.uri, "-in", f.Name(), "-pkeyopt", "digest:"+hash))
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", t.uri, err)
	}
	good := false
	switch key := t.public.(type) {
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(key, opts.HashFunc(), digest, signature) == nil
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(key, digest, signature)
	}
	if !good {
		return nil, fmt.Errorf("signing with %s: %w", t.uri, ko.ErrSignature)
	}
	return signature, nil
}

// WithoutPINs returns an environment without PassphraseEnv, and without the PINs in
// URIs of tokens, whatever variable they are in.
func WithoutPINs(environ []string) []string {
	var clean []string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		switch without, pin := splitPIN(value); {
		case name == PassphraseEnv:
		case pin != nil:
			clean = append(clean, name+"="+without)
		default:
			clean = append(clean, kv)
		}
	}
	return clean
}

// splitPIN takes the PIN out of a URI (RFC 7512, pin-value), so that it is in no
// command line and no message. Others than "pkcs11:" URIs are returned as they are.
func splitPIN(uri string) (without string, pin []byte) {
	const attribute = "pin-value="
	if !onToken(uri) {
		return uri, nil
	}
	path, query, _ := strings.Cut(uri, "?")
	keep := func(text, separator string) string {
		var parts []string
		for part := range strings.SplitSeq(text, separator) {
			value, ok := strings.CutPrefix(part, attribute)
			if !ok {
				parts = append(parts, part)
				continue
			}
			if plain, err := url.PathUnescape(value); err == nil {
				value = plain
			}
			pin = []byte(value)
		}
		return strings.Join(parts, separator)
	}
	scheme, rest, _ := strings.Cut(path, ":")
	without = scheme + ":" + keep(rest, ";")
	if query = keep(query, "&"); query != "" {
		without += "?" + query
	}
	return without, pin
}
