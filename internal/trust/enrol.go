// SPDX-License-Identifier: Apache-2.0

package trust

import "crypto/x509"

// Advice is what makes a kernel trust a key.
type Advice struct {
	// Import says that mokutil(1) has to put the key up for enrolment.
	Import bool
	// Note is one line: why nothing is to be done, what comes after the command,
	// or why there is none.
	Note string
}

// Enrol returns what to do for a key that a kernel shall trust.
func (m Machine) Enrol(k Kernel, cert *x509.Certificate) Advice {
	trusted, enforced := m.Trusts(k, cert), m.Enforces(k)
	const reboot = "reboot, and confirm it in the blue screen of MokManager"
	switch {
	case trusted.Answer == Yes:
		return Advice{Note: "nothing needed: " + trusted.Why}
	case m.DBX.Has(cert) || m.MOKX.Has(cert):
		return Advice{Note: "no way: the key is " + trusted.Why + "; move it away and make another"}
	case m.New.Has(cert):
		return Advice{Note: "nothing needed but this: " + reboot}
	case k.closed() && enforced.Answer != No:
		return Advice{Note: "no way: " + trusted.Why}
	case m.UEFI == No && enforced.Answer == Yes:
		return Advice{Note: "no way: without UEFI a kernel trusts the keys that it was built with only"}
	case m.UEFI == No:
		return Advice{Note: "nothing needed: without UEFI there is no Secure Boot, and the kernel takes every signature"}
	case enforced.Answer == No && m.SecureBoot == No:
		return Advice{Note: "nothing needed: while Secure Boot is off the kernel takes every signature"}
	case m.MOK.Has(cert) && m.SecureBoot == No:
		return Advice{Note: "it is enrolled: turn Secure Boot on, without it kernels pass over that"}
	case m.MOK.Has(cert):
		return Advice{Note: "it is enrolled: reboot, and if the kernel still doesn't know it, it takes such keys from the firmware's db only"}
	case m.SecureBoot == No:
		return Advice{true, reboot + "; it counts with Secure Boot on only"}
	}
	return Advice{true, "then " + reboot}
}
