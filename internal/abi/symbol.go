// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"debug/elf"
	"maps"
	"slices"
	"sync"

	"dkms-go/internal/ko"
)

// State says whether a kernel has a symbol.
type State int

// The states. Unknown means that the facts don't suffice to tell: no list of
// exported symbols, or an index that isn't there.
const (
	Unknown State = iota
	Missing
	Found
)

// Symbol is an exported symbol and the file that told of it.
type Symbol struct {
	ko.Export
	File string
}

// Exports returns the symbols that the kernel itself exports, with those of
// its modules if they are from a list of symbols, and the file that they are
// from. They are nil if neither a list nor an image tells.
func (a *Kernel) Exports() (exports Exports, file string) {
	b := a.base()
	return b.exports, b.origin
}

// Symbol looks an exported symbol up as modprobe and the kernel would find it:
// in the kernel, then in the object that the module index has for the module
// that exports it. Objects that stand in for one of the kernel's own, as those
// in updates do, are asked in its place. Modules named in needs, an object's
// depends, are looked into if there is no index of symbols. Objects whose
// files are in without count as not there.
func (a *Kernel) Symbol(name string, needs, without []string) (Symbol, State) {
	b := a.base()
	var e ko.Export
	listed := false
	if b.exports != nil {
		e, listed = b.exports.Lookup(name)
	}
	if listed && e.Module == kernelItself {
		return Symbol{e, b.origin}, Found
	}
	if listed {
		if s, ok := a.among(a.outside(), moduleName(e.Module), name, without); ok {
			return s, Found
		}
		return Symbol{e, b.origin}, Found
	}
	owners := slices.Clone(a.owners()[name])
	for _, n := range needs {
		owners = append(owners, moduleName(n))
	}
	for _, owner := range owners {
		for _, where := range []func() objects{a.outside, a.inside} {
			if s, ok := a.among(where(), owner, name, without); ok {
				return s, Found
			}
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(a.outside())) {
		if s, ok := a.among(a.outside(), owner, name, without); ok {
			return s, Found
		}
	}
	if b.exports == nil || !b.modules && a.owners() == nil {
		return Symbol{}, Unknown
	}
	return Symbol{}, Missing
}

// among asks the first object of a module that is there.
func (a *Kernel) among(files objects, module, symbol string, without []string) (Symbol, bool) {
	for _, path := range files[module] {
		if slices.Contains(without, path) {
			continue
		}
		e, ok := a.objectExports(path).Lookup(symbol)
		return Symbol{e, path}, ok
	}
	return Symbol{}, false
}

func onceExports(a *Kernel, path string) func() Exports {
	return sync.OnceValue(func() Exports {
		exports, err := ReadExports(path)
		a.problem(err)
		return exports
	})
}

// ELF returns the class and the machine of objects of the kernel, by one
// of its own, by its image if that was read for its symbols, or by the name of
// its architecture. It reports false if none of these tells.
func (a *Kernel) ELF() (elf.Class, elf.Machine, bool) {
	if s := a.Sample(); s != nil {
		return s.Class, s.Machine, true
	}
	if b := a.base(); b.origin != "" && !b.modules {
		i := a.image()
		return i.class, i.machine, true
	}
	switch a.Arch {
	case "x86_64":
		return elf.ELFCLASS64, elf.EM_X86_64, true
	case "aarch64":
		return elf.ELFCLASS64, elf.EM_AARCH64, true
	case "ppc64le", "ppc64":
		return elf.ELFCLASS64, elf.EM_PPC64, true
	case "riscv64":
		return elf.ELFCLASS64, elf.EM_RISCV, true
	case "s390x":
		return elf.ELFCLASS64, elf.EM_S390, true
	case "loongarch64":
		return elf.ELFCLASS64, elf.EM_LOONGARCH, true
	}
	return 0, 0, false
}
