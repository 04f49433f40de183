// SPDX-License-Identifier: Apache-2.0

// Package doctor sets up what people run into, one trouble each, has `dkms doctor`
// tell the cause, does exactly what it says to do, and wants the trouble to be gone.
package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// root is a root that a case changes.
type root struct {
	*lab.Root
	t *testing.T
}

func over(t *testing.T, below *lab.Root) root {
	t.Helper()
	return root{lab.AptRootOver(t, below), t}
}

// row is a finding, as `dkms doctor --json` prints it.
type row struct {
	Check, Severity, Where, What, Why string
	Next                              []string
}

func (f row) String() string { return f.Severity + " " + f.Check + ": " + f.Where + ": " + f.What }

// doctor returns the findings. That the running kernel isn't installed in a root is
// none here.
func (r root) doctor(args ...string) []row {
	r.t.Helper()
	res := r.Run("dkms", append(append([]string{"doctor"}, args...), "--json")...)
	var doc struct{ Findings []row }
	if err := json.Unmarshal([]byte(res.Stdout), &doc); err != nil {
		r.t.Fatalf("doctor %q: exit code %d: %v\n%s%s", args, res.Code, err, res.Stdout, res.Stderr)
	}
	lab.CheckJSON(r.t, res.Stdout)
	code := 0
	for _, f := range doc.Findings {
		code = max(code, map[string]int{"note": 0, "warning": 27, "error": 28}[f.Severity])
	}
	if res.Code != code {
		r.t.Errorf("doctor %q: exit code %d, want %d", args, res.Code, code)
	}
	return slices.DeleteFunc(doc.Findings, func(f row) bool { return f.Check == "kernel" && f.Severity == "note" })
}

// healthy fails if there is any finding.
func (r root) healthy(args ...string) {
	r.t.Helper()
	for _, f := range r.doctor(args...) {
		r.t.Errorf("doctor %q: %v: %s %q", args, f, f.Why, f.Next)
	}
}

// wants fails unless there is one finding of a check, which says all the words; it
// returns the others' checks.
func (r root) wants(found []row, check string, words ...string) {
	r.t.Helper()
	for _, f := range found {
		text := fmt.Sprintf("%v: %s %q", f, f.Why, f.Next)
		if f.Check == check && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
			return
		}
	}
	r.t.Errorf("no finding of %s has %q: %+v", check, words, found)
}

// cure does what the text of doctor says, command by command, and wants all to be
// well then.
func (r root) cure(args ...string) {
	r.t.Helper()
	said := r.Run("dkms", append([]string{"doctor"}, args...)...)
	r.t.Logf("dkms doctor %s\n%s%s", strings.Join(args, " "), said.Stdout, said.Stderr)
	for _, line := range steps(said.Stdout) {
		res := r.Run("env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", line)
		if res.Code != 0 {
			r.t.Fatalf("%s: exit code %d\n%s%s", line, res.Code, res.Stdout, res.Stderr)
		}
	}
	r.healthy(args...)
}

// steps are the commands that doctor has printed, each once.
func steps(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "next: $ ")
		if ok && !slices.Contains(list, command) {
			list = append(list, command)
		}
	}
	return list
}

// works fails unless a module is installed for a kernel, and would be loaded.
func (r root) works(id, kernel string) {
	r.t.Helper()
	status := r.MustRun("dkms", "status", id, "-k", kernel).Stdout
	if want := id + ", " + kernel + ", x86_64: installed\n"; status != want {
		r.t.Errorf("status is %q, want %q", status, want)
	}
	if res := r.Run("dkms", "verify", id, "-k", kernel); res.Code != 0 {
		r.t.Errorf("verify: exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
}

// module is a module to unpack.
type module struct {
	name, version string
	// code is C at the top level of its source, conf further lines of its dkms.conf.
	code, conf string
}

func (m module) files() map[string]string {
	return map[string]string{
		m.name + ".c": fmt.Sprintf(`#include <linux/module.h>
%s
static int __init start(void) { return 0; }
static void __exit stop(void) {}
module_init(start);
module_exit(stop);
MODULE_LICENSE("GPL");
MODULE_VERSION("%s");
`, m.code, m.version),
		"Makefile": "obj-m := " + m.name + ".o\n",
		"dkms.conf": fmt.Sprintf(`PACKAGE_NAME="%[1]s"
PACKAGE_VERSION="%[2]s"
BUILT_MODULE_NAME[0]="%[1]s"
DEST_MODULE_LOCATION[0]="/updates"
AUTOINSTALL="yes"
%[3]s
`, m.name, m.version, m.conf),
	}
}

// unpack puts a module's source into the root.
func (r root) unpack(m module) {
	r.t.Helper()
	for name, text := range m.files() {
		write(r.t, r.Path("usr/src", m.name+"-"+m.version, name), text)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
