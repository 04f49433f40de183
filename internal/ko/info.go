// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"
)

// Field is one key=value entry of an object's .modinfo section.
type Field struct{ Key, Value string }

// Info is what an object says about itself, as modinfo(8) shows it.
type Info struct {
	// Fields are the .modinfo entries in file order; keys may repeat (alias,
	// parm, firmware).
	Fields []Field
	// Signature is the appended signature, nil if there is none or if it is
	// damaged.
	Signature *Signature

	moduleName string // from struct module
}

// ParseInfo reads the .modinfo section of an uncompressed object and its
// signature. An object without that section has no fields. It fails with
// ErrFormat if data is not a well-formed ELF file.
func ParseInfo(data []byte) (*Info, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("reading modinfo: %w", err)
	}
	return o.info(), nil
}

func (o *object) info() *Info {
	info := &Info{moduleName: o.moduleName()}
	for entry := range bytes.SplitSeq(o.section(".modinfo"), []byte{0}) {
		if len(entry) == 0 {
			continue
		}
		key, value, _ := strings.Cut(string(entry), "=")
		info.Fields = append(info.Fields, Field{key, value})
	}
	if sig, ok, err := ParseSignature(o.raw); ok && err == nil {
		info.Signature = sig
	}
	return info
}

// moduleName reads the name member of struct module: it follows an enum and a
// list head (include/linux/module.h).
func (o *object) moduleName() string {
	d := o.section(".gnu.linkonce.this_module")
	off := 3 * o.wordSize()
	if off+64-o.wordSize() > len(d) {
		return ""
	}
	name, _, _ := bytes.Cut(d[off:off+64-o.wordSize()], []byte{0})
	return string(name)
}

// Get returns the first value of key, "" if there is none. Besides .modinfo
// keys it knows those modinfo(8) derives from the signature: sig_id, signer,
// sig_key and sig_hashalgo.
func (i *Info) Get(key string) string {
	for _, f := range i.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	if s := i.Signature; s != nil {
		switch key {
		case "sig_id":
			return s.IDType
		case "signer":
			return s.Signer
		case "sig_key":
			return s.KeyID
		case "sig_hashalgo":
			return s.Hash
		}
	}
	return ""
}

// All returns every value of a .modinfo key in file order.
func (i *Info) All(key string) []string {
	var out []string
	for _, f := range i.Fields {
		if f.Key == key {
			out = append(out, f.Value)
		}
	}
	return out
}

// Version returns the module's version, which may contain spaces.
func (i *Info) Version() string { return i.Get("version") }

// SrcVersion returns the checksum over the sources.
func (i *Info) SrcVersion() string { return i.Get("srcversion") }

// Vermagic returns the kernel release and options the object was built for.
func (i *Info) Vermagic() string { return i.Get("vermagic") }

// License returns the licence.
func (i *Info) License() string { return i.Get("license") }

// Name returns the name the kernel will know the module by: the name entry or,
// for objects of older kernels, that in struct module.
func (i *Info) Name() string {
	if n := i.Get("name"); n != "" {
		return n
	}
	return i.moduleName
}

// Depends returns the names of the modules this one needs.
func (i *Info) Depends() []string {
	var out []string
	for name := range strings.SplitSeq(i.Get("depends"), ",") {
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}

// Machine returns the processor family in the ELF header.
func Machine(data []byte) (elf.Machine, error) {
	o, err := parseObject(data)
	if err != nil {
		return elf.EM_NONE, fmt.Errorf("reading object: %w", err)
	}
	return o.machine, nil
}
