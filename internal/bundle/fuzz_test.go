// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzExtract(f *testing.F) {
	f.Add(pack(f, conf, dir("a/"), sym("a/l", "../dkms.conf"), hard("h", "dkms.conf")))
	f.Add(pack(f, dir("./dkms_main_tree/"), file("./dkms_main_tree/6.1/x86/module/m.ko", "x"), file("./dkms_source_tree/dkms.conf", "x")))
	f.Add(pack(f, conf, sym("d/up", ".."), sym("d/z", "up/../canary"), file("d/z", "x")))
	c := sample(f)
	for _, name := range []string{"a.tar.gz", "a.tar.xz", "a.tar.zst"} {
		name = filepath.Join(f.TempDir(), name)
		check(f, Write(name, c))
		data, err := os.ReadFile(name)
		check(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := extractBytes(t, data, small)
		if err != nil {
			return
		}
		if _, err := os.Stat(a.ConfFile); err != nil {
			t.Error(err)
		}
		checkTame(t, a)
	})
}

// checkTame sees that what was unpacked stays inside, whichever of the
// directories handed out is moved elsewhere.
func checkTame(t *testing.T, a *Archive) {
	dirs := []string{a.Dir}
	if a.SourceDir != "" {
		dirs = append(dirs, a.SourceDir)
	}
	for _, r := range a.Results {
		dirs = append(dirs, r.Dir)
	}
	for _, dir := range dirs {
		root, err := os.OpenRoot(dir)
		check(t, err)
		defer root.Close()
		check(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if m := info.Mode(); m.Type() == fs.ModeSymlink {
				rel, _ := filepath.Rel(dir, p)
				if _, err := root.Stat(rel); err != nil && strings.Contains(err.Error(), "escapes") {
					t.Errorf("%q leaves %q", rel, dir)
				}
			} else if m&^(fs.ModeDir|0o775) != 0 || !m.IsDir() && !m.IsRegular() {
				t.Errorf("%q has mode %s", p, m)
			}
			return nil
		}))
	}
}
