// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/state"
)

func sample(t *testing.T, f Format) *Package {
	t.Helper()
	p := Source(f, state.ID{Module: "my_mod", Version: "1.0"}, "1.0", []File{
		{Name: "dkms.conf", Body: []byte("PACKAGE_NAME=my_mod\n")}, {Name: "sub", Dir: true}, {Name: "sub/run", Exec: true, Body: []byte("#!/bin/sh\n")}, {Name: "link", Link: "dkms.conf"},
	})
	p.Maintainer, p.Summary, p.License, p.Time = "Ann <a@b.c>", "a module", "GPL-2.0-only", time.Unix(1_700_000_000, 0)
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	return p
}

func written(t *testing.T, p *Package) string {
	t.Helper()
	body, err := p.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.Bytes()
	if err != nil || !bytes.Equal(body, again) {
		t.Fatalf("%s: the second time other bytes, %v", p.File(), err)
	}
	path := filepath.Join(t.TempDir(), p.File())
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestDeb(t *testing.T) {
	path := written(t, sample(t, Deb))
	if filepath.Base(path) != "my-mod-dkms_1.0_all.deb" {
		t.Error(path)
	}
	dir := t.TempDir()
	output(t, "dpkg-deb", "-R", path, dir)
	list := output(t, "dpkg-deb", "-c", path)
	for _, want := range []string{
		"-rwxr-xr-x root/root", "./usr/src/my_mod-1.0/sub/run", "./usr/src/my_mod-1.0/link -> dkms.conf", "drwxr-xr-x root/root", "./usr/share/doc/my-mod-dkms/copyright",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	output(t, "sh", "-c", "cd \"$1\" && md5sum -c --quiet DEBIAN/md5sums", "sh", dir)
}

func TestRPM(t *testing.T) {
	path := written(t, sample(t, RPM))
	if filepath.Base(path) != "my_mod-dkms-1.0-1.noarch.rpm" {
		t.Error(path)
	}
	output(t, "rpm", "-K", "--nosignature", path)
	list := output(t, "rpm", "-qplv", path)
	if !strings.Contains(list, "/usr/src/my_mod-1.0/link -> dkms.conf") || strings.Count(list, "root     root") < 5 {
		t.Errorf("files are\n%s", list)
	}
}

// TestScripts has the shell and shellcheck read all scripts.
func TestScripts(t *testing.T) {
	key := state.Key{ID: state.ID{Module: "m", Version: "1"}, Kernel: "6.1.0+x", Arch: "x86_64"}
	for _, f := range []Format{Deb, RPM} {
		one := Source(f, key.ID, "1", nil)
		two, err := Objects(f, key, "1", nil, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []*Package{one, two} {
			for _, name := range slices.Sorted(maps.Keys(p.Scripts)) {
				file := filepath.Join(t.TempDir(), name)
				if err := os.WriteFile(file, []byte(p.Scripts[name]), 0o600); err != nil {
					t.Fatal(err)
				}
				output(t, "sh", "-n", file)
				output(t, "shellcheck", "-s", "sh", "-e", "SC2086", file)
			}
		}
	}
}

func TestGather(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"dkms.conf": "x", "blob.o_shipped": "x", "a.c": "x", "a.o": "x", ".a.o.cmd": "x", "a.ko.xz": "x", "a.mod.c": "x", "a.c~": "x", ".git/HEAD": "x", "sub/.svn/x": "x",
		"Module.symvers": "x", "x-dkms_1_all.deb": "x", "sub/b.c": "x",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"in": "sub/b.c", "sub/up": "../a.c", "out": "../x", "abs": "/etc/passwd", "sub/out": "../../x"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	output(t, "mkfifo", filepath.Join(dir, "pipe"))
	tree, err := Gather(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got, odd []string
	for _, f := range tree.Files {
		got = append(got, f.Name)
	}
	for _, l := range tree.LeftOut {
		if l.Odd {
			odd = append(odd, l.Name)
		}
	}
	if want := []string{"a.c", "blob.o_shipped", "dkms.conf", "in", "sub", "sub/b.c", "sub/up"}; !slices.Equal(got, want) {
		t.Errorf("packed are %q, want %q", got, want)
	}
	if want := []string{"abs", "out", "pipe", "sub/out"}; !slices.Equal(odd, want) {
		t.Errorf("odd are %q, want %q", odd, want)
	}
	if _, err := Gather(filepath.Join(dir, "none")); err == nil {
		t.Error("no error for no directory")
	}
}

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(p *Package){
		"version":    func(p *Package) { p.Version = "1_0 " },
		"maintainer": func(p *Package) { p.Maintainer = "a\nDepends: b" },
		"dependency": func(p *Package) { p.Depends = append(p.Depends, "a b") },
		"name":       func(p *Package) { p.Name = "ä" },
		"summary":    func(p *Package) { p.Summary = "" },
	} {
		for _, f := range []Format{Deb, RPM} {
			p := sample(t, f)
			if change(p); p.Check() == nil {
				t.Errorf("%s: a bad %s passes", f, name)
			}
		}
	}
	for relation, f := range map[string]Format{"aa (>= 1.0)": Deb, "aa | bb:any (<< 2)": Deb, "a >= 1.0-2": RPM, "/usr/bin/x": RPM, "perl(X)": RPM} {
		if err := checkRelation(f, relation); err != nil {
			t.Error(err)
		}
	}
	if err := CheckModule(state.ID{Module: "m", Version: "#MODULE_VERSION#"}); err == nil {
		t.Error("a placeholder passes as a version")
	}
}

// FuzzVersion has dpkg judge what passes.
func FuzzVersion(f *testing.F) {
	for _, v := range []string{"1.0", "1.0-rc1", "v2", "1_0", "1:2", "1.0~rc1+git", "1-", "^1", ""} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		for _, format := range []Format{Deb, RPM} {
			err := CheckVersion(format, v)
			if bad, ok := err.(*BadVersion); ok && bad.Instead != "" && CheckVersion(format, bad.Instead) != nil {
				t.Errorf("%q in the place of %q is no version", bad.Instead, v)
			}
			if err == nil && strings.ContainsAny(v, " \n/_$`'\"\\") && format == Deb {
				t.Errorf("%q passes", v)
			}
			if err == nil && format == Deb {
				if out, err := exec.Command("dpkg", "--validate-version", v).CombinedOutput(); err != nil {
					t.Errorf("dpkg: %s", out)
				}
			}
		}
	})
}
