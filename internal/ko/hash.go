// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"crypto"
	_ "crypto/sha1" // registers the hash, like those below
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"encoding/asn1"
)

// hashAlgorithm is one hash a module signature may use (crypto/asymmetric_keys
// in the kernel).
type hashAlgorithm struct {
	name   string
	hash   crypto.Hash
	digest asn1.ObjectIdentifier
	ecdsa  asn1.ObjectIdentifier // signature algorithm with this hash
}

func nistHash(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, n}
}

func nistSignature(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, n}
}

func ansiECDSA(arc ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 10045, 4}, arc...)
}

// hashAlgorithms returns the table; names are those of sign-file and modinfo.
func hashAlgorithms() []hashAlgorithm {
	return []hashAlgorithm{
		{"sha1", crypto.SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, ansiECDSA(1)},
		{"sha224", crypto.SHA224, nistHash(4), ansiECDSA(3, 1)},
		{"sha256", crypto.SHA256, nistHash(1), ansiECDSA(3, 2)},
		{"sha384", crypto.SHA384, nistHash(2), ansiECDSA(3, 3)},
		{"sha512", crypto.SHA512, nistHash(3), ansiECDSA(3, 4)},
		{"sha3-256", crypto.SHA3_256, nistHash(8), nistSignature(10)},
		{"sha3-384", crypto.SHA3_384, nistHash(9), nistSignature(11)},
		{"sha3-512", crypto.SHA3_512, nistHash(10), nistSignature(12)},
	}
}

func hashByName(name string) (hashAlgorithm, bool) {
	for _, h := range hashAlgorithms() {
		if h.name == name {
			return h, true
		}
	}
	return hashAlgorithm{}, false
}

func hashByOID(oid asn1.ObjectIdentifier) (hashAlgorithm, bool) {
	for _, h := range hashAlgorithms() {
		if h.digest.Equal(oid) {
			return h, true
		}
	}
	return hashAlgorithm{}, false
}

// sum returns the digest of data.
func (h hashAlgorithm) sum(data []byte) []byte {
	d := h.hash.New()
	d.Write(data) // never fails (hash.Hash)
	return d.Sum(nil)
}
