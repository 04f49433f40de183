// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// Places in a root.
const (
	tree    = "/var/lib/dkms"
	modules = "/usr/lib/modules"
	cache   = "/var/cache/dkms"
)

// newMachine makes a root with both kernels of the lab and both programs.
func newMachine(t testing.TB, b *bench) *machine {
	t.Helper()
	m := &machine{Root: lab.Scratch(t), t: t, b: b}
	m.AddOracle()
	lab.MustExec(t, "install", "-m", "755", b.peerScript, m.Path("usr/sbin/peer"))
	m.AddBinary()
	return m
}

// over makes a machine that begins with what a frozen one has.
func (m *machine) over(t testing.TB) *machine {
	t.Helper()
	return &machine{Root: lab.AptRootOver(t, m.Root), t: t, b: m.b}
}

// addKernel unpacks a kernel's headers and, if asked to, its image from the
// cache of the lab's apt, and makes its module index.
func (m *machine) addKernel(release string, image bool) {
	m.t.Helper()
	packages := []string{"linux-headers-" + release}
	if base, _, ok := strings.Cut(release, "-amd64"); ok {
		common := "linux-headers-" + strings.TrimSuffix(base, "-cloud") + "-common"
		if own, rt := strings.CutSuffix(base, "-rt"); rt {
			common = "linux-headers-" + own + "-common-rt"
		}
		packages = append(packages, common)
	}
	if image {
		packages = append(packages, "linux-image-"+release)
	}
	for _, p := range packages {
		debs := findDebs(m.t, p)
		if len(debs) != 1 {
			m.t.Fatalf("the lab has %d archives of %s, want 1; run: make lab", len(debs), p)
		}
		const unpack = `dpkg --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink --no-overwrite-dir --exclude ./usr/share`
		lab.MustExec(m.t, "bash", "-o", "pipefail", "-c", unpack, "unpack", debs[0], m.Dir)
	}
	if image {
		m.MustRun("depmod", release)
	}
}

// findDebs returns the archive of a package in the cache of the lab's apt, or one
// that is fetched into the lab.
func findDebs(t testing.TB, name string) []string {
	t.Helper()
	own := lab.Path(t, "debs")
	for _, dir := range []string{lab.Path(t, "apt/var/cache/apt/archives"), own} {
		debs, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if err != nil {
			t.Fatal(err)
		}
		if len(debs) > 0 {
			return debs
		}
	}
	lab.MustExec(t, "bash", "-c", `cd "$1" && apt-get -q download "$2"`, "fetch", own, name)
	found, _ := filepath.Glob(filepath.Join(own, name+"_*.deb"))
	return found
}

// buildsOn61 returns the packages of the lab that build for Debian's 6.1: all but
// two, as test/corpus has recorded.
func buildsOn61(t testing.TB) []lab.Package {
	return slices.DeleteFunc(lab.Packages(t), func(p lab.Package) bool {
		return p.Name == "librem-ec-acpi-dkms" || p.Name == "lttng-modules-dkms"
	})
}

// add puts the source of a module package into the root and adds it.
func (m *machine) add(p lab.Package) string {
	m.t.Helper()
	m.AddPackage(p.Name)
	name := p.Module + "/" + p.Version
	m.MustRun("dkms", "add", name)
	return name
}

// bare runs the commands of a module's dkms.conf and nothing else, in a copy
// of the source at the place where dkms would have it. $1 is the kernel, $2
// name/version, $3 the number of jobs. The copy is not part of it.
const bare = `
kernelver=$1 dkms_tree=/var/lib/dkms source_tree=/usr/src arch=x86_64
kernel_source_dir=/lib/modules/$1/build
export kernelver MAKEFLAGS=-j$3
unset -v MAKE PRE_BUILD
cd "$dkms_tree/$2/build" || exit
. ./dkms.conf
[ -z "${PRE_BUILD-}" ] || ./$PRE_BUILD || exit
run=${MAKE[0]:-make -C $kernel_source_dir M=$PWD}
eval "${run/#make/make KERNELRELEASE=$kernelver}"
`

// bareBuild measures bare make of a module. Its objects must be there.
func (m *machine) bareBuild(kernel, name string, jobs int) sample {
	m.t.Helper()
	module, version, _ := strings.Cut(name, "/")
	build := m.Path(tree, name, "build")
	if err := os.RemoveAll(build); err != nil {
		m.t.Fatal(err)
	}
	m.MustRun("cp", "-a", "/usr/src/"+module+"-"+version+"/.", tree+"/"+name+"/build")
	s := m.run("bash", "-c", bare, "bare", kernel, name, fmt.Sprint(jobs))
	found := lab.MustExec(m.t, "find", build, "-name", "*.ko").Stdout
	if found == "" {
		m.t.Fatalf("make of %s left no object\n%s", name, s.out)
	}
	if err := os.RemoveAll(build); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Mkdir(build, 0o755); err != nil {
		m.t.Fatal(err)
	}
	return s
}

// index reads the files that depmod writes.
func (m *machine) index(kernel string) map[string]string {
	m.t.Helper()
	files := map[string]string{}
	found, err := filepath.Glob(m.Path(modules, kernel, "modules.*"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, path := range found {
		data, err := os.ReadFile(path)
		if err != nil {
			m.t.Fatal(err)
		}
		files[filepath.Base(path)] = string(data)
	}
	return files
}

// sameIndex compares the module index of a kernel with what depmod makes of
// the same files, and leaves the latter.
func (m *machine) sameIndex(kernel string, ours map[string]string) bool {
	m.t.Helper()
	same := true
	theirs := m.index(kernel)
	for name, data := range theirs {
		if ours[name] != data {
			m.t.Errorf("%s of kernel %s is not what depmod writes", name, kernel)
			same = false
		}
	}
	for name := range ours {
		if _, ok := theirs[name]; !ok {
			m.t.Errorf("depmod writes no %s", name)
			same = false
		}
	}
	return same
}

// forgetResults empties the cache of built objects, not that of the index.
func (m *machine) forgetResults() {
	m.t.Helper()
	if err := os.RemoveAll(m.Path(cache, "results")); err != nil {
		m.t.Fatal(err)
	}
}

// digests returns the digests of the objects that dkms has installed for a
// kernel.
func (m *machine) digests(kernel string) string {
	m.t.Helper()
	return m.MustRun("bash", "-c", `cd "/lib/modules/$1" && find updates extra -name '*.ko*' -exec sha256sum {} + 2>/dev/null | sort -k 2`, "digests", kernel).Stdout
}
