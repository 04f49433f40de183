// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// AptKernelSet are the kernel releases that apt can install in an AptRoot,
// each with headers and image.
type AptKernelSet struct {
	Prev  string // the one before Cur, "6.1.0-55-amd64"
	Cur   string // "6.1.0-56-amd64"
	Cloud string // of Cur's series in another configuration, "6.1.0-56-cloud-amd64"
	New   string // of the newer series, "6.12.117+deb12-amd64"
}

// AptKernels returns the kernels of the apt roots' cache.
func AptKernels(tb testing.TB) AptKernelSet {
	tb.Helper()
	data, err := os.ReadFile(Path(tb, "apt-kernels"))
	if err != nil {
		tb.Fatal(err)
	}
	var k AptKernelSet
	fields := map[string]*string{"prev": &k.Prev, "cur": &k.Cur, "cloud": &k.Cloud, "new": &k.New}
	for line := range strings.Lines(string(data)) {
		which, release, _ := strings.Cut(strings.TrimSpace(line), " ")
		if field := fields[which]; field != nil {
			*field = release
		}
	}
	for which, field := range fields {
		if *field == "" {
			tb.Fatalf("the lab has no kernel %q for apt; run: make distclean lab", which)
		}
	}
	return k
}

// AptRoot makes a Debian root with compilers and what packages of kernels and
// modules depend on, but with no kernel and no dkms. apt-get works in it
// without a network: kernels (AptKernels), the distribution's dkms and the
// module packages of the lab are in its cache. No service is started.
func AptRoot(tb testing.TB) *Root {
	tb.Helper()
	return newRoot(tb, apt)
}

// AptRootOver makes a root that begins with what the frozen root below has.
// Many can be made over one; none changes it.
func AptRootOver(tb testing.TB, below *Root) *Root {
	tb.Helper()
	return newRoot(tb, over, below.Dir)
}

// Freeze ends the use of a root, which keeps its files for AptRootOver. It
// must live longer than the roots made over it: make those with the same test
// or a subtest of it.
func (r *Root) Freeze() *Root {
	r.tb.Helper()
	MustExec(r.tb, scratchScript(r.tb), "freeze", r.Dir)
	return r
}

// Apt runs apt-get in the root as an unattended machine does: no terminal, no
// input, no questions, default answers. The first argument is a command of
// apt-get, "install".
func (r *Root) Apt(args ...string) Result {
	r.tb.Helper()
	get := []string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q", "-o", "Dpkg::Use-Pty=0", "--no-download"}
	return r.Run("env", append(get, args...)...)
}

// MustApt is Apt, but an exit status other than 0 fails the test.
func (r *Root) MustApt(args ...string) Result {
	r.tb.Helper()
	res := r.Apt(args...)
	if res.Code != 0 {
		r.tb.Fatalf("apt-get %q: exit status %d\n%s%s", args, res.Code, res.Stdout, res.Stderr)
	}
	return res
}

// AddDeb copies a package file into the root and returns the name by which
// apt-get of the root installs it.
func (r *Root) AddDeb(file string) string {
	r.tb.Helper()
	name := filepath.Join("/root", filepath.Base(file))
	MustExec(r.tb, "install", "-m", "644", file, r.Path(name))
	return name
}

// Deb returns the package of dkms-go under test: $DKMS_DEB, or the newest one
// in dist/.
func Deb(tb testing.TB) string { tb.Helper(); return built(tb, "DKMS_DEB", "dkms-go_*.deb") }

// Rpm returns the rpm package of dkms-go under test: $DKMS_RPM, or the newest
// one in dist/.
func Rpm(tb testing.TB) string { tb.Helper(); return built(tb, "DKMS_RPM", "dkms-go-*.rpm") }

func built(tb testing.TB, variable, pattern string) string {
	tb.Helper()
	if file := os.Getenv(variable); file != "" {
		return file
	}
	found, err := filepath.Glob(filepath.Join(Repo(tb), "dist", pattern))
	if err != nil {
		tb.Fatal(err)
	}
	var newest string
	var when int64
	for _, file := range found {
		info, err := os.Stat(file)
		if err != nil {
			tb.Fatal(err)
		}
		if t := info.ModTime().UnixNano(); newest == "" || t > when {
			newest, when = file, t
		}
	}
	if newest == "" {
		tb.Fatalf("no package dist/%s; run: make packages", pattern)
	}
	return newest
}
