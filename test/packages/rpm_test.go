// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

const fedora = `NAME="Fedora Linux"
ID=fedora
VERSION_ID=43
PRETTY_NAME="Fedora Linux 43"
`

// rpmRoot makes a root that says it is Fedora, with the real rpm and
// kernel-install, and the files of a kernel and of its headers.
func rpmRoot(t *testing.T, kernel string) *lab.Root {
	t.Helper()
	root := lab.AptRoot(t)
	root.MustApt("install", "rpm", "systemd")
	root.MustRun("bash", "-euc", `
		cd /var/cache/apt/archives
		base=${1%-cloud-amd64}
		for deb in linux-{image,headers}-"$1"_* linux-headers-"$base"-common_* linux-kbuild-"${base%.*}"_*; do
			dpkg --fsys-tarfile "$deb" | tar -x -C / --keep-directory-symlink
		done
		depmod "$1"
		rm -f /etc/os-release
		printf %s "$2" >/etc/os-release
		mkdir -p /run/systemd/system
		rpm --initdb`, "rpmroot", kernel, fedora)
	return root
}

// rpm runs rpm, which on Debian wants to be told that it is meant.
func rpm(root *lab.Root, args ...string) lab.Result {
	return root.MustRun("rpm", append([]string{"--force-debian"}, args...)...)
}

func TestRpm(t *testing.T) {
	t.Parallel()
	kernel := lab.AptKernels(t).Cloud
	root := rpmRoot(t, kernel)
	lab.MustExec(t, "install", "-m", "644", lab.Rpm(t), root.Path("root/dkms-go.rpm"))
	res := rpm(root, "-i", "--nodeps", "/root/dkms-go.rpm")
	wantReload(t, res)
	if got := rpm(root, "-q", "--whatprovides", "dkms").Stdout; !strings.HasPrefix(got, "dkms-go-") {
		t.Errorf("dkms is provided by %q", got)
	}
	rpm(root, "-V", "--nodeps", "dkms-go")
	root.MustRun("dkms", "status")
	root.MustRun("systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/dkms.service")
	for _, dir := range []string{"postinst.d", "header_postinst.d", "preinst.d", "prerm.d"} {
		if got := hooks(t, root, dir); got != "" {
			t.Errorf("hooks in %s: %q", dir, got)
		}
	}

	t.Run("kernel-install", func(t *testing.T) { testKernelInstall(t, root, kernel) })

	appendTo(t, root.Path(frameworkConf), edit)
	conf := read(t, root.Path(frameworkConf))
	rpm(root, "-U", "--nodeps", "--replacepkgs", "/root/dkms-go.rpm")
	if got := read(t, root.Path(frameworkConf)); got != conf {
		t.Errorf("framework.conf is %q, want %q", got, conf)
	}
	wantReload(t, rpm(root, "-e", "dkms-go"))
	if got := read(t, root.Path(frameworkConf+".rpmsave")); got != conf {
		t.Errorf("framework.conf.rpmsave is %q, want %q", got, conf)
	}
	for _, gone := range []string{"usr/sbin/dkms", "usr/lib/dkms", "usr/lib/kernel/install.d/40-dkms.install", frameworkConf} {
		if exists(root.Path(gone)) {
			t.Errorf("%s is left", gone)
		}
	}
}

// wantReload checks that a scriptlet called systemctl: the real one, which in a
// chroot says that it can't reload anything. That isn't an error of ours.
func wantReload(t *testing.T, res lab.Result) {
	t.Helper()
	got := res.Stdout + res.Stderr
	called := strings.Contains(got, "connect to bus") || strings.Contains(got, "daemon-reload") || strings.Contains(got, "not been booted")
	if !called || strings.Contains(got, "scriptlet failed") {
		t.Errorf("no systemctl daemon-reload, or an error: %s", got)
	}
}

// The real kernel-install calls the plugin, which has the module built when
// the kernel comes, and taken away when it goes.
func testKernelInstall(t *testing.T, root *lab.Root, kernel string) {
	p := root.AddPackage("acpi-call-dkms")
	root.MustRun("dkms", "add", p.Module+"/"+p.Version)
	res := root.Run("kernel-install", "add", kernel, "/boot/vmlinuz-"+kernel)
	if res.Code != 0 {
		t.Fatalf("kernel-install add: exit status %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	want := p.Module + "/" + p.Version + ", " + kernel + ", x86_64: installed"
	if got := strings.Join(status(root), "\n"); got != want {
		t.Fatalf("status is %q, want %q\n%s%s", got, want, res.Stdout, res.Stderr)
	}
	found := root.MustRun("find", "/lib/modules/"+kernel, "-name", "acpi_call.ko*").Stdout
	if strings.Count(found, "\n") != 1 || !strings.HasPrefix(filepath.Base(strings.TrimSpace(found)), "acpi_call.ko") {
		t.Errorf("objects: %q", found)
	}

	if res = root.Run("kernel-install", "remove", kernel); res.Code != 0 {
		t.Fatalf("kernel-install remove: exit status %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	if got := strings.Join(status(root), "\n"); got != p.Module+"/"+p.Version+": added" {
		t.Errorf("after remove: status is %q\n%s%s", got, res.Stdout, res.Stderr)
	}
}
