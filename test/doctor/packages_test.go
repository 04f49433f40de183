// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// TestPackages has the troubles that the package manager makes, or mends. It begins
// with a kernel that was installed while the hooks of dkms were gone, as by an
// unattended update.
func TestPackages(t *testing.T) {
	k := lab.AptKernels(t).Cloud
	base := root{lab.AptRoot(t), t}
	write(t, base.Path("etc/initramfs-tools/conf.d/few"), "MODULES=list\n") // others take a minute
	write(t, base.Path("etc/apt/apt.conf.d/99yes"), `APT::Get::Assume-Yes "true";
Dpkg::Use-Pty "0";
Acquire::http::Proxy "http://127.0.0.1:9/";
Acquire::Retries "0";
`)
	base.repository(lab.Deb(t))
	base.MustApt("install", "dkms-go")
	base.AddBinary()
	base.unpack(module{name: "plain", version: "1.0"})
	base.MustRun("dkms", "add", "plain/1.0")
	for _, dir := range []string{"postinst.d", "header_postinst.d", "prerm.d"} {
		remove(t, base.Path("etc/kernel", dir, "dkms"))
	}
	if os.Getenv("CI") == "true" { // whose time is short: without the initramfs
		found, _ := filepath.Glob(base.Path("var/cache/apt/archives/linux-image-" + k + "_*.deb"))
		base.MustRun("sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -C / -x --keep-directory-symlink`, "unpack", strings.TrimPrefix(found[0], base.Dir))
		base.MustRun("depmod", k)
	} else {
		base.MustApt("install", "linux-image-"+k)
	}
	base.MustApt("install", "linux-headers-"+k)
	base.MustRun("dkms", "build", "plain/1.0", "-k", k) // from now on it is in the cache
	base.MustRun("dkms", "unbuild", "plain/1.0", "-k", k)
	base.Freeze()

	for _, c := range []struct {
		name string
		do   func(r root)
	}{
		{"automatic kernel update not rebuilt", func(r root) {
			found := r.doctor()
			r.wants(found, "hooks", "/etc/kernel/postinst.d/dkms", "--reinstall", "dkms-go")
			r.wants(found, "installed", "plain/1.0", "dkms autoinstall -k "+k)
			r.cure()
			r.works("plain/1.0", k)
			for _, dir := range []string{"postinst.d", "header_postinst.d", "prerm.d"} {
				if _, err := os.Stat(r.Path("etc/kernel", dir, "dkms")); err != nil {
					r.t.Error(err)
				}
			}
		}},
		{"missing headers", func(r root) {
			r.MustApt("remove", "linux-headers-"+k)
			r.wants(r.doctor("plain"), "headers", "/lib/modules/"+k+"/build/include", "plain/1.0", "apt-get install linux-headers-"+k)
			r.cure("plain")
			r.works("plain/1.0", k)
		}},
		{"incomplete headers", func(r root) {
			kbuild := strings.TrimSpace(r.MustRun("readlink", "-f", "/lib/modules/"+k+"/build/scripts").Stdout)
			remove(r.t, r.Path(kbuild, "mod"))
			// Its package is not in apt's cache for nothing: it is installed again.
			r.wants(r.doctor("plain"), "headers", kbuild+"/mod/modpost", "--reinstall", "linux-kbuild-")
			r.cure("plain")
			r.works("plain/1.0", k)
		}},
		{"missing toolchain", func(r root) {
			debs := []string{lab.Deb(t), r.packed("make"), r.packed("gcc-12")}
			r.MustRun("dpkg", "--force-depends", "--remove", "make", "gcc-12")
			r.repository(debs...)
			r.wants(r.doctor("plain"), "toolchain", "make, gcc-12", "apt-get install make gcc-12")
			r.cure("plain")
			r.works("plain/1.0", k)
		}},
		{"wrong package order", func(r root) {
			// The image's hook runs, then the headers come, and theirs doesn't.
			r.MustApt("remove", "linux-headers-"+k)
			if res := r.Run("dkms", "hook", "image", k); res.Code != 0 || !strings.Contains(res.Stderr, "waiting: headers") {
				r.t.Fatalf("hook image: exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
			}
			r.MustApt("install", "linux-headers-"+k)
			r.wants(r.doctor(), "order", "plain/1.0", "headers", "came after the hook", "dkms autoinstall -k "+k)
			r.cure()
			r.works("plain/1.0", k)
			// A module's package comes before dkms could be told of it.
			debs, _ := filepath.Glob(r.Path("var/cache/apt/archives/acpi-call-dkms_*.deb"))
			r.MustRun("dpkg", "--unpack", strings.TrimPrefix(debs[0], r.Dir))
			r.wants(r.doctor(), "source", "acpi-call/", "it is not in the DKMS tree", "dkms install acpi-call/")
		}},
	} {
		if c.name == "incomplete headers" && os.Getenv("CI") == "true" {
			continue
		}
		t.Run(c.name, func(t *testing.T) { c.do(over(t, base.Root)) })
	}
}

// repository makes packages known to the root's apt, before those of the
// distribution.
func (r root) repository(debs ...string) {
	r.t.Helper()
	var index strings.Builder
	for _, deb := range debs {
		data, err := os.ReadFile(deb)
		if err != nil {
			r.t.Fatal(err)
		}
		name := filepath.Base(deb)
		lab.MustExec(r.t, "install", "-D", "-m", "644", deb, r.Path("srv/repository", name))
		fmt.Fprintf(&index, "%sFilename: ./%s\nSize: %d\nSHA256: %x\n\n", lab.MustExec(r.t, "dpkg-deb", "-f", deb).Stdout, name, len(data), sha256.Sum256(data))
	}
	write(r.t, r.Path("srv/repository/Packages"), index.String())
	write(r.t, r.Path("etc/apt/sources.list.d/own.list"), "deb [trusted=yes] file:/srv/repository ./\n")
	write(r.t, r.Path("etc/apt/preferences.d/own"), "Package: *\nPin: origin \"\"\nPin-Priority: 990\n")
	r.MustApt("update", "-o", "Dir::Etc::sourcelist=/etc/apt/sources.list.d/own.list", "-o", "Dir::Etc::sourceparts=-", "-o", "APT::Get::List-Cleanup=0")
}

// packed makes the package again of which the root has the files.
func (r root) packed(pkg string) string {
	r.t.Helper()
	dir := r.t.TempDir()
	control := r.MustRun("dpkg-query", "-W", "-f", `Package: ${Package}
Version: ${Version}
Architecture: ${Architecture}
Depends: ${Depends}
Maintainer: nobody <nobody@localhost>
Description: a package of the tests
`, pkg).Stdout
	write(r.t, filepath.Join(dir, "DEBIAN/control"), control)
	const copyFiles = `chroot "$1" dpkg -L "$2" | while read -r f; do if [ ! -d "$1$f" ] || [ -L "$1$f" ]; then echo ".$f"; fi; done | tar -C "$1" -c --ignore-failed-read -T - 2>/dev/null | tar -C "$3" -x`
	lab.MustExec(r.t, "sh", "-c", copyFiles, "copy", r.Dir, pkg, dir)
	deb := filepath.Join(r.t.TempDir(), pkg+"_own_amd64.deb")
	lab.MustExec(r.t, "dpkg-deb", "--root-owner-group", "-Znone", "-b", dir, deb)
	return deb
}
