// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dkms-go/internal/host"
)

// With the apt of this machine, which must have read its package lists.
func TestLookupHeadersApt(t *testing.T) {
	out, err := exec.Command("apt-cache", "--names-only", "search", "^linux-headers-[0-9].*-amd64$").Output()
	m := regexp.MustCompile(`(?m)^linux-headers-(\S+) - `).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("apt knows no headers, call apt-get update: %v", err)
	}
	release := string(m[1])
	q := Query{Release: release, Paths: host.Default(), Env: append(os.Environ(), "LC_ALL=de_DE.UTF-8")}
	if pkg, known := (Distro{ID: "debian"}).LookupHeaders(t.Context(), q); !known || pkg != "linux-headers-"+release {
		t.Errorf("%s: %q, %v", release, pkg, known)
	}
	for _, made := range []string{release + "-made-up", "../etc", "-o=x", "6.*", ""} {
		q.Release = made
		if pkg, known := (Distro{ID: "ubuntu debian"}).LookupHeaders(t.Context(), q); known || pkg != "" {
			t.Errorf("%q: %q", made, pkg)
		}
	}
}

// aptPolicy is what apt-cache policy (apt 2.6) prints of a package that a
// source has, one that is removed but not purged, and one known by name only.
const aptPolicy = `linux-headers-current-sunxi64:
  Installed: (none)
  Candidate: 24.8.1
  Version table:
     24.8.1 500 (phased 10%)
        500 https://apt.armbian.com bookworm/main arm64 Packages
     24.5.1 500
        500 https://apt.armbian.com bookworm/main arm64 Packages
proxmox-headers-6.8.12-4-pve:
  Installed: (none)
  Candidate: 6.8.12-4
  Version table:
     6.8.12-4 500
        500 http://download.proxmox.com/debian/pve bookworm/pve-no-subscription amd64 Packages
linux-headers-6.9.9-removed:
  Installed: (none)
  Candidate: 6.9.9-1
  Version table:
     6.9.9-1 -1
        100 /var/lib/dpkg/status
linux-headers-6.9.8-installed:
  Installed: 6.9.8-1
  Candidate: 6.9.8-1
  Version table:
 *** 6.9.8-1 100
        100 /var/lib/dpkg/status
     6.9.7-1 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
linux-headers-6.9.7-name:
  Installed: (none)
  Candidate: (none)
  Version table:
`

// tools are stand-ins for package managers that this machine hasn't: they
// print what the real ones do, in the format that the comments give.
func tools() map[string]string {
	return map[string]string{
		// apt prints the packages it was asked for that it has heard of.
		"apt-cache": `awk -v names=" $* " '/^[^ ]/ { on = index(names, " " substr($1, 1, length($1) - 1) " ") } on' <<'END'
` + aptPolicy + `END`,
		// dpkg-query(1): -S prints "package: path", and fails if one is in
		// no package.
		"dpkg-query": `case "$*" in
*vmlinuz-6.6.44-current-sunxi64*) echo 'diversion by x from: /boot/y'; echo 'linux-image-current-sunxi64: /boot/vmlinuz-6.6.44-current-sunxi64'; exit 1;;
*vmlinuz-6.6.30-current-sunxi64*) echo 'linux-image-old-sunxi64: /boot/vmlinuz-6.6.30-current-sunxi64'; exit 1;;
'-W -f ${Version}'*linux-image-current-sunxi64) echo 24.8.1;;
'-W -f ${Version}'*) echo 24.5.1;;
*) exit 1; esac`,
		// dnf 4.14 and 5: one NEVRA a line (repoquery's default format).
		"dnf": `[ "$1 $2 $3" = "-q -C repoquery" ] || exit 1; shift 3; case "$*" in
'--whatprovides kernel-devel-uname-r = 6.11.4-301.fc41.x86_64') echo kernel-devel-0:6.11.4-301.fc41.x86_64;;
'--whatprovides kernel-devel-uname-r = 5.14.0-427.el9.x86_64+rt') echo kernel-rt-devel-0:5.14.0-427.el9.x86_64;;
'kernel-uek-devel-5.15.0-1.el9uek.x86_64') echo kernel-uek-devel-0:5.15.0-1.el9uek.x86_64;;
esac`,
		// zypper 1.14, search --details.
		"zypper": `[ "$*" = "--no-refresh --non-interactive search --details --match-exact kernel-default-devel" ] || exit 104
cat <<'END'
Loading repository data...
Reading installed packages...

S | Name                 | Type    | Version             | Arch   | Repository
--+----------------------+---------+---------------------+--------+-----------------
i | kernel-default-devel | package | 6.4.0-150600.19.1   | x86_64 | (System Packages)
v | kernel-default-devel | package | 6.4.0-150600.23.7.3 | x86_64 | Main Update
v | kernel-default-devel | package | 6.4.0-150600.21.3   | x86_64 | Main Repository
END`,
		// pacman 6, -Si.
		"pacman": `case "$*" in
'-Si linux-headers') version=6.12.arch1-1;;
'-Si linux-lts-headers') version=6.6.58-1;;
'-Si linux66-headers') version=6.6.54-2;;
*) exit 1; esac
echo 'Repository      : core'; echo "Version         : $version"; echo 'Description     : Headers: for modules'`,
		// apk-tools 2.14, search --exact.
		"apk": `[ "$*" = "--no-network search --exact linux-lts-dev" ] && echo linux-lts-dev-6.6.58-r0`,
		// portageq(1), best_visible.
		"portageq": `case "$*" in 'best_visible / =sys-kernel/gentoo-sources-6.6.52-r1'|'best_visible / =sys-kernel/gentoo-kernel-6.6.52') echo "${3#=}";; *) echo; exit 1; esac`,
		// xbps-query(1), --property.
		"xbps-query": `[ "$*" = "-R --property pkgver linux6.6-headers" ] && echo linux6.6-headers-6.6.52_1`,
	}
}

func TestLookupHeaders(t *testing.T) {
	dir := t.TempDir()
	for name, text := range tools() {
		if err := os.Chmod(write(t, filepath.Join(dir, "bin", name), "#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := host.Paths{InstallTree: dir + "/modules", Boot: "/boot"}
	for release, base := range map[string]string{
		"6.12.0-arch1-1": "linux", "6.12.1-arch1-1": "linux", "6.6.58-1-lts": "linux-lts", "6.6.5-1-lts": "linux-lts",
		"6.6.54-2-MANJARO": "linux66", "6.1.1-own": "own", "6.1.2-own": "-y",
	} {
		write(t, filepath.Join(p.KernelTree(release), "pkgbase"), base+"\n")
	}
	for _, tt := range []struct{ id, release, want string }{
		{"debian", "6.8.12-4-pve", "proxmox-headers-6.8.12-4-pve"},
		{"debian", "6.6.44-current-sunxi64", "linux-headers-current-sunxi64"},
		{"debian", "6.6.30-current-sunxi64", ""},
		{"ubuntu debian", "6.9.9-removed", ""},
		{"debian", "6.9.8-installed", ""},
		{"debian", "6.9.7-name", ""},
		{"fedora", "6.11.4-301.fc41.x86_64", "kernel-devel-6.11.4-301.fc41.x86_64"},
		{"rhel centos fedora", "5.14.0-427.el9.x86_64+rt", "kernel-rt-devel-5.14.0-427.el9.x86_64"},
		{"fedora", "5.15.0-1.el9uek.x86_64", "kernel-uek-devel-5.15.0-1.el9uek.x86_64"},
		{"fedora", "6.11.5-300.fc41.x86_64", ""},
		{"suse opensuse", "6.4.0-150600.21-default", "kernel-default-devel=6.4.0-150600.21.3"},
		{"suse", "6.4.0-150600.23.7-default", "kernel-default-devel=6.4.0-150600.23.7.3"},
		{"suse", "6.4.0-150600.19-default", ""},
		{"suse", "6.4.0-150600.2-default", ""},
		{"suse", "6.4", ""},
		{"arch", "6.12.0-arch1-1", "linux-headers"},
		{"arch", "6.12.1-arch1-1", ""},
		{"arch", "6.6.58-1-lts", "linux-lts-headers"},
		{"arch", "6.6.5-1-lts", ""},
		{"arch", "6.6.54-2-MANJARO", "linux66-headers"},
		{"arch", "6.1.1-own", ""},
		{"arch", "6.1.2-own", ""},
		{"arch", "6.1.3-none", ""},
		{"alpine", "6.6.58-0-lts", "linux-lts-dev"},
		{"alpine", "6.6.57-0-lts", ""},
		{"alpine", "6.6.57", ""},
		{"gentoo", "6.6.52-gentoo-r1", "=sys-kernel/gentoo-sources-6.6.52-r1"},
		{"gentoo", "6.6.52-gentoo-dist", "=sys-kernel/gentoo-kernel-6.6.52"},
		{"gentoo", "6.6.52-gentoo", ""},
		{"gentoo", "6.6.52-own", ""},
		{"void", "6.6.52_1", "linux6.6-headers"},
		{"void", "6.6.51_1", ""},
		{"void", "6", ""},
		{"plan9", "6.1.1", ""},
		{"", "6.1.1", ""},
	} {
		for path, want := range map[string]string{dir + "/bin:/usr/bin:/bin": tt.want, dir + "/nothing": ""} {
			q := Query{Release: tt.release, Paths: p, Env: []string{"PATH=" + path}}
			got, known := Distro{ID: tt.id}.LookupHeaders(t.Context(), q)
			if got != want || known != (want != "") {
				t.Errorf("%q: LookupHeaders(%q) = %q, %v, want %q (%s)", tt.id, tt.release, got, known, want, path)
			}
		}
	}
}

// A package manager that doesn't end is not waited for.
func TestLookupHeadersEnds(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(write(t, dir+"/apt-cache", "#!/bin/sh\nexec sleep 600\n"), 0o755)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q := Query{Release: "6.1.0", Env: []string{"PATH=" + dir + ":/usr/bin:/bin"}}
	if pkg, known := (Distro{ID: "debian"}).LookupHeaders(ctx, q); known {
		t.Errorf("%q", pkg)
	}
}

// Output of a package manager that isn't as expected names no package that
// wasn't asked for.
func FuzzPolicy(f *testing.F) {
	f.Add(aptPolicy)
	f.Add("a:\n Candidate: 1\n 1 500\n 500 x y\n")
	f.Fuzz(func(t *testing.T, text string) {
		for name, version := range parsePolicy(strings.Split(text, "\n")) {
			if version == "" || !strings.Contains(text, name) || !strings.Contains(text, version) {
				t.Errorf("%q gives %q %q", text, name, version)
			}
		}
	})
}
