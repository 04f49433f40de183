// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// FuzzCache decodes damaged caches whose checksum is right.
func FuzzCache(f *testing.F) {
	some := &facts{symbols: newTable(compareSymbols), aliases: newTable(compareAliases)}
	some.records = []record{{object: &object{out: "a.ko"}, exports: []uint32{some.symbols.number([]byte("s"))}, aliases: []uint32{some.aliases.number([]byte("x-y"))}, soft: []string{"pre: b"}}}
	f.Add(some.encode("/tree")[len(magic)+4:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		data := append([]byte(magic), 0, 0, 0, 0)
		data = append(data, body...)
		binary.LittleEndian.PutUint32(data[len(magic):], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		c, err := decodeCache(data, "/tree")
		if err == nil {
			c.encode("/tree")
		}
		if _, err := decodeCache(body, "/tree"); err == nil && string(body[:min(len(body), len(magic))]) != magic {
			t.Error("a foreign file is taken for a cache")
		}
	})
}

// FuzzConfig reads damaged files of depmod.d(5): what isn't understood is left to
// depmod.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		"search updates extramodules built-in\n", "override a * weak-updates\noverride b 6.1 x/y\n",
		"external 6.1 /opt/modules\n", "make_map_files no\nexclude build\n", "# a\n\nsearch \\\n updates\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var cfg config
		if err := cfg.parse("x.conf", data, "6.1"); err != nil && !isUnsure(err) {
			t.Errorf("%v", err)
		}
	})
}
