// SPDX-License-Identifier: Apache-2.0

package action

import (
	"crypto/x509"
	"encoding/hex"
	"path/filepath"
	"slices"

	"dkms-go/internal/ko"
	"dkms-go/internal/mok"
	"dkms-go/internal/plan"
	"dkms-go/internal/trust"
	"dkms-go/internal/verify"
)

// certificates are those of this machine's own keys, as far as they can be read.
func (e *Engine) certificates() []*x509.Certificate {
	var list []*x509.Certificate
	for _, path := range []string{
		e.Framework.MOKCertificate, e.Framework.MOKCACertificate,
		filepath.Join(e.Paths.MOKDir, "mok.pub"), filepath.Join(e.Paths.ShimMOKDir, "MOK.der"),
	} {
		if cert, err := ko.LoadCertificate(path); err == nil {
			list = append(list, cert)
		}
	}
	return list
}

// verifySigner tells who has signed an object and whether its kernel trusts that.
// Where the kernel takes trusted signatures only, any other is a refusal.
func (e *Engine) verifySigner(t plan.Target, r *verify.Report, unsigned string) Signing {
	k := e.trustKernel(t)
	if r.Refused() && r.Signature == nil || k.Config != nil && !k.Config.Enabled("CONFIG_MODULE_SIG") {
		return Signing{}
	}
	enforced := e.machine().Enforces(k)
	refuse := func(text string) {
		if enforced.Answer == trust.Yes && !r.Refused() {
			r.Problems = append(r.Problems, verify.Problem{Code: verify.Signature, Refuse: true, Text: text + ", and the kernel takes trusted signatures only (" + enforced.Why + ")"})
		}
	}
	if r.Signature == nil {
		s := Signing{Unsigned: unsigned, Trust: trust.Verdict{Answer: trust.No, Why: "not signed"}}
		if unsigned != "" {
			unsigned = " (" + unsigned + ")"
		}
		refuse("is not signed" + unsigned)
		return s
	}
	var s Signing
	s.Subject, s.Trust = e.judgeSigner(k, r.Signature)
	if s.Trust.Answer == trust.No {
		refuse("is signed by " + r.Signature.Signer + " with key " + r.Signature.KeyID + ", which the kernel doesn't trust: " + s.Trust.Why)
	}
	return s
}

// judgeSigner finds the certificate of a signature: in it, among those of this
// machine, or in the lists of the firmware. For one that is in the signature, who
// has issued it counts as well.
func (e *Engine) judgeSigner(k trust.Kernel, sig *ko.Signature) (subject string, v trust.Verdict) {
	m := e.machine()
	known := slices.Concat(e.certificates(), m.MOK.Certificates, m.DB.Certificates, m.New.Certificates, m.DBX.Certificates, m.MOKX.Certificates)
	if k.BuiltIn != nil {
		known = append(known, k.BuiltIn)
	}
	for _, cert := range sig.Certificates {
		if sig.By(cert) {
			return cert.Subject.String(), judgeEmbedded(m, k, cert, known)
		}
	}
	for _, cert := range known {
		if sig.By(cert) {
			return cert.Subject.String(), m.Trusts(k, cert)
		}
	}
	return "", trust.Verdict{Answer: trust.Unknown, Why: "the signer's certificate isn't known here"}
}

// judgeEmbedded judges a certificate that came in the signature: the kernel takes
// it if it trusts it, or who has issued it. known are certificates of this machine.
func judgeEmbedded(m trust.Machine, k trust.Kernel, cert *x509.Certificate, known []*x509.Certificate) trust.Verdict {
	own := m.Trusts(k, cert)
	if own.Answer == trust.Yes || m.DBX.Has(cert) || m.MOKX.Has(cert) {
		return own
	}
	for _, ca := range known {
		if mok.Issued(cert, ca) == nil {
			v := m.Trusts(k, ca)
			v.Why = "issued by " + ca.Subject.String() + ": " + v.Why
			return v
		}
	}
	if v := m.Holds(k, hex.EncodeToString(cert.AuthorityKeyId)); v.Answer != trust.Unknown {
		if v.Answer == trust.No {
			v.Why = "issued by " + cert.Issuer.String() + ", which is not among the keys of the kernel"
		}
		return v
	}
	return trust.Verdict{Answer: trust.Unknown, Why: "who has issued the certificate, " + cert.Issuer.String() + ", isn't known here"}
}
