// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/verify"
	"dkms-go/test/lab"
)

// modules are the packages that are built: a small one, and one that needs many
// symbols and a module of the kernel.
func modules() []string { return []string{"acpi-call-dkms", "dm-writeboost-dkms"} }

// build has dkms build all modules for all kernels, and returns the objects by
// package and by kernel. A module that can't be built for a kernel has none.
func build(t *testing.T, all map[string]machine) map[string]map[string][]string {
	t.Helper()
	root := lab.Scratch(t)
	root.AddBinary()
	lab.MustExec(t, "cp", "-an", lab.Path(t, "verify", "usr", "src")+"/.", root.Path("usr", "src"))
	built := map[string]map[string][]string{}
	for _, pkg := range modules() {
		p := root.AddPackage(pkg)
		built[pkg] = map[string][]string{}
		root.MustRun("dkms", "add", p.Module+"/"+p.Version)
		for which, m := range all {
			tree := root.Path("lib", "modules", m.release)
			if err := os.MkdirAll(tree, 0o755); err != nil {
				t.Fatal(err)
			}
			lab.MustExec(t, "ln", "-sfn", "/usr/src/linux-headers-"+m.release, filepath.Join(tree, "build"))
			if res := root.Run("dkms", "build", p.Module+"/"+p.Version, "-k", m.release); res.Code != 0 {
				t.Logf("%s for %s is not built: %.200s", pkg, m.release, res.Stderr)
				continue
			}
			built[pkg][which] = takeAway(t, root.Path("var/lib/dkms", p.Module, p.Version, m.release, "x86_64/module"))
		}
	}
	return built
}

// takeAway copies objects out of a root.
func takeAway(t *testing.T, dir string) []string {
	t.Helper()
	to := t.TempDir()
	lab.MustExec(t, "cp", "-a", dir+"/.", to)
	return objectsBelow(t, to)
}

func TestNeighbours(t *testing.T) {
	all := machines(t)
	for pkg, byKernel := range build(t, all) {
		if len(byKernel) < 3 {
			t.Errorf("%s was built for %q only", pkg, slices.Sorted(maps.Keys(byKernel)))
		}
		for from, objects := range byKernel {
			for _, m := range all {
				t.Run(fmt.Sprintf("%s of %s on %s", pkg, all[from].release, m.release), func(t *testing.T) {
					neighbours(t, objects, all[from], m)
				})
			}
		}
	}
}

// TestObjectsOfAnotherKernel does the same with an object that came with one
// kernel and uses a module of it.
func TestObjectsOfAnotherKernel(t *testing.T) {
	all := machines(t)
	cloud := all["cloud"]
	object := filepath.Join(cloud.root, "lib/modules", cloud.release, "kernel/drivers/md/dm-snapshot.ko")
	for _, m := range all {
		t.Run(m.release, func(t *testing.T) { neighbours(t, []string{object}, cloud, m) })
	}
}

func neighbours(t *testing.T, objects []string, from, to machine) {
	var files []verify.File
	for _, path := range objects {
		files = append(files, verify.File{Path: path})
	}
	for way, k := range to.ways() {
		for _, r := range verify.Objects(files, verify.Target{Kernel: k}) {
			switch {
			case len(r.Against) == 0 || len(r.Unchecked) > 0:
				t.Errorf("%s: %s was held against %q, without %q", way, r.Name, r.Against, r.Unchecked)
			case from == to && len(r.Problems) > 0:
				t.Errorf("%s: on its own kernel %s has %+v", way, r.Name, r.Problems)
			case from != to && !namesBoth(r, from.release, to.release):
				t.Errorf("%s: on another kernel %s has %+v", way, r.Name, r.Problems)
			}
		}
		for _, r := range verify.Objects(files, verify.Target{Kernel: k, AnyRelease: true}) {
			want := expected(t, r.Path, filepath.Join(to.headers, "Module.symvers"))
			if got := symbols(r); !slices.Equal(got, want) {
				t.Errorf("%s: with any release %s has %q, by modprobe and Module.symvers %q", way, r.Name, got, want)
			}
			if from != to && len(want) > 0 {
				t.Logf("%s: %s: %d findings, the first: %s", way, r.Name, len(r.Problems), r.Problems[0].Text)
			}
		}
	}
}

func namesBoth(r verify.Report, a, b string) bool {
	return r.Refused() && slices.ContainsFunc(r.Problems, func(p verify.Problem) bool {
		return p.Code == verify.Vermagic && strings.Contains(p.Text, `"`+a+" ") && strings.Contains(p.Text, `"`+b)
	})
}

// symbols returns the symbols whose CRC was found to differ.
func symbols(r verify.Report) []string {
	var out []string
	for _, p := range r.Problems {
		if m := regexp.MustCompile(`the symbol (\S+) has the CRC`).FindStringSubmatch(p.Text); m != nil && p.Code == verify.Version {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return out
}

// expected compares what modprobe(8) prints of an object with the text of
// Module.symvers, without the code under test.
func expected(t *testing.T, object, symvers string) []string {
	t.Helper()
	text, err := os.ReadFile(symvers)
	if err != nil {
		t.Fatal(err)
	}
	kernel := map[string]string{}
	for line := range strings.Lines(string(text)) {
		col := strings.Split(line, "\t")
		kernel[col[1]] = col[0]
	}
	var out []string
	for line := range strings.Lines(lab.MustExec(t, "modprobe", "--dump-modversions", object).Stdout) {
		f := strings.Fields(line)
		if crc, ok := kernel[f[1]]; ok && crc != f[0] {
			out = append(out, f[1])
		}
	}
	slices.Sort(out)
	return out
}
