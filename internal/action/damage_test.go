// SPDX-License-Identifier: Apache-2.0

package action

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dkms-go/internal/finding"
	"dkms-go/internal/plan"
)

// What lies in the place of a file of dkms and is none, or is damaged, is waited for
// by nobody; fsck names it, and its repair moves it aside.
func TestNoFiles(t *testing.T) {
	const result = "tree/m/1/6.1.0/x86_64/"
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pipe := func(m *machine, path string) { ok(unix.Mkfifo(path, 0o644)) }
	directory := func(m *machine, path string) { ok(os.MkdirAll(path, 0o755)) }
	text := func(text string) func(m *machine, path string) {
		return func(m *machine, path string) { ok(os.WriteFile(path, []byte(text), 0o644)) }
	}
	m := newMachine(t)
	m.must(m.install(m.source("m/1"), k1))
	for _, c := range []struct {
		path, check string
		put         func(m *machine, path string)
	}{
		{result + "build.json", "foreign", pipe},
		{result + "build.json", "record", directory},
		{result + "build.json", "record", text("{")},
		{result + "build.json", "record", text("{}")},
		{result + "build.json", "record", text(`{"format":1,"objects":"x"}`)},
		{result + ".installed", "foreign", pipe},
		{result + ".installed", "foreign", directory},
		{result + "log/make.log", "foreign", pipe},
		{"tree/.log/m/1/6.1.0/x86_64/make.log", "foreign", pipe},
		{"tree/.outcome/m/1/6.1.0/x86_64.json", "foreign", pipe},
		{"tree/.journal/1.commit", "journal", pipe},
		{"tree/.journal/1.commit", "journal", text("[{")},
		{"tree/.lock", "lock", pipe},
	} {
		path := filepath.Join(m.root, c.path)
		ok(os.RemoveAll(path))
		ok(os.MkdirAll(filepath.Dir(path), 0o755))
		c.put(m, path)
		m.wantStatus("m/1@6.1.0 installed")
		rows := m.engine().Status(background, Filter{})
		if damaged := strings.HasSuffix(c.path, "build.json"); len(rows) != 1 || (rows[0].Damage != "") != damaged || damaged && rows[0].Record.Format != 0 {
			t.Errorf("%s: %+v", c.path, rows)
		}
		verdicts, err := m.engine().Verify(background, Filter{})
		if len(verdicts) != 1 || len(verdicts[0].Problems) > 0 {
			t.Errorf("%s: %+v %v", c.path, verdicts, err)
		}
		found, _ := m.engine().Fsck(background, false)
		if !slices.ContainsFunc(found.Left, func(f finding.Finding) bool { return f.Check == c.check && f.Where == path && len(f.Next) > 0 }) {
			t.Errorf("%s: %+v", c.path, found.Left)
		}
		mended, err := m.engine().Fsck(background, true)
		if err != nil || len(mended.Left) > 0 {
			t.Errorf("%s: %v %+v", c.path, err, mended.Left)
		}
		if _, err := os.Lstat(mended.Aside + path); err != nil {
			t.Error(err)
		}
		if again, err := m.engine().Fsck(background, true); err != nil || len(again.Left)+len(again.Repaired) > 0 {
			t.Errorf("%s: %v %+v", c.path, err, again)
		}
	}
	m.wantStatus("m/1@6.1.0 installed")
	pipe(m, filepath.Join(m.root, result, ".installed"))
	ok(m.engine().Back(background, m.source("m/1"), []plan.Target{k1}, true, plan.ToNothing))
	if m.has("lib/modules/6.1.0/updates/dkms/m.ko") {
		t.Error("the object is still there")
	}
}
