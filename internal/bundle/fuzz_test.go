// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// FuzzExtract unpacks archives: nothing leaves the directory, and what GNU tar lists
// is there.
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
		asTar(t, data, a)
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

// asTar holds what was unpacked against the list that GNU tar shows of the archive,
// where it takes it for sound.
func asTar(t *testing.T, data []byte, a *Archive) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "archive")
	check(t, os.WriteFile(name, data, 0o600))
	out, err := exec.Command("tar", "--list", "--verbose", "--numeric-owner", "--quoting-style=escape", "--file", name).CombinedOutput()
	if err != nil {
		return
	}
	// Of each line: type and mode, owner, size, date, time, name.
	line := regexp.MustCompile(`^(.)\S* +\S+ +(\S+) +\S+ +\S+ (.*)$`)
	sizes := map[string]string{}
	for _, l := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		m := line.FindStringSubmatch(l)
		if m == nil || strings.Contains(m[3], `\`) {
			return // a warning, or a name that tar writes otherwise
		}
		switch m[1] {
		case "-":
			sizes[path.Clean(m[3])] = m[2] // the last of a name counts
		default:
			delete(sizes, path.Clean(m[3]))
		}
	}
	for name, size := range sizes {
		info, err := os.Lstat(filepath.Join(a.Dir, name))
		if err != nil || !info.Mode().IsRegular() || fmt.Sprint(info.Size()) != size {
			t.Errorf("%s: %v %v, tar has %s bytes", name, info, err, size)
		}
	}
}
