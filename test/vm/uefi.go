// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf16"
)

// The firmware of the package ovmf, and its variable stores: one without any
// key, and one in which Secure Boot is on and one key of the package is trusted.
// This firmware enforces Secure Boot without protecting the store from the
// guest, and starts any kernel that qemu hands it.
const (
	firmware   = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	noKeys     = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	secureBoot = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"
)

// Trust is what a machine's firmware trusts.
type Trust struct {
	// SecureBoot turns it on.
	SecureBoot bool
	// DB are certificates, in DER, of the firmware's own list "db".
	DB [][]byte
	// MOK are those that shim hands to the kernel after an enrolment, the list
	// "MokListRT". Kernels read it only with Secure Boot on.
	MOK [][]byte
}

// Variables makes a variable store for Options.UEFI.
func Variables(tb testing.TB, trust Trust) string {
	tb.Helper()
	from := noKeys
	if trust.SecureBoot {
		from = secureBoot
	}
	store, err := os.ReadFile(from)
	if err != nil {
		tb.Fatal(err)
	}
	if len(trust.DB) > 0 {
		// EFI_IMAGE_SECURITY_DATABASE_GUID: UEFI 2.10, section 32.4.1.
		vendor := efiGUID{0xd719b2cb, 0x3d3a, 0x4596, [8]byte{0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}}
		addVariable(tb, store, "db", vendor, runtimeKept|timeAuthenticated, lists(trust.DB))
	}
	if len(trust.MOK) > 0 {
		// SHIM_LOCK_GUID: include/guid.h of shim; include/linux/efi.h.
		vendor := efiGUID{0x605dab50, 0xe046, 0x4300, [8]byte{0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}}
		addVariable(tb, store, "MokListRT", vendor, runtimeKept, lists(trust.MOK))
	}
	file := filepath.Join(tb.TempDir(), "variables.fd")
	if err := os.WriteFile(file, store, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// efiGUID is an EFI_GUID as it lies in memory.
type efiGUID struct {
	A    uint32
	B, C uint16
	D    [8]byte
}

// Attributes of a variable (UEFI 2.10, section 8.2.1).
const (
	runtimeKept       = 0x7 // non-volatile, for boot and run time
	timeAuthenticated = 0x20
)

// lists returns an EFI_SIGNATURE_LIST for each certificate (UEFI 2.10, section
// 32.4.1).
func lists(certs [][]byte) []byte {
	var out bytes.Buffer
	for _, der := range certs {
		put(&out, struct {
			Type                     efiGUID // EFI_CERT_X509_GUID
			Size, HeaderSize, OneLen uint32
			Owner                    efiGUID
		}{
			Type: efiGUID{0xa5c059a1, 0x94e4, 0x4aa7, [8]byte{0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}},
			Size: uint32(44 + len(der)), OneLen: uint32(16 + len(der)),
			Owner: efiGUID{A: 1},
		})
		out.Write(der)
	}
	return out.Bytes()
}

// variable is AUTHENTICATED_VARIABLE_HEADER of edk2's
// MdeModulePkg/Include/Guid/VariableFormat.h, which the name and the data follow.
type variable struct {
	Start           uint16
	State, Reserved uint8
	Attributes      uint32
	Count           uint64
	Time            [16]byte
	Key             uint32
	Name, Data      uint32 // sizes in bytes
	Vendor          efiGUID
}

const (
	variableStart   = 0x55aa
	variableAdded   = 0x3f
	variableDeleted = 0x3c
	variableHeader  = 60
	storeHeader     = 28 // behind the header of the firmware volume, whose size is at 48
)

// addVariable puts data into a variable of a store, behind the data that it has.
func addVariable(tb testing.TB, store []byte, name string, vendor efiGUID, attributes uint32, data []byte) {
	tb.Helper()
	if string(store[40:44]) != "_FVH" {
		tb.Fatal("the variable store of the package ovmf is not in a firmware volume")
	}
	volume := int(binary.LittleEndian.Uint16(store[48:]))
	end := volume + int(binary.LittleEndian.Uint32(store[volume+16:]))
	wide := utf16.Encode([]rune(name + "\x00"))
	at := volume + storeHeader
	for {
		var v variable
		get(store[at:], &v)
		if v.Start != variableStart {
			break
		}
		names, content := at+variableHeader, at+variableHeader+int(v.Name)
		var its bytes.Buffer
		put(&its, wide)
		if v.State == variableAdded && v.Vendor == vendor && bytes.Equal(store[names:content], its.Bytes()) {
			data = slices.Concat(store[content:content+int(v.Data)], data)
			store[at+2] = variableDeleted
		}
		at = (content + int(v.Data) + 3) &^ 3
	}
	v := variable{
		Start: variableStart, State: variableAdded, Attributes: attributes,
		Name: uint32(2 * len(wide)), Data: uint32(len(data)), Vendor: vendor,
	}
	if attributes&timeAuthenticated != 0 {
		v.Time = [16]byte{0xe8, 0x07, 1, 1} // the first of January 2024
	}
	var out bytes.Buffer
	put(&out, v)
	put(&out, wide)
	out.Write(data)
	if at+out.Len() >= end {
		tb.Fatalf("no room for %s in the variable store", name)
	}
	copy(store[at:], out.Bytes())
}

// put writes a value of fixed size to a buffer, which takes all.
func put(out *bytes.Buffer, v any) { _ = binary.Write(out, binary.LittleEndian, v) }

// get reads a value of fixed size from a store, which is larger than that.
func get(in []byte, v any) { _, _ = binary.Decode(in, binary.LittleEndian, v) }
