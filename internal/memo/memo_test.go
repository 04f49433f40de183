// SPDX-License-Identifier: Apache-2.0

package memo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// later opens a store as if all files were old.
func later(file string) *Store {
	s := Open(file)
	s.now = time.Now().Add(time.Hour)
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// reader returns what a file holds through s, and whether it had to be read.
func reader(t *testing.T, s *Store, path string) (text string, read bool) {
	t.Helper()
	text, err := s.Value("text", path, func(path string) (string, error) {
		read = true
		data, err := os.ReadFile(path)
		return string(data), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text, read
}

func TestValue(t *testing.T) {
	dir := t.TempDir()
	path, store := filepath.Join(dir, "a"), filepath.Join(dir, "cache", "facts")
	write(t, path, "first")
	s := later(store)
	if got, read := reader(t, s, path); got != "first" || !read {
		t.Fatalf("%q, read: %v", got, read)
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	if got, read := reader(t, later(store), path); got != "first" || read {
		t.Fatalf("%q, read again: %v", got, read)
	}
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(){
		"in place, same size and mtime": func() {
			write(t, path, "other")
			if err := os.Chtimes(path, was.ModTime(), was.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
		"another file of the same size and mtime": func() {
			write(t, path+".new", "third")
			if err := errors.Join(os.Chtimes(path+".new", was.ModTime(), was.ModTime()), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
		},
		"longer": func() { write(t, path, "much longer") },
	}
	for name, change := range changes {
		change()
		want, _ := os.ReadFile(path)
		if got, _ := reader(t, later(store), path); got != string(want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, err := later(store).Value("text", filepath.Join(dir, "absent"), func(string) (string, error) { return "", os.ErrNotExist }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of an absent file: %v", err)
	}
}

// A file that has just changed may change again with the same times.
func TestNewFilesAreNotRelied(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	write(t, path, "x")
	s := Open("")
	reader(t, s, path)
	if _, read := reader(t, s, path); !read {
		t.Error("a file that is new was relied on")
	}
	s.now = time.Now().Add(-time.Hour) // a clock that was set back
	reader(t, s, path)
	if _, read := reader(t, s, path); !read {
		t.Error("a file from the future was relied on")
	}
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "src")
	write(t, filepath.Join(root, "a", "b.c"), "b")
	write(t, filepath.Join(root, "c.c"), "c")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "facts")
	read := 0
	survey := func() {
		s := later(store)
		if _, err := s.Tree("list", link, func(string) (string, error) { read++; return "x", nil }); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(); err != nil {
			t.Fatal(err)
		}
	}
	survey()
	survey()
	if read != 1 {
		t.Fatalf("read %d times", read)
	}
	for i, change := range []func(){
		func() { write(t, filepath.Join(root, "a", "b.c"), "B") },
		func() { write(t, filepath.Join(root, "a", "new.c"), "") },
		func() { os.Rename(filepath.Join(root, "c.c"), filepath.Join(root, "d.c")) },
		func() { os.RemoveAll(filepath.Join(root, "a")) },
		func() { os.Symlink("d.c", filepath.Join(root, "e.c")) },
	} {
		change()
		survey()
		survey()
		if read != i+2 {
			t.Errorf("change %d: read %d times", i, read)
		}
	}
}

// What isn't a whole table, or could be somebody else's, is an empty store.
func TestForeignFile(t *testing.T) {
	dir := t.TempDir()
	path, store := filepath.Join(dir, "a"), filepath.Join(dir, "facts")
	write(t, path, "text")
	s := later(store)
	reader(t, s, path)
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"cut": string(whole[:len(whole)-1]), "flipped": strings.Replace(string(whole), "text", "tExt", 1), "empty": "", "zeros": strings.Repeat("\x00", len(whole)),
	} {
		write(t, store, data)
		if got, read := reader(t, later(store), path); got != "text" || !read {
			t.Errorf("%s: %q, read: %v", name, got, read)
		}
	}
	write(t, store, string(whole))
	if err := os.Chmod(store, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, read := reader(t, later(store), path); !read {
		t.Error("a file that all may write was relied on")
	}
	if err := os.Chmod(store, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, read := reader(t, later(store), path); read {
		t.Error("the whole file was not used")
	}
	write(t, filepath.Join(dir, "plain"), "")
	s = later(filepath.Join(dir, "plain", "facts"))
	reader(t, s, path)
	if s.Save() == nil {
		t.Error("saved below a file")
	}
}

func TestIn(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a", "b"), "x")
	s := Open("")
	defer s.Close()
	if in, of := s.In(dir, "a", "/b"), s.Of(dir, "/a/b"); in != of || !in.Exists() || in.IsDir() || !s.Of(dir).IsDir() {
		t.Errorf("%+v and %+v", in, of)
	}
	if s.In(filepath.Join(dir, "absent"), "x").Exists() || s.In(dir, "absent").Exists() {
		t.Error("what is absent has a stamp")
	}
	if err := os.Symlink("a", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	if s.Here(dir, "/l") == s.Of(dir, "/l") || s.Of(dir, "/l") != s.Of(dir, "/a") {
		t.Error("links")
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte(magic + strings.Repeat("\x00", 64)))
	f.Add(table("").merge(map[Digest]string{{1}: "one", {2}: "", {3}: "three"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		tab := parseTable(data)
		for i := range tab.count() {
			key, value, whole := tab.entry(i)
			if whole && len(value) > len(data) {
				t.Fatalf("%q", key)
			}
			tab.find(Digest([]byte(key)))
		}
		again := parseTable(tab.merge(map[Digest]string{{9}: "nine"}))
		if v, ok := again.find(Digest{9}); !ok || v != "nine" {
			t.Fatal("what was put is gone")
		}
	})
}

func BenchmarkFind(b *testing.B) {
	all := map[Digest]string{}
	var sum Sum
	for i := range 18000 {
		sum.Text(strings.Repeat("x", i%97) + string(rune(i)))
		all[sum.Digest()] = "value"
	}
	tab := parseTable(table("").merge(all))
	key := Digest{}
	for b.Loop() {
		tab.find(key)
		key[0]++
	}
}
