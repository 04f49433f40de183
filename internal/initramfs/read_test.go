// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/ko"
	"dkms-go/test/lab"
)

// realObject returns an object of the lab's kernel, as its file is and
// uncompressed.
func realObject(t *testing.T, name string) (file, data []byte) {
	t.Helper()
	_, release := lab.Kernels(t)
	found, err := filepath.Glob(filepath.Join(lab.KernelRoot(t), "lib/modules", release, "kernel/drivers", name))
	if err != nil || len(found) != 1 {
		t.Fatalf("objects %q: %q, %v", name, found, err)
	}
	if file, err = os.ReadFile(found[0]); err != nil {
		t.Fatal(err)
	}
	if data, err = ko.Decompress(file); err != nil {
		t.Fatal(err)
	}
	return file, data
}

// pipe runs a program with input and returns its output.
func pipe(t *testing.T, input []byte, argv ...string) []byte {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, stderr.Bytes())
	}
	return out
}

// archive makes a newc archive with the real cpio.
func archive(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return pipe(t, nil, "sh", "-c", `cd "$1" && find . | sort | cpio --quiet -o -H newc`, "sh", dir)
}

func image(t *testing.T, parts ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(path, slices.Concat(parts...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func anyName(string) bool { return true }

// compressors are the programs that mkinitramfs and dracut call, and how.
func compressors() map[string][]string {
	return map[string][]string{
		"cat":   {"cat"},
		"gzip":  {"gzip", "-n"},
		"xz":    {"xz", "-1", "--check=crc32", "--threads=0"},
		"zstd":  {"zstd", "-q", "-T0"},
		"lz4":   {"lz4", "-q", "-l"},
		"bzip2": {"bzip2"},
		"lzma":  {"lzma", "-1"},
	}
}

func TestReadWhatToolsMake(t *testing.T) {
	packed, want := realObject(t, "net/dummy.ko.xz")
	random := make([]byte, 9<<20)
	for i := range len(random) / 8 {
		binary.LittleEndian.PutUint64(random[8*i:], uint64(i)*0x9e3779b97f4a7c15)
	}
	early := archive(t, map[string][]byte{"kernel/x86/microcode/GenuineIntel.bin": random[:12345]})
	for _, name := range []string{"cat", "gzip", "xz", "zstd", "lz4", "bzip2", "lzma"} {
		t.Run(name, func(t *testing.T) {
			blob := random[:1<<20]
			if name == "lz4" {
				blob = random // two blocks
			}
			main := archive(t, map[string][]byte{
				"usr/lib/modules/K/kernel/dummy.ko.xz":  packed,
				"usr/lib/modules/K/updates/my-other.ko": want,
				"usr/lib/firmware/blob":                 blob,
				"usr/lib/modules/K/modules.dep":         []byte("x"),
			})
			path := image(t, early, make([]byte, 512), pipe(t, main, compressors()[name]...))
			got, err := Read(path, anyName)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 || got[0].Name != "dummy" || got[1].Name != "my_other" || got[0].Path != "usr/lib/modules/K/kernel/dummy.ko.xz" {
				t.Fatalf("read %d objects: %+v", len(got), names(got))
			}
			for _, o := range got {
				if !bytes.Equal(o.Data, want) {
					t.Errorf("%s is %d bytes, not the object of %d", o.Path, len(o.Data), len(want))
				}
			}
			if all, err := Names(path); err != nil || !slices.Equal(all, []string{"dummy", "my_other"}) {
				t.Errorf("names: %q, %v", all, err)
			}
			for object, want := range map[string]Held{"my-other": Same, "none": Missing} {
				if held, err := Holds(path, object, got[0].Data); err != nil || held != want {
					t.Errorf("holds %s: %v, %v, want %v", object, held, err, want)
				}
			}
		})
	}
}

func names(objects []Object) []string {
	var list []string
	for _, o := range objects {
		list = append(list, o.Path)
	}
	return list
}

// Parts may follow each other, compressed or not; what comes later counts.
func TestReadConcatenation(t *testing.T) {
	part := func(content string) []byte {
		return archive(t, map[string][]byte{"lib/modules/K/a.ko": []byte(content)})
	}
	zeros := func(n int) []byte { return make([]byte, n) }
	gz := pipe(t, part("gzip"), "gzip", "-n")
	gz = append(gz, zeros(-len(gz)&3)...)
	zst := pipe(t, part("zstd"), "zstd", "-q")
	cases := map[string][][]byte{
		"plain":   {part("zstd"), part("xz"), part("plain")},
		"gzip":    {part("plain"), gz, zeros(1024)},
		"zstd":    {gz, zst, zeros(4), zst},
		"xz":      {zst, pipe(t, part("xz"), "xz", "--check=crc32"), zeros(64)},
		"lz4":     {gz, pipe(t, part("lz4"), "lz4", "-q", "-l"), zeros(32)},
		"another": {zst, zeros(-len(zst) & 3), part("another")},
		"frames":  {gz, pipe(t, part("frames"), "zstd", "-q", "--no-check"), pipe(t, nil, "zstd", "-q")},
	}
	for want, parts := range cases {
		got, err := Read(image(t, parts...), anyName)
		if err != nil || len(got) != 1 || string(got[0].Data) != want {
			t.Errorf("%s: %q, %v", want, got, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	main := archive(t, map[string][]byte{"lib/a.ko": []byte("a"), "lib/b": make([]byte, 4000)})
	gz := pipe(t, main, "gzip", "-n")
	huge := bytes.Clone(main)
	at := bytes.Index(huge, []byte("lib/a.ko")) - headerSize
	copy(huge[at+54:], "FFFFFFF0")
	sign := bytes.Clone(main)
	copy(sign[at+54:], "-0000001")
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing known":    {[]byte("a text"), "61 20 74"},
		"lzop":             {append([]byte("\x89LZO\x00\r\n\x1a\n"), main...), "lzo: unsupported"},
		"lz4 frames":       {pipe(t, main, "lz4", "-q"), "lz4 with frames"},
		"cut in a file":    {main[:len(main)-2000], "unexpected EOF"},
		"no trailer":       {main[:bytes.Index(main, []byte(trailer))-headerSize], "ends without a trailer"},
		"cut gzip":         {gz[:len(gz)-20], "compressed with gzip: unexpected EOF"},
		"too large":        {huge, "larger"},
		"no number":        {sign, "is no number"},
		"junk in gzip":     {pipe(t, append(bytes.Clone(main), "junk"...), "gzip", "-n"), "something else follows"},
		"xz of 1.5 GiB":    {pipe(t, main, "xz", "--lzma2=dict=1536MiB"), "over 134217728 bytes"},
		"zstd of 2 GiB":    {bigWindow(), "indow"},
		"a block too many": {append([]byte("\x02\x21\x4c\x18"), 0xff, 0xff, 0xff, 0x7f), "a block of"},
	} {
		path := image(t, c.data)
		_, err := Read(path, anyName)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
		if unsupported := strings.HasPrefix(c.want, "lz"); unsupported != errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: unsupported is not %v: %v", name, unsupported, err)
		}
	}
	if _, err := Read(t.TempDir(), anyName); err == nil {
		t.Error("a directory is an image")
	}
}

// bigWindow is a zstd frame with a window of 2 GiB and one block.
func bigWindow() []byte { return []byte("\x28\xb5\x2f\xfd\x00\xa8\x09\x00\x00a") }

func TestCompareAfterStrip(t *testing.T) {
	_, object := realObject(t, "net/dummy.ko.xz")
	_, other := realObject(t, "net/ifb.ko.xz")
	path := filepath.Join(t.TempDir(), "o.ko")
	if err := os.WriteFile(path, object, 0o644); err != nil {
		t.Fatal(err)
	}
	lab.MustExec(t, "strip", "-g", path)
	stripped, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(stripped, object) {
		t.Fatal("strip changed nothing")
	}
	for held, data := range map[Held][]byte{Same: stripped, Other: other} {
		if got := Compare([]Object{{Name: "a_b", Data: data}}, "a-b", object); got != held {
			t.Errorf("compared: %v, want %v", got, held)
		}
	}
}

func FuzzWalk(f *testing.F) {
	dir := f.TempDir()
	out, err := exec.Command("sh", "-c", `cd "$1" && mkdir -p lib && echo x >lib/a.ko && find . | sort | cpio --quiet -o -H newc >c &&
		gzip -kn c && xz -k --check=crc32 c && zstd -qk c && lz4 -ql c c.lz4 && bzip2 -k c && lzma -k c && cat c c.gz c.zst >all`, "sh", dir).CombinedOutput()
	if err != nil {
		f.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"c", "c.gz", "c.xz", "c.zst", "c.lz4", "c.bz2", "c.lzma", "all"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(bigWindow())
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = walk(bytes.NewReader(data), func(e entry) error {
			if e.size < 0 || len(e.name) > maxName {
				t.Errorf("entry %+v", e)
			}
			return nil
		})
	})
}
