// SPDX-License-Identifier: Apache-2.0

package corpus_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// expectations are testdata/expected.json.
type expectations struct {
	// Compiler is the first line of `gcc --version`, and Headers are the
	// package versions of the kernels' headers: with the same ones the
	// objects come out the same.
	Compiler string
	Headers  map[string]string
	Records  []*record
}

// record is what the distribution's dkms 3.0.10 made of a module and a kernel.
type record struct {
	Package        string `json:"package"`
	PackageVersion string `json:"package_version"`
	Module         string `json:"module"`
	Version        string `json:"version"`
	Kernel         string `json:"kernel"`
	// Code is the exit code of the build: 0, 10 (MAKE failed) or 7 (MAKE
	// succeeded, but a listed object isn't there). All other actions ended
	// with 0.
	Code int `json:"code"`
	// Error is the first error in make.log, without its place.
	Error   string   `json:"error"`
	Objects []object `json:"objects"` // sorted by File
}

// object is an installed object.
type object struct {
	File     string `json:"file"` // below the kernel's directory
	Vermagic string `json:"vermagic"`
	// SrcVersion is "" for an object that has none. It and the digests are
	// nil for what differed between two runs of the same build.
	SrcVersion *string `json:"srcversion"`
	BuildID    *string `json:"build_id"` // .note.gnu.build-id
	SHA256     *string `json:"sha256"`   // of the stripped, unsigned object
}

func expected(t *testing.T) *expectations {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	e := new(expectations)
	if err := json.Unmarshal(data, e); err != nil {
		t.Fatal(err)
	}
	return e
}

// find returns the record of a package in the version of the lab, and nil for
// other versions, packages and kernels.
func (e *expectations) find(t *testing.T, pkg, kernel string) *record {
	t.Helper()
	version := packageVersion(t, pkg)
	for _, r := range e.Records {
		if r.Package == pkg && r.Kernel == kernel && r.PackageVersion == version {
			return r
		}
	}
	return nil
}

// sameTools reports whether objects for a kernel are built from what they were
// built from when they were recorded. If not, their digests differ.
func (e *expectations) sameTools(t *testing.T, kernel string) bool {
	t.Helper()
	compiler, _, _ := strings.Cut(lab.MustExec(t, "gcc", "--version").Stdout, "\n")
	header := filepath.Join(lab.KernelRoot(t), "usr/src/linux-headers-"+kernel, "include/generated/utsversion.h")
	text, err := os.ReadFile(header)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(` Debian (\S+) \(`).FindSubmatch(text)
	return compiler == e.Compiler && len(found) == 2 && string(found[1]) == e.Headers[kernel]
}

// packageVersion returns the version of a package of the lab, from the name of
// its archive.
func packageVersion(t *testing.T, pkg string) string {
	t.Helper()
	debs, err := filepath.Glob(filepath.Join(lab.Path(t, "debs"), pkg+"_*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	if len(debs) != 1 {
		t.Fatalf("the lab has %d archives of %s, want 1; run: make lab", len(debs), pkg)
	}
	return strings.Split(filepath.Base(debs[0]), "_")[1]
}
