// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func sample(fill string) Entry {
	return Entry{Note: json.RawMessage(`{"make":"make all"}`), Files: []File{
		{"a.ko", bytes.Repeat([]byte(fill), 1000)}, {"empty", []byte{}}, {"make.log", []byte("said " + fill)},
	}}
}

func put(t *testing.T, s Store, key string, e Entry) {
	t.Helper()
	if err := s.Put(key, e); err != nil {
		t.Fatal(err)
	}
}

func TestPutAndGet(t *testing.T) {
	s := Store{Dir: t.TempDir() + "/cache/results", Limit: 1 << 20}
	key, err := Key(map[string]string{"a": "1"})
	if err != nil || len(key) != 64 {
		t.Fatal(key, err)
	}
	if other, _ := Key(map[string]string{"a": "2"}); other == key {
		t.Error("other inputs have the same key")
	}
	if _, err := s.Get(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty store says %v", err)
	}
	for _, want := range []Entry{sample("x"), sample("y")} { // the second replaces the first
		put(t, s, key, want)
		got, err := s.Get(key)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	st, err := s.Stats()
	if err != nil || st.Entries != 1 || st.Bytes < 1000 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := errors.Join(s.Drop(key), s.Drop(key)); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Drop: %v", err)
	}
}

// TestDamage flips each byte of an entry, cuts it at each length, and lengthens
// it: none of it is ever taken for an entry, and all of it is removed.
func TestDamage(t *testing.T) {
	s := Store{Dir: t.TempDir(), Limit: 1 << 20}
	e := Entry{Note: json.RawMessage(`1`), Files: []File{{"a", []byte("some bytes")}, {"b", []byte("more")}}}
	put(t, s, "k", e)
	good, err := os.ReadFile(s.path("k"))
	if err != nil {
		t.Fatal(err)
	}
	var bad [][]byte
	for i := range good {
		for _, bit := range []byte{1, 0x20, 0x80} {
			flipped := bytes.Clone(good)
			flipped[i] ^= bit
			bad = append(bad, flipped)
		}
		bad = append(bad, good[:i])
	}
	bad = append(bad, append(bytes.Clone(good), 0))
	for _, data := range bad {
		if err := os.WriteFile(s.path("k"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if e, err := s.Get("k"); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%q gives %v, %v", data, e, err)
		}
		if _, err := os.Stat(s.path("k")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("a damaged entry stays")
		}
	}
	put(t, s, "k", e)
	if err := os.Rename(s.path("k"), s.path("other")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("other"); !errors.Is(err, ErrDamaged) {
		t.Errorf("an entry under another key gives %v", err)
	}
	if err := os.Mkdir(s.path("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("dir"); !errors.Is(err, ErrDamaged) {
		t.Errorf("a directory gives %v", err)
	}
}

// age makes an entry one that was of use some hours ago.
func age(t *testing.T, s Store, key string, hours int) {
	t.Helper()
	then := time.Now().Add(time.Duration(-hours) * time.Hour)
	if err := os.Chtimes(s.path(key), then, then); err != nil {
		t.Fatal(err)
	}
}

func TestEviction(t *testing.T) {
	s := Store{Dir: t.TempDir(), Limit: 1 << 20}
	for i, key := range []string{"a", "b", "c"} {
		put(t, s, key, sample(key))
		age(t, s, key, 10-i)
	}
	st, _ := s.Stats()
	s.Limit = st.Bytes // no room for a fourth
	if _, err := s.Get("a"); err != nil {
		t.Fatal(err)
	}
	s.Used("a")
	put(t, s, "d", sample("d"))
	var left []string
	for _, key := range []string{"a", "b", "c", "d"} {
		if _, err := s.Get(key); err == nil {
			left = append(left, key)
		}
	}
	if got := strings.Join(left, ""); got != "acd" {
		t.Errorf("%s are left, want acd: b was of use longest ago", got)
	}
	s.Limit = 100
	put(t, s, "e", sample("e")) // larger than the limit
	if _, err := s.Get("e"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an entry over the limit: %v", err)
	}
}

func TestLeftovers(t *testing.T) {
	s := Store{Dir: t.TempDir(), Limit: 1 << 20}
	old, fresh := filepath.Join(s.Dir, ".old.dkms-new"), filepath.Join(s.Dir, ".fresh.dkms-new")
	for _, path := range []string{old, fresh} {
		if err := os.WriteFile(path, []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", sample("a"))
	if _, err := os.Stat(old); err == nil {
		t.Error("what a killed process left stays")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error("what another process is writing was removed")
	}
}

// TestProcesses has several processes write, read, evict and clean one store at
// once: each read gives all of an entry or none.
func TestProcesses(t *testing.T) {
	if dir := os.Getenv("CACHE_TEST_DIR"); dir != "" {
		hammer(t, dir)
		return
	}
	dir := filepath.Join(t.TempDir(), "results")
	var cmds []*exec.Cmd
	for i := range 4 {
		c := exec.Command(os.Args[0], "-test.run=^TestProcesses$")
		c.Env = append(os.Environ(), "CACHE_TEST_DIR="+dir, "CACHE_TEST_SEED="+strconv.Itoa(i))
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, c)
		defer func() { t.Log(out.String()) }()
	}
	for _, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
	st, err := Store{Dir: dir}.Stats() // of no entry, if cleaning came last
	if err != nil || st.Bytes > hammered {
		t.Errorf("%+v, %v", st, err)
	}
}

// hammered is the limit of the store in TestProcesses: about five entries.
const hammered = 30_000

func hammer(t *testing.T, dir string) {
	s := Store{Dir: dir, Limit: hammered}
	seed, _ := strconv.Atoi(os.Getenv("CACHE_TEST_SEED"))
	hits := 0
	for i := range 150 {
		key := fmt.Sprintf("key%d", (i*7+seed)%10)
		want := Entry{Note: json.RawMessage(`{}`), Files: []File{{"a", bytes.Repeat([]byte(key), 1000)}}}
		if err := s.Put(key, want); err != nil && !errors.Is(err, fs.ErrNotExist) { // cleaned meanwhile
			t.Fatal(err)
		}
		for n := range 10 {
			key := fmt.Sprintf("key%d", n)
			e, err := s.Get(key)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil || string(e.Files[0].Data) != strings.Repeat(key, 1000) {
				t.Fatalf("%s: %v", key, err)
			}
			hits++
			s.Used(key)
		}
		if i%50 == 49 && seed == 0 {
			if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Logf("cleaning: %v", err) // others write meanwhile
			}
		}
	}
	if hits == 0 {
		t.Error("no entry was ever found")
	}
}

func FuzzDecode(f *testing.F) {
	head, _, err := encode("k", sample("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(head, bytes.Repeat([]byte("x"), 1000)...))
	empty, _, _ := encode("k", Entry{Note: json.RawMessage(`null`)})
	f.Add(empty)
	f.Add([]byte("dkms-result 1 x 99999999\n{}"))
	f.Add([]byte("dkms-result 1 x -1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decode("k", data)
		if err != nil {
			return
		}
		total := 0
		for _, file := range e.Files {
			total += len(file.Data)
		}
		if total > len(data) {
			t.Errorf("%d bytes of files come out of %d", total, len(data))
		}
	})
}
