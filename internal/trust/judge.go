// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/kernel"
)

// Kernel is the kernel that is asked about.
type Kernel struct {
	Release string
	// Running says that it is the running one.
	Running bool
	// Config is its configuration, nil if unknown.
	Config kernel.Config
	// BuiltIn is the certificate of the key that its own objects are signed with, if
	// known.
	BuiltIn *x509.Certificate
	// Platform says that its distribution lets keys of the firmware sign modules,
	// as patches of some do.
	Platform bool
}

// Verdict is an answer with its reason, one line.
type Verdict struct {
	Answer Answer
	Why    string
}

func verdict(a Answer, format string, args ...any) Verdict {
	return Verdict{a, fmt.Sprintf(format, args...)}
}

// Enforces tells whether a kernel refuses objects without a signature by a key
// that it trusts.
func (m Machine) Enforces(k Kernel) Verdict {
	locks := k.Config.Enabled("CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT")
	switch {
	case k.Config.Enabled("CONFIG_MODULE_SIG_FORCE"):
		return verdict(Yes, "CONFIG_MODULE_SIG_FORCE")
	case k.Config != nil && !k.Config.Enabled("CONFIG_MODULE_SIG"):
		return verdict(No, "the kernel doesn't know signatures")
	case k.Running && m.SigEnforce == Yes:
		return verdict(Yes, "module.sig_enforce is on")
	case k.Running && m.Lockdown != "" && m.Lockdown != "none":
		return verdict(Yes, "the kernel is locked down: %s", m.Lockdown)
	case k.Running && m.SigEnforce == No:
		return verdict(No, "module.sig_enforce is off")
	case k.Running:
		return verdict(Unknown, "the kernel doesn't tell")
	case m.SecureBoot == Yes && locks:
		return verdict(Yes, "Secure Boot is on, and locks this kernel down")
	case m.SecureBoot == Yes || m.SecureBoot == Unknown:
		return verdict(Unknown, "that depends on Secure Boot (%s)", m.SecureBoot)
	case m.SigEnforce == Yes || m.Lockdown != "" && m.Lockdown != "none":
		return verdict(Unknown, "the running kernel was told to; this one may be told the same")
	case k.Config == nil:
		return verdict(Unknown, "the kernel's configuration isn't there")
	}
	return verdict(No, "Secure Boot is off")
}

// Trusts tells whether a kernel takes objects that are signed with the key of a
// certificate.
func (m Machine) Trusts(k Kernel, cert *x509.Certificate) Verdict {
	switch {
	case k.Config != nil && !k.Config.Enabled("CONFIG_MODULE_SIG"):
		return verdict(Unknown, "the kernel doesn't know signatures")
	case m.DBX.Has(cert):
		return verdict(No, "revoked by the firmware (dbx)")
	case m.MOKX.Has(cert):
		return verdict(No, "revoked by shim (MokListX)")
	case k.Running && m.Rings != nil:
		return m.inRings(k, cert)
	case k.BuiltIn != nil && k.BuiltIn.Equal(cert):
		return verdict(Yes, "built into the kernel")
	case k.closed():
		return verdict(No, "the kernel trusts no keys but those that it was built with")
	case m.MOK.Has(cert):
		return m.enrolled(k, cert)
	case m.DB.Has(cert):
		return platform(k, "in the firmware's db")
	case m.New.Has(cert):
		return verdict(No, "waiting for its confirmation at the next boot")
	case m.UEFI == No:
		return verdict(No, "not built into the kernel, and without UEFI no key can be enrolled")
	case m.UEFI == Unknown || len(m.Problems) > 0:
		return verdict(Unknown, "the keys of this machine can't be read here")
	}
	return verdict(No, "not enrolled")
}

// closed reports whether a kernel has no keyring that keys could come into, and was
// built with others.
func (k Kernel) closed() bool {
	return k.Config != nil && k.BuiltIn != nil && k.Config.Text("CONFIG_SYSTEM_TRUSTED_KEYS") == "" && !slices.ContainsFunc(
		[]string{"CONFIG_SECONDARY_TRUSTED_KEYRING", "CONFIG_INTEGRITY_MACHINE_KEYRING", "CONFIG_INTEGRITY_PLATFORM_KEYRING"}, k.Config.Enabled)
}

// Holds tells whether the running kernel has a key with that identifier, by KeyID;
// it is Unknown for others, and No without a reason if it hasn't.
func (m Machine) Holds(k Kernel, id string) Verdict {
	if !k.Running || m.Rings == nil {
		return Verdict{}
	}
	for _, name := range ringNames() {
		for _, key := range m.Rings[name] {
			if !strings.EqualFold(key.ID, id) {
				continue
			}
			if name == platformRing {
				return platform(k, "in the keyring .platform")
			}
			return verdict(Yes, "in the keyring %s", name)
		}
	}
	return Verdict{Answer: No}
}

// inRings looks into the running kernel, which knows best.
func (m Machine) inRings(k Kernel, cert *x509.Certificate) Verdict {
	if v := m.Holds(k, KeyID(cert)); v.Answer != No {
		return v
	}
	switch {
	case m.New.Has(cert):
		return verdict(No, "waiting for its confirmation at the next boot")
	case m.MOK.Has(cert) && m.SecureBoot == No:
		return verdict(No, "enrolled, but kernels pass over that while Secure Boot is off")
	case m.MOK.Has(cert):
		return verdict(No, "enrolled, but not among the keys of the kernel")
	}
	return verdict(No, "not among the keys of the kernel")
}

// enrolled is for a key in the list of the machine's owner. Some kernels want a
// key for certificates there (CONFIG_INTEGRITY_CA_MACHINE_KEYRING), and count
// others as the firmware's.
func (m Machine) enrolled(k Kernel, cert *x509.Certificate) Verdict {
	authority := cert.IsCA && cert.KeyUsage&x509.KeyUsageCertSign != 0
	switch {
	case m.SecureBoot == No:
		return verdict(No, "enrolled, but kernels pass over that while Secure Boot is off")
	case m.SecureBoot == Unknown:
		return verdict(Unknown, "enrolled; whether that counts depends on Secure Boot")
	case k.Config.Enabled("CONFIG_INTEGRITY_MACHINE_KEYRING") && (authority || !k.Config.Enabled("CONFIG_INTEGRITY_CA_MACHINE_KEYRING")):
		return verdict(Yes, "enrolled as a key of the machine's owner")
	case k.Config == nil:
		return verdict(Unknown, "enrolled; the kernel's configuration isn't there")
	}
	return platform(k, "enrolled, which this kernel counts as a key of the firmware")
}

// platform is for keys that come into the keyring .platform.
func platform(k Kernel, where string) Verdict {
	switch {
	case k.Config != nil && !k.Config.Enabled("CONFIG_INTEGRITY_PLATFORM_KEYRING"):
		return verdict(No, "%s, and this kernel takes no keys from there", where)
	case k.Platform:
		return verdict(Yes, "%s", where)
	}
	return verdict(Unknown, "%s; only some distributions' kernels take that for modules", where)
}
