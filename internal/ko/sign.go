// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
)

// The end of a signed object (include/linux/module_signature.h): signature,
// struct module_signature, this marker.
const (
	signatureMagic  = "~Module signature appended~\n"
	signatureHeader = 12
	idTypePKCS7     = 2
)

// Signer is a key with the certificate that kernels know it by.
type Signer struct {
	Key  crypto.Signer
	Cert *x509.Certificate
	// Embed puts Cert into the signatures. A kernel that doesn't know it takes
	// them if it trusts who issued it (crypto/asymmetric_keys/pkcs7_trust.c).
	Embed bool
}

// Sign returns data with a module signature appended, as the kernel's
// scripts/sign-file does: a CMS message without content, certificates and
// attributes whose signer is named by issuer and serial number. With an RSA
// key the result is the same byte for byte. Like sign-file it appends to data
// that is already signed, so that data should come from Unsigned. Signer.Embed
// adds the certificate, which sign-file never does.
//
// Hash is sha1, sha224, sha256, sha384, sha512, sha3-256, sha3-384 or
// sha3-512. Other hashes and keys that are neither RSA nor ECDSA give
// ErrUnsupported.
func Sign(data []byte, s *Signer, hash string) ([]byte, error) {
	h, ok := hashByName(hash)
	if !ok {
		return nil, unsupported("signing object: hash %q", hash)
	}
	message, err := s.message(data, h)
	if err != nil {
		return nil, fmt.Errorf("signing object: %w", err)
	}
	out := make([]byte, 0, len(data)+len(message)+signatureHeader+len(signatureMagic))
	out = append(out, data...)
	out = append(out, message...)
	out = append(out, 0, 0, idTypePKCS7, 0, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(len(message)))
	return append(out, signatureMagic...), nil
}

// message builds the CMS message for data.
func (s *Signer) message(data []byte, h hashAlgorithm) ([]byte, error) {
	var algorithm pkix.AlgorithmIdentifier
	switch s.Key.Public().(type) {
	case *rsa.PublicKey:
		algorithm = pkix.AlgorithmIdentifier{Algorithm: oidRSA(), Parameters: asn1.NullRawValue}
	case *ecdsa.PublicKey:
		algorithm.Algorithm = h.ecdsa
	default:
		return nil, unsupported("key type %T", s.Key.Public())
	}
	signature, err := s.Key.Sign(rand.Reader, h.sum(data), h.hash)
	if err != nil {
		return nil, err
	}
	id, err := asn1.Marshal(issuerAndSerial{asn1.RawValue{FullBytes: s.Cert.RawIssuer}, s.Cert.SerialNumber})
	if err != nil {
		return nil, err
	}
	digest := pkix.AlgorithmIdentifier{Algorithm: h.digest}
	var certificates asn1.RawValue
	if s.Embed {
		certificates = asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: s.Cert.Raw}
	}
	return asn1.Marshal(contentInfo{oidSignedData(), signedData{
		Version:          1,
		DigestAlgorithms: []pkix.AlgorithmIdentifier{digest},
		Content:          encapsulated{Type: oidData()},
		Certificates:     certificates,
		SignerInfos: []signerInfo{{
			Version:            1,
			Signer:             asn1.RawValue{FullBytes: id},
			DigestAlgorithm:    digest,
			SignatureAlgorithm: algorithm,
			Signature:          signature,
		}},
	}})
}
