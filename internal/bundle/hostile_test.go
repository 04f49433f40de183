// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Makers of tar headers.
func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644,
		PAXRecords: map[string]string{"DKMS.content": content + " "}}
}
func dir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
func sym(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}
}
func hard(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}
func other(name string, flag byte) tar.Header { return tar.Header{Typeflag: flag, Name: name} }

// pack makes a plain tar archive.
func pack(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := strings.TrimSuffix(h.PAXRecords["DKMS.content"], " ")
		h.PAXRecords = nil
		check(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, content)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

// extractBytes unpacks data below a directory with a canary beside, and sees
// that nothing outside changed and that an error leaves nothing.
func extractBytes(t testing.TB, data []byte, max limits) (*Archive, error) {
	t.Helper()
	top := t.TempDir()
	into, name := filepath.Join(top, "into"), filepath.Join(top, "archive")
	check(t, os.WriteFile(name, data, 0o600))
	check(t, os.WriteFile(filepath.Join(top, "canary"), []byte("alive"), 0o600))
	a, err := extract(name, into, max)
	if got, _ := os.ReadFile(filepath.Join(top, "canary")); string(got) != "alive" {
		t.Fatalf("a file outside was changed: %q", got)
	}
	if list, _ := os.ReadDir(top); err != nil && len(list) != 2 || len(list) > 3 {
		t.Fatalf("error %v, and there is %v", err, list)
	}
	return a, err
}

var small = limits{entries: 100, bytes: 1 << 20, nameBytes: 8 << 10}

var conf = file("dkms.conf", "PACKAGE_NAME=x\n")

func TestHostileEntries(t *testing.T) {
	main := []tar.Header{dir("./dkms_main_tree/"), file("./dkms_source_tree/dkms.conf", "x")}
	tests := []struct {
		reason  string
		entry   string
		headers []tar.Header
	}{
		{"absolute path", "/etc/passwd", []tar.Header{file("/etc/passwd", "x")}},
		{"'..' component", "../canary", []tar.Header{file("../canary", "x")}},
		{"'..' component", "a/../../canary", []tar.Header{file("a/../../canary", "x")}},
		{"'..' component", "..", []tar.Header{dir("..")}},
		{"control character", "a\nb", []tar.Header{file("a\nb", "x")}},
		{"control character", "a\x1b[2Jb", []tar.Header{file("a\x1b[2Jb", "x")}},
		{"control character", "a\u0085b", []tar.Header{file("a\u0085b", "x")}},
		{"longer than 255", strings.Repeat("n", 256), []tar.Header{file(strings.Repeat("n", 256), "x")}},
		{"longer than 2048", strings.Repeat("n/", 1025), []tar.Header{dir(strings.Repeat("n/", 1025))}},
		{"the root is not", ".", []tar.Header{sym(".", "x")}},
		{"neither a file", "dev", []tar.Header{other("dev", tar.TypeChar)}},
		{"neither a file", "dev", []tar.Header{other("dev", tar.TypeBlock)}},
		{"neither a file", "fifo", []tar.Header{other("fifo", tar.TypeFifo)}},
		{"neither a file", "cont", []tar.Header{other("cont", tar.TypeCont)}},
		{"absolute path", "l", []tar.Header{sym("l", "/etc/passwd")}},
		{"points outside", "l", []tar.Header{sym("l", "..")}},
		{"points outside", "a/l", []tar.Header{sym("a/l", "../../canary")}},
		{"points outside", "a/l", []tar.Header{sym("a/l", ".././/../canary")}},
		{"'..' after a name", "a/l", []tar.Header{sym("a/l", "b/../c")}},
		{"'..' after a name", "d1/z", []tar.Header{sym("d1/up", ".."), sym("d1/z", "up/../canary")}},
		{"control character", "l", []tar.Header{sym("l", "a\nb")}},
		{`"a" above it is not`, "a/b", []tar.Header{dir("d"), sym("a", "d"), file("a/b", "x")}},
		{`"a" above it is not`, "a/b/c", []tar.Header{file("a", "x"), file("a/b/c", "x")}},
		{"stands twice", "a", []tar.Header{file("a", "x"), sym("a", "dkms.conf")}},
		{"stands twice", "./a", []tar.Header{sym("a", "dkms.conf"), file("./a", "x")}},
		{"stands twice", "a", []tar.Header{file("a/b", "x"), file("a", "x")}},
		{"stands twice", "a/", []tar.Header{file("a", "x"), dir("a/")}},
		{"'..' component", "h", []tar.Header{hard("h", "../canary")}},
		{"absolute path", "h", []tar.Header{hard("h", "/etc/passwd")}},
		{"no file that came earlier", "h", []tar.Header{hard("h", "later"), file("later", "x")}},
		{"no file that came earlier", "h", []tar.Header{sym("l", "dkms.conf"), hard("h", "l")}},
		{"no file that came earlier", "h", []tar.Header{dir("d"), hard("h", "d")}},
		{"to itself", "h", []tar.Header{file("h", "x"), hard("h", "./h")}},
		{"only directories", "dkms_main_tree", []tar.Header{sym("dkms_main_tree", "d")}},
		{"only directories", "dkms_main_tree", []tar.Header{file("dkms_main_tree", "d")}},
		{"not a directory", "dkms_source_tree", []tar.Header{sym("dkms_source_tree", "d")}},
		{"not a directory", "dkms_binaries_only", []tar.Header{file("dkms_binaries_only", "d")}},
		{"only directories", "dkms_main_tree/6.1", append(main, file("dkms_main_tree/6.1", "x"))},
		{"only directories", "dkms_main_tree/6.1/x86", append(main, sym("dkms_main_tree/6.1/x86", "y"))},
		{"has a blank", "dkms_main_tree/6 1/x86/m", append(main, file("dkms_main_tree/6 1/x86/m", "x"))},
		{"starts with", "dkms_main_tree/.6/x86/m", append(main, file("dkms_main_tree/.6/x86/m", "x"))},
		{"starts with", "dkms_main_tree/6.1/-k/", append(main, dir("dkms_main_tree/6.1/-k/"))},
		{"points outside", "dkms_main_tree/6.1/x/l", append(main, sym("dkms_main_tree/6.1/x/l", "../y/m"))},
		{"points outside", "dkms_source_tree/l", append(main, sym("dkms_source_tree/l", "../dkms_main_tree"))},
	}
	for _, tt := range tests {
		t.Run(tt.reason+" "+tt.entry[:min(len(tt.entry), 30)], func(t *testing.T) {
			_, err := extractBytes(t, pack(t, append([]tar.Header{conf}, tt.headers...)...), small)
			var bad *EntryError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v", err)
			}
			if bad.Entry != tt.entry || !strings.Contains(bad.Reason, tt.reason) || filepath.Base(bad.Archive) != "archive" {
				t.Errorf("got %q, want entry %q, %q", bad, tt.entry, tt.reason)
			}
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
				t.Errorf("control character in %q", err)
			}
		})
	}
}

func TestBadArchives(t *testing.T) {
	gz := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(b)
		check(t, w.Close())
		return out.Bytes()
	}
	good := pack(t, conf, file("a", strings.Repeat("x", 1000)))
	many := make([]tar.Header, 101)
	for i := range many {
		many[i] = file(fmt.Sprint(i), "")
	}
	big := strings.Repeat("x", 600<<10)
	names := strings.Repeat("0123456789/", 180)
	tests := []struct {
		name string
		data []byte
		want error
	}{
		{"no bytes", nil, ErrEmpty},
		{"empty tar", pack(t), ErrEmpty},
		{"empty gzip", gz(nil), ErrEmpty},
		{"empty tar in gzip", gz(pack(t)), ErrEmpty},
		{"text", []byte("hello\n"), ErrNotTar},
		{"long text", []byte(strings.Repeat("hello\n", 1000)), ErrNotTar},
		{"text in gzip", gz([]byte(strings.Repeat("hello\n", 1000))), ErrNotTar},
		{"gzip in gzip", gz(gz(good)), nil},
		{"cut in content", good[:1600], ErrTruncated},
		{"cut in header", good[:700], ErrTruncated},
		{"cut after entry", good[:1024], ErrTruncated},
		{"no end mark", good[:len(good)-1024], ErrTruncated},
		{"one end block", good[:len(good)-512], ErrNoConf}, // accepted: see below
		{"gzip cut", gz(good)[:100], ErrTruncated},
		{"gzip cut in check sum", gz(good)[:len(gz(good))-3], ErrTruncated},
		{"gzip magic only", []byte("\x1f\x8b"), ErrTruncated},
		{"gzip garbage", []byte("\x1f\x8bgarbage garbage"), nil},
		{"xz garbage", []byte("\xfd7zXZ\x00garbage garbage"), nil},
		{"zstd garbage", []byte("\x28\xb5\x2f\xfdgarbage garbage"), nil},
		{"bzip2 garbage", []byte("BZhgarbage garbage"), nil},
		{"entries", pack(t, many...), ErrTooBig},
		{"made directories", pack(t, conf, dir(strings.Repeat("a/", 101))), ErrTooBig},
		{"content", pack(t, conf, file("a", big), file("b", big)), ErrTooBig},
		{"content by links", pack(t, conf, file("a", big), hard("b", "a")), ErrTooBig},
		{"names", pack(t, conf, dir(names+"1"), dir(names+"2"), dir(names+"3"), dir(names+"4"), dir(names+"5")), ErrTooBig},
		{"no conf", pack(t, file("a/b", "x")), ErrNoConf},
		{"root only", pack(t, dir("./")), ErrNoConf},
		{"conf is a directory", pack(t, dir("dkms.conf/")), ErrNoConf},
		{"conf dangles", pack(t, sym("dkms.conf", "nowhere")), ErrNoConf},
		{"conf loops", pack(t, sym("dkms.conf", "dkms.conf")), ErrNoConf},
		{"conf from outside", pack(t, sym("a/dkms.conf", "../x"), file("x", "")), ErrNoConf},
		{"conf by a link to outside", pack(t, sym("a/dkms.conf", "y"), sym("a/y", "../x"), file("x", "")), ErrNoConf},
		{"bundle without conf", pack(t, dir("dkms_main_tree"), dir("dkms_source_tree")), ErrNoValidConf},
		{"bundle with stray conf", pack(t, dir("dkms_main_tree"), conf), ErrNoValidConf},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := extractBytes(t, tt.data, small)
			if tt.name == "one end block" {
				check(t, err)
				return
			}
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "archive\"") {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// A later block of an .xz file may ask for any dictionary, and the check sum
// before it must not be needed to see that.
func TestXzDictionary(t *testing.T) {
	top := t.TempDir()
	check(t, os.WriteFile(filepath.Join(top, "a.tar"), pack(t, conf, file("a", strings.Repeat("x", 9000))), 0o600))
	for _, block := range []int{0, 1} {
		run(t, top, "xz", "-k", "-f", "-T2", "--block-size=4096", "a.tar")
		data, err := os.ReadFile(filepath.Join(top, "a.tar.xz"))
		check(t, err)
		at := 12
		for range block { // the block header tells its compressed size; skip header, data, padding and CRC64
			size, _ := binary.Uvarint(data[at+2:])
			at += (int(data[at]) + 1) * 4
			at += (int(size)+3)&^3 + 8
		}
		header := data[at : at+(int(data[at])+1)*4]
		i := bytes.Index(header, []byte{0x21, 1})
		header[i+2] = 40 // 4 GiB less one byte
		binary.LittleEndian.PutUint32(header[len(header)-4:], crc32.ChecksumIEEE(header[:len(header)-4]))
		if _, err := extractBytes(t, data, small); !errors.Is(err, ErrTooBig) {
			t.Errorf("block %d: %v", block, err)
		}
	}
}

func TestExtractInto(t *testing.T) {
	top := t.TempDir()
	name, into := filepath.Join(top, "a"), filepath.Join(top, "into")
	check(t, os.WriteFile(name, pack(t, conf, file("../x", "")), 0o600))
	check(t, os.Mkdir(into, 0o755))
	if _, err := Extract(name, into); err == nil {
		t.Error("no error")
	}
	if list, err := os.ReadDir(into); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
	check(t, os.WriteFile(filepath.Join(into, "mine"), nil, 0o600))
	check(t, os.WriteFile(name, pack(t, conf), 0o600))
	if _, err := Extract(name, into); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v", err)
	}
	if list, _ := os.ReadDir(into); len(list) != 1 {
		t.Errorf("%v", list)
	}
	if _, err := Extract(filepath.Join(top, "none"), into+"2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Extract(top, into+"2"); err == nil {
		t.Error("a directory was read")
	}
}

func TestExtractTames(t *testing.T) {
	suid, open, none, sticky, old := file("suid", "x"), file("open", "x"), file("none", "x"), dir("sticky"), file("old", "x")
	suid.Mode, open.Mode, none.Mode, sticky.Mode = 0o6755, 0o666, 0, 0o1777
	suid.Uid, suid.Uname = 4242, "somebody"
	old.ModTime = time.Unix(-5, 0)
	suid.ModTime, sticky.ModTime = when, when
	global := tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "abc"}}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	check(t, w.WriteHeader(&global))
	check(t, w.Flush())
	data := append(b.Bytes(), pack(t, conf, dir("./"), suid, open, none, sticky, file("sticky/f", "first"),
		hard("sticky/h", "sticky/f"), file("sticky/f", "second"), old, sym("sym", "open"), sym("sym", "./sticky/f"))...)
	a, err := extractBytes(t, data, small)
	check(t, err)
	for name, mode := range map[string]fs.FileMode{"suid": 0o755, "open": 0o664, "none": 0o400, "sticky": 0o775 | fs.ModeDir} {
		info, err := os.Stat(filepath.Join(a.Dir, name))
		check(t, err)
		if info.Mode() != mode {
			t.Errorf("%s: %s, want %s", name, info.Mode(), mode)
		}
		if mode&0o100 != 0 && !info.ModTime().Equal(when) {
			t.Errorf("%s: %s", name, info.ModTime())
		}
	}
	for name, want := range map[string]string{"sticky/f": "second", "sticky/h": "first", "sym": "second"} {
		if got, err := os.ReadFile(filepath.Join(a.Dir, name)); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestGeneric(t *testing.T) {
	tests := []struct {
		name    string
		want    string
		dropped []string
		headers []tar.Header
	}{
		{"root", ".", nil, []tar.Header{file("a/dkms.conf", ""), conf}},
		{"shallowest", "b", nil, []tar.Header{file("a/a/dkms.conf", ""), file("b/dkms.conf", "")}},
		{"first", "a", nil, []tar.Header{file("b/dkms.conf", ""), file("a/dkms.conf", "")}},
		{"next", "a/b", nil, []tar.Header{dir("dkms.conf"), file("a/b/dkms.conf", "")}},
		{"linked", "a", nil, []tar.Header{sym("a/dkms.conf", "debian/dkms.conf"), file("a/debian/dkms.conf", "")}},
		{"source tree alone", sourceTree, nil, []tar.Header{file("dkms_source_tree/dkms.conf", "")}},
		{"leaving links", "a/b", []string{"a/b/c/up", "a/b/top"}, []tar.Header{file("a/b/dkms.conf", ""), sym("a/b/top", "../../x"),
			sym("a/b/c/up", "../../y"), sym("a/b/c/in", "../dkms.conf"), sym("a/kept", "../x")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := extractBytes(t, pack(t, tt.headers...), small)
			check(t, err)
			if a.Kind != Generic || a.SourceDir != filepath.Join(a.Dir, tt.want) || a.ConfFile != filepath.Join(a.SourceDir, confName) {
				t.Errorf("%+v", a)
			}
			if !slices.Equal(a.Dropped, tt.dropped) {
				t.Errorf("dropped %v, want %v", a.Dropped, tt.dropped)
			}
			for _, d := range tt.dropped {
				if _, err := os.Lstat(filepath.Join(a.Dir, d)); err == nil {
					t.Errorf("%s is there", d)
				}
			}
		})
	}
}

// A file much bigger than what may be allocated goes through both ways.
func TestLargeFileIsStreamed(t *testing.T) {
	const size = 192 << 20
	c := Contents{Module: "m", Version: "1", SourceDir: tree(t, source)}
	check(t, os.Truncate(filepath.Join(c.SourceDir, "Makefile"), size))
	for _, name := range []string{"a.tar", "a.tar.zst"} {
		top := t.TempDir()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		check(t, Write(filepath.Join(top, name), c))
		a, err := Extract(filepath.Join(top, name), filepath.Join(top, "into"))
		check(t, err)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > size/2 {
			t.Errorf("%s: %d bytes allocated", name, got)
		}
		info, err := os.Stat(filepath.Join(a.SourceDir, "Makefile"))
		check(t, err)
		if info.Size() != size {
			t.Errorf("%s: %d bytes", name, info.Size())
		}
	}
}
