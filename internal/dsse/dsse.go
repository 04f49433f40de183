// SPDX-License-Identifier: Apache-2.0

// Package dsse signs and verifies texts with ed25519 keys, in envelopes by the
// protocol DSSE 1.0 (github.com/secure-systems-lab/dsse, protocol.md, envelope.md).
//
// The signature covers the type of the text besides the text, so that what was
// signed as one thing is never taken for another.
package dsse

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxEnvelope bounds an envelope, in bytes.
const MaxEnvelope = 8 << 20

// maxSignatures bounds how many signatures of one envelope are looked at.
const maxSignatures = 16

// The reasons why an envelope isn't taken.
var (
	// ErrFormat is that of what is no envelope.
	ErrFormat = errors.New("not a DSSE envelope")
	// ErrUnknownKey is that of an envelope without a signature by a trusted key.
	ErrUnknownKey = errors.New("not signed by a trusted key")
	// ErrSignature is that of a signature by a trusted key which doesn't fit.
	ErrSignature = errors.New("the signature doesn't fit the content")
)

// Envelope is a signed text. Signatures name their key by ID, which is only a hint.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an envelope, in base64.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// Key is a key that signatures are verified by.
type Key struct {
	// Name is what messages call it, the name of its file.
	Name   string
	Public ed25519.PublicKey
}

// ID returns the SHA-256, in hexadecimal, of a public key.
func ID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:])
}

// preAuth is what is signed: PAE of the protocol.
func preAuth(payloadType string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// Sign returns an envelope with a payload and its signature. The same key and payload
// give the same bytes (RFC 8032).
func Sign(payloadType string, payload []byte, key ed25519.PrivateKey) ([]byte, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("signing: not an ed25519 key")
	}
	text, err := json.Marshal(Envelope{
		PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []Signature{{ID(public), base64.StdEncoding.EncodeToString(ed25519.Sign(key, preAuth(payloadType, payload)))}},
	})
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return append(text, '\n'), nil
}

// Verify returns the payload of an envelope and the name of a trusted key that has
// signed it as a thing of that type. The error wraps ErrFormat, ErrUnknownKey or
// ErrSignature. Without a trusted signature the payload is not returned.
func Verify(envelope []byte, payloadType string, trusted []Key) (payload []byte, by Key, err error) {
	e, err := parse(envelope)
	if err != nil {
		return nil, Key{}, err
	}
	if e.PayloadType != payloadType {
		return nil, Key{}, fmt.Errorf("%w: its content is a %.100q, not a %q", ErrFormat, e.PayloadType, payloadType)
	}
	payload, err = base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil {
		return nil, Key{}, fmt.Errorf("%w: the payload: %w", ErrFormat, err)
	}
	signed := preAuth(payloadType, payload)
	named := false
	for _, s := range e.Signatures {
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
		if err != nil {
			return nil, Key{}, fmt.Errorf("%w: a signature: %w", ErrFormat, err)
		}
		for _, k := range trusted {
			if ed25519.Verify(k.Public, signed, sig) {
				return payload, k, nil
			}
			named = named || s.KeyID == ID(k.Public)
		}
	}
	if named {
		return nil, Key{}, ErrSignature
	}
	return nil, Key{}, ErrUnknownKey
}

// Signers returns the key IDs that an envelope names, for messages: nothing is
// verified.
func Signers(envelope []byte) []string {
	e, err := parse(envelope)
	if err != nil {
		return nil
	}
	var ids []string
	for _, s := range e.Signatures {
		ids = append(ids, fmt.Sprintf("%.64q", s.KeyID))
	}
	return ids
}

// parse reads an envelope strictly: a field that isn't known, or a second value, is
// an error.
func parse(text []byte) (Envelope, error) {
	var e Envelope
	if len(text) > MaxEnvelope {
		return e, fmt.Errorf("%w: it has more than %d bytes", ErrFormat, MaxEnvelope)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return e, fmt.Errorf("%w: there is more behind it", ErrFormat)
	}
	if n := len(e.Signatures); n == 0 || n > maxSignatures {
		return e, fmt.Errorf("%w: it has %d signatures", ErrFormat, n)
	}
	return e, nil
}
