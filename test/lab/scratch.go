// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Root is a throw-away root directory. It goes away when the test ends.
type Root struct {
	Dir string
	// Bare tells that only the kernels' files are there, so commands can look
	// at the root (dkms --root) but cannot run in it.
	Bare bool

	tb testing.TB
}

// kind is what a root is made from.
type kind string

const (
	full kind = ""       // compilers and the files of both kernels
	all  kind = "--all"  // the same, with the cloud kernel and all images
	bare kind = "--bare" // the files of both kernels
	apt  kind = "--apt"  // a Debian in which apt works
	over kind = "--over" // another root
)

// Scratch makes a Debian root with compilers, kmod and the files of both
// kernels, and with /proc, /sys and /dev, in which commands can run.
func Scratch(tb testing.TB) *Root {
	tb.Helper()
	return newRoot(tb, full)
}

// AllScratch is Scratch with the cloud kernel (CloudKernel) besides, and with
// the images of all three. Of the older kernel's own objects only some are there.
func AllScratch(tb testing.TB) *Root {
	tb.Helper()
	return newRoot(tb, all)
}

// BareScratch makes a root with nothing but the files of both kernels.
func BareScratch(tb testing.TB) *Root {
	tb.Helper()
	return newRoot(tb, bare)
}

// newRoot makes a root; below is the frozen root that one of the kind over is
// made from.
func newRoot(tb testing.TB, k kind, below ...string) *Root {
	tb.Helper()
	switch k {
	case apt:
		Path(tb, "apt")
	case all:
		Path(tb, "verify")
		fallthrough
	case full:
		Path(tb, "base")
		fallthrough
	case bare:
		KernelRoot(tb)
	}
	args := []string{"make"}
	if k != full {
		args = append(args, string(k))
	}
	args = append(args, below...)
	r := &Root{Dir: filepath.Join(tb.TempDir(), "root"), Bare: k == bare, tb: tb}
	// Registered after that of TempDir, so run before it.
	tb.Cleanup(func() {
		if _, err := os.Lstat(r.Dir); err != nil {
			return
		}
		if res := Exec(tb, scratchScript(tb), "drop", r.Dir); res.Code != 0 {
			tb.Errorf("drop scratch root: %s", res.Stderr)
		}
	})
	MustExec(tb, scratchScript(tb), append(args, r.Dir)...)
	return r
}

func scratchScript(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(Repo(tb), "scripts", "scratch.sh")
}

// Path returns the path, from outside, of a file of the root.
func (r *Root) Path(elem ...string) string {
	return filepath.Join(append([]string{r.Dir}, elem...)...)
}

// Run runs a command in the root (chroot), with root's usual PATH and the C
// locale and nothing else in the environment.
func (r *Root) Run(name string, args ...string) Result {
	r.tb.Helper()
	if r.Bare {
		r.tb.Fatal("run a command in a bare scratch root")
	}
	env := append([]string{"-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root"}, RaceOptions()...)
	env = append(env, "chroot", r.Dir, name)
	return Exec(r.tb, "env", append(env, args...)...)
}

// MustRun is Run, but an exit status other than 0 fails the test.
func (r *Root) MustRun(name string, args ...string) Result {
	r.tb.Helper()
	res := r.Run(name, args...)
	if res.Code != 0 {
		r.tb.Fatalf("run %s %q in a scratch root: exit status %d\n%s%s", name, args, res.Code, res.Stdout, res.Stderr)
	}
	return res
}

// AddPackage copies the files of a module package into the root, as unpacking
// the package would, and returns it. Nothing is added to the DKMS tree.
func (r *Root) AddPackage(name string) Package {
	r.tb.Helper()
	p := Corpus(r.tb, name)
	r.overlay(p.Dir)
	p.Dir = r.Dir
	p.Source = r.Path("usr", "src", filepath.Base(p.Source))
	return p
}

// AddOracle copies the distribution's dkms package into the root.
func (r *Root) AddOracle() {
	r.tb.Helper()
	r.overlay(Oracle(r.tb))
	if err := os.RemoveAll(r.Path("DEBIAN")); err != nil {
		r.tb.Fatal(err)
	}
}

// AddBoot copies the tools of GRUB and systemd-boot into the root.
func (r *Root) AddBoot() {
	r.tb.Helper()
	r.overlay(Path(r.tb, "boot"))
}

// AddRT copies the headers of the older kernel's flavour with PREEMPT_RT into the
// root, and returns its release.
func (r *Root) AddRT() string {
	r.tb.Helper()
	release, err := os.ReadFile(Path(r.tb, "rt", "kernel"))
	if err != nil {
		r.tb.Fatal(err)
	}
	r.overlay(Path(r.tb, "rt"))
	return strings.TrimSpace(string(release))
}

// AddBinary copies bin/dkms into the root as /usr/sbin/dkms, over whatever
// dkms is there.
func (r *Root) AddBinary() {
	r.tb.Helper()
	MustExec(r.tb, "install", "-D", "-m", "755", Binary(r.tb), r.Path("usr", "sbin", "dkms"))
}

// overlay copies the files below dir over those of the root, keeping modes,
// owners and links, and following the root's links to directories.
func (r *Root) overlay(dir string) {
	r.tb.Helper()
	const copyTree = `tar -C "$1" -c . | tar -C "$2" -x --keep-directory-symlink --no-overwrite-dir`
	MustExec(r.tb, "bash", "-o", "pipefail", "-c", copyTree, "copy", dir, r.Dir)
}
