// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"encoding/binary"
	"testing"
)

func TestVersions(t *testing.T) {
	const text = "6.1.0-18-amd64 (me@here) (gcc (Debian) 12, ld) #1 SMP Debian 6.1 (2024-02-01)"
	head := make([]byte, 1024)
	copy(head[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(head[0x20e:], 0x100)
	copy(head[0x300:], text)
	for release, want := range map[string]string{"6.1.0-18-amd64": "#1 SMP Debian 6.1 (2024-02-01)", "6.1.0-18": "", "6.2": ""} {
		if got := bzVersion(head, release); got != want {
			t.Errorf("%s: %q", release, got)
		}
		if got := linuxBanner([]byte("\x00\x01Linux version "+text+"\n\x00"), release); got != want {
			t.Errorf("%s: %q in the ELF file", release, got)
		}
	}
	for at := range len(head) { // no place out of it is read
		bzVersion(head[:at], "6.1.0-18-amd64")
	}
}

func FuzzBanner(f *testing.F) {
	f.Add([]byte("Linux version 6.1 (a@b) (gcc) #1 x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []string{bzVersion(data, "6.1"), linuxBanner(data, "6.1")} {
			if v != "" && v[0] != '#' {
				t.Errorf("%q", v)
			}
		}
	})
}
