// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// newEntries is a machine with entries for the releases.
func newEntries(t *testing.T, releases ...string) disk {
	t.Helper()
	d := newDisk(t)
	d.write("efi/loader/loader.conf", "timeout 3\n")
	for _, r := range releases {
		d.write("boot/loader/entries/tok-"+r+".conf", "title T\nversion "+r+"\nsort-key debian\nlinux /tok/"+r+"/linux\n")
	}
	return d
}

func TestSystemd(t *testing.T) {
	d := newEntries(t, "6.1.0-9", "6.1.0-10", "6.1.0-8")
	if c := d.want("6.1.0-10", "6.1.0-10", "tok-6.1.0-10.conf"); c.Loader != SystemdBoot || c.OneShot {
		t.Errorf("%+v", c)
	}
	for conf, want := range map[string]string{
		"default tok-6.1.0-8":                                "6.1.0-8",
		"default TOK-6.1.0-8.conf":                           "6.1.0-8",
		"default\ttok-*-[89]*  \r\n":                         "6.1.0-9",
		"default tok-6.1.0-9.conf\ndefault tok-6.1.0-8.conf": "6.1.0-8",
		"default other\n":                                    "6.1.0-10",
		"default [\n":                                        "6.1.0-10",
		"default @saved":                                     "6.1.0-10",
		"# default tok-6.1.0-8":                              "6.1.0-10",
	} {
		d.write("efi/loader/loader.conf", conf)
		d.want(want, want, "")
	}
	d.variable("LoaderEntryLastBooted", "tok-6.1.0-8.conf")
	d.write("efi/loader/loader.conf", "default @saved")
	d.want("6.1.0-8", "6.1.0-8", "")
	d.variable("LoaderEntryDefault", "tok-6.1.0-9.conf")
	d.want("6.1.0-9", "6.1.0-9", "")
	if _, err := Pin(t.Context(), d.Paths, "6.1.0-8"); err == nil || !strings.Contains(err.Error(), "LoaderEntryDefault") {
		t.Errorf("pinned against an EFI variable: %v", err)
	}
	d.variable("LoaderEntryOneShot", "tok-6.1.0-10.conf")
	if c := d.want("6.1.0-10", "6.1.0-9", ""); !c.OneShot {
		t.Errorf("%+v", c)
	}
	d.variable("LoaderEntryOneShot", "gone.conf")
	if c := d.want("6.1.0-9", "6.1.0-9", ""); c.OneShot {
		t.Errorf("%+v", c)
	}
}

// Boot counting, other architectures, entries that are none.
func TestEntries(t *testing.T) {
	d := newEntries(t)
	d.wantError("has no entries")
	for name, text := range map[string]string{
		"a+0-3.conf":   "linux /vmlinuz-9\nversion 9\nsort-key a\n",
		"b+2-1.conf":   "linux /vmlinuz-3\nversion 3\nsort-key a\n",
		"c.conf":       "linux /vmlinuz-2\nversion 2\nsort-key a\n",
		"d.conf":       "linux /vmlinuz-8\nversion 8\narchitecture none\nsort-key a\n",
		"e.conf":       "title nothing\n",
		"f.txt":        "linux /vmlinuz-10\n",
		"windows.conf": "title Windows\nefi /EFI/Microsoft/Boot/bootmgfw.efi\n",
	} {
		d.write("efi/loader/entries/"+name, text)
	}
	d.write("boot/loader/entries/c.conf", "linux /vmlinuz-99\nversion 99\nsort-key a\n")
	d.want("3", "3", "b+2-1.conf")
	d.write("efi/loader/loader.conf", "default a.conf")
	d.want("9", "9", "a+0-3.conf")
	d.write("efi/loader/loader.conf", "default windows")
	d.want("", "", "windows.conf")
	d.write("efi/loader/entries/x.conf", strings.Repeat("x", maxEntryFile+1))
	d.wantError("more than")
}

// Pin and Unpin of loader.conf through a link, with the file's mode.
func TestPinSystemd(t *testing.T) {
	d := newEntries(t, "6.1", "6.2")
	conf := filepath.Join(d.top, "efi/loader/loader.conf")
	if err := os.Chmod(conf, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"6.1", "6.2", "6.1"} {
		if changed, err := Pin(t.Context(), d.Paths, r); err != nil || !changed {
			t.Fatalf("%v %v", changed, err)
		}
		d.want(r, r, "")
	}
	if info, err := os.Stat(conf); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if _, err := Unpin(t.Context(), d.Paths); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(conf); string(text) != "timeout 3\n" {
		t.Errorf("loader.conf became %q", text)
	}
	d.write("efi/loader/entries/tok-6.3[x].conf", "linux /vmlinuz-6.3\n")
	if _, err := Pin(t.Context(), d.Paths, "6.3"); err == nil || !strings.Contains(err.Error(), "mean something") {
		t.Errorf("%v", err)
	}
}

// The order is total, and the one of the specification's examples.
func TestCompareVersions(t *testing.T) {
	order := []string{
		"122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1", "123a-1", "124-1",
	}
	for i, a := range order {
		for j, b := range order {
			want := (i - j) / max(1, max(i-j, j-i))
			if got := compareVersions(a, b); got != want {
				t.Errorf("%q against %q: %d, want %d", a, b, got, want)
			}
		}
	}
	for range 2000 {
		word := func() string {
			b := make([]byte, rand.IntN(6))
			for i := range b {
				b[i] = "01aB~-^.+"[rand.IntN(9)]
			}
			return string(b)
		}
		all := []string{word(), word(), word()}
		slices.SortFunc(all, compareVersions)
		if compareVersions(all[0], all[2]) > 0 {
			t.Errorf("no order: %q", all)
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add("a+1-2.conf", "title x\nlinux /vmlinuz-6.1\nsort-key k\n")
	f.Add("b.conf", "version 1~^-.\nefi \"x\"\n")
	f.Fuzz(func(_ *testing.T, name, text string) {
		a, _ := parseEntry(name, text)
		b, _ := parseEntry(text, name)
		sortEntries([]blsEntry{a, b, a})
	})
}

func FuzzLoaderConf(f *testing.F) {
	f.Add("default x\n# dkms-gate: default y\r\ntimeout 1", "a*.conf")
	f.Add(pinnedText("default y", "6.1", "x.conf"), "[")
	f.Fuzz(func(t *testing.T, text, pattern string) {
		before, held := unpinned(text)
		if held == "" && before != text {
			t.Error("changed without being pinned")
		}
		back, r := unpinned(pinnedText(before, "6.1", "x.conf"))
		if back != before || r != "6.1" {
			t.Errorf("%q came back as %q, %q", before, back, r)
		}
		s := &systemd{entries: []blsEntry{{file: "x.conf", id: "x.conf", linux: "/vmlinuz-6.1"}}}
		s.find(pattern)
		if c, err := s.choose(pattern, text); err != nil || c.Entry != "x.conf" {
			t.Errorf("%+v %v", c, err)
		}
	})
}
