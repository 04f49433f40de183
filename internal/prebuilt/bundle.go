// SPDX-License-Identifier: Apache-2.0

package prebuilt

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"dkms-go/internal/dsse"
)

// The first entries of a bundle's file.
const (
	manifestName  = "manifest.json"
	signatureName = "manifest.dsse.json"
)

// ErrUnsigned is that of a bundle without a signature.
var ErrUnsigned = errors.New("not signed")

// Bundle is a manifest with its contents.
type Bundle struct {
	Manifest Manifest
	// Text are the manifest's bytes, Envelope those of its signature, nil for none.
	Text, Envelope []byte
	// By is the trusted key that has signed it; of one that was made here it is empty.
	By      dsse.Key
	content map[string][]byte
}

// New returns a bundle of contents, of which it fills in sizes and digests, signed by
// key unless that is nil.
func New(m Manifest, content map[string][]byte, key ed25519.PrivateKey) (*Bundle, error) {
	describe := func(f *File) {
		sum := sha256.Sum256(content[f.Path])
		f.Size, f.SHA256 = int64(len(content[f.Path])), hex.EncodeToString(sum[:])
	}
	for i := range m.Objects {
		describe(&m.Objects[i].File)
	}
	for i := range m.Files {
		describe(&m.Files[i])
	}
	b := &Bundle{content: content}
	var err error
	if b.Text, err = m.Encode(); err != nil {
		return nil, err
	}
	if b.Manifest, err = Parse(b.Text); err != nil {
		return nil, err
	}
	if key != nil {
		b.Envelope, err = dsse.Sign(PayloadType, b.Text, key)
	}
	return b, err
}

// Open returns a bundle without contents, once its signature has been found to be by a
// trusted key. text may be nil: the envelope has the manifest too. The error wraps
// ErrUnsigned, ErrFormat or those of dsse.
func Open(text, envelope []byte, trusted []dsse.Key) (*Bundle, error) {
	if len(envelope) == 0 {
		return nil, ErrUnsigned
	}
	payload, by, err := dsse.Verify(envelope, PayloadType, trusted)
	if err != nil {
		return nil, err
	}
	if text != nil && !bytes.Equal(payload, text) {
		return nil, dsse.ErrSignature
	}
	m, err := Parse(payload)
	if err != nil {
		return nil, err
	}
	return &Bundle{Manifest: m, Text: payload, Envelope: envelope, By: by, content: map[string][]byte{}}, nil
}

// Add takes a content that the manifest lists, if it is what the manifest says.
func (b *Bundle) Add(f File, data []byte) error {
	sum := sha256.Sum256(data)
	if int64(len(data)) != f.Size || hex.EncodeToString(sum[:]) != f.SHA256 {
		return formatError("%q is not what was signed: its digest is another", f.Path)
	}
	b.content[f.Path] = data
	return nil
}

// Content returns a content, nil if the bundle hasn't it.
func (b *Bundle) Content(path string) []byte { return b.content[path] }

// Complete tells which content is missing. The log may be.
func (b *Bundle) Complete() error {
	for _, f := range b.Manifest.Contents() {
		if _, ok := b.content[f.Path]; !ok && f.Path != LogPath {
			return formatError("%q is missing", f.Path)
		}
	}
	return nil
}

// Write writes the bundle's file: a tar, compressed by gzip, with the manifest, its
// signature, and the contents in the manifest's order. The same bundle gives the same
// bytes.
func (b *Bundle) Write(w io.Writer) error {
	zip, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	out := tar.NewWriter(zip)
	put := func(name string, data []byte, executable bool) error {
		mode := int64(0o644)
		if executable {
			mode = 0o755
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: mode, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("packing %s: %w", name, err)
		}
		_, err := out.Write(data)
		return err
	}
	err = put(manifestName, b.Text, false)
	if err == nil && b.Envelope != nil {
		err = put(signatureName, b.Envelope, false)
	}
	for _, f := range b.Manifest.Contents() {
		if data, ok := b.content[f.Path]; err == nil && ok {
			err = put(f.Path, data, f.Executable)
		}
	}
	return errors.Join(err, out.Close(), zip.Close())
}

// Read reads a bundle's file. The signature is verified before anything behind it is
// unpacked; contents are held in memory, each no larger than the manifest says. What
// the manifest doesn't list, in its order, is an error.
func Read(r io.Reader, trusted []dsse.Key) (*Bundle, error) {
	in, err := openTar(r)
	if err != nil {
		return nil, err
	}
	text, err := in.entry(manifestName, MaxManifest)
	if err != nil {
		return nil, err
	}
	h, err := in.next()
	if err == nil && h.Name != signatureName {
		return nil, ErrUnsigned
	}
	if err != nil {
		return nil, err
	}
	envelope, err := in.content(h, dsse.MaxEnvelope)
	if err != nil {
		return nil, err
	}
	b, err := Open(text, envelope, trusted)
	if err != nil {
		return nil, err
	}
	for _, f := range b.Manifest.Contents() {
		data, err := in.entry(f.Path, f.Size)
		if err == nil {
			err = b.Add(f, data)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, in.end()
}

// reader reads the entries of a bundle's file.
type reader struct {
	zip  *gzip.Reader
	tar  *tar.Reader
	rest io.Reader
}

func openTar(r io.Reader) (*reader, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, formatError("it isn't compressed by gzip: %w", err)
	}
	const headers = maxContents << 12 // of entries, with their padding
	bounded := io.LimitReader(zip, MaxTotal+MaxManifest+dsse.MaxEnvelope+headers)
	return &reader{zip: zip, tar: tar.NewReader(bounded), rest: bounded}, nil
}

// next returns the next entry, which must be a plain file.
func (r *reader) next() (*tar.Header, error) {
	h, err := r.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, formatError("it ends too early")
	}
	if err != nil {
		return nil, formatError("unpacking it: %w", err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil, formatError("the entry %.200q is no file", h.Name)
	}
	return h, nil
}

// entry reads the next entry, which must have that name.
func (r *reader) entry(name string, limit int64) ([]byte, error) {
	h, err := r.next()
	if err != nil {
		return nil, err
	}
	if h.Name != name {
		return nil, formatError("the entry %.200q is in the place of %q", h.Name, name)
	}
	return r.content(h, limit)
}

// content reads an entry of at most limit bytes.
func (r *reader) content(h *tar.Header, limit int64) ([]byte, error) {
	if h.Size > limit {
		return nil, formatError("the entry %.200q has %d bytes, more than %d", h.Name, h.Size, limit)
	}
	var data bytes.Buffer // grows with what is there, not with what is claimed
	if _, err := io.Copy(&data, io.LimitReader(r.tar, limit)); err != nil {
		return nil, formatError("unpacking %.200q: %w", h.Name, err)
	}
	return data.Bytes(), nil
}

// end reads to the end, for the check sum of gzip, and refuses what is behind the last
// content.
func (r *reader) end() error {
	h, err := r.tar.Next()
	if err == nil {
		return formatError("the entry %.200q is not in the manifest", h.Name)
	}
	if !errors.Is(err, io.EOF) {
		return formatError("unpacking it: %w", err)
	}
	n, err := io.Copy(io.Discard, r.rest)
	if err != nil {
		return formatError("unpacking it: %w", err)
	}
	if n > 0 {
		return formatError("there are %d bytes behind its last entry", n)
	}
	return nil
}
