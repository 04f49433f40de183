// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"debug/elf"
	"slices"
	"strings"

	"dkms-go/internal/abi"
	"dkms-go/internal/ko"
)

// layout is the symbol whose CRC stands for struct module and its like
// (kernel/module/version.c, check_modstruct_version).
const layout = "module_layout"

// modversions reports whether the kernel compares CRCs.
func (s *set) modversions() bool {
	switch {
	case s.wholeConfig():
		return s.config.Enabled("CONFIG_MODVERSIONS")
	case s.sample != nil:
		return slices.Contains(strings.Fields(s.sample.Vermagic), "modversions")
	}
	return true // CRCs that both sides have tell so
}

// symbols checks what the object imports (simplify_symbols, resolve_symbol of
// kernel/module/main.c).
func (c *check) symbols() {
	versions := map[string]uint32{}
	for _, v := range c.object.Versions {
		versions[v.Symbol] = v.CRC
	}
	_, origin := c.Kernel.Exports()
	c.against(origin)
	compare := c.modversions()
	if compare && !c.object.Versioned && len(c.object.Imports) > 0 && (c.wholeConfig() || c.sample != nil) {
		compare = false
		c.noVersions()
	}
	if s, state := c.Kernel.Symbol(layout, nil, nil); compare && state == abi.Found {
		c.version(s, versions)
	}
	for _, i := range c.object.Imports {
		if c.byLinker(i.Symbol) {
			continue
		}
		s, state := c.find(i.Symbol)
		if state == abi.Found {
			c.against(s.File)
			c.symbol(i, s, versions, compare)
		} else if state == abi.Missing && !i.Weak {
			c.refuse(Missing, "needs the symbol %s, which nothing exports (%s)", i.Symbol, strings.Join(c.report.Against, ", "))
		}
	}
}

// find asks the objects of the set, then further exporters, then the kernel.
func (c *check) find(symbol string) (abi.Symbol, abi.State) {
	if s, ok := c.bySymbol[symbol]; ok {
		return s, abi.Found
	}
	return c.Kernel.Symbol(symbol, c.object.Info.Depends(), c.paths)
}

// symbol checks one import that is there.
func (c *check) symbol(i ko.Import, s abi.Symbol, versions map[string]uint32, compare bool) {
	licence := c.object.Info.License()
	if s.GPLOnly() && !gplCompatible(licence) {
		if !i.Weak { // for the kernel it isn't there
			c.refuse(Licence, "the licence is %q, and the symbol %s is for modules under the GPL only (%s)", licence, i.Symbol, s.Type)
		}
		return
	}
	if s.Namespace != "" && !c.imports(s.Namespace) {
		const text = "doesn't import the namespace %q of the symbol %s (import_ns is %q)"
		have := strings.Join(c.object.Info.All("import_ns"), ", ")
		if c.config.Enabled("CONFIG_MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS") {
			c.warn(Namespace, text, s.Namespace, i.Symbol, have)
		} else {
			c.refuse(Namespace, text, s.Namespace, i.Symbol, have)
		}
	}
	if compare {
		c.version(s, versions)
	}
}

// version compares a CRC where both sides have one.
func (c *check) version(s abi.Symbol, versions map[string]uint32) {
	have, ok := versions[s.Symbol]
	switch {
	case s.CRC == 0:
	case !ok && c.object.Versioned:
		c.warn(Version, "has no CRC of the symbol %s, the kernel's is %#08x (%s)", s.Symbol, s.CRC, s.File)
	case ok && have != s.CRC:
		c.refuse(Version, "the symbol %s has the CRC %#08x, the kernel's is %#08x (%s)", s.Symbol, have, s.CRC, s.File)
	}
}

// noVersions: the kernel takes such an object only by force.
func (c *check) noVersions() {
	const text = "has no CRCs of symbols, which the kernel compares (CONFIG_MODVERSIONS)"
	if c.config.Enabled("CONFIG_MODULE_FORCE_LOAD") {
		c.warn(NoVersions, text)
		return
	}
	c.refuse(NoVersions, text)
}

// byLinker reports whether a symbol is one that assemblers leave behind or
// that the loader of an architecture makes itself (ignore_undef_symbol of
// kernel/module/main.c, arch/powerpc/kernel/module_64.c).
func (c *check) byLinker(symbol string) bool {
	switch c.object.Machine {
	case elf.EM_386, elf.EM_X86_64:
		return symbol == "_GLOBAL_OFFSET_TABLE_"
	case elf.EM_PPC, elf.EM_PPC64:
		return symbol == "_GLOBAL_OFFSET_TABLE_" || strings.HasPrefix(symbol, ".")
	}
	return false
}

// imports reports whether the object may use a namespace: it imports it, or,
// since 6.16, the namespace names modules and the object's is one of these
// (verify_module_namespace of kernel/module/main.c).
func (c *check) imports(namespace string) bool {
	if slices.Contains(c.object.Info.All("import_ns"), namespace) {
		return true
	}
	list, ok := strings.CutPrefix(namespace, "module:")
	if !ok {
		return false
	}
	name := strings.ReplaceAll(c.object.Info.Name(), "-", "_")
	for pattern := range strings.SplitSeq(strings.ReplaceAll(list, "-", "_"), ",") {
		start, open := strings.CutSuffix(pattern, "*")
		if name == pattern || open && strings.HasPrefix(name, start) {
			return true
		}
	}
	return false
}

// gplCompatible is license_is_gpl_compatible of include/linux/license.h.
func gplCompatible(licence string) bool {
	return slices.Contains([]string{
		"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL",
	}, licence)
}
