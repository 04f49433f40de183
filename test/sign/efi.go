// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// GUIDs of variables.
const (
	GlobalGUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	ImageGUID  = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
	ShimGUID   = "605dab50-e046-4300-abb6-3dd810dd8b23"
)

// List is the content of a variable with certificates in DER form: an
// EFI_SIGNATURE_LIST for each.
func List(certs ...[]byte) []byte {
	var out []byte
	for _, der := range certs {
		out = append(out, 0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72)
		out = binary.LittleEndian.AppendUint32(out, uint32(44+len(der)))
		out = binary.LittleEndian.AppendUint32(out, 0)
		out = binary.LittleEndian.AppendUint32(out, uint32(16+len(der)))
		out = append(append(out, "the owner's GUID"...), der...)
	}
	return out
}

// Variable writes a variable as efivarfs has it.
func Variable(tb testing.TB, dir, name, guid string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(dir, name+"-"+guid), append([]byte{6, 0, 0, 0}, content...), 0o644); err != nil {
		tb.Fatal(err)
	}
}
