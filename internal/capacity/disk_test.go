// SPDX-License-Identifier: Apache-2.0

package capacity

import (
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/host"
)

func TestDiskOf(t *testing.T) {
	dir := t.TempDir()
	d, err := DiskOf(host.Default(), filepath.Join(dir, "not", "there"))
	if err != nil || d.Free <= 0 || d.ReadOnly || !strings.HasPrefix(dir, d.Mount) || d.Mount == "" {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := DiskOf(host.Default(), "/proc/self"); err != nil || d.Mount != "/proc" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestMountOf(t *testing.T) {
	const info = `22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 8:2 / /var/lib rw - ext4 /dev/sda2 rw
31 30 8:3 / /var/lib/with\040blank ro - ext4 /dev/sda3 ro
short
`
	for dir, want := range map[string]string{
		"/etc": "/", "/var/lib": "/var/lib", "/var/libs": "/", "/var/lib/dkms": "/var/lib", "/var/lib/with blank/x": "/var/lib/with blank",
	} {
		if got := mountOf(info, dir); got != want {
			t.Errorf("%s is on %q, want %q", dir, got, want)
		}
	}
}

func FuzzMountOf(f *testing.F) {
	f.Add("22 1 8:1 / / rw\n", "/var")
	f.Add(`1 2 3 4 /a\040b x`, "/a b/c")
	f.Fuzz(func(t *testing.T, info, dir string) {
		if at := mountOf(info, dir); at != "" && !strings.HasPrefix(dir, strings.TrimSuffix(at, "/")) {
			t.Errorf("%q is not above %q", at, dir)
		}
	})
}
