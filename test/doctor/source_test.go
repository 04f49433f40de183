// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// TestModules has the troubles that no package mends. The kernel's modules are those
// that matter for its index; plain/1.0 is installed.
func TestModules(t *testing.T) {
	_, k := lab.Kernels(t)
	base := root{lab.Scratch(t), t}
	lab.MustExec(t, filepath.Join(lab.Repo(t), "packaging", "install.sh"), "deb", base.Dir)
	base.AddBinary()
	for _, part := range []string{"arch", "crypto", "drivers", "fs", "net", "sound"} {
		remove(t, base.Path("usr/lib/modules", k, "kernel", part))
	}
	base.MustRun("depmod", k)
	base.unpack(module{name: "plain", version: "1.0"})
	base.MustRun("dkms", "install", "plain/1.0", "-k", k)
	base.healthy()
	base.Freeze()
	object := "usr/lib/modules/" + k + "/updates/dkms/plain.ko.xz"

	for _, c := range []struct {
		name string
		do   func(r root)
	}{
		{"module not loading after install", func(r root) {
			// An old file goes before the one that was installed.
			old := r.Path("usr/lib/modules", k, "updates/plain.ko.xz")
			lab.MustExec(t, "cp", r.Path(object), old)
			write(t, r.Path("etc/depmod.d/order.conf"), "override plain "+k+" updates\n")
			r.MustRun("depmod", k)
			r.wants(r.doctor(), "objects", "shadowed", strings.TrimPrefix(old, r.Dir+"/usr"))
			r.cure()
			r.works("plain/1.0", k)
		}},
		{"module file not found", func(r root) {
			remove(t, r.Path(object))
			r.wants(r.doctor(), "objects", "plain.ko", "is not there", "dkms install plain/1.0 -k "+k)
			r.cure("plain")
			r.works("plain/1.0", k)
			// The file is there, and modprobe doesn't know of it.
			dep := r.Path("usr/lib/modules", k, "modules.dep")
			lab.MustExec(t, "sed", "-i", "/plain/d", dep)
			r.wants(r.doctor(), "objects", "not in modules.dep", "depmod -a "+k)
			r.cure()
			r.works("plain/1.0", k)
		}},
		{"build failure", func(r root) {
			r.unpack(module{name: "broken", version: "1.0", code: "static int x = no_such_thing;"})
			if res := r.Run("dkms", "install", "broken/1.0", "-k", k); res.Code != 10 {
				r.t.Fatalf("exit code %d, want 10\n%s", res.Code, res.Stderr)
			}
			found := r.doctor()
			r.wants(found, "failed", "broken/1.0", "broken.c:2", "no_such_thing", "make.log")
			if got := steps(r.Run("dkms", "doctor").Stdout); len(got) > 0 {
				r.t.Errorf("what nobody has mended is to be tried again: %q", got)
			}
			// A later version, as its author has mended it.
			r.unpack(module{name: "broken", version: "1.1"})
			r.wants(r.doctor("broken"), "failed", "dkms install broken/1.1 -k "+k)
			r.cure()
			r.works("broken/1.1", k)
		}},
		{"dependency issues", func(r root) {
			r.unpack(module{name: "lower", version: "2.0", code: "void lower(void);\nvoid lower(void) {}\nEXPORT_SYMBOL(lower);"})
			r.unpack(module{name: "upper", version: "2.0", conf: `BUILD_DEPENDS[0]="lower"`})
			if res := r.Run("dkms", "install", "upper/2.0", "-k", k); res.Code != 13 {
				r.t.Fatalf("exit code %d, want 13\n%s", res.Code, res.Stderr)
			}
			r.wants(r.doctor(), "depends", "upper/2.0", "lower", "dkms install lower/2.0 -k "+k)
			r.cure()
			r.works("upper/2.0", k)
			r.works("lower/2.0", k)
		}},
		{"kernel outside the supported range", func(r root) {
			r.unpack(module{name: "range", version: "1.0", conf: `BUILD_EXCLUSIVE_KERNEL_MAX="6.2"`})
			if res := r.Run("dkms", "install", "range/1.0", "-k", k); res.Code != 77 {
				r.t.Fatalf("exit code %d, want 77\n%s", res.Code, res.Stderr)
			}
			older, _ := lab.Kernels(t)
			r.wants(r.doctor("range/1.0"), "excluded", "newer than BUILD_EXCLUSIVE_KERNEL_MAX 6.2", "dkms install range/1.0 -k "+older)
			r.healthy() // it has a kernel that it is for
			r.unpack(module{name: "range", version: "1.1"})
			r.wants(r.doctor("range/1.0"), "excluded", "dkms install range/1.1 -k "+k)
			for _, line := range steps(r.Run("dkms", "doctor", "range/1.0").Stdout) {
				r.MustRun("sh", "-c", line)
			}
			r.healthy()
			r.works("range/1.1", k)
		}},
		{"permission errors", func(r root) {
			permissions(r, k)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.do(over(t, base.Root)) })
	}
}

// permissions are those of the caller, and of file systems.
func permissions(r root, k string) {
	res := r.Run("chroot", "--userspec=65534:65534", "/", "dkms", "doctor", "plain")
	if res.Code != 0 || !strings.Contains(res.Stdout, "note: not run by root") || !strings.Contains(res.Stdout, "next: $ su -c 'dkms doctor plain'") {
		r.t.Errorf("as a user: exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	// A tree that is mounted read-only, and one in which nothing may be executed.
	tree := r.Path("var/lib/dkms")
	lab.MustExec(r.t, "cp", "-a", tree, tree+".moved")
	for _, option := range []string{"ro", "noexec"} {
		lab.MustExec(r.t, "mount", "-t", "tmpfs", "-o", "size=200m", "dkms", tree)
		lab.MustExec(r.t, "cp", "-a", tree+".moved/.", tree)
		lab.MustExec(r.t, "mount", "-o", "remount,"+option, tree)
		r.wants(r.doctor(), "read-only", "/var/lib/dkms", "mount -o remount,")
		r.cure()
		r.MustRun("dkms", "unbuild", "plain/1.0", "-k", k)
		r.MustRun("dkms", "install", "plain/1.0", "-k", k) // from the cache
		lab.MustExec(r.t, "umount", tree)
	}
	if _, err := os.Stat(tree); err != nil {
		r.t.Error(err)
	}
	r.works("plain/1.0", k)
}
