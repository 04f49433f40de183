// SPDX-License-Identifier: Apache-2.0

package action

import (
	"crypto/x509"
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
	v = trust.Verdict{Answer: trust.Unknown, Why: "the signer's certificate isn't known here"}
	for _, cert := range sig.Certificates {
		if !sig.By(cert) {
			continue
		}
		if subject, v = cert.Subject.String(), m.Trusts(k, cert); v.Answer == trust.Yes {
			return subject, v
		}
		for _, ca := range known {
			if mok.Issued(cert, ca) != nil {
				continue
			}
			if of := m.Trusts(k, ca); of.Answer > v.Answer || of.Answer == trust.No {
				v = trust.Verdict{Answer: of.Answer, Why: "issued by " + ca.Subject.String() + ", " + of.Why}
			}
		}
		return subject, v
	}
	for _, cert := range known {
		if sig.By(cert) {
			return cert.Subject.String(), m.Trusts(k, cert)
		}
	}
	return "", v
}
