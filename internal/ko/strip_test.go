// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStripConfirm compares with the strip program, byte for byte.
func TestStripConfirm(t *testing.T) {
	tests := map[string][]string{
		"debug":             {"-g", "-O2"},
		"no debug":          {"-O2"},
		"dwarf 4":           {"-gdwarf-4", "-O1"},
		"macros and types":  {"-g3", "-fdebug-types-section"},
		"function sections": {"-g", "-O2", "-ffunction-sections", "-fdata-sections"},
		"kernel model":      {"-g", "-O2", "-mcmodel=kernel", "-fno-asynchronous-unwind-tables"},
		"32 bits":           {"-m32", "-g", "-O2"},
		"32 bit sections":   {"-m32", "-g", "-ffunction-sections", "-fno-common"},
		"common":            {"-g", "-fcommon", "-O2"},
		"compressed debug":  {"-g", "-gz"},
		"profiled":          {"-g", "-O2", "-pg", "-mfentry", "-mrecord-mcount"},
		"patchable":         {"-g", "-O2", "-fpatchable-function-entry=16,16"},
	}
	for name, flags := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := compile(t, moduleSource, flags...)
			confirmStrip(t, object)
			second := compile(t, secondSource, flags...)
			linked := filepath.Join(t.TempDir(), "linked.ko")
			emulation := "elf_x86_64"
			if flags[0] == "-m32" {
				emulation = "elf_i386"
			}
			run(t, "ld", "-m", emulation, "-r", "-o", linked, object, second)
			confirmStrip(t, linked)
		})
	}
}

// confirmStrip strips path in both ways, plain, signed and twice.
func confirmStrip(t *testing.T, path string) {
	t.Helper()
	want := filepath.Join(t.TempDir(), "want.ko")
	run(t, "strip", "-g", "-o", want, path)
	data := readFile(t, path)
	before := bytes.Clone(data)
	got, err := Strip(data)
	if err != nil {
		t.Fatalf("Strip(%s): %v", path, err)
	}
	if !bytes.Equal(data, before) {
		t.Error("Strip changed its input")
	}
	if !bytes.Equal(got, readFile(t, want)) {
		mine := filepath.Join(t.TempDir(), "got.ko")
		writeFile(t, mine, got)
		t.Errorf("Strip differs from strip -g:\n%s\nwant\n%s", run(t, "readelf", "-aW", mine), run(t, "readelf", "-aW", want))
	}
	again, err := Strip(append(bytes.Clone(got), "trailer"+signatureMagic...))
	if err != nil {
		t.Fatalf("Strip of stripped object: %v", err)
	}
	if !bytes.Equal(again, got) {
		t.Error("Strip of a stripped object with trailer changes it")
	}
}

// TestStripKeeps checks what must survive, independent of binutils.
func TestStripKeeps(t *testing.T) {
	data := readFile(t, compile(t, moduleSource, "-g", "-O2"))
	got, err := Strip(data)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Sections {
		if strings.Contains(s.Name, "debug") {
			t.Errorf("section %s is left", s.Name)
		}
	}
	for _, name := range []string{".modinfo", "__versions", ".gnu.linkonce.this_module", ".BTF", "__ksymtab_gpl"} {
		if f.Section(name) == nil {
			t.Errorf("section %s is gone", name)
		}
	}
}

func TestStripErrors(t *testing.T) {
	object := compile(t, moduleSource, "-g")
	data := readFile(t, object)
	dir := t.TempDir()
	shared := filepath.Join(dir, "shared.so")
	run(t, "gcc", "-shared", "-nostdlib", "-o", shared, compile(t, secondSource, "-fpic"))
	allSymbols := filepath.Join(dir, "nosymbols.o")
	writeFile(t, filepath.Join(dir, "empty.c"), nil)
	run(t, "gcc", "-c", "-o", allSymbols, filepath.Join(dir, "empty.c"))
	run(t, "strip", "-s", allSymbols)
	cut := bytes.Clone(data[:len(data)-10])
	tests := map[string]struct {
		data []byte
		want error
	}{
		"empty":          {nil, ErrFormat},
		"text":           {[]byte("not an object, but long enough"), ErrFormat},
		"cut":            {cut, ErrFormat},
		"header only":    {data[:30], ErrFormat},
		"shared library": {readFile(t, shared), ErrUnsupported},
		"no symbols":     {readFile(t, allSymbols), ErrUnsupported},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := Strip(tt.data); !errors.Is(err, tt.want) {
				t.Errorf("Strip = %v, want %v", err, tt.want)
			}
		})
	}
}

func BenchmarkStrip(b *testing.B) {
	data := readFile(b, compile(b, moduleSource, "-g", "-O2"))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Strip(data); err != nil {
			b.Fatal(err)
		}
	}
}

// TestStripLarge confirms with objects of an installed kernel if the
// variable DKMS_KO_DIR names a directory with some.
func TestStripLarge(t *testing.T) {
	dir := os.Getenv("DKMS_KO_DIR")
	if dir == "" {
		return
	}
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ko") {
			confirmStrip(t, path)
		}
		return nil
	})
}
