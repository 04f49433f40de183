// SPDX-License-Identifier: Apache-2.0

package aside

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dkms-go/internal/run"
)

// A place goes with its owner; that of one who is gone goes with the next, and one
// that is held stays.
func TestPlace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache", "aside")
	held, err := Make([]string{"", "/proc/none", dir, t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(held.Dir) != dir {
		t.Errorf("the place is %s", held.Dir)
	}
	killed, err := Make([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(killed.Dir, "tree", "a", "file"), "x")
	if err := killed.Leave(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "other", "lock"), "")
	next, err := Make([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	if names := list(t, dir); !slices.Equal(names, sorted(filepath.Base(held.Dir), filepath.Base(next.Dir), "other")) {
		t.Errorf("there are %q", names)
	}
	inner, err := Open(next.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, gone := abandoned(next.Dir); gone {
		t.Error("a place that two hold counts as abandoned")
	}
	if err := errors.Join(inner.Leave(), next.Remove(), held.Remove()); err != nil {
		t.Fatal(err)
	}
	if names := list(t, dir); !slices.Equal(names, []string{"other"}) {
		t.Errorf("there are %q", names)
	}
}

// Owners that begin at once don't take each other's places for those of killed ones.
func TestPlacesAtOnce(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				p, err := Make([]string{dir})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(p.Path(lockName)); err != nil {
					t.Error(err)
				}
				if err := p.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestActive(t *testing.T) {
	dir, rest, ok := Active([]string{"A=1", activeVar + "=/p", "B=2"})
	if dir != "/p" || !ok || !slices.Equal(rest, []string{"A=1", "B=2"}) {
		t.Errorf("%q %q %v", dir, rest, ok)
	}
	if _, _, ok := Active([]string{"A=1"}); ok {
		t.Error("active without the mark")
	}
}

// Layers are seen by commands in the view only: what is in either, the place's first.
func TestCover(t *testing.T) {
	p, err := Make([]string{t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove()
	machine := t.TempDir()
	write(t, filepath.Join(machine, "lib", "both"), "machine")
	write(t, filepath.Join(machine, "lib", "modules", "k1"), "machine")
	write(t, filepath.Join(machine, "tree", "m"), "machine")
	write(t, p.Path(Library, "both"), "place")
	write(t, p.Path(Modules, "k2"), "place")
	write(t, p.Path(Tree, "n"), "place")
	layers := []Layer{{Library, machine + "/lib", false}, {Modules, machine + "/lib/modules", false}, {Tree, machine + "/tree", true}}
	var out bytes.Buffer
	err = run.Private(run.View{}, func() error {
		if err := p.cover(layers); err != nil {
			return err
		}
		return run.Cmd{Argv: []string{"sh", "-c", `cat lib/both; echo; echo lib/modules/* tree/*; touch lib/new; touch tree/new`}, Dir: machine, Stdout: &out}.Run(t.Context())
	})
	if want := "place\nlib/modules/k1 lib/modules/k2 tree/n\n"; err != nil || out.String() != want {
		t.Errorf("%v, %q, want %q", err, out.String(), want)
	}
	if got := list(t, machine+"/tree"); !slices.Equal(got, []string{"m"}) {
		t.Errorf("the machine has %q", got)
	}
	if _, err := os.Stat(machine + "/lib/new"); err == nil {
		t.Error("a merge could be written to")
	}
}

func TestControl(t *testing.T) {
	name, version, depends := ParseControl("Package: linux-headers-1\nVersion: 1:2~3\nDepends: a (= 1), b | c,\n d\nDescription: x\n Package: y\n")
	if name != "linux-headers-1" || version != "1:2~3" || !slices.Equal(depends, []string{"a", "b"}) {
		t.Errorf("%q %q %q", name, version, depends)
	}
}

func TestChoose(t *testing.T) {
	all := []Package{
		{File: "1", Name: "linux-headers-6.1-amd64", Depends: []string{"linux-headers-6.1-common", "gcc"}},
		{File: "2", Name: "linux-headers-6.1-common", Depends: []string{"linux-kbuild-6.1"}},
		{File: "3", Name: "linux-headers-6.12-amd64"},
		{File: "4", Name: "linux-kbuild-6.1"},
	}
	files := func(releases ...string) (s string) {
		for _, p := range Choose(all, releases) {
			s += p.File
		}
		return s
	}
	for want, got := range map[string]string{"124": files("6.1-amd64"), "1243": files("6.1-amd64", "6.12-amd64"), "1234": files("other")} {
		if got != want {
			t.Errorf("chosen are %s, want %s", got, want)
		}
	}
}

// archive makes a tar archive.
func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		text := h.PAXRecords["text"]
		h.PAXRecords = nil
		h.Size, h.Mode, h.ModTime = int64(len(text)), max(h.Mode, 0o644), time.Unix(1000, 0)
		if h.Typeflag != 0 && h.Typeflag != tar.TypeReg {
			h.Size = 0
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func content(s string) map[string]string { return map[string]string{"text": s} }

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	u, err := newUnpacker(dir, limits{100, 100})
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	data := archive(t,
		tar.Header{Name: "./usr/src/h/Makefile", PAXRecords: content("all:\n"), Mode: 0o6755},
		tar.Header{Name: "./usr/src/h/copy", Typeflag: tar.TypeLink, Linkname: "./usr/src/h/Makefile"},
		tar.Header{Name: "./lib/modules/6.1/build", Typeflag: tar.TypeSymlink, Linkname: "/usr/src/h"},
		tar.Header{Name: "./usr/lib/linux-kbuild-6.1/scripts/", Typeflag: tar.TypeDir},
		tar.Header{Name: "./usr/lib/libc.so.6", PAXRecords: content("evil")},
		tar.Header{Name: "./etc/passwd", PAXRecords: content("evil")},
		tar.Header{Name: "./usr/src/../../../etc/shadow", PAXRecords: content("evil")},
	)
	if err := u.unpack(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{"src/h/Makefile": 0o755, "src/h/copy": 0o755, "modules/6.1/build": os.ModeSymlink | 0o777, "lib/linux-kbuild-6.1/scripts": os.ModeDir | 0o755} {
		fi, err := os.Lstat(filepath.Join(dir, path))
		if err != nil || fi.Mode() != mode {
			t.Errorf("%s: %v %v", path, fi, err)
		} else if !fi.IsDir() && fi.ModTime().Unix() != 1000 {
			t.Errorf("%s is of %v", path, fi.ModTime())
		}
	}
	if names := list(t, dir); !slices.Equal(names, []string{"lib", "modules", "src"}) {
		t.Errorf("there are %q", names)
	}
}

// What is hostile ends the unpacking, and nothing is written outside.
func TestHostile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, filepath.Join(outside, "file"), "before")
	for name, data := range map[string][]byte{
		"through a link": archive(t,
			tar.Header{Name: "usr/src/l", Typeflag: tar.TypeSymlink, Linkname: outside},
			tar.Header{Name: "usr/src/l/file", PAXRecords: content("evil")}),
		"through a relative link": archive(t,
			tar.Header{Name: "usr/src/l", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("../", 20) + outside[1:]},
			tar.Header{Name: "usr/src/l/file", PAXRecords: content("evil")}),
		"a hard link to outside": archive(t, tar.Header{Name: "usr/src/l", Typeflag: tar.TypeLink, Linkname: outside + "/file"}),
		"a hard link through a link": archive(t,
			tar.Header{Name: "usr/src/l", Typeflag: tar.TypeSymlink, Linkname: outside},
			tar.Header{Name: "usr/src/x", Typeflag: tar.TypeLink, Linkname: "usr/src/l/file"}),
		"a device":   archive(t, tar.Header{Name: "usr/src/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}),
		"too large":  archive(t, tar.Header{Name: "usr/src/a", PAXRecords: content(strings.Repeat("x", 101))}),
		"too many":   archive(t, slices.Repeat([]tar.Header{{Name: "usr/src/a"}}, 11)...),
		"no archive": []byte(strings.Repeat("x", 2000)),
	} {
		dir := t.TempDir()
		u, err := newUnpacker(dir, limits{10, 100})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.unpack(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: no error", name)
		}
		u.close()
	}
	if text, err := os.ReadFile(filepath.Join(outside, "file")); string(text) != "before" || len(list(t, outside)) != 1 {
		t.Errorf("outside there is %q %v %q", text, err, list(t, outside))
	}
}

// An archive of any form ends with or without an error, inside the place.
func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "usr/src/h/Makefile", PAXRecords: content("all:\n")}, tar.Header{Name: "lib/modules/k/build", Typeflag: tar.TypeSymlink, Linkname: "/usr/src/h"}))
	f.Add(archive(f, tar.Header{Name: "usr/src/l", Typeflag: tar.TypeSymlink, Linkname: "../.."}, tar.Header{Name: "usr/src/l/x", PAXRecords: content("evil")}))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "in"), 0o755); err != nil {
			t.Fatal(err)
		}
		u, err := newUnpacker(filepath.Join(dir, "in"), limits{50, 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer u.close()
		_ = u.unpack(bytes.NewReader(data))
		if names := list(t, dir); len(names) != 1 {
			t.Errorf("outside there is %q", names)
		}
	})
}

func FuzzControl(f *testing.F) {
	f.Add("Package: a\nVersion: 1\nDepends: b (= 1) | c, d\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, _, depends := ParseControl(text)
		for _, d := range depends {
			if strings.ContainsAny(d, " ,\n") || d == "" {
				t.Errorf("depends on %q", d)
			}
		}
	})
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func sorted(names ...string) []string {
	slices.Sort(names)
	return names
}
