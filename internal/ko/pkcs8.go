// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"hash"
)

// Encrypted private keys: RFC 5958 section 3, PBES2 of RFC 8018 appendix A.
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2 struct {
	Derivation pkix.AlgorithmIdentifier
	Cipher     pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// maxIterations bounds the time a key file can take.
const maxIterations = 10_000_000

// decryptPKCS8 returns the PKCS#8 key inside an encrypted one. PBKDF2 with
// HMAC over SHA-1 or SHA-2 and AES in CBC mode are known.
func decryptPKCS8(der, passphrase []byte) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, ErrPassphrase
	}
	var outer encryptedKey
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, err
	}
	if !outer.Algorithm.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}) {
		return nil, unsupported("key encryption %v", outer.Algorithm.Algorithm)
	}
	var scheme pbes2
	if _, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, err
	}
	keyLen, err := aesKeyLength(scheme.Cipher.Algorithm)
	if err != nil {
		return nil, err
	}
	key, err := deriveKey(scheme.Derivation, passphrase, keyLen)
	if err != nil {
		return nil, err
	}
	var iv []byte
	if _, err := asn1.Unmarshal(scheme.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	return decryptCBC(key, iv, outer.Data)
}

func aesKeyLength(oid asn1.ObjectIdentifier) (int, error) {
	for n, last := range map[int]int{16: 2, 24: 22, 32: 42} {
		if oid.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, last}) {
			return n, nil
		}
	}
	return 0, unsupported("key cipher %v", oid)
}

func deriveKey(alg pkix.AlgorithmIdentifier, passphrase []byte, keyLen int) ([]byte, error) {
	if !alg.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}) {
		return nil, unsupported("key derivation %v", alg.Algorithm)
	}
	var p pbkdf2Params
	if _, err := asn1.Unmarshal(alg.Parameters.FullBytes, &p); err != nil {
		return nil, err
	}
	if p.Iterations < 1 || p.Iterations > maxIterations {
		return nil, unsupported("%d rounds of key derivation", p.Iterations)
	}
	h, err := prfHash(p.PRF.Algorithm)
	if err != nil {
		return nil, err
	}
	return pbkdf2.Key(h, string(passphrase), p.Salt, p.Iterations, keyLen)
}

// prfHash returns the hash of an HMAC; without one it is SHA-1.
func prfHash(oid asn1.ObjectIdentifier) (func() hash.Hash, error) {
	if len(oid) == 0 {
		return sha1.New, nil
	}
	hashes := map[int]func() hash.Hash{7: sha1.New, 8: sha256.New224, 9: sha256.New, 10: sha512.New384, 11: sha512.New}
	for last, h := range hashes {
		if oid.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 2, last}) {
			return h, nil
		}
	}
	return nil, unsupported("key derivation hash %v", oid)
}

func decryptCBC(key, iv, data []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if len(iv) != aes.BlockSize || len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, errors.New("damaged encrypted key")
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	n := int(plain[len(plain)-1])
	if n < 1 || n > aes.BlockSize {
		return nil, ErrPassphrase
	}
	for _, b := range plain[len(plain)-n:] {
		if int(b) != n {
			return nil, ErrPassphrase
		}
	}
	return plain[:len(plain)-n], nil
}
