// SPDX-License-Identifier: Apache-2.0

package state

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// FuzzOutcome reads what may lie in the place of an outcome: only one that is about
// its key is taken, and that is the same when it is kept again.
func FuzzOutcome(f *testing.F) {
	f.Add([]byte(`{"format":1,"module":"m","version":"1","kernel":"k","arch":"a","state":"failed","when":"2026-01-02T03:04:05Z","code":10,"error":"x","hints":["y"]}`))
	f.Add([]byte(`{"format":1,"module":"m","version":"2","kernel":"k","arch":"a"}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`{"when":"x"}`))
	tree := Tree{Dir: f.TempDir()}
	k := Key{ID{"m", "1"}, "k", "a"}
	path := tree.outcomePath(k)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		o, ok := tree.Outcome(k)
		if !ok {
			return
		}
		if o.Key() != k {
			t.Fatalf("an outcome for %v", o.Key())
		}
		if err := tree.KeepOutcome(o); err != nil {
			return // a year that JSON has no form for
		}
		first, _ := tree.Outcome(k)
		if err := tree.KeepOutcome(first); err != nil {
			t.Fatal(err)
		}
		if second, ok := tree.Outcome(k); !ok || !reflect.DeepEqual(first, second) {
			t.Errorf("%+v is read back as %+v", first, second)
		}
	})
}

// FuzzRecord reads what may lie in the place of a build.json.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"format":1,"module":"m","built":"2026-01-02T03:04:05Z","seconds":1.5,"kernel_identity":{},"compiler_file":{"path":"/c","size":1},"version":"1","kernel":"k","arch":"a","objects":[{"index":0,"name":"a","file":"a.ko","location":"/extra","sha256":"0"}]}`))
	f.Add([]byte(`{"format":9}`))
	f.Add([]byte(`{"format":1,"objects":null,"seconds":1e999}`))
	tree := Tree{Dir: f.TempDir()}
	k := Key{ID{"m", "1"}, "k", "a"}
	dir := tree.Result(k)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, RecordFile), data, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := tree.Record(k)
		if err != nil {
			return
		}
		if err := WriteRecord(dir, r); err != nil {
			return
		}
		again, err := tree.Record(k)
		if err != nil {
			t.Fatal(err)
		}
		if again.Built = r.Built; !reflect.DeepEqual(r, again) && len(r.Depends) > 0 && len(r.Verified) > 0 {
			t.Errorf("%+v is read back as %+v", r, again)
		}
	})
}
