// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"debug/elf"
	"errors"
	"slices"
	"strings"

	"dkms-go/internal/ko"
)

// compression tells of forms that the target doesn't read. The kernel unpacks
// objects itself with CONFIG_MODULE_DECOMPRESS, and then knows fewer checks of
// xz than kmod (lib/xz, XZ_DEC_ANY_CHECK).
func (c *check) compression() {
	form := ko.Detect(c.raw)
	if c.Readable != nil && form != ko.None && !c.Readable(form) {
		c.refuse(Compression, "is compressed as %s, which the target's kmod doesn't read", form)
	}
	kind, ok := ko.XZCheck(c.raw)
	if !ok || kind == "CRC32" || kind == "None" {
		return
	}
	const text = "is compressed by xz with the check %s, and the kernel's own decoder knows CRC32 only"
	if c.config.Enabled("CONFIG_MODULE_DECOMPRESS") && c.config.Enabled("CONFIG_MODULE_COMPRESS_XZ") {
		c.refuse(Compression, text, kind)
		return
	}
	c.warn(Compression, text, kind)
}

// signature follows module_sig_check of kernel/module/signing.c. A kernel that
// doesn't know signatures passes over them.
func (c *check) signature() {
	sig, signed, err := ko.ParseSignature(c.data)
	forced := c.config.Enabled("CONFIG_MODULE_SIG_FORCE")
	checked := c.config == nil || c.config.Enabled("CONFIG_MODULE_SIG")
	switch {
	case !signed:
		if forced {
			c.refuse(Signature, "is not signed, and the kernel loads signed modules only (CONFIG_MODULE_SIG_FORCE)")
		}
		return
	case errors.Is(err, ko.ErrUnsupported) && !forced, err != nil && !checked:
		c.warn(Signature, "%v", err)
		return
	case err != nil:
		c.refuse(Signature, "%v", err)
		return
	}
	c.report.Signer, c.report.Signature = sig.Signer, sig
	if sig.Attributes && checked {
		c.warn(Signature, "the signature has attributes, which kernels refuse")
	}
	for _, cert := range sig.Certificates {
		if sig.By(cert) && errors.Is(sig.Verify(ko.WithoutSignature(c.data), cert), ko.ErrSignature) {
			c.refuse(Signature, "the signature doesn't fit the content or its own certificate")
		}
	}
	for _, cert := range c.Certificates {
		if !sig.By(cert) {
			continue
		}
		if err := sig.Verify(ko.WithoutSignature(c.data), cert); errors.Is(err, ko.ErrSignature) {
			c.refuse(Signature, "the signature by %q doesn't fit the content: %v", sig.Signer, err)
		}
		return
	}
}

// elf compares what the ELF header says (elf_validity_check of
// kernel/module/main.c). Nothing else can be compared if it differs.
func (c *check) elf() bool {
	o := c.object
	if o.Type != elf.ET_REL {
		c.refuse(ELF, "the ELF type is %v, that of objects is %v", o.Type, elf.ET_REL)
		return false
	}
	class, machine, ok := c.Kernel.ELF()
	if !ok {
		return true
	}
	if o.Class != class {
		c.refuse(ELF, "the ELF class is %v, the kernel's is %v", o.Class, class)
	} else if o.Machine != machine {
		c.refuse(ELF, "the machine is %v, the kernel's is %v", o.Machine, machine)
	}
	if c.sample != nil && o.Order != c.sample.Order {
		c.refuse(ELF, "the byte order is %v, the kernel's is %v", o.Order, c.sample.Order)
	}
	return len(c.report.Problems) == 0 || !slices.ContainsFunc(c.report.Problems, func(p Problem) bool { return p.Code == ELF })
}

// vermagic compares the release, and the rest with that of one of the kernel's
// own objects or with the configuration (same_magic of kernel/module/
// version.c, which leaves the release out for objects with CRCs).
func (c *check) vermagic() {
	have := c.report.Vermagic
	if have == "" {
		if c.known() {
			c.noVermagic()
		}
		return
	}
	release, options := splitVermagic(have)
	want := c.Kernel.Release
	if c.sample != nil {
		want = strings.TrimSpace(c.sample.Vermagic)
	}
	free := c.AnyRelease && c.object.Versioned && c.modversions()
	if release != c.Kernel.Release && !free {
		c.refuse(Vermagic, "the vermagic is %q, the kernel's is %q", strings.TrimSpace(have), want)
		return
	}
	if c.sample != nil {
		c.against(c.sample.Path)
		if _, rest := splitVermagic(c.sample.Vermagic); rest != options {
			c.refuse(Vermagic, "the vermagic is %q, the kernel's is %q", strings.TrimSpace(have), want)
		}
		return
	}
	if !c.wholeConfig() {
		return
	}
	c.report.Against = append(c.report.Against, "configuration")
	if diff := optionsByConfig(strings.Fields(options), c.config.Enabled); diff != "" {
		c.refuse(Vermagic, "the vermagic is %q, but the kernel's configuration has %s", strings.TrimSpace(have), diff)
	}
}

// noVermagic: the kernel takes such an object only by force.
func (c *check) noVermagic() {
	const text = "has no vermagic"
	if c.config.Enabled("CONFIG_MODULE_FORCE_LOAD") {
		c.warn(Vermagic, text)
		return
	}
	c.refuse(Vermagic, text)
}

// optionsByConfig compares the options that all versions of the kernel make
// from the configuration in one way, and returns the first difference. Which
// word a kernel with real-time patches has depends on its version.
func optionsByConfig(options []string, enabled func(string) bool) string {
	pairs := []struct {
		word    string
		symbols []string
	}{
		{"SMP", []string{"CONFIG_SMP"}},
		{"mod_unload", []string{"CONFIG_MODULE_UNLOAD"}},
		{"modversions", []string{"CONFIG_MODVERSIONS"}},
		{"preempt", []string{"CONFIG_PREEMPT", "CONFIG_PREEMPT_BUILD"}},
	}
	for _, p := range pairs {
		if p.word == "preempt" && unclearPreemption(enabled) {
			continue
		}
		want := slices.ContainsFunc(p.symbols, enabled)
		if has := slices.Contains(options, p.word); want && !has {
			return p.symbols[0] + "=y"
		} else if has && !want {
			return "no " + p.symbols[0]
		}
	}
	return ""
}

// unclearPreemption: between 5.4 and 5.16 preemption could be had by symbols
// that are not in the vermagic of all versions.
func unclearPreemption(enabled func(string) bool) bool {
	return enabled("CONFIG_PREEMPT_RT") || enabled("CONFIG_PREEMPTION") && !enabled("CONFIG_PREEMPT") && !enabled("CONFIG_PREEMPT_BUILD")
}

// size compares struct module, whose layout depends on the configuration. The
// kernel itself does so since 6.4.
func (c *check) size() {
	size := c.object.ModuleSize
	switch {
	case size == 0 && c.known():
		c.refuse(Size, "has no struct module (section .gnu.linkonce.this_module)")
	case c.sample == nil || size == 0 || c.sample.ModuleSize == 0:
	case size != c.sample.ModuleSize:
		c.refuse(Size, "struct module has %d bytes, the kernel's has %d (%s)", size, c.sample.ModuleSize, c.sample.Path)
	default:
		c.against(c.sample.Path)
	}
}
