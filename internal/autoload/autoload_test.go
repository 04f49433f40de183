// SPDX-License-Identifier: Apache-2.0

package autoload

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dkms-go/internal/host"
)

func TestOnStateOff(t *testing.T) {
	p := host.Paths{ModulesLoadDir: filepath.Join(t.TempDir(), "modules-load.d")}
	if _, on, err := State(p, "m"); on || err != nil {
		t.Fatalf("on before: %v, %v", on, err)
	}
	if err := Off(p, "m"); err != nil {
		t.Errorf("off without a file: %v", err)
	}
	for _, want := range [][]string{{"a", "b-c"}, {"d"}} {
		if err := On(p, "m", want); err != nil {
			t.Fatal(err)
		}
		got, on, err := State(p, "m")
		if !on || err != nil || !slices.Equal(got, want) {
			t.Errorf("state is %q, %v, %v, want %q", got, on, err, want)
		}
	}
	entries, err := os.ReadDir(p.ModulesLoadDir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "dkms-m.conf" {
		t.Errorf("the directory has %v, %v", entries, err)
	}
	if fi, err := os.Stat(Path(p, "m")); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("the file: %v, %v", fi, err)
	}
	if err := Off(p, "m"); err != nil {
		t.Fatal(err)
	}
	if _, on, _ := State(p, "m"); on {
		t.Error("still on after off")
	}
}

// What the administrator edited is read as modules-load.d(5) says.
func TestStateReadsComments(t *testing.T) {
	p := host.Paths{ModulesLoadDir: t.TempDir()}
	if err := os.WriteFile(Path(p, "m"), []byte("; no\n\n # no\n  one \ntwo"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, on, err := State(p, "m")
	if !on || err != nil || !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("state is %q, %v, %v", got, on, err)
	}
}

func TestNamesThatCantBe(t *testing.T) {
	p := host.Paths{ModulesLoadDir: t.TempDir()}
	for _, name := range []string{"", "../x", "a b", "a\nb", "#a", ".."} {
		if err := On(p, name, []string{"a"}); err == nil {
			t.Errorf("module %q is taken", name)
		}
		if err := On(p, "m", []string{name}); err == nil {
			t.Errorf("object %q is taken", name)
		}
		if err := Off(p, name); err == nil {
			t.Errorf("off takes module %q", name)
		}
	}
	if err := On(p, "m", nil); err == nil {
		t.Error("no objects are taken")
	}
	if entries, _ := os.ReadDir(p.ModulesLoadDir); len(entries) != 0 {
		t.Errorf("something was written: %v", entries)
	}
}
