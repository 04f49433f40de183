// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/untrusted"
)

var then = time.Unix(1e9, 5000)

// must stops a test at an error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// source makes a tree with what cp -a has to keep.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir() + "/from"
	must(t,
		os.MkdirAll(dir+"/sub/empty", 0o755),
		os.WriteFile(dir+"/plain", []byte("plain"), 0o644),
		os.WriteFile(dir+"/sub/script", []byte("#!/bin/sh\n"), 0o755),
		os.WriteFile(dir+"/sub/secret", nil, 0o600),
		os.Symlink("sub/script", dir+"/link"),
		os.Symlink("/nowhere/at/all", dir+"/dangling"),
		os.Symlink("..", dir+"/sub/up"),
		os.Chmod(dir+"/sub/empty", 0o500),
		os.Chmod(dir+"/sub/script", 0o755|fs.ModeSetuid),
		os.Chown(dir+"/sub/secret", 1234, 4321),
		os.Chmod(dir+"/sub", 0o555),
		os.Chtimes(dir+"/plain", then, then),
		os.Chtimes(dir+"/sub", then, then),
	)
	return dir
}

// compare checks that two trees have the same entries and attributes.
func compare(t *testing.T, from, to string) {
	t.Helper()
	n := 0
	must(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		rel, _ := filepath.Rel(from, path)
		a, err := os.Lstat(path)
		if err != nil {
			return err
		}
		b, err := os.Lstat(filepath.Join(to, rel))
		if err != nil {
			return err
		}
		x, y := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
		if a.Mode() != b.Mode() || x.Uid != y.Uid || x.Gid != y.Gid {
			t.Errorf("%s: %v %d:%d, want %v %d:%d", rel, b.Mode(), y.Uid, y.Gid, a.Mode(), x.Uid, x.Gid)
		}
		if a.Mode()&fs.ModeSymlink != 0 {
			l, _ := os.Readlink(path)
			if m, _ := os.Readlink(filepath.Join(to, rel)); l != m {
				t.Errorf("%s leads to %s, want %s", rel, m, l)
			}
			return nil
		}
		if !a.ModTime().Equal(b.ModTime()) {
			t.Errorf("%s: %v, want %v", rel, b.ModTime(), a.ModTime())
		}
		if !a.IsDir() {
			l, _ := os.ReadFile(path)
			if m, _ := os.ReadFile(filepath.Join(to, rel)); string(l) != string(m) {
				t.Errorf("%s: %q, want %q", rel, m, l)
			}
		}
		return nil
	}))
	if n < 9 {
		t.Errorf("only %d entries", n)
	}
}

func TestCopyKeepsAttributes(t *testing.T) {
	from, to := source(t), t.TempDir()+"/new/to"
	must(t, os.Mkdir(filepath.Dir(to), 0o755), Copy(from, to))
	compare(t, from, to)
	must(t, Copy(from, to)) // over itself
	compare(t, from, to)
}

func TestCopyMerges(t *testing.T) {
	from, to := source(t), t.TempDir()
	must(t,
		os.WriteFile(to+"/plain", []byte("older and longer"), 0o400),
		os.WriteFile(to+"/other", []byte("stays"), 0o644),
		os.WriteFile(to+"/link", []byte("was a file"), 0o644),
		os.Symlink(to+"/other", to+"/victim"),
		os.WriteFile(from+"/victim", []byte("not through the link"), 0o644),
		Copy(from, to))
	compare(t, from, to)
	if text, _ := os.ReadFile(to + "/other"); string(text) != "stays" {
		t.Errorf("a file was written through a link: %q", text)
	}
}

// A second name of root's file, in a source that somebody else can write to, is no
// way to its content: what is copied is handed to a build.
func TestCopyOfASecondName(t *testing.T) {
	for name, c := range map[string]struct {
		dir   string
		owner int
		mode  fs.FileMode
		fails bool
	}{
		"all root's":           {"sub", 0, 0o755, false},
		"somebody's":           {".", 1234, 0o755, true},
		"somebody's in root's": {"sub", 1234, 0o755, true},
		"a group's":            {"sub", 0, 0o775, true},
		"everybody's":          {"sub", 0, 0o1777, true},
	} {
		from := t.TempDir() + "/from"
		must(t,
			os.MkdirAll(from+"/sub/empty", 0o755),
			os.WriteFile(filepath.Dir(from)+"/secret", []byte("secret"), 0o600),
			os.Link(filepath.Dir(from)+"/secret", filepath.Join(from, c.dir, "x")),
			os.Chown(filepath.Join(from, c.dir), c.owner, c.owner),
			os.Chmod(filepath.Join(from, c.dir), c.mode),
		)
		err := Copy(from, t.TempDir()+"/to")
		if c.fails != errors.Is(err, untrusted.ErrOutside) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCopyOfALink(t *testing.T) {
	from, to := source(t), t.TempDir()+"/to"
	link := t.TempDir() + "/link"
	must(t, os.Symlink(from, link), Copy(link, to))
	compare(t, from, to)
	dotted := t.TempDir() + "/to"
	must(t, Copy(link+"/.", dotted))
	compare(t, from, dotted)
}

func TestCopyRefuses(t *testing.T) {
	from := source(t)
	inner := t.TempDir() + "/alias"
	must(t, os.Symlink(from, inner))
	for name, to := range map[string]string{"itself": from, "below": from + "/new/deep", "by a link": inner + "/new"} {
		if err := Copy(from, to); err == nil || !strings.Contains(err.Error(), "inside") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Copy(from+"/none", t.TempDir()); !os.IsNotExist(unwrapAll(err)) {
		t.Error(err)
	}
	must(t, Copy(from, from+"-beside")) // begins with the same letters only
	must(t, unix.Mkfifo(from+"/fifo", 0o600))
	if err := Copy(from, t.TempDir()+"/to"); err == nil || !strings.Contains(err.Error(), "fifo") {
		t.Error(err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || u.Unwrap() == nil {
			return err
		}
		if _, ok := err.(*fs.PathError); ok {
			return err
		}
		err = u.Unwrap()
	}
}

func TestCopyToAFullDisk(t *testing.T) {
	from, to := source(t), t.TempDir()
	must(t, os.WriteFile(from+"/big", make([]byte, 200<<10), 0o644), unix.Mount("tmpfs", to, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { unix.Unmount(to, unix.MNT_DETACH) })
	if err := Copy(from, to+"/x"); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Error(err)
	}
}

func TestDigest(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	digest := func(dir string) string {
		t.Helper()
		d, err := Digest(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if err := errors.Join(os.WriteFile(dir+"/a", []byte("x"), 0o644), os.Mkdir(dir+"/d", 0o755), os.Symlink("a", dir+"/l")); err != nil {
		t.Fatal(err)
	}
	before := digest(dir)
	if err := Copy(dir, other); err != nil || digest(other) != before {
		t.Errorf("a copy has another digest: %v", err)
	}
	if err := os.Symlink(dir, other+"/here"); err != nil || digest(other+"/here") != before {
		t.Errorf("a link to the directory has another digest: %v", err)
	}
	for _, change := range []func() error{
		func() error { return os.WriteFile(dir+"/a", []byte("y"), 0o644) },
		func() error { return os.Rename(dir+"/a", dir+"/b") },
		func() error { return errors.Join(os.Remove(dir+"/l"), os.Symlink("b", dir+"/l")) },
		func() error { return os.Remove(dir + "/d") },
	} {
		was := digest(dir)
		if err := change(); err != nil || digest(dir) == was {
			t.Errorf("a change isn't seen: %v", err)
		}
	}
	if _, err := Digest(dir + "/none"); err == nil {
		t.Error("a directory that isn't there has a digest")
	}
}

// What isn't a file is an error at once, and so is a file of holes.
func TestHostileSource(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"pipe":   func(path string) error { return unix.Mkfifo(path, 0o644) },
		"device": func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"holes": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, 1<<40))
		},
	} {
		dir := t.TempDir()
		must(t, make(dir+"/x"))
		if _, err := Digest(dir); err == nil {
			t.Errorf("%s: a digest", name)
		}
		if err := Copy(dir, t.TempDir()+"/to"); err == nil {
			t.Errorf("%s: copied", name)
		}
	}
}

// A link in the destination takes nothing out of it.
func TestCopyThroughALink(t *testing.T) {
	from, to, out := t.TempDir(), t.TempDir(), t.TempDir()
	must(t,
		os.MkdirAll(from+"/sub", 0o755),
		os.WriteFile(from+"/sub/file", nil, 0o644),
		os.Symlink(out, to+"/sub"))
	if err := Copy(from, to); err == nil {
		t.Error("copied")
	}
	if _, err := os.Lstat(out + "/file"); err == nil {
		t.Error("written through a link")
	}
}
