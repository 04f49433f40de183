// SPDX-License-Identifier: Apache-2.0

package corpus_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// TestConfinedIsTheSame builds each package of the lab for both kernels confined,
// then with confine=off, and compares: exit codes, and the bytes of all that the
// results hold. It takes long: without DKMS_CORPUS_CONFINED=yes it takes only the
// first package (make corpus-confined sets it).
func TestConfinedIsTheSame(t *testing.T) {
	older, newer := lab.Kernels(t)
	packages := lab.Packages(t)
	if os.Getenv("DKMS_CORPUS_CONFINED") != "yes" {
		packages = packages[:1]
	}
	objects, failed := 0, 0
	for _, p := range packages {
		t.Run(p.Name, func(t *testing.T) {
			s := &subject{T: t, root: lab.BareScratch(t)}
			s.p = s.root.AddPackage(p.Name)
			s.name = p.Module + "/" + p.Version
			s.must("add", s.name)
			for _, kernel := range []string{newer, older} {
				confined, code := s.buildAs("on", kernel)
				free, wanted := s.buildAs("off", kernel)
				if code != wanted || !maps.Equal(confined, free) {
					t.Errorf("kernel %s: confined: exit code %d, %v\nunconfined: exit code %d, %v", kernel, code, confined, wanted, free)
				}
				t.Logf("kernel %s: exit codes %d and %d, %d files", kernel, code, wanted, len(free))
				objects += len(free)
				if wanted != 0 {
					failed++
				}
			}
		})
	}
	t.Logf("%d packages for 2 kernels: %d files of results have the same bytes; %d builds fail both ways", len(packages), objects, failed)
}

// buildAs builds with a value of confine and returns the digests of what the
// result has, which it removes.
func (s *subject) buildAs(confine, kernel string) (map[string]string, int) {
	s.Helper()
	conf := s.root.Path("etc/dkms/framework.conf")
	if err := os.MkdirAll(filepath.Dir(conf), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(conf, fmt.Appendf(nil, "result_cache=off\nconfine=%s\n", confine), 0o644); err != nil {
		s.Fatal(err)
	}
	r := s.dkms("build", s.name, "-k", kernel)
	if r.Code != 0 {
		s.Logf("kernel %s, confine=%s: exit code %d\n%s", kernel, confine, r.Code, r.Stderr)
		return nil, r.Code
	}
	if strings.Contains(r.Stderr, "confined less") {
		s.Errorf("this machine has no namespaces: %s", r.Stderr)
	}
	found := map[string]string{}
	dir := s.root.Path("var/lib/dkms", s.name, kernel, "x86_64/module")
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			s.Fatal(err)
		}
		sum := sha256.Sum256(data)
		found[e.Name()] = hex.EncodeToString(sum[:])
	}
	s.must("unbuild", s.name, "-k", kernel)
	s.Logf("kernel %s, confine=%s: %q", kernel, confine, slices.Sorted(maps.Keys(found)))
	return found, 0
}
