// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// addObjects adds objects of our own as seeds, and small ones of the lab if it is
// there.
func addObjects(f *testing.F) {
	f.Helper()
	f.Add(readFile(f, compile(f, moduleSource)))
	f.Add(readFile(f, compile(f, moduleSource+extendedVersions)))
	f.Add(readFile(f, compile(f, moduleSource, "-m32")))
	lab := os.Getenv("LAB")
	if lab == "" {
		lab = "../../.lab"
	}
	small, _ := filepath.Glob(filepath.Join(lab, "root/lib/modules/*/kernel/lib/*.ko"))
	for _, path := range small[:min(len(small), 20)] {
		if data := readFile(f, path); len(data) < 32<<10 {
			f.Add(data)
		}
	}
}

// one reports one of n inputs, always the same ones: for an oracle that takes a
// process for each.
func one(data []byte, n int) bool { return int(sha256.Sum256(data)[0])%n == 0 }

// FuzzObject holds the reader of objects against debug/elf and modinfo(8).
func FuzzObject(f *testing.F) {
	addObjects(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ParseInfo(data)
		if err != nil {
			return
		}
		if other, err := elf.NewFile(bytes.NewReader(data)); err == nil {
			asElf(t, data, other)
		}
		if len(info.Fields) > 0 && one(data, 16) {
			asModinfo(t, data, info)
		}
	})
}

// asElf compares the sections and the symbols.
func asElf(t *testing.T, data []byte, other *elf.File) {
	o, err := parseObject(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".modinfo", "__versions", ".gnu.linkonce.this_module"} {
		s := other.Section(name)
		if s == nil || s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL || s.Flags&elf.SHF_COMPRESSED != 0 {
			continue
		}
		want, err := s.Data()
		if err == nil && !bytes.Equal(o.section(name), want) {
			t.Errorf("%s is %q, debug/elf has %q", name, o.section(name), want)
		}
	}
	got, err := Undefined(data)
	symbols, errOther := other.Symbols()
	if err != nil || errOther != nil {
		return
	}
	var want []string
	for _, s := range symbols {
		if s.Section == elf.SHN_UNDEF && s.Name != "" && elf.ST_BIND(s.Info) != elf.STB_LOCAL {
			want = append(want, s.Name)
		}
	}
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(got, want) {
		t.Errorf("undefined are %q, debug/elf has %q", got, want)
	}
}

// asModinfo compares the fields with those that modinfo prints, where it prints any.
func asModinfo(t *testing.T, data []byte, info *Info) {
	path := filepath.Join(t.TempDir(), "a.ko")
	writeFile(t, path, data)
	out, err := exec.Command("modinfo", "-0", path).Output()
	if err != nil {
		return
	}
	var got, want []string
	for _, f := range info.Fields {
		if f.Key != "parm" && f.Key != "parmtype" { // these it joins
			got = append(got, f.Key+"="+f.Value)
		}
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		key := line[:max(0, strings.IndexAny(line, ":="))]
		if !slices.Contains([]string{"filename", "parm", "sig_id", "signer", "sig_key", "sig_hashalgo", "signature"}, key) {
			want = append(want, line)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the fields are\n%q, modinfo has\n%q", got, want)
	}
}

// FuzzStrip strips an object: what the kernel reads of it stays as it was.
func FuzzStrip(f *testing.F) {
	f.Add(readFile(f, compile(f, secondSource, "-g")))
	f.Add(readFile(f, compile(f, moduleSource, "-m32", "-g")))
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Strip(data)
		if err != nil {
			return
		}
		after, err := ParseObject(got)
		if err != nil {
			t.Fatalf("result cannot be read: %v", err)
		}
		if before, err := ParseObject(data); err == nil && !reflect.DeepEqual(before, after) {
			t.Errorf("stripping changes %+v to %+v", before, after)
		}
		again, err := Strip(got)
		if err != nil {
			t.Fatalf("result cannot be stripped: %v", err)
		}
		if !bytes.Equal(again, got) {
			t.Fatal("stripping twice changes the result")
		}
	})
}

// FuzzSign signs any bytes: the signature is found again and holds, and doesn't for
// other bytes.
func FuzzSign(f *testing.F) {
	f.Add([]byte("an object"), uint(3))
	f.Add([]byte{}, uint(0))
	f.Add([]byte(signatureMagic), uint(1))
	signer := testSigner(f)
	f.Fuzz(func(t *testing.T, data []byte, bit uint) {
		signed, err := Sign(data, signer, "sha256")
		if err != nil {
			return
		}
		s, ok, err := ParseSignature(signed)
		if err != nil || !ok {
			t.Fatalf("the signature isn't found: %v", err)
		}
		content := Unsigned(signed)
		if err := s.Verify(content, signer.Cert); err != nil {
			t.Fatal(err)
		}
		if len(content) > 0 {
			bad := bytes.Clone(content)
			bad[bit/8%uint(len(bad))] ^= 1 << (bit % 8)
			if s.Verify(bad, signer.Cert) == nil {
				t.Error("the signature of other bytes holds")
			}
		}
	})
}

// FuzzDecompress holds the decompressors against each other, and against the
// programs.
func FuzzDecompress(f *testing.F) {
	for _, c := range compressions() {
		packed, err := Compress([]byte("some data, some data"), c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<12 {
			return // large results take the fuzzer's time
		}
		out, err := Decompress(data)
		var u Unpacker
		defer u.Close()
		if other, errU := u.Unpack(data); err == nil && errU == nil && !bytes.Equal(out, other) {
			t.Fatal("the two decompressors differ")
		}
		if err != nil {
			return
		}
		if tool := map[Compression]string{Gzip: "gzip", XZ: "xz", Zstd: "zstd"}[Detect(data)]; tool != "" && one(data, 8) {
			cmd := exec.Command(tool, "-dc")
			cmd.Stdin = bytes.NewReader(data)
			cmd.Stderr = t.Output()
			if want, err := cmd.Output(); err != nil || !bytes.Equal(out, want) {
				t.Errorf("%s makes %d bytes of it, %v; here it is %d", tool, len(want), err, len(out))
			}
		}
		packed, err := Compress(out, Zstd)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Decompress(packed); err != nil || !bytes.Equal(back, out) {
			t.Fatalf("round trip: %v", err)
		}
	})
}
