// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
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

// A repair moves aside what keeps all others from the lock, with what was prepared;
// changes whose lists are whole are finished before.
func TestSetAsideDamagedJournal(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"cut":         func(t *testing.T, dir string) { put(t, dir+"/1.commit", "[{") },
		"stuck":       func(t *testing.T, dir string) { put(t, dir+"/1.stuck", "") },
		"pipe":        func(t *testing.T, dir string) { pipe(t, dir+"/1.commit") },
		"a pipe list": func(t *testing.T, dir string) { pipe(t, dir+"/1.prepare") },
		"directory":   func(t *testing.T, dir string) { put(t, dir+"/1.commit/x", "") },
	} {
		t.Run(name, func(t *testing.T) {
			tree := sound(t)
			dir := tree.Dir + "/" + journalDir
			damage(t, dir)
			put(t, tree.Dir+"/m/.a.dkms-new", "prepared")
			put(t, tree.Dir+"/m/1/6.1/x/module/.b.ko.dkms-new", "object b")
			ops, err := json.Marshal([]op{{opPlace, tree.Dir + "/m/1/6.1/x/module/.b.ko.dkms-new", tree.Dir + "/m/1/6.1/x/module/b.ko"}})
			if err != nil {
				t.Fatal(err)
			}
			put(t, dir+"/2.commit", string(ops))
			if _, err := tree.Lock(t.Context(), "", nil); err == nil {
				t.Error("it was locked")
			}
			lost := tree.LostFound(time.Now())
			for range 2 {
				unlock, err := tree.LockSettingAside(t.Context(), "", nil, lost)
				if err != nil {
					t.Fatal(err)
				}
				unlock()
			}
			if read(t, lost+tree.Dir+"/m/.a.dkms-new") != "prepared" || read(t, tree.Dir+"/m/1/6.1/x/module/b.ko") != "object b" {
				t.Error("something is lost")
			}
			aside, err := filepath.Glob(lost + dir + "/1.*")
			if err != nil || len(aside) != 1 || !tree.Settled() || len(tree.Check()) > 0 {
				t.Errorf("%v %v %v", aside, err, tree.Check())
			}
		})
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
