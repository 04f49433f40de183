// SPDX-License-Identifier: Apache-2.0

package prebuilt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"dkms-go/internal/dsse"
	"dkms-go/internal/fingerprint"
	"dkms-go/internal/state"
)

// ErrNone is that of a source that was asked, and has no prebuilt for the key.
var ErrNone = errors.New("it has none")

// Source is a place that has prebuilts.
type Source interface {
	// Fetch returns the bundle that is asked for, once a trusted key has signed it. One
	// request tells whether there is one; the error wraps ErrNone if not.
	Fetch(ctx context.Context, q Query, trusted []dsse.Key) (*Bundle, error)
	// String returns how framework.conf names it, without a password.
	String() string
}

// Query says what is asked for.
type Query struct {
	// Result names it for people. It may be there for several builds of the kernel.
	Result state.Key
	// Key is the digest of its Key, "" if that isn't known: then the name has to do.
	Key string
}

// Sink is a place that takes prebuilts.
type Sink interface {
	// Push puts a bundle under its key, and signs what else is said of it with sign. It
	// returns what names it there.
	Push(ctx context.Context, b *Bundle, key string, sign Signer) (string, error)
}

// Signer signs a text as a thing of that type, and returns the envelope; nil if nothing
// is to be signed.
type Signer func(payloadType string, payload []byte) ([]byte, error)

// Place returns where a bundle is, below a directory or an address: one file per key,
// and one by its name.
func (q Query) Place() []string {
	if q.Key == "" {
		return []string{Manifest{Module: q.Result.Module, Version: q.Result.Version, Kernel: fingerprint.Kernel{Release: q.Result.Kernel}}.FileName()}
	}
	return []string{q.Result.Module, q.Key + ".tar.gz"}
}

// Read is the function of that name for what was asked for: what is signed as something
// else is no answer. The error wraps ErrFormat then.
func (q Query) Read(r io.Reader, trusted []dsse.Key) (*Bundle, error) {
	b, err := Read(r, trusted)
	if err == nil {
		err = q.Check(b)
	}
	return b, err
}

// Check fails unless the bundle is what is asked for.
func (q Query) Check(b *Bundle) error {
	if b.Manifest.StateKey() != q.Result {
		return formatError("it is %s, not %s", b.Manifest.StateKey(), q.Result)
	}
	if q.Key == "" {
		return nil
	}
	has, err := KeyOf(b.Manifest).Digest()
	if err != nil {
		return formatError("%w", err)
	}
	if has != q.Key {
		return formatError("it is for the key %.12s, not for %.12s", has, q.Key)
	}
	return nil
}

// ParseURL splits the address of a source. Passwords have no place in it: status and
// logs show it.
func ParseURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%.200q is no source of prebuilts: it is no address", address)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return nil, fmt.Errorf("%.200q is no source of prebuilts: say scheme://host/path and nothing else", u.Redacted())
	}
	if why := misfit(u); why != "" {
		return nil, fmt.Errorf("%.200q is no source of prebuilts: %s", address, why)
	}
	return u, nil
}

// misfit tells why an address is no source, "" if it is one.
func misfit(u *url.URL) string {
	switch {
	case u.Scheme == "file" && (u.Host != "" || !path.IsAbs(u.Path)):
		return "a directory is file:///PATH"
	case u.Scheme == "file":
		return ""
	case u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "oci":
		return "it begins with none of file://, https:// and oci://"
	case u.Host == "":
		return "it has no host"
	case u.Scheme == "oci" && strings.Trim(u.Path, "/") == "":
		return "a repository is oci://REGISTRY/PATH"
	case u.Scheme == "http" && !Loopback(u):
		return "http is for this machine only, say https"
	}
	return ""
}

// Loopback reports whether an address is on this machine.
func Loopback(u *url.URL) bool {
	switch u.Hostname() {
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	return false
}

// Packed returns the bytes of the bundle's file.
func (b *Bundle) Packed() ([]byte, error) {
	var out bytes.Buffer
	if err := b.Write(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
