// SPDX-License-Identifier: Apache-2.0

package ship

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

func TestShip(t *testing.T) {
	first := pack(t, author(t, "1.0"))
	r := newRoot(t)
	r.apt(0, "install", first.deb, lab.Deb(t))
	r.wantStatus("hello/1.0, "+r.old, "hello/1.0, "+r.new)
	r.MustRun("dkms", "verify")
	objects := map[string][]byte{r.old: r.object(r.old), r.new: r.object(r.new)}
	second := version(t, "1.1", objects, "")

	t.Run("deb", func(t *testing.T) { r.t = t; debVersions(t, r, first, second, objects) })
	t.Run("binary", func(t *testing.T) { r.t = t; binary(t, r, second) })
	if os.Getenv("CI") != "true" { // whose time is short; it tests another dkms
		t.Run("debian", func(t *testing.T) { t.Parallel(); debian(t, second, objects) })
	}
	t.Run("rpm", func(t *testing.T) { t.Parallel(); rpms(t, second, objects) })
}

// only returns the objects without that of a kernel, whose build then fails.
func only(objects map[string][]byte, kernel string) map[string][]byte {
	return map[string][]byte{kernel: objects[kernel]}
}

// debVersions upgrades, downgrades and removes the package where dkms-go is installed.
func debVersions(t *testing.T, r root, first, second packages, objects map[string][]byte) {
	r.apt(0, "install", second.deb)
	r.wantStatus("hello/1.1, "+r.old, "hello/1.1, "+r.new)
	r.sound()
	if exists(r.Path("usr/src/hello-1.0")) || exists(r.Path("var/lib/dkms/hello/1.0")) {
		t.Error("the old version is left")
	}

	// One that can't be built for a kernel: what works there stays, and apt is content.
	third := version(t, "1.2", only(objects, r.old), "")
	if out := r.apt(0, "install", third.deb); !strings.Contains(out, "hello/1.2 for kernel "+r.new) {
		t.Errorf("nothing is said of the failure:\n%s", out)
	}
	r.wantStatus("hello/1.2, "+r.old, "hello/1.1, "+r.new)
	r.sound()

	// The same again, and one whose preinst fails: all is as before.
	r.apt(0, "--reinstall", "install", third.deb)
	r.apt(100, "install", refusing(t, second.deb))
	r.wantStatus("hello/1.2, "+r.old, "hello/1.1, "+r.new)

	// Required: apt is told, and what works stays all the same.
	fourth := version(t, "1.4", only(objects, r.new), `FAILURE_POLICY="required"`)
	r.apt(100, "install", fourth.deb)
	r.wantStatus("hello/1.2, "+r.old, "hello/1.4, "+r.new)
	r.MustRun("sh", "-c", "echo FAILURE_POLICY=optional >/etc/dkms/hello.conf; dpkg --configure -a; rm /etc/dkms/hello.conf")
	r.sound()

	// Back to an older one that works everywhere.
	r.apt(0, "install", second.deb)
	r.wantStatus("hello/1.1, "+r.old, "hello/1.1, "+r.new)
	r.apt(0, "remove", "hello-dkms")
	r.wantNothing()
	r.apt(0, "install", second.deb)
	r.wantStatus("hello/1.1, "+r.old, "hello/1.1, "+r.new)
	r.apt(0, "purge", "hello-dkms")
	r.wantNothing()
	r.sound()
}

// refusing makes a package like another one, of a higher version, whose preinst fails.
func refusing(t *testing.T, deb string) string {
	t.Helper()
	dir := t.TempDir()
	lab.MustExec(t, "sh", "-euc", `
		dpkg-deb -R "$1" "$2/x"
		sed -i 's/^Version: .*/Version: 1.9/' "$2/x/DEBIAN/control"
		printf '#!/bin/sh\nexit 1\n' >"$2/x/DEBIAN/preinst"
		chmod 755 "$2/x/DEBIAN/preinst"
		dpkg-deb --root-owner-group -Zgzip -b "$2/x" "$2/refusing.deb"`, "sh", deb, dir)
	return filepath.Join(dir, "refusing.deb")
}

// binary makes and installs packages of objects.
func binary(t *testing.T, r root, p packages) {
	lab.MustExec(t, "cp", "-r", p.dir, r.Path("root/source"))
	make := func(out string) string {
		t.Helper()
		return strings.TrimSpace(r.MustRun("env", epoch, "dkms", "mkpackages", "--binary", "-k", r.new, "--output", out, "/root/source").Stdout)
	}
	deb := "/root/out/hello-modules-" + r.new + "_1.1_amd64.deb"
	rpm := "/root/out/hello-modules-" + r.new + "-1.1-1.x86_64.rpm"
	if got := make("/root/out"); got != deb+"\n"+rpm {
		t.Fatalf("made %q", got)
	}
	make("/root/again")
	r.MustRun("diff", "-r", "/root/out", "/root/again")
	r.wantStatus()
	if exists(r.Path("usr/src/hello-1.1")) {
		t.Error("the source is left")
	}
	clean(t, r.Path(deb), r.Path(rpm))

	r.apt(100, "install", r.Path(deb)) // not without its kernel
	r.apt(0, "install", r.Path(deb), dummy(t, "linux-image-"+r.new))
	resolves := func(want bool) {
		t.Helper()
		if res := r.Run("modprobe", "-n", "-v", "-S", r.new, "hello"); (res.Code == 0) != want {
			t.Errorf("modprobe hello: exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
		}
	}
	resolves(true)
	r.apt(0, "purge", "hello-modules-"+r.new)
	resolves(false)
	r.wantNothing()
	r.rpm("-i", r.Path(rpm))
	resolves(true)
	r.rpm("-e", "hello-modules-"+r.new)
	resolves(false)
	r.wantNothing()
}

// debian does the same with the distribution's dkms.
func debian(t *testing.T, second packages, objects map[string][]byte) {
	r := newRoot(t)
	r.apt(0, append([]string{"install", second.deb}, debianDkms(t)...)...)
	r.wantStatus("hello/1.1, "+r.old, "hello/1.1, "+r.new)
	third := version(t, "1.3", objects, "")
	r.apt(0, "install", third.deb)
	r.sound()
	if got := r.MustRun("dkms", "status").Stdout; strings.Contains(got, "1.1") || !strings.Contains(got, "hello/1.3, "+r.new+", x86_64: installed") {
		t.Errorf("status is %s", got)
	}
	r.apt(100, "install", refusing(t, second.deb))
	if got := r.MustRun("dkms", "status").Stdout; !strings.Contains(got, "hello/1.3, "+r.new+", x86_64: installed") {
		t.Errorf("after an upgrade that was given up: status is %s", got)
	}
	r.apt(0, "purge", "hello-dkms")
	r.wantNothing()

	// The rpm, on a system whose dkms isn't ours.
	r.rpm("-i", second.rpm)
	r.wantStatus("hello/1.1, "+r.old, "hello/1.1, "+r.new)
	r.rpm("-U", third.rpm)
	r.wantStatus("hello/1.3, "+r.old, "hello/1.3, "+r.new)
	r.rpm("-e", "hello-dkms")
	r.wantNothing()
}

// rpms installs, upgrades and removes the rpm where dkms-go is installed.
func rpms(t *testing.T, second packages, objects map[string][]byte) {
	r := newRoot(t)
	r.AddBinary()
	r.rpm("-i", second.rpm)
	r.wantStatus("hello/1.1, "+r.old, "hello/1.1, "+r.new)
	r.MustRun("dkms", "verify")
	r.rpm("-U", "--replacepkgs", second.rpm)
	r.wantStatus("hello/1.1, "+r.old, "hello/1.1, "+r.new)

	third := version(t, "1.2", only(objects, r.old), "")
	if out := r.rpm("-U", third.rpm); !strings.Contains(out, "hello/1.2 for kernel "+r.new) {
		t.Errorf("nothing is said of the failure:\n%s", out)
	}
	r.wantStatus("hello/1.2, "+r.old, "hello/1.1, "+r.new)
	r.rpm("-U", "--oldpackage", second.rpm)
	r.wantStatus("hello/1.1, "+r.old, "hello/1.1, "+r.new)
	r.rpm("-e", "hello-dkms")
	r.wantNothing()
}
