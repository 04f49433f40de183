// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestParseInfoConfirm compares with modinfo(8), for plain and signed objects.
func TestParseInfoConfirm(t *testing.T) {
	plain := readFile(t, compile(t, moduleSource, "-g"))
	signed, err := Sign(plain, testSigner(t), "sha384")
	if err != nil {
		t.Fatal(err)
	}
	stripped, err := Strip(signed)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"plain": plain, "signed": signed, "stripped": stripped,
		"32 bits": readFile(t, compile(t, moduleSource, "-m32")),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "small.ko")
			writeFile(t, path, data)
			info, err := ParseInfo(data)
			if err != nil {
				t.Fatal(err)
			}
			keys := []string{"version", "srcversion", "license", "vermagic", "depends", "name", "description",
				"signer", "sig_key", "sig_hashalgo", "sig_id", "author", "nothing"}
			for _, key := range keys {
				want := strings.TrimSuffix(run(t, "modinfo", "-F", key, path), "\n")
				if got := info.Get(key); got != want {
					t.Errorf("%s = %q, modinfo has %q", key, got, want)
				}
			}
		})
	}
}

func TestInfo(t *testing.T) {
	info, err := ParseInfo(readFile(t, compile(t, moduleSource)))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{info.Name(), info.Version(), info.SrcVersion(), info.License(), info.Vermagic(), strings.Join(info.Depends(), "+")}
	want := []string{"small", "1.2.3 rc", "0123456789ABCDEF0123456", "GPL v2",
		"6.1.0-50-amd64 SMP preempt mod_unload modversions ", "mii+usbcore"}
	if !slices.Equal(got, want) {
		t.Errorf("info = %q, want %q", got, want)
	}
	if got := info.All("parm"); !slices.Equal(got, []string{"debug:level (int)"}) {
		t.Errorf("parm = %q", got)
	}
	old := strings.ReplaceAll(moduleSource, `"name=small"`, `"other=small"`)
	for _, flag := range []string{"-m32", "-m64"} {
		if info, err = ParseInfo(readFile(t, compile(t, old, flag))); err != nil || info.Name() != "small" {
			t.Errorf("name in struct module = %q, %v", info.Name(), err)
		}
	}
	if info, err = ParseInfo(readFile(t, compile(t, secondSource))); err != nil || len(info.Fields) != 0 || info.Depends() != nil {
		t.Errorf("object without modinfo: %+v, %v", info, err)
	}
}

func TestParseInfoErrors(t *testing.T) {
	data := readFile(t, compile(t, moduleSource))
	for name, change := range map[string]func([]byte){
		"class":          func(b []byte) { b[elf.EI_CLASS] = 9 },
		"order":          func(b []byte) { b[elf.EI_DATA] = 9 },
		"table offset":   func(b []byte) { b[0x2e] = 0xff },
		"header size":    func(b []byte) { b[0x3a] = 1 },
		"section count":  func(b []byte) { b[0x3d] = 0xfe },
		"names section":  func(b []byte) { b[0x3f] = 0x7f },
		"section length": func(b []byte) { b[uint64At(b, 0x28)+2*64+32+6] = 0xff },
		"section offset": func(b []byte) { b[uint64At(b, 0x28)+2*64+24+6] = 0xff },
		"section name":   func(b []byte) { b[uint64At(b, 0x28)+2*64+2] = 0xff },
	} {
		bad := bytes.Clone(data)
		change(bad)
		if _, err := ParseInfo(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: ParseInfo = %v", name, err)
		}
	}
	if m, err := Machine(data); m != elf.EM_X86_64 || err != nil {
		t.Errorf("Machine = %v, %v", m, err)
	}
	if _, err := Machine(nil); !errors.Is(err, ErrFormat) {
		t.Errorf("Machine of nothing = %v", err)
	}
}

func uint64At(b []byte, off int) (v uint64) {
	for i := range 8 {
		v |= uint64(b[off+i]) << (8 * i)
	}
	return v
}

const extendedVersions = `
__asm__(".pushsection __version_ext_crcs,\"a\"\n.long 0x11, 0x22\n.popsection");
__asm__(".pushsection __version_ext_names,\"a\"\n.asciz \"printk\"\n.asciz \"a_very_long_name\"\n.popsection");
`

func TestVersions(t *testing.T) {
	for _, flag := range []string{"-m32", "-m64"} {
		got, err := Versions(readFile(t, compile(t, moduleSource, flag)))
		want := []Version{{"module_layout", 0x12345678}, {"printk", 0x9abcdef0}}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Versions = %v, %v", got, err)
		}
	}
	got, err := Versions(readFile(t, compile(t, moduleSource+extendedVersions)))
	want := []Version{{"a_very_long_name", 0x22}, {"module_layout", 0x12345678}, {"printk", 0x11}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("extended Versions = %v, %v", got, err)
	}
	if got, err := Versions(readFile(t, compile(t, secondSource))); err != nil || len(got) != 0 {
		t.Errorf("Versions without table = %v, %v", got, err)
	}
	for _, bad := range []string{
		`__asm__(".section __versions,\"a\"\n.long 1");`,
		`__asm__(".section __version_ext_crcs,\"a\"\n.long 1");`,
		`__asm__(".section __version_ext_crcs,\"a\"\n.byte 1");`,
	} {
		if _, err := Versions(readFile(t, compile(t, bad))); !errors.Is(err, ErrFormat) {
			t.Errorf("Versions of %s = %v", bad, err)
		}
	}
}

func TestSymbols(t *testing.T) {
	data := readFile(t, compile(t, moduleSource, "-fno-common"))
	undefined, err := Undefined(data)
	if err != nil || !slices.Equal(undefined, []string{"optional", "printk"}) {
		t.Errorf("Undefined = %q, %v", undefined, err)
	}
	exports, err := Exports(data)
	want := []Export{{0xcafe1234, "exported", "small", "EXPORT_SYMBOL_GPL", "SPACE"}}
	if err != nil || !slices.Equal(exports, want) {
		t.Errorf("Exports = %v, %v", exports, err)
	}
	for _, f := range []func([]byte) error{
		func(b []byte) error { _, err := Undefined(b); return err },
		func(b []byte) error { _, err := Exports(b); return err },
		func(b []byte) error { _, err := Versions(b); return err },
	} {
		if err := f([]byte("text")); !errors.Is(err, ErrFormat) {
			t.Errorf("error = %v", err)
		}
	}
}

func TestParseSymvers(t *testing.T) {
	in := "0x12345678\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n" +
		"0x9abcdef0\tusb_x\tdrivers/usb/core/usbcore\tEXPORT_SYMBOL_GPL\tUSB\n" +
		"\n" +
		"0x00000001\tmiddle\tSPACE\tdrivers/old\tEXPORT_SYMBOL\n" +
		"0x00000002\told\tvmlinux\n" +
		"0x00000003\tfour\tvmlinux\tEXPORT_UNUSED_SYMBOL\n" +
		"0x00000004\told\tlater\n"
	list, err := ParseSymvers([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Export{}
	for e := range list.All() {
		got[e.Symbol] = e
	}
	want := map[string]Export{
		"printk": {0x12345678, "printk", "vmlinux", "EXPORT_SYMBOL", ""},
		"usb_x":  {0x9abcdef0, "usb_x", "drivers/usb/core/usbcore", "EXPORT_SYMBOL_GPL", "USB"},
		"middle": {1, "middle", "drivers/old", "EXPORT_SYMBOL", "SPACE"},
		"old":    {2, "old", "vmlinux", "", ""},
		"four":   {3, "four", "vmlinux", "EXPORT_UNUSED_SYMBOL", ""},
	}
	if !reflect.DeepEqual(got, want) || list.Len() != len(want) {
		t.Errorf("ParseSymvers = %v", got)
	}
	for name, e := range want {
		if got, ok := list.Lookup(name); !ok || got != e || !list.Has(e.Module) {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	if _, ok := list.Lookup("print"); ok || list.Has("SPACE") || list.Has("vmlinu") || list.Has("USB") {
		t.Error("a part of a name, or a namespace, was found")
	}
	for _, bad := range []string{
		"0x1 printk vmlinux", "0x1\tprintk", "12\tprintk\tvmlinux", "0x123456789\tp\tvmlinux", "0x1\t\tvmlinux",
		"0x1\ta\tb\tc\td\te", "0xzz\ta\tb", "0x1\ta\t" + strings.Repeat("x", maxSymversLine),
	} {
		_, err := ParseSymvers([]byte("0x1\tfirst\tvmlinux\n" + bad + "\n"))
		if err == nil {
			t.Errorf("%.20q is no error", bad)
		}
	}
}

func BenchmarkParseInfo(b *testing.B) {
	data := readFile(b, compile(b, moduleSource, "-g", "-O2"))
	for b.Loop() {
		if _, err := ParseInfo(data); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(readFile(f, compile(f, moduleSource)))
	f.Add(readFile(f, compile(f, moduleSource+extendedVersions, "-m32")))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ParseInfo(data)
		if err == nil {
			_, _ = info.Name(), info.Depends()
		}
		_, _ = Versions(data)
		_, _ = Undefined(data)
		_, _ = Exports(data)
	})
}

func FuzzParseSymvers(f *testing.F) {
	f.Add("0x12345678\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n")
	f.Add("0x00000001\tmiddle\tSPACE\tdrivers/old\tEXPORT_SYMBOL\n\n")
	f.Fuzz(func(t *testing.T, in string) {
		list, err := ParseSymvers([]byte(in))
		if err != nil {
			return
		}
		n := 0
		for e := range list.All() {
			n++
			if got, ok := list.Lookup(e.Symbol); e.Symbol == "" || !ok || got != e || !list.Has(e.Module) {
				t.Fatalf("%+v: %+v", e, got)
			}
		}
		if n != list.Len() {
			t.Fatalf("%d of %d", n, list.Len())
		}
	})
}

// BenchmarkParseSymvers reads a list as long as a distribution kernel's and
// looks up what a small module uses.
func BenchmarkParseSymvers(b *testing.B) {
	var text strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&text, "0x%08x\tsome_symbol_%d\tdrivers/some/where/module%d\tEXPORT_SYMBOL_GPL\t\n", i, i, i%2000)
	}
	data := []byte(text.String())
	for b.Loop() {
		list, err := ParseSymvers(data)
		if err != nil {
			b.Fatal(err)
		}
		for i := range 30 {
			if _, ok := list.Lookup(fmt.Sprint("some_symbol_", i)); !ok {
				b.Fatal(i)
			}
		}
	}
}
