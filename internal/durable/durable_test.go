// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file.conf")
	for _, text := range []string{"first", "second, longer", ""} {
		if err := Replace(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("read %q, %v, want %q", got, err, text)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left beside it: %v", names)
	}
}

// TestReplaceFails replaces a directory with content, which rename(2) refuses.
func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("x"), 0o644); err == nil {
		t.Error("a directory was replaced")
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left beside it: %v", names)
	}
	if err := Replace(filepath.Join(dir, "absent", "x"), nil, 0o644); err == nil {
		t.Error("no directory, no error")
	}
	if err := Sync(filepath.Join(dir, "absent")); err == nil {
		t.Error("nothing was synced, without an error")
	}
}

func TestSyncAll(t *testing.T) {
	dir := t.TempDir()
	paths := []string{dir}
	for i := range 40 {
		path := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	if err := SyncAll(paths); err != nil {
		t.Error(err)
	}
	if err := SyncAll(append(paths, filepath.Join(dir, "absent"))); err == nil {
		t.Error("one wasn't there, and no error")
	}
}

func TestCopy(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.WriteFile(from, []byte("content"), 0o640); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Copy(from, to); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(to)
		if text, _ := os.ReadFile(to); string(text) != "content" || err != nil || fi.Mode().Perm() != 0o640 {
			t.Errorf("%q, %v, %v", text, fi, err)
		}
	}
	if err := Copy(filepath.Join(dir, "absent"), to); !os.IsNotExist(err) {
		t.Errorf("an absent file: %v", err)
	}
}
