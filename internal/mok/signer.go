// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"

	"dkms-go/internal/ko"
)

// PassphraseEnv is the variable with the key's passphrase or the token's PIN, as
// the kernel's sign-file has it. It is kept from what builds run.
const PassphraseEnv = "KBUILD_SIGN_PIN"

// passphrase returns that of the environment, else that of mok_passphrase_file;
// nil if there is none.
func (r Request) passphrase() ([]byte, error) {
	if text := r.getenv(PassphraseEnv); text != "" {
		return []byte(text), nil
	}
	if r.PassphraseFile == "" {
		return nil, nil
	}
	return ko.Passphrase(r.PassphraseFile)
}

// signer loads the key, or finds the token that has it, and holds it against
// the certificate. Nobody is asked for a passphrase.
func (r Request) signer(ctx context.Context, key, cert string) (*ko.Signer, error) {
	passphrase, err := r.passphrase()
	if err != nil {
		return nil, err
	}
	var s *ko.Signer
	if onToken(key) {
		s, err = r.tokenSigner(ctx, key, cert, passphrase)
	} else {
		s, err = ko.LoadSigner(key, cert, passphrase)
	}
	if err != nil || r.CA == "" {
		return s, err
	}
	s.Embed = true
	return s, issued(s.Cert, cert, r.CA)
}

// issued fails unless a kernel that trusts an authority would take an embedded
// certificate for one of its own: it finds the authority by the certificate's
// authority key identifier only (pkcs7_validate_trust_one of
// crypto/asymmetric_keys/pkcs7_trust.c).
func issued(cert *x509.Certificate, path, caPath string) error {
	ca, err := ko.LoadCertificate(caPath)
	if err != nil {
		return err
	}
	if err := Issued(cert, ca); err != nil {
		return fmt.Errorf("the certificate %s is of no use under %s: %w", path, caPath, err)
	}
	return nil
}

// Issued fails unless a kernel that trusts ca would take cert, in a signature,
// for a certificate that ca has issued.
func Issued(cert, ca *x509.Certificate) error {
	switch {
	case len(cert.AuthorityKeyId) == 0:
		return fmt.Errorf("it has no authority key identifier, by which kernels find who issued it")
	case !bytes.Equal(cert.AuthorityKeyId, ca.SubjectKeyId):
		return fmt.Errorf("its authority key identifier is %x, the subject key identifier of the authority is %x", cert.AuthorityKeyId, ca.SubjectKeyId)
	}
	if err := ca.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return fmt.Errorf("the authority hasn't signed it: %w", err)
	}
	return nil
}
