// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/host"
)

// realBash runs a script in the machine's bash, and ends its children with it.
func realBash(ctx context.Context, b Program) ([]byte, error) {
	cmd := b.Command()
	cmd.Grace = killAfter
	return cmd.Output(ctx)
}

// testKernels are the releases of the lab.
var testKernels = []string{"6.1.0-56-amd64", "6.12.117+deb12-amd64"}

// testConfig is a kernel configuration as confs source and grep it.
const testConfig = `#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"
CONFIG_MODULES=y
CONFIG_ACPI=y
CONFIG_HZ=250
CONFIG_USB_HID=m
# CONFIG_NUMA is not set
CONFIG_LOCALVERSION=""
CONFIG_TRACEPOINTS=y
CONFIG_HID_MULTITOUCH=m
CONFIG_I2C=y
`

// testLoader returns a loader on a fresh tree and the source directory of a
// kernel in it.
func testLoader(t testing.TB) (*Loader, string) {
	t.Helper()
	root := t.TempDir()
	p := host.Default()
	p.ConfDir = filepath.Join(root, "etc")
	ksd := filepath.Join(root, "headers")
	for _, dir := range []string{p.ConfDir, ksd, filepath.Join(root, "cwd")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(ksd, ".config"), testConfig)
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + root, "LANG=C.UTF-8", "MAKE=from-environment", "CC=no"}
	return &Loader{Paths: p, Environ: environ, Bash: realBash, Dir: filepath.Join(root, "cwd")}, ksd
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// corpusConfs returns every dkms.conf of the lab's corpus, and those written
// out of testdata/constructs.txtar.
func corpusConfs(t testing.TB) []string {
	t.Helper()
	corpus := os.Getenv("DKMS_CONF_CORPUS")
	if corpus == "" {
		corpus = "../../.lab/corpus"
	}
	confs := constructs(t)
	if _, err := os.Stat(corpus); err != nil {
		return confs // the lab is not unpacked
	}
	err := filepath.WalkDir(corpus, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, "dkms.conf") {
			abs, _ := filepath.Abs(path)
			confs = append(confs, abs)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return confs
}

// constructs writes out the confs of testdata/constructs.txtar, and some with
// carriage returns.
func constructs(t testing.TB) []string {
	t.Helper()
	_, files := readArchive(t, "testdata/constructs.txtar")
	files = append(files,
		archived{"crlf.conf", "PACKAGE_NAME=\"a\"\r\nPACKAGE_VERSION=1\r\n\r\n# c\r\nBUILT_MODULE_NAME[0]=\"x\"\r\n"},
		archived{"crlf-code.conf", "PACKAGE_NAME=\"a\"\r\nMAKE=\"$PACKAGE_NAME-1\"\r\nPATCH=(\"a\" b)\r\nif true; then\r\nPATCH=a\r\nfi\r\n"},
	)
	dir := t.TempDir()
	var confs []string
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		writeFile(t, path, f.Data)
		confs = append(confs, path)
	}
	return confs
}

// TestConfsAsBash compares every variable and index between the Go
// interpreter and real bash.
func TestConfsAsBash(t *testing.T) {
	confs := corpusConfs(t)
	if len(confs) == 0 {
		t.Fatal("no dkms.conf found")
	}
	equal, total := 0, 0
	for _, conf := range confs {
		for _, kernel := range testKernels {
			total++
			if sameAsBash(t, conf, kernel) {
				equal++
			}
		}
	}
	t.Logf("the Go interpreter equals bash for %d of %d (%d confs, %d kernels)", equal, total, len(confs), len(testKernels))
}

// sameAsBash fails the test if Auto differs from Bash, and reports whether Go
// equals Bash, which a conf with constructs of the deny list need not.
func sameAsBash(t *testing.T, conf, kernel string) bool {
	t.Helper()
	l, ksd := testLoader(t)
	load := func(p Policy) Vars {
		var stderr bytes.Buffer
		l.Stderr = &stderr
		r := request(ksd, conf, kernel)
		r.Policy = p
		m, err := l.Load(t.Context(), r)
		if m == nil {
			t.Fatalf("%s: policy %d: %v", conf, p, err)
		}
		return m.Vars
	}
	bash, auto, inGo := load(Bash), load(Auto), load(Go)
	if diff := differences(auto, bash); len(diff) > 0 {
		t.Errorf("%s for %s: Auto differs from bash:\n%s", conf, kernel, strings.Join(diff, "\n"))
	}
	diff := differences(inGo, bash)
	if data, err := os.ReadFile(conf); len(diff) > 0 && err == nil {
		if differs(parseScript(conf, string(data))) == "" {
			t.Logf("%s for %s: Go differs from bash:\n%s", conf, kernel, strings.Join(diff, "\n"))
		}
	}
	return len(diff) == 0
}

// differences lists the variables that differ.
func differences(got, want Vars) []string {
	var diff []string
	for _, name := range moduleNames() {
		if len(got[name])+len(want[name]) > 0 && !reflect.DeepEqual(got[name], want[name]) {
			diff = append(diff, name+": got "+quoteArray(got[name])+", bash has "+quoteArray(want[name]))
		}
	}
	return slices.Compact(diff)
}

func quoteArray(a Array) string {
	var b strings.Builder
	for _, i := range a.Sorted() {
		b.WriteString("[" + quote(a[i]) + "]")
	}
	return b.String()
}
