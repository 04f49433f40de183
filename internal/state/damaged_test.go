// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A list of a change that makes no sense is named, and nothing is done of it.
func TestDamagedJournal(t *testing.T) {
	for _, text := range []string{"", "[", `{"format":1}`, `[{"op":"remove"}]`, `[{"Do":"remove","Dest":"kept"}]`, `[{"Do":"chmod","Dest":"/kept"}]`} {
		tree := Tree{Dir: t.TempDir()}
		journal := filepath.Join(tree.Dir, journalDir, "1.commit")
		if err := os.Mkdir(filepath.Dir(journal), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(journal, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := tree.recover(func() {})
		var damaged *Damaged
		if !errors.As(err, &damaged) || damaged.Path != journal {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := os.Stat(journal); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A directory that is removed is there as a whole, or not at all.
func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	for _, path := range []string{gone, stagedName(gone + ".gone")} { // the second is of a run that was killed
		if err := os.MkdirAll(filepath.Join(path, "below"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := discard(gone); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("there are %v %v", left, err)
		}
	}
}
