// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dkms-go/internal/host"
	"dkms-go/test/lab"
)

// The headers of a real kernel are complete; then they lack what a package of
// another name has, and what it includes.
func TestHeadersMissing(t *testing.T) {
	_, release := lab.Kernels(t)
	real := filepath.Join(lab.KernelRoot(t), "usr/src/linux-headers-"+release)
	dir := filepath.Join(t.TempDir(), "headers")
	lab.MustExec(t, "cp", "-r", "--preserve=links", real, dir)
	// Links and includes of the root are wrong outside of it.
	common := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kbuild := filepath.Join(common, "kbuild")
	for _, name := range []string{"basic/fixdep", "mod/modpost"} {
		write(filepath.Join(kbuild, name), "")
	}
	write(filepath.Join(common, "Makefile"), "")
	write(filepath.Join(dir, "Makefile"), "include "+common+"/Makefile\ninclude $(other)/x\n")
	scripts := filepath.Join(dir, "scripts")
	if err := os.Remove(scripts); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(kbuild, scripts); err != nil {
		t.Fatal(err)
	}
	k := Find(host.Default(), release, "x86_64", Options{SourceDir: dir})
	if got := k.HeadersMissing(); len(got) > 0 {
		t.Errorf("complete headers lack %q", got)
	}
	if got := k.HeadersRelease(); got != release {
		t.Errorf("they are of %q, want %q", got, release)
	}
	for _, name := range []string{filepath.Join(kbuild, "mod"), filepath.Join(common, "Makefile"), filepath.Join(dir, "include/generated")} {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{filepath.Join(dir, "include/generated/autoconf.h"), filepath.Join(kbuild, "mod/modpost"), filepath.Join(common, "Makefile")}
	if got := k.HeadersMissing(); !slices.Equal(got, want) {
		t.Errorf("missing are %q, want %q", got, want)
	}
}
