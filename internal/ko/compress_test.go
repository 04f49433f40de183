// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func compressions() []Compression { return []Compression{None, Gzip, XZ, Zstd} }

func TestSplitName(t *testing.T) {
	tests := []struct {
		file, name string
		c          Compression
		ok         bool
	}{
		{"foo.ko", "foo", None, true},
		{"foo.ko.xz", "foo", XZ, true},
		{"foo.ko.gz", "foo", Gzip, true},
		{"a/b/foo-bar.ko.zst", "a/b/foo-bar", Zstd, true},
		{"foo.ko.bz2", "", None, false},
		{"foo", "", None, false},
		{".ko", "", None, false},
		{"dir/.ko.xz", "", None, false},
		{"foo.ko.ko", "foo.ko", None, true},
		{"", "", None, false},
	}
	for _, tt := range tests {
		name, c, ok := SplitName(tt.file)
		if ok != tt.ok || ok && (name != tt.name || c != tt.c) {
			t.Errorf("SplitName(%q) = %q, %q, %v", tt.file, name, c, ok)
		}
	}
}

// TestCompressConfirm lets the usual programs read our files and reads theirs.
func TestCompressConfirm(t *testing.T) {
	object := compile(t, moduleSource, "-g")
	data := readFile(t, object)
	programs := map[Compression]string{Gzip: "gzip", XZ: "xz", Zstd: "zstd"}
	for c, program := range programs {
		t.Run(program, func(t *testing.T) {
			packed, err := Compress(data, c)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Compress(data, c)
			if err != nil || !bytes.Equal(packed, again) {
				t.Errorf("compressing twice differs (%v)", err)
			}
			cmd := exec.Command(program, "-dc")
			cmd.Stdin = bytes.NewReader(packed)
			if out, err := cmd.Output(); err != nil || !bytes.Equal(out, data) {
				t.Errorf("%s reads %d bytes, %v", program, len(out), err)
			}
			theirs, err := exec.Command(program, "-c", object).Output()
			if err != nil {
				t.Fatal(err)
			}
			for _, in := range [][]byte{packed, theirs} {
				path := filepath.Join(t.TempDir(), "x.ko"+string(c))
				writeFile(t, path, in)
				if got, err := Read(path); err != nil || !bytes.Equal(got, data) {
					t.Errorf("Read gives %d bytes, %v", len(got), err)
				}
			}
		})
	}
}

// TestCompressKernel checks what the kernel's decompressors ask for.
func TestCompressKernel(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef, some text to compress; "), 100_000)
	packed, err := Compress(data, XZ)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "x.xz")
	writeFile(t, file, packed)
	list := run(t, "xz", "--robot", "-lvv", file)
	if !strings.Contains(list, "CRC32") || !strings.Contains(list, "--lzma2=dict=1MiB") {
		t.Errorf("xz lists\n%s", list)
	}
	for _, d := range [][]byte{data, data[:5000]} {
		if packed, err = Compress(d, Zstd); err != nil {
			t.Fatal(err)
		}
		file = filepath.Join(dir, "x.zst")
		writeFile(t, file, packed)
		if list = run(t, "zstd", "-lv", file); !strings.Contains(list, "Decompressed Size") {
			t.Errorf("zstd lists\n%s", list)
		}
		run(t, "zstd", "-dqf", "--memory=2MB", file, "-o", filepath.Join(dir, "out"))
	}
}

func TestCompressEdges(t *testing.T) {
	for _, c := range compressions() {
		packed, err := Compress(nil, c)
		if err != nil {
			t.Errorf("%q: %v", c, err)
		}
		if got, err := Decompress(packed); err != nil || len(got) != 0 {
			t.Errorf("%q: empty data gives %q, %v", c, got, err)
		}
	}
	if _, err := Compress(nil, ".bz2"); err == nil {
		t.Error("unknown compression is no error")
	}
	if small, err := Compress([]byte("data"), XZ, 1<<16); err != nil || Detect(small) != XZ {
		t.Errorf("other dictionary: %v", err)
	}
}

func TestDecompressErrors(t *testing.T) {
	const limit = 1 << 20
	for _, c := range []Compression{Gzip, XZ, Zstd} {
		for size, want := range map[int]error{limit: nil, limit + 1: ErrTooLarge} {
			packed, err := Compress(make([]byte, size), c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decompress(packed, limit); !errors.Is(err, want) {
				t.Errorf("%q: decompress of %d bytes = %v, want %v", c, size, err, want)
			}
		}
	}
	input := readFile(t, "testdata/input")
	for _, c := range []Compression{Gzip, XZ, Zstd} {
		packed, err := Compress(input, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decompress(packed[:len(packed)-6]); err == nil {
			t.Errorf("%q: cut data is no error", c)
		}
	}
	wide, err := Compress(input, XZ)
	if err != nil {
		t.Fatal(err)
	}
	const dictByte = 16 // stream header, then sizes and flags, filter and its length
	wide[dictByte] = 40
	if _, err := Decompress(wide); err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Errorf("Decompress with dictionary of 4 GiB = %v", err)
	}
}

func TestReadErrors(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, filepath.Join(dir, "missing")} {
		if _, err := Read(path); err == nil {
			t.Errorf("Read(%s) is no error", path)
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	data := readFile(b, compile(b, moduleSource, "-g", "-O2"))
	for _, c := range []Compression{Gzip, XZ, Zstd} {
		b.Run(string(c)[1:], func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := Compress(data, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
