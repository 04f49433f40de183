// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"reflect"
	"slices"
	"testing"
)

func TestParseObject(t *testing.T) {
	for flag, want := range map[string]Object{
		"-m64": {Class: elf.ELFCLASS64, Machine: elf.EM_X86_64, ModuleSize: 88},
		"-m32": {Class: elf.ELFCLASS32, Machine: elf.EM_386, ModuleSize: 76},
	} {
		data := readFile(t, compile(t, moduleSource, flag))
		o, err := ParseObject(data)
		if err != nil {
			t.Fatal(err)
		}
		if o.Class != want.Class || o.Machine != want.Machine || o.Order != elf.ELFDATA2LSB || o.Type != elf.ET_REL || o.ModuleSize != want.ModuleSize {
			t.Errorf("%s: %v %v %v %v %d", flag, o.Class, o.Machine, o.Order, o.Type, o.ModuleSize)
		}
		if !o.Versioned || len(o.Versions) != 2 || o.Info.Name() != "small" || len(o.Exports) != 1 || !o.Exports[0].GPLOnly() {
			t.Errorf("%s: %+v", flag, o)
		}
		for _, i := range []Import{{"optional", true}, {"printk", false}} {
			if !slices.Contains(o.Imports, i) {
				t.Errorf("%s: no %+v in %+v", flag, i, o.Imports)
			}
		}
		undefined, err := Undefined(data)
		if err != nil || len(undefined) != len(o.Imports) {
			t.Errorf("%s: %q and %+v, %v", flag, undefined, o.Imports, err)
		}
	}
	if _, err := ParseObject(nil); !errors.Is(err, ErrFormat) {
		t.Errorf("nothing: %v", err)
	}
}

// TestFlagsOfExports: the form without a section of GPL-only symbols.
func TestFlagsOfExports(t *testing.T) {
	const source = `
int a, b;
__asm__(".pushsection __ksymtab,\"a\"\n__ksymtab_a: .long 0,0,0\n__ksymtab_b: .long 0,0,0\n.popsection");
__asm__(".pushsection __kflagstab,\"a\"\n.byte 0,1\n.popsection");
`
	got, err := Exports(readFile(t, compile(t, source)))
	want := []Export{{Symbol: "a", Type: "EXPORT_SYMBOL"}, {Symbol: "b", Type: "EXPORT_SYMBOL_GPL"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestXZCheck(t *testing.T) {
	path := compile(t, moduleSource)
	for arg, want := range map[string]string{"none": "None", "crc32": "CRC32", "crc64": "CRC64", "sha256": "SHA-256"} {
		run(t, "xz", "-kf", "--check="+arg, path)
		data, err := os.ReadFile(path + ".xz")
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := XZCheck(data); !ok || got != want {
			t.Errorf("%s: %q, %v", arg, got, ok)
		}
	}
	if got, ok := XZCheck([]byte("\xfd7zXZ\x00\x00\x07")); got != "unknown" || !ok {
		t.Errorf("a check of the future: %q, %v", got, ok)
	}
	if got, ok := XZCheck([]byte("\xfd7zXZ\x00")); ok {
		t.Errorf("cut short: %q", got)
	}
}

func FuzzParseObject(f *testing.F) {
	f.Add(readFile(f, compile(f, moduleSource)))
	f.Add(readFile(f, compile(f, moduleSource+extendedVersions, "-m32")))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = ParseObject(data)
		_, _ = XZCheck(data)
	})
}

func FuzzFacts(f *testing.F) {
	f.Add(readFile(f, compile(f, moduleSource)))
	f.Add(readFile(f, compile(f, moduleSource+extendedVersions)))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := Facts(data, func(kind Fact, text []byte) {
			if kind < Exported || kind > WeakDep || bytes.IndexByte(text, 0) >= 0 {
				t.Errorf("fact %d: %q", kind, text)
			}
		})
		if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzDifference(f *testing.F) {
	a := readFile(f, compile(f, moduleSource))
	f.Add(a, readFile(f, compile(f, moduleSource+extendedVersions)))
	f.Add(a, []byte("x"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if (Difference(a, b) == "") != bytes.Equal(a, b) {
			t.Error("a difference without one, or none")
		}
	})
}
