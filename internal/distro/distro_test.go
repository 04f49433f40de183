// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/host"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDetect(t *testing.T) {
	for name, tt := range map[string]struct{ text, id string }{
		"debian":         {"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n", "debian"},
		"ubuntu":         {"ID=ubuntu\nID_LIKE=debian\n", "ubuntu"},
		"mint":           {"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "ubuntu debian"},
		"rocky":          {"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "rhel centos fedora"},
		"single quotes":  {"ID='opensuse-leap'\nID_LIKE='suse opensuse'\n", "suse opensuse"},
		"empty ID_LIKE":  {"ID=void\nID_LIKE=\"\"\n", ""},
		"no ID":          {"NAME=x\n", "linux"},
		"last wins":      {"ID=a\nID=b\n", "b"},
		"comment":        {"# ID=no\nID=alpine\n", "alpine"},
		"not executed":   {"ID=$(echo evil)\n", "$(echo"},
		"no newline":     {"ID=gentoo", "gentoo"},
		"carriage":       {"ID=arch\r\n", "arch"},
		"blank in front": {"  ID=arch\n", "arch"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := host.Paths{OSRelease: []string{filepath.Join(dir, "none"), write(t, filepath.Join(dir, "os-release"), tt.text)}}
			d, err := Detect(p)
			if err != nil || d.ID != tt.id {
				t.Errorf("Detect = %q, %v, want %q", d.ID, err, tt.id)
			}
		})
	}
}

func TestDetectFirstFileCounts(t *testing.T) {
	dir := t.TempDir()
	p := host.Paths{OSRelease: []string{write(t, dir+"/etc", "ID=debian\n"), write(t, dir+"/usr", "ID=arch\n")}}
	if d, err := Detect(p); err != nil || d.ID != "debian" {
		t.Errorf("Detect = %q, %v", d.ID, err)
	}
}

func TestDetectErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Detect(host.Paths{OSRelease: []string{dir + "/a", dir + "/b"}}); !errors.Is(err, ErrNoOSRelease) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Detect(host.Paths{OSRelease: []string{dir}}); err == nil || errors.Is(err, ErrNoOSRelease) {
		t.Errorf("a directory: %v", err)
	}
	big := write(t, dir+"/big", strings.Repeat("A=b\n", maxFile/4+1))
	if _, err := Detect(host.Paths{OSRelease: []string{big}}); err == nil {
		t.Error("an endless file was read")
	}
}

// Values that os-release(5) allows mean what they mean to a shell.
func TestUnquoteLikeShell(t *testing.T) {
	words := []string{`plain`, `"two words"`, `'two words'`, `"a\"b"`, `"a\\b"`, `"a\$b"`, "\"a\\`b\"", `"a\nb"`, `'a\nb'`, `a\ b`, `a"b c"d`, `"it's"`, `'say "x"'`, `""`, `''`, ``, `a;`, `"x" # comment`, `a'b'"c"`, `"#no"`, `a#b`}
	path := write(t, filepath.Join(t.TempDir(), "f"), "")
	for _, w := range words {
		write(t, path, "X="+w+"\n")
		out, err := exec.Command("bash", "-c", `. "$1"; printf %s "$X"`, "bash", path).Output()
		if err != nil {
			t.Fatalf("%s: %v", w, err)
		}
		values, err := ReadAssignments(path)
		if err != nil || values["X"] != string(out) {
			t.Errorf("X=%s is %q (%v), bash has %q", w, values["X"], err, out)
		}
	}
}

func TestFamilies(t *testing.T) {
	for _, tt := range []struct {
		id, dir string
		uname   bool
		weak    string
	}{
		{"debian", "/updates/dkms", true, ""},
		{"ubuntu", "/updates/dkms", true, ""},
		{"ubuntu debian", "/updates/dkms", true, ""},
		{"arch", "/updates/dkms", true, ""},
		{"fedora", "/extra", false, ""},
		{"centos", "/extra", false, ""},
		{"rhel centos fedora", "/extra", false, "W --no-initramfs --add-modules|W --no-initramfs --remove-modules"},
		{"suse opensuse", "/updates", false, "S --add-kernel-modules 6.4-default|S --remove-kernel-modules 6.4-default"},
		{"sles", "/updates", false, "S --add-kernel-modules 6.4-default|S --remove-kernel-modules 6.4-default"},
		{"opensuse", "/updates", false, "S --add-kernel-modules 6.4-default|S --remove-kernel-modules 6.4-default"},
		{"gentoo", "/kernel/x", true, ""},
		{"alpine", "/kernel/x", false, ""},
		{"mandriva fedora", "/kernel/x", false, ""},
		{"", "/kernel/x", false, ""},
	} {
		d := Distro{ID: tt.id}
		if got := d.InstallDir("/kernel/x", ""); got != tt.dir {
			t.Errorf("%q: InstallDir = %q, want %q", tt.id, got, tt.dir)
		}
		if got := d.InstallDir("/kernel/x", "addon"); got != "/addon" {
			t.Errorf("%q: InstallDir with addon = %q", tt.id, got)
		}
		if got := d.ArchIsUname(); got != tt.uname {
			t.Errorf("%q: ArchIsUname = %v", tt.id, got)
		}
		add, remove := d.Weak(host.Paths{WeakModules: "W", WeakModulesSUSE: "S"}, "6.4-default")
		got := strings.Trim(strings.Join(add, " ")+"|"+strings.Join(remove, " "), "|")
		if got != tt.weak {
			t.Errorf("%q: Weak = %q, want %q", tt.id, got, tt.weak)
		}
	}
}

func TestAddonDir(t *testing.T) {
	dir := t.TempDir()
	p := host.Paths{AddonSysconfig: write(t, dir+"/sysconfig", "## Path: x\nUNLOAD=\"yes\"\nADDON_MODULES_DIR=\"from/file\"\n")}
	for _, tt := range []struct {
		environ []string
		want    string
	}{
		{nil, "from/file"},
		{[]string{"ADDON_MODULES_DIR="}, "from/file"},
		{[]string{"ADDON_MODULES_DIR=env", "X=1"}, "env"},
	} {
		if got := AddonDir(p, tt.environ); got != tt.want {
			t.Errorf("AddonDir(%q) = %q, want %q", tt.environ, got, tt.want)
		}
	}
	if got := AddonDir(host.Paths{AddonSysconfig: dir + "/none"}, nil); got != "" {
		t.Errorf("AddonDir without a file = %q", got)
	}
}

func TestInstallCommand(t *testing.T) {
	for id, want := range map[string]string{
		"debian": "apt-get install a b", "rhel": "dnf install a b", "suse": "zypper install a b", "arch": "pacman -S a b",
		"alpine": "apk add a b", "gentoo": "emerge a b", "void": "xbps-install a b", "": "",
	} {
		if got := (Distro{ID: id}).InstallCommand("a", "b"); got != want {
			t.Errorf("%q: InstallCommand = %q, want %q", id, got, want)
		}
	}
}

func TestCompilerPackage(t *testing.T) {
	for _, tt := range []struct{ id, cc, want string }{
		{"debian", "", "build-essential"},
		{"debian", "gcc", "build-essential"},
		{"debian", "gcc-12", "gcc-12"},
		{"ubuntu", "x86_64-linux-gnu-gcc-13", "gcc-13"},
		{"debian", "clang-19", "clang"},
		{"fedora", "gcc-12", "gcc"},
		{"arch", "/usr/bin/clang", "clang"},
		{"", "gcc", ""},
	} {
		if got := (Distro{ID: tt.id}).CompilerPackage(tt.cc); got != tt.want {
			t.Errorf("%q: CompilerPackage(%q) = %q, want %q", tt.id, tt.cc, got, tt.want)
		}
	}
}

func TestReadAssignmentsMissing(t *testing.T) {
	if _, err := ReadAssignments(filepath.Join(t.TempDir(), "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzAssignments(f *testing.F) {
	f.Add("ID=debian\nID_LIKE=\"a b\"\n# c\n")
	f.Add("export X='a\\'b\nY=\"\\\"\n=\n1X=2\n")
	f.Fuzz(func(t *testing.T, text string) {
		for name, value := range parseAssignments(text) {
			if !isName(name) || strings.Contains(value, "\n") || len(value) > len(text) {
				t.Errorf("%q gives %q=%q", text, name, value)
			}
		}
		// A value in single quotes comes back as it is.
		if !slices.ContainsFunc([]byte(text), func(c byte) bool { return c == '\'' || c == '\n' }) {
			if got := parseAssignments("X='" + text + "'")["X"]; got != text {
				t.Errorf("quoted %q comes back as %q", text, got)
			}
		}
	})
}

func TestFamilyCommands(t *testing.T) {
	p := host.Default()
	for _, tt := range []struct{ id, reinstall, tidy, pahole, hook string }{
		{"debian", "apt-get install --reinstall -o Dpkg::Options::=--force-confmiss x", "apt-get autoremove --purge", "pahole", "/etc/kernel/postinst.d/dkms"},
		{"ubuntu debian", "apt-get install --reinstall -o Dpkg::Options::=--force-confmiss x", "apt-get autoremove --purge", "pahole", "/etc/kernel/postinst.d/dkms"},
		{"rhel centos fedora", "dnf reinstall x", "dnf remove --oldinstallonly", "dwarves", "/usr/lib/kernel/install.d/40-dkms.install"},
		{"suse opensuse", "zypper install --force x", "zypper purge-kernels", "dwarves", ""},
		{"arch", "pacman -S x", "", "dwarves", "/usr/share/libalpm/hooks/70-dkms-install.hook"},
		{"nothing", "", "", "", ""},
	} {
		d := Distro{ID: tt.id}
		hook := ""
		for _, h := range d.Hooks(p)[:min(1, len(d.Hooks(p)))] {
			hook = h
		}
		if got := d.ReinstallCommand("x"); got != tt.reinstall || d.TidyCommand() != tt.tidy || d.CommandPackage("pahole") != tt.pahole || hook != tt.hook {
			t.Errorf("%s: %q, %q, %q, %q", tt.id, got, d.TidyCommand(), d.CommandPackage("pahole"), hook)
		}
	}
	if got := (Distro{ID: "debian"}).CommandPackage("ld"); got != "binutils" {
		t.Errorf("ld is of %q", got)
	}
	if got := (Distro{ID: "debian"}).ReinstallCommand(); got != "" {
		t.Errorf("of no package: %q", got)
	}
}

// The package manager of this machine is asked.
func TestOwner(t *testing.T) {
	d, q := Distro{ID: "debian"}, Query{Paths: host.Default(), Env: os.Environ()}
	for path, want := range map[string]string{"/usr/bin/dpkg": "dpkg", "/no/such/file": "", "/usr": ""} {
		if got := q.Owner(t.Context(), d, path); got != want {
			t.Errorf("%s is of %q, want %q", path, got, want)
		}
	}
	if got := q.Owner(t.Context(), Distro{ID: "alpine"}, "/usr/bin/dpkg"); got != "" {
		t.Errorf("of another family: %q", got)
	}
	for module, want := range map[string]string{"no-such-module-of-anybody": "", "--bad": ""} {
		if got := q.ModulePackage(t.Context(), d, module); got != want {
			t.Errorf("%s is of %q", module, got)
		}
	}
	if got := q.Newer(t.Context(), d, "no-such-package-of-anybody"); got != "" {
		t.Errorf("newer: %q", got)
	}
}
