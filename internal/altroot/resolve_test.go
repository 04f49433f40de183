// SPDX-License-Identifier: Apache-2.0

package altroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	for name, target := range map[string]string{
		"abs": "/etc", "rel": "sub/deep", "up": "../../../etc", "sub/deep": "../x", "a": "b", "b": "a",
		"chain": "abs/y", "dotdot": "sub/../abs",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"":            "",
		"/":           "",
		"missing/x":   "/missing/x",
		"abs/f":       "/etc/f",
		"/rel/f":      "/x/f",
		"up":          "/etc",
		"chain":       "/etc/y",
		"dotdot":      "/etc",
		"../../abs":   "/etc",
		"sub/./deep/": "/x",
	} {
		got, err := resolve(dir, name)
		if err != nil || got != dir+want {
			t.Errorf("resolve(%q) = %q, %v, want %q", name, got, err, dir+want)
		}
	}
	if got, err := resolve(dir, "a/x"); err == nil {
		t.Errorf("loop resolved to %q", got)
	}
	if got, err := resolve("/", "etc/"); err != nil || got != "/etc" {
		t.Errorf("resolve in /: %q, %v", got, err)
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("/etc", "l/x")
	f.Add("../../..", "l/../l/x")
	f.Add("l", "l")
	f.Fuzz(func(t *testing.T, target, name string) {
		dir := t.TempDir()
		_ = os.Symlink(target, filepath.Join(dir, "l"))
		got, err := resolve(dir, name)
		if err == nil && got != dir && !strings.HasPrefix(got, dir+"/") {
			t.Errorf("resolve(%q) with link to %q leads to %q", name, target, got)
		}
	})
}
