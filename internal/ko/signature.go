// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrSignature says that a signature does not match content or certificate.
var ErrSignature = errors.New("signature does not verify")

// Signature is the signature appended to an object, in the words of
// modinfo(8).
type Signature struct {
	IDType string // sig_id: "PKCS#7", or "X509" and "PGP" of kernels before 4.3
	Signer string // signer: common name of the certificate's issuer
	Issuer string // the issuer's whole name
	// KeyID is sig_key: the certificate's serial number, or its subject key
	// identifier, in upper case hexadecimal with colons.
	KeyID string
	Hash  string // sig_hashalgo, "" if unknown
	// Certificates are those in the message, as far as they can be read.
	Certificates []*x509.Certificate
	// Attributes says that attributes are signed, which kernels refuse in
	// module signatures (pkcs7_verify of crypto/asymmetric_keys/pkcs7_verify.c).
	Attributes bool

	hash       hashAlgorithm
	issuer     []byte // DER
	keyID      []byte
	keyIDIsSKI bool
	attributes []byte // DER of the SET OF, nil without attributes
	digest     []byte // message digest attribute
	value      []byte
}

// splitSignature cuts a signed object in content, signature and header; ok
// says that the marker is at the end.
func splitSignature(data []byte) (content, signature, header []byte, ok bool, err error) {
	rest, ok := bytes.CutSuffix(data, []byte(signatureMagic))
	if !ok {
		return data, nil, nil, false, nil
	}
	if len(rest) < signatureHeader {
		return data, nil, nil, true, errors.New("module signature is cut short")
	}
	rest, header = rest[:len(rest)-signatureHeader], rest[len(rest)-signatureHeader:]
	total := uint64(header[3]) + uint64(header[4]) + uint64(binary.BigEndian.Uint32(header[8:]))
	if total > uint64(len(rest)) {
		return data, nil, nil, true, fmt.Errorf("module signature of %d bytes in %d", total, len(rest))
	}
	cut := len(rest) - int(total)
	return rest[:cut:cut], rest[cut:], header, true, nil
}

// Unsigned returns data without its signatures, all of them if there are
// several. The result aliases data; a damaged signature is left alone.
func Unsigned(data []byte) []byte {
	for {
		content, _, _, ok, err := splitSignature(data)
		if !ok || err != nil {
			return data
		}
		data = content
	}
}

// ParseSignature reads the signature at the end of an object. It reports false
// if there is none, and an error if there is one that cannot be read.
func ParseSignature(data []byte) (*Signature, bool, error) {
	_, raw, header, ok, err := splitSignature(data)
	if !ok {
		return nil, false, nil
	}
	var s *Signature
	switch {
	case err != nil:
	case header[2] == idTypePKCS7 && !bytes.Equal(header[:8], []byte{2: idTypePKCS7, 7: 0}):
		err = errors.New("fields that must be zero are not") // mod_check_sig of kernel/module_signature.c
	case header[2] == idTypePKCS7:
		s, err = parseCMS(raw)
	case header[2] < idTypePKCS7:
		s = parseLegacy(raw, header)
	default:
		err = unsupported("signature type %d", header[2])
	}
	if err != nil {
		return nil, true, fmt.Errorf("reading module signature: %w", err)
	}
	return s, true, nil
}

// parseLegacy reads the form of kernels before 4.3: signer name, key
// identifier and bare signature one after the other.
func parseLegacy(raw, header []byte) *Signature {
	names := []string{"md4", "md5", "sha1", "rmd160", "sha256", "sha384", "sha512", "sha224"}
	s := &Signature{IDType: []string{"PGP", "X509"}[header[2]]}
	if int(header[1]) < len(names) {
		s.Hash = names[header[1]]
	}
	n, k := int(header[3]), int(header[4])
	s.Signer = string(raw[:n])
	s.keyID = raw[n : n+k]
	s.KeyID = HexColons(s.keyID)
	s.value = raw[n+k:]
	return s
}

func parseCMS(raw []byte) (*Signature, error) {
	var info contentInfo
	if _, err := asn1.Unmarshal(raw, &info); err != nil {
		return nil, err
	}
	if !info.Type.Equal(oidSignedData()) {
		return nil, fmt.Errorf("content type %v", info.Type)
	}
	if len(info.Content.SignerInfos) == 0 {
		return nil, errors.New("no signer")
	}
	si := info.Content.SignerInfos[0]
	s := &Signature{IDType: "PKCS#7", value: si.Signature}
	if h, ok := hashByOID(si.DigestAlgorithm.Algorithm); ok {
		s.hash, s.Hash = h, h.name
	}
	if err := s.setSigner(si.Signer); err != nil {
		return nil, err
	}
	s.KeyID = HexColons(s.keyID)
	for rest := info.Content.Certificates.Bytes; len(rest) > 0; {
		var raw asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &raw); err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
		if cert, err := x509.ParseCertificate(raw.FullBytes); err == nil {
			s.Certificates = append(s.Certificates, cert)
		}
	}
	return s, s.setAttributes(si.SignedAttributes)
}

// setSigner reads the signer's identification (RFC 5652, section 5.3).
func (s *Signature) setSigner(id asn1.RawValue) error {
	if id.Class == asn1.ClassContextSpecific && id.Tag == 0 {
		s.keyID, s.keyIDIsSKI = id.Bytes, true
		return nil
	}
	var is issuerAndSerial
	if _, err := asn1.Unmarshal(id.FullBytes, &is); err != nil {
		return fmt.Errorf("signer identification: %w", err)
	}
	s.issuer = is.Issuer.FullBytes
	s.keyID = is.Serial.Bytes()
	var names pkix.RDNSequence
	if _, err := asn1.Unmarshal(s.issuer, &names); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	var name pkix.Name
	name.FillFromRDNSequence(&names)
	s.Signer, s.Issuer = name.CommonName, names.String()
	return nil
}

// setAttributes reads signed attributes: the signature then covers them and
// they hold the digest.
func (s *Signature) setAttributes(raw asn1.RawValue) error {
	if len(raw.FullBytes) == 0 {
		return nil
	}
	s.Attributes = true
	s.attributes = slices.Clone(raw.FullBytes)
	s.attributes[0] = asn1.TagSet | 0x20 // the signature covers it as SET OF
	for rest := raw.Bytes; len(rest) > 0; {
		var a attribute
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			return fmt.Errorf("signed attributes: %w", err)
		}
		if a.Type.Equal(oidMessageDigest()) {
			if _, err := asn1.Unmarshal(a.Values.Bytes, &s.digest); err != nil {
				return fmt.Errorf("message digest: %w", err)
			}
		}
	}
	return nil
}

// Verify checks the signature of content, the object without it, with cert. It
// fails with ErrSignature if the certificate is not the signer's or the
// content was changed, and with ErrUnsupported for unknown algorithms. It does
// not check who issued cert or its dates; nor does the kernel.
func (s *Signature) Verify(content []byte, cert *x509.Certificate) error {
	if s.hash.hash == 0 {
		return unsupported("verifying signature of type %s with hash %q", s.IDType, s.Hash)
	}
	if !s.By(cert) {
		return fmt.Errorf("verifying signature by key %s with another certificate: %w", s.KeyID, ErrSignature)
	}
	digest := s.hash.sum(content)
	if s.attributes != nil {
		if subtle.ConstantTimeCompare(digest, s.digest) != 1 {
			return fmt.Errorf("verifying message digest: %w", ErrSignature)
		}
		digest = s.hash.sum(s.attributes)
	}
	good := false
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(key, s.hash.hash, digest, s.value) == nil
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(key, digest, s.value)
	default:
		return unsupported("verifying signature with key type %T", cert.PublicKey)
	}
	if !good {
		return fmt.Errorf("verifying signature by key %s: %w", s.KeyID, ErrSignature)
	}
	return nil
}

// By reports whether the signature names cert as its signer's certificate.
func (s *Signature) By(cert *x509.Certificate) bool {
	if s.keyIDIsSKI {
		return bytes.Equal(s.keyID, cert.SubjectKeyId)
	}
	return bytes.Equal(s.issuer, cert.RawIssuer) && bytes.Equal(s.keyID, cert.SerialNumber.Bytes())
}

// HexColons formats bytes as modinfo does.
func HexColons(b []byte) string {
	out := fmt.Sprintf("% X", b)
	return string(bytes.ReplaceAll([]byte(out), []byte(" "), []byte(":")))
}

// WithoutSignature returns what the last signature of data covers, data itself
// if there is none.
func WithoutSignature(data []byte) []byte {
	content, _, _, _, err := splitSignature(data)
	if err != nil {
		return data
	}
	return content
}
