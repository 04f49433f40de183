// SPDX-License-Identifier: Apache-2.0

package autoload

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/host"
)

func TestLists(t *testing.T) {
	dir := t.TempDir()
	p := host.Paths{ModulesLoadDirs: []string{dir + "/etc", dir + "/lib", dir + "/none"}, ModprobeDirs: []string{dir + "/modprobe"}}
	for file, text := range map[string]string{
		"etc/a.conf": "# no\n; no\nv4l2-loopback\n\n  zfs  \n", "lib/a.conf": "hidden\n", "lib/b.conf": "loop", "lib/c.txt": "no\n",
		"modprobe/x.conf": "blacklist nouveau\noptions zfs x=1\ninstall my-mod /bin/false\nblacklist\n",
	} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []Listed{{"v4l2_loopback", dir + "/etc/a.conf"}, {"zfs", dir + "/etc/a.conf"}, {"loop", dir + "/lib/b.conf"}}
	if got := Asked(p); !slices.Equal(got, want) {
		t.Errorf("Asked = %v", got)
	}
	want = []Listed{{"my_mod", dir + "/modprobe/x.conf"}, {"nouveau", dir + "/modprobe/x.conf"}}
	if got := Blocked(p); !slices.Equal(got, want) {
		t.Errorf("Blocked = %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a\n# b\n\n c-d ")
	f.Fuzz(func(t *testing.T, text string) {
		for _, n := range parse(text, func(line string) string { return line }) {
			if n == "" || strings.ContainsAny(n, "-\n") {
				t.Errorf("%q", n)
			}
		}
	})
}
