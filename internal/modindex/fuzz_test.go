// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzBuiltin makes the indexes of what a kernel has in itself as depmod does.
func FuzzBuiltin(f *testing.F) {
	f.Add([]byte("kernel/a/b-c.ko\nkernel/d.ko\n"), []byte("a.alias=pci:v*\x00a.license=GPL\x00d.alias=x-y\x00d.alias=x_y\x00"))
	f.Add([]byte("kernel/a.ko\nx"), []byte("a\x00.=\x00a.alias=[a-b]\x00a.alias\x00b.c=d"))
	f.Add([]byte(""), []byte("a.alias=z"))
	b := newBench(f, "6.1.0")
	tool, err := findTool(f.Context(), b.request().Env, tool{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, list, info []byte) {
		for name, data := range map[string][]byte{"modules.builtin": list, "modules.builtin.modinfo": info} {
			if err := os.WriteFile(filepath.Join(b.tree, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		names, errNames := builtinFile(b.tree, tool.version)
		aliases, errAliases := builtinAliases(b.tree, tool.version)
		if errNames != nil && errAliases != nil {
			return
		}
		if text, err := b.depmod(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for name, got := range map[string][]byte{"modules.builtin.bin": names, "modules.builtin.alias.bin": aliases} {
			want, err := os.ReadFile(filepath.Join(b.tree, name))
			if err == nil && got != nil && !bytes.Equal(got, want) {
				t.Errorf("%s: %s", name, firstDifference(string(want), string(got)))
			}
		}
	})
}
