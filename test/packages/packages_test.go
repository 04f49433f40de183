// SPDX-License-Identifier: Apache-2.0

// Package packages tests dkms-go's own packages, built by `make packages`,
// with the real apt, dpkg, rpm and kernel-install in throw-away roots.
package packages

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

const (
	frameworkConf = "etc/dkms/framework.conf"
	dropIn        = "etc/dkms/framework.conf.d/dkms-go.conf"
	edit          = "# edited\nverbose=\"\"\n"
)

// distribution makes a root with the headers of two kernels, the distribution's
// dkms and a module package, built and installed by it for both.
func distribution(t *testing.T) *lab.Root {
	t.Helper()
	k := lab.AptKernels(t)
	root := lab.AptRoot(t)
	root.MustApt("install", "linux-headers-"+k.Cur, "linux-headers-"+k.Cloud, "dkms", "acpi-call-dkms")
	for _, release := range []string{k.Cur, k.Cloud} {
		root.MustRun("dkms", "autoinstall", "-k", release)
	}
	return root
}

// status returns the lines of dkms status, sorted, without what a dkms adds
// after the state.
func status(root *lab.Root) []string {
	var rows []string
	for line := range strings.Lines(root.MustRun("dkms", "status").Stdout) {
		head, state, _ := strings.Cut(strings.TrimSpace(line), ": ")
		state, _, _ = strings.Cut(state, " ")
		rows = append(rows, head+": "+state)
	}
	slices.Sort(rows)
	return rows
}

// tree describes all files below directories of the root: names, modes, links
// and content.
func tree(t *testing.T, root *lab.Root, dirs ...string) string {
	t.Helper()
	var out strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(root.Path(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			var content string
			switch {
			case d.Type()&fs.ModeSymlink != 0:
				content, err = os.Readlink(path)
			case d.Type().IsRegular():
				var data []byte
				data, err = os.ReadFile(path)
				content = fmt.Sprintf("%x", sha256.Sum256(data))
			}
			fmt.Fprintln(&out, strings.TrimPrefix(path, root.Dir), info.Mode(), content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// hooks lists the scripts with dkms in their name that run-parts would run in
// a directory below /etc/kernel, with whose they are: "dkms ours" or "dkms theirs".
func hooks(t *testing.T, root *lab.Root, dir string) string {
	t.Helper()
	if _, err := os.Stat(root.Path("etc/kernel", dir)); err != nil {
		return ""
	}
	var list []string
	for path := range strings.Lines(root.MustRun("run-parts", "--test", "/etc/kernel/"+dir).Stdout) {
		path = strings.TrimSpace(path)
		if !strings.Contains(path, "dkms") {
			continue
		}
		owner := "theirs"
		if strings.Contains(read(t, root.Path(path)), "exec dkms hook ") {
			owner = "ours"
		}
		list = append(list, filepath.Base(path)+" "+owner)
	}
	return strings.Join(list, ", ")
}

// wantHooks checks whose hooks are active: "ours", "theirs" or "".
func wantHooks(t *testing.T, root *lab.Root, owner string) {
	t.Helper()
	want := map[string]string{"postinst.d": "", "header_postinst.d": "", "preinst.d": "", "prerm.d": ""}
	switch owner {
	case "ours":
		for dir := range want {
			want[dir] = "dkms ours"
		}
		want["postinst.d"] = "dkms ours, zzz-dkms ours"
	case "theirs": // Debian 12 has none for preinst.d
		for _, dir := range []string{"postinst.d", "header_postinst.d", "prerm.d"} {
			want[dir] = "dkms theirs"
		}
	}
	for dir, w := range want {
		if got := hooks(t, root, dir); got != w {
			t.Errorf("hooks in %s are %q, want %q", dir, got, w)
		}
	}
}

// wantGone checks that nothing of dkms-go is left: no file, no diversion, no
// package.
func wantGone(t *testing.T, root *lab.Root) {
	t.Helper()
	found := root.MustRun("find", "/etc", "/usr", "/var/lib", "-path", "/var/lib/apt", "-prune", "-o", "(", "-name", "*dkms-go*", "-o", "-name", "*dkms-distrib*", ")", "-print").Stdout
	if found != "" {
		t.Errorf("files are left:\n%s", found)
	}
	if got := root.MustRun("dpkg-divert", "--list").Stdout; strings.Contains(got, "dkms") {
		t.Errorf("diversions are left:\n%s", got)
	}
	if got := root.Run("dpkg-query", "-W", "-f", "${db:Status-Status}", "dkms-go").Stdout; got != "" && got != "not-installed" {
		t.Errorf("dkms-go is %q", got)
	}
}

// wantSound checks that dpkg finds nothing half done and apt nothing broken.
func wantSound(t *testing.T, root *lab.Root) {
	t.Helper()
	if got := root.MustRun("dpkg", "--audit").Stdout; got != "" {
		t.Errorf("dpkg --audit: %s", got)
	}
	root.MustApt("check")
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(read(t, path)+text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
