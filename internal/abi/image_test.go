// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
)

// vmlinuxSource has the tables of exported symbols as kernels have them, in
// all the forms that the macros select.
const vmlinuxSource = `
#define STRINGS(s) __asm__(".pushsection __ksymtab_strings,\"aMS\",%progbits,1\n" s "\n.popsection")
STRINGS("s_beta: .asciz \"beta\"");
STRINGS("s_gamma: .asciz \"gamma\"");
STRINGS("s_space: .asciz \"SPACE\"");
STRINGS("s_none: .asciz \"\"");
#if defined SPACES
#define ENTRY(table, name, space) __asm__(".pushsection " table ",\"a\"\n.balign 4\n.long start - .\n.long s_" name " - .\n.long " space "\n.popsection")
#elif defined ABSOLUTE
#define ENTRY(table, name, space) __asm__(".pushsection " table ",\"a\"\n.balign 8\n.quad start\n.quad s_" name "\n.popsection")
#else
#define ENTRY(table, name, space) __asm__(".pushsection " table ",\"a\"\n.balign 4\n.long start - .\n.long s_" name " - .\n.popsection")
#endif
#ifdef RELATIVE
#define CRC(table, value) __asm__(".pushsection .rodata,\"a\"\n.balign 4\n1: .long " value "\n.popsection\n.pushsection " table ",\"a\"\n.long 1b - .\n.popsection")
#else
#define CRC(table, value) __asm__(".pushsection " table ",\"a\"\n.long " value "\n.popsection")
#endif
#ifdef FLAGS
ENTRY("__ksymtab", "beta", "0");
ENTRY("__ksymtab", "gamma", "s_space - .");
CRC("__kcrctab", "0x11");
CRC("__kcrctab", "0x22");
__asm__(".pushsection __kflagstab,\"a\"\n.byte 0, 1\n.popsection");
#else
ENTRY("__ksymtab", "beta", "s_none - .");
CRC("__kcrctab", "0x11");
ENTRY("__ksymtab_gpl", "gamma", "s_space - .");
CRC("__kcrctab_gpl", "0x22");
#endif
const char __attribute__((aligned(4))) note[] = "some text of the kernel";
int start(void) { return 0; }
`

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// link compiles a source to an ELF file without symbols, as a kernel's is.
func link(t testing.TB, source string, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	c, out := filepath.Join(dir, "v.c"), filepath.Join(dir, "vmlinux")
	put(t, c, []byte(source))
	run(t, "gcc", append([]string{"-nostdlib", "-static", "-no-pie", "-Wl,-e,start", "-s", c, "-o", out}, flags...)...)
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func put(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestExportsOfAllForms(t *testing.T) {
	beta := ko.Export{CRC: 0x11, Symbol: "beta", Module: "vmlinux", Type: "EXPORT_SYMBOL"}
	gamma := ko.Export{CRC: 0x22, Symbol: "gamma", Module: "vmlinux", Type: "EXPORT_SYMBOL_GPL", Namespace: "SPACE"}
	for _, form := range []string{"-DSPACES", "-DSPACES -DRELATIVE", "-DSPACES -DFLAGS", "-DPLAIN", "-DPLAIN -DRELATIVE"} {
		v, err := openVmlinux(link(t, vmlinuxSource, strings.Fields(form)...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.exports(strings.Contains(form, "RELATIVE"))
		want := gamma
		if strings.Contains(form, "PLAIN") {
			want.Namespace = ""
		}
		if err != nil || len(got) != 2 || got["beta"] != beta || got["gamma"] != want {
			t.Errorf("%s: %+v, %v", form, got, err)
		}
	}
	for name, flags := range map[string][]string{"absolute entries": {"-DABSOLUTE"}, "relative CRCs that lead nowhere": {"-DSPACES"}} {
		v, err := openVmlinux(link(t, vmlinuxSource, flags...))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.exports(name[0] == 'r'); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	v, err := openVmlinux(link(t, "int start(void) { return 0; }"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.exports(false); !errors.Is(err, ErrUnknown) {
		t.Errorf("without tables: %v", err)
	}
}

// bzImage packs a kernel as the kernel's build does, by the real programs.
func bzImage(t testing.TB, vmlinux []byte, packer ...string) []byte {
	t.Helper()
	in := filepath.Join(t.TempDir(), "vmlinux")
	put(t, in, vmlinux)
	cmd := exec.Command(packer[0], packer[1:]...)
	cmd.Stdin = bytes.NewReader(vmlinux)
	payload, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v", packer, err)
	}
	if packer[0] != "gzip" {
		payload = binary.LittleEndian.AppendUint32(payload, uint32(len(vmlinux)))
	}
	return wrap(payload)
}

func wrap(payload []byte) []byte {
	image := make([]byte, 3*512+100)
	image[0x1f1] = 2
	copy(image[0x202:], "HdrS\x0f\x02")
	binary.LittleEndian.PutUint32(image[0x248:], 100)
	binary.LittleEndian.PutUint32(image[0x24c:], uint32(len(payload)))
	return append(append(image, payload...), "trailer of the image"...)
}

func packers() [][]string {
	return [][]string{
		{"gzip", "-9nc"}, {"zstd", "-qc", "-22", "--ultra"},
		{"xz", "-c", "--check=crc32", "--x86", "--lzma2=dict=32MiB"}, {"xz", "-c", "--check=crc32", "--lzma2=dict=1MiB"},
		{"xz", "-c", "--check=sha256"},
	}
}

func TestUnpack(t *testing.T) {
	vmlinux := link(t, vmlinuxSource, "-DSPACES")
	// Bytes that look like calls and jumps, close to each other.
	r := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		vmlinux = append(vmlinux, []byte{0xe8, 0xe9, 0, 0xff, 0xff, 0, 1, byte(r.Int())}[r.IntN(8)])
	}
	for _, packer := range packers() {
		got, err := unpack(bzImage(t, vmlinux, packer...))
		if err != nil || !bytes.Equal(got, vmlinux) {
			t.Errorf("%q: %d bytes for %d, %v", packer, len(got), len(vmlinux), err)
		}
	}
	if got, err := unpack(vmlinux); err != nil || !bytes.Equal(got, vmlinux) {
		t.Errorf("a bare ELF file: %v", err)
	}
}

func TestUnpackErrors(t *testing.T) {
	vmlinux := link(t, vmlinuxSource, "-DSPACES")
	good := bzImage(t, vmlinux, "xz", "-c", "--check=crc32", "--x86", "--lzma2")
	change := func(f func([]byte)) []byte {
		b := bytes.Clone(good)
		f(b)
		return b
	}
	start := 3*512 + 100
	for name, image := range map[string][]byte{
		"nothing":          nil,
		"text":             []byte(strings.Repeat("no kernel", 100)),
		"old protocol":     change(func(b []byte) { b[0x206] = 7 }),
		"length":           change(func(b []byte) { b[0x24e] = 0xff }),
		"magic":            change(func(b []byte) { b[start] = 1 }),
		"block header":     change(func(b []byte) { b[start+13] ^= 1 }),
		"content":          change(func(b []byte) { b[start+300] ^= 1 }),
		"not ELF":          bzImage(t, []byte("a raw image, as arm64 has them"), "gzip", "-c"),
		"three filters":    bzImage(t, vmlinux, "xz", "-c", "--check=crc32", "--delta", "--x86", "--lzma2"),
		"another filter":   bzImage(t, vmlinux, "xz", "-c", "--check=crc32", "--arm", "--lzma2"),
		"short":            wrap([]byte(magicXZ + "12345678")),
		"wrong size noted": change(func(b []byte) { b[len(b)-len("trailer of the image")-1] ^= 1 }),
	} {
		if _, err := unpack(image); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestImageOfAMachine reads image and configuration where a machine has them.
func TestImageOfAMachine(t *testing.T) {
	root := t.TempDir()
	p := host.Paths{InstallTree: filepath.Join(root, "lib"), Boot: filepath.Join(root, "boot")}
	open := func() *Kernel { return Open(p, kernel.Find(p, "6.1.0", "x86_64", kernel.Options{})) }
	if e, file := open().Exports(); e != nil || file != "" {
		t.Errorf("nothing there: %v from %q", e, file)
	}
	var config strings.Builder
	for i := range 200 {
		fmt.Fprintf(&config, "CONFIG_X%d=y\n", i)
	}
	cmd := exec.Command("gzip", "-nc")
	cmd.Stdin = strings.NewReader(config.String())
	packed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	vmlinux := link(t, vmlinuxSource, "-DSPACES")
	image := filepath.Join(root, "boot", "vmlinuz-6.1.0")
	put(t, image, bzImage(t, vmlinux, "gzip", "-c"))
	k := open()
	if e, _ := k.Exports(); e != nil || len(k.Problems()) != 1 {
		t.Errorf("without a configuration: %v, %v", e, k.Problems())
	}
	put(t, image, bzImage(t, append(bytes.Clone(vmlinux), "IKCFG_ST"+string(packed)+"IKCFG_ED"...), "gzip", "-c"))
	k = open()
	if e, file := k.Exports(); e == nil || e.Len() != 2 || file != image || len(k.Config()) != 200 {
		t.Errorf("%v from %q with a configuration of %d: %v", e, file, len(k.Config()), k.Problems())
	}
	if class, machine, ok := k.ELF(); !ok || class.String() != "ELFCLASS64" || machine.String() != "EM_X86_64" {
		t.Errorf("ELF: %v, %v, %v", class, machine, ok)
	}
}

func FuzzUnpack(f *testing.F) {
	small := link(f, vmlinuxSource, "-DSPACES")
	for _, packer := range packers() {
		f.Add(bzImage(f, small, packer...))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		out, err := unpack(data)
		if err != nil && out == nil {
			return
		}
		ikconfig(out)
	})
}

func FuzzExports(f *testing.F) {
	for _, form := range []string{"-DSPACES", "-DRELATIVE", "-DFLAGS"} {
		f.Add(link(f, vmlinuxSource, form), form == "-DRELATIVE")
	}
	f.Fuzz(func(_ *testing.T, data []byte, relative bool) {
		if v, err := openVmlinux(data); err == nil {
			_, _ = v.exports(relative)
		}
	})
}

func FuzzBranches(f *testing.F) {
	f.Add([]byte("\xe8\xe9\x00\xff\xff\x00\xe8\x01\x02\x03\x00"))
	f.Fuzz(func(_ *testing.T, data []byte) { decodeBranches(data) })
}
