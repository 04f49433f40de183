// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"testing"

	"dkms-go/test/lab"
)

// bad doesn't compile.
var bad = module{name: "bad", version: "1.0", code: "#error this driver is too old"}

// policy installs a module that fails, as an optional and as a required one.
func policy(t *testing.T, kernel *lab.Root, k string) {
	r := over(t, kernel)
	deb := bad.pack(t)
	out := r.install(0, deb)
	r.configured()
	wants(t, out.Stderr+out.Stdout, "dkms: bad/1.0 for kernel "+k, "failed, optional", "bad.c:3:2: error: #error this driver is too old", "make.log")
	if n := r.builds("bad", k); n != 1 {
		t.Errorf("%d builds, want 1", n)
	}

	// Packages that have nothing to do with it don't try it again.
	r.install(0, plain("1.0").pack(t))
	r.MustRun("dkms", "hook", "headers", k)
	r.MustRun("dkms", "hook", "boot")
	if n := r.builds("bad", k); n != 1 {
		t.Errorf("%d builds after unrelated packages, want 1", n)
	}
	r.wantStatus("bad/1.0: added", row("plain/1.0", k, "installed"))

	// Required, it fails the transaction of its own package and of a kernel's,
	// which still gets its initramfs.
	write(t, r.Path("etc/dkms/bad.conf"), "FAILURE_POLICY=required\n", 0o644)
	res := r.Run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg-reconfigure", "bad-dkms")
	if res.Code == 0 {
		t.Errorf("configuring a required module that fails ends well:\n%s%s", res.Stdout, res.Stderr)
	}
	wants(t, res.Stderr+res.Stdout, "failed, required")
	r.MustRun("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-all", "--purge", "linux-image-"+k)
	out = r.install(100, "linux-image-"+k)
	r.initrd(k)
	wants(t, out.Stderr+out.Stdout, "Required modules have failed for kernel "+k, "FAILURE_POLICY=optional")
	if audit := r.MustRun("dpkg", "--audit").Stdout; audit == "" {
		t.Error("a required module that failed left nothing half configured")
	}
	if res := r.Run("dkms", "ready", "-k", k); res.Code != 23 {
		t.Errorf("ready: exit code %d\n%s", res.Code, res.Stdout)
	}

	// Declared optional, everything can be configured.
	write(t, r.Path("etc/dkms/bad.conf"), "FAILURE_POLICY=optional\n", 0o644)
	r.MustRun("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--configure", "-a")
	r.configured()
}
