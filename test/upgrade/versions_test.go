// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// versions upgrades, reinstalls and removes the package of a module.
func versions(t *testing.T, kernel *lab.Root, k string) {
	r := over(t, kernel)
	other := lab.AptKernels(t).Cur
	r.install(0, "linux-headers-"+other)
	r.install(0, plain("1.0").pack(t))
	r.wantStatus(row("plain/1.0", k, "installed"), row("plain/1.0", other, "installed"))
	old := r.object(k, "plain")

	// The second version can't be built for the cloud's kernel, which has no
	// sound: the first one stays there.
	second := plain("2.0")
	second.code = "#if !IS_ENABLED(CONFIG_SOUND)\n#error this version needs sound\n#endif"
	out := r.install(0, second.pack(t))
	r.configured()
	wants(t, out.Stderr+out.Stdout, "dkms: plain/2.0 for kernel "+k, "this version needs sound")
	r.wantStatus(row("plain/1.0", k, "installed"), row("plain/2.0", other, "installed"))
	if now := r.object(k, "plain"); now != old || now == "" {
		t.Errorf("the object of the cloud's kernel is %q, was %q", now, old)
	}
	if res := r.Run("dkms", "status"); !strings.Contains(res.Stderr, "this version needs sound") {
		t.Errorf("status doesn't tell why: %s", res.Stderr)
	}
	r.verified()

	// The same version again: nothing that works is built again, or gone.
	before := r.object(other, "plain")
	r.MustApt("install", "--reinstall", "/root/plain-dkms_2.0_all.deb")
	r.wantStatus(row("plain/1.0", k, "installed"), row("plain/2.0", other, "installed"))
	if n := r.builds("plain", other); n != 2 || r.object(other, "plain") != before {
		t.Errorf("%d builds for %s, want one a version", n, other)
	}

	// A third works everywhere; nothing is left of the others.
	r.install(0, plain("3.0").pack(t))
	r.wantStatus(row("plain/3.0", k, "installed"), row("plain/3.0", other, "installed"))
	r.verified()
	for _, left := range []string{"plain/1.0", "plain/2.0", ".source", ".outcome"} {
		if _, err := os.Lstat(r.Path("var/lib/dkms", left)); err == nil {
			t.Errorf("%s is left in the tree", left)
		}
	}

	// A kernel goes: nothing of ours stays below it, the module stays known.
	r.MustApt("purge", "linux-image-"+k, "linux-headers-"+k)
	if left, _ := filepath.Glob(r.Path("usr/lib/modules", k) + "*"); len(left) > 0 {
		t.Errorf("left of the kernel: %s", lab.MustExec(t, "find", left[0]).Stdout)
	}
	r.wantStatus(row("plain/3.0", other, "installed"))
	r.MustApt("purge", "linux-headers-"+other)
	r.MustApt("install", "linux-headers-"+k, "linux-image-"+k)
	if !strings.Contains(r.status(), row("plain/3.0", k, "installed")) {
		t.Errorf("the module isn't made for a kernel that came back:\n%s", r.status())
	}

	// The package goes.
	r.MustApt("purge", "plain-dkms")
	r.wantStatus("")
	if left := lab.MustExec(t, "find", r.Path("usr/lib/modules"), "-path", "*updates*").Stdout; left != "" {
		t.Errorf("left in the kernels' trees: %s", left)
	}
}

// headersInPlace upgrades headers under what was built with them.
func headersInPlace(t *testing.T, kernel *lab.Root, k string) {
	r := over(t, kernel)
	r.install(0, plain("1.0").pack(t))
	old := r.object(k, "plain")
	newer := repack(t, "linux-headers-"+k, func(dir string) {
		path := filepath.Join(dir, "usr/src/linux-headers-"+k, "Module.symvers")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, string(text)+"0x12345678\tone_more_symbol\tvmlinux\tEXPORT_SYMBOL\t\n", 0o644)
	})

	// The rebuild fails: stale, and the old object stays.
	source := r.Path("usr/src/plain-1.0/plain.c")
	good, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	write(t, source, "#error for a while\n", 0o644)
	r.install(0, newer)
	if status := r.status(); !strings.HasPrefix(status, row("plain/1.0", k, "installed (Stale: ")) || !strings.Contains(status, "Module.symvers") {
		t.Errorf("status is %q", status)
	}
	if n := r.builds("plain", k); n != 2 || r.object(k, "plain") != old {
		t.Errorf("%d builds, want 2; the object is %q, was %q", n, r.object(k, "plain"), old)
	}
	r.MustRun("dkms", "hook", "headers", k)
	if n := r.builds("plain", k); n != 2 {
		t.Errorf("%d builds, want 2: nothing has changed", n)
	}

	// The next hook builds it once, and then no more.
	write(t, source, string(good), 0o644)
	for range 2 {
		r.MustRun("dkms", "hook", "headers", k)
	}
	r.wantStatus(row("plain/1.0", k, "installed"))
	if n := r.builds("plain", k); n != 3 {
		t.Errorf("%d builds, want 3", n)
	}
	r.verified()
}
