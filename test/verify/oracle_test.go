// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/ko"
	"dkms-go/internal/verify"
	"dkms-go/test/lab"
)

// TestImagesExportWhatTheHeadersSay compares the symbols read out of images
// with the lines of vmlinux in Module.symvers: names, CRCs, types, namespaces.
func TestImagesExportWhatTheHeadersSay(t *testing.T) {
	for which, m := range machines(t) {
		if !m.image {
			continue
		}
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			listed, _ := m.open(true).Exports()
			image := m.open(false)
			found, file := image.Exports()
			if !strings.HasPrefix(filepath.Base(file), "vmlinuz-") {
				t.Fatalf("the exports are from %q; problems: %v", file, image.Problems())
			}
			kernel, spaces, gpl := 0, 0, 0
			for want := range listed.All() {
				if want.Module != "vmlinux" {
					continue
				}
				kernel++
				if got, _ := found.Lookup(want.Symbol); got != want {
					t.Errorf("%s: the image has %+v, Module.symvers %+v", want.Symbol, got, want)
				}
				if want.Namespace != "" {
					spaces++
				}
				if want.GPLOnly() {
					gpl++
				}
			}
			if found.Len() != kernel || kernel < 5000 || spaces == 0 || gpl == 0 {
				t.Errorf("the image has %d symbols, Module.symvers %d", found.Len(), kernel)
			}
			t.Logf("%s: %d symbols equal, %d for the GPL only, %d in namespaces", m.release, kernel, gpl, spaces)
		})
	}
}

// TestTheKernelsOwnObjectsAreAccepted takes every object of one kernel and
// each eighth, compressed, of another.
func TestTheKernelsOwnObjectsAreAccepted(t *testing.T) {
	for which, step := range map[string]int{"cloud": 1, "new": 8} {
		m := machines(t)[which]
		objects := objectsBelow(t, filepath.Join(m.root, "lib/modules", m.release, "kernel"))
		for way, k := range m.ways() {
			t.Run(which+" "+way, func(t *testing.T) {
				t.Parallel()
				n, against := 0, map[string]bool{}
				for i := 0; i < len(objects); i += step {
					r := verify.Objects([]verify.File{{Path: objects[i]}}, verify.Target{Kernel: k})[0]
					n++
					for _, a := range r.Against {
						against[a] = true
					}
					if len(r.Problems) > 0 || len(r.Unchecked) > 0 || r.Vermagic == "" || r.Signer == "" || len(r.Against) == 0 {
						t.Errorf("%+v", r)
					}
				}
				want := "Module.symvers"
				if way == "without headers" {
					want = "vmlinuz-" + m.release
				}
				if n < 500 || !against[want] {
					t.Errorf("%d objects, held against %q", n, slices.Sorted(maps.Keys(against)))
				}
				t.Logf("%d of %d objects accepted, held against %d files", n, len(objects), len(against))
			})
		}
	}
}

func objectsBelow(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if _, _, ok := ko.SplitName(path); ok && !d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestNothingOfTheLabIsShadowed: the index of a fresh tree has every object.
func TestNothingOfTheLabIsShadowed(t *testing.T) {
	m := machines(t)["cloud"]
	tree := filepath.Join(m.root, "lib/modules", m.release)
	objects := objectsBelow(t, filepath.Join(tree, "kernel"))
	if got := verify.Shadowed(tree, objects); len(got) > 0 {
		t.Errorf("shadowed: %v", got)
	}
	copied := filepath.Join(t.TempDir(), "tree")
	lab.MustExec(t, "cp", "-a", tree, copied)
	if got := verify.Shadowed(copied, []string{"updates/dkms/ext9.ko"}); len(got) != 1 || got[0].Winner != "" {
		t.Errorf("an object that the index doesn't have: %v", got)
	}
}
