// SPDX-License-Identifier: Apache-2.0

package ship

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dkms-go/test/lab"
)

// The targets of dkms.mk make the packages, which lintian and rpmlint accept.
func TestTargets(t *testing.T) {
	t.Parallel()
	dir := author(t, "1.0")
	makes(t, dir, "dkms-deb")
	makes(t, dir, "dkms-rpm")
	deb, rpm := filepath.Join(dir, "hello-dkms_1.0_all.deb"), filepath.Join(dir, "hello-dkms-1.0-1.noarch.rpm")
	clean(t, deb, rpm)
	before := read(t, deb) + read(t, rpm)

	// Packages aren't packed; names are those that make prints.
	if got := makes(t, dir, "dkms-packages").Stdout; !strings.Contains(got, "hello-dkms_1.0_all.deb") || !strings.Contains(got, "hello-dkms-1.0-1.noarch.rpm") {
		t.Errorf("make dkms-packages prints %q", got)
	}
	if read(t, deb)+read(t, rpm) != before {
		t.Error("the same source gave other bytes")
	}
	if list := lab.MustExec(t, "dpkg-deb", "-c", deb).Stdout; strings.Contains(list, ".git") || strings.Contains(list, ".rpm") || !strings.Contains(list, "./usr/src/hello-1.0/hello.c") {
		t.Errorf("packed are\n%s", list)
	}
}

// Another directory with other times and modes gives the same packages.
func TestReproducible(t *testing.T) {
	t.Parallel()
	one := author(t, "1.0")
	two := filepath.Join(t.TempDir(), "elsewhere")
	lab.MustExec(t, "cp", "-r", one, two)
	write(t, two+"/hello.o", "an object")
	write(t, two+"/.git/HEAD", "x")
	for _, name := range []string{"hello.c", "Makefile"} {
		if err := os.Chmod(filepath.Join(two, name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(two, name), time.Now(), time.Unix(1_600_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	a, b := pack(t, one), pack(t, two)
	if read(t, a.deb) != read(t, b.deb) || read(t, a.rpm) != read(t, b.rpm) {
		t.Error("the packages differ")
	}
}

// clean fails for what lintian or rpmlint call an error.
func clean(t *testing.T, deb, rpm string) {
	t.Helper()
	if res := lab.Exec(t, "lintian", "--allow-root", "--fail-on", "error", deb); res.Code != 0 || strings.Contains(res.Stdout, "E:") {
		t.Errorf("lintian: exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	// Who ships the package signs it; an object for the kernel is no binary to rpmlint.
	passed := []string{"no-signature", "no-binary"}
	for line := range strings.Lines(lab.Exec(t, "rpmlint", rpm).Stdout) {
		if !strings.Contains(line, " E: ") {
			continue
		}
		_, tag, _ := strings.Cut(strings.TrimSpace(line), " E: ")
		if tag, _, _ = strings.Cut(tag, " "); tag != passed[0] && tag != passed[1] {
			t.Errorf("rpmlint: %s", line)
		}
	}
}
