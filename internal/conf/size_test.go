// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "10K": 10 << 10, "3m": 3 << 20, "1G": 1 << 30, "2T": 2 << 40,
		"": -1, "K": -1, "1KB": -1, "1KK": -1, "-1": -1, "1.5G": -1, "9999999999G": -1, "1 G": -1,
	} {
		n, ok := ParseSize(text)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%q is %d, %v", text, n, ok)
		}
	}
}

func TestCacheBound(t *testing.T) {
	for _, c := range []struct {
		cache, size string
		want        int64
	}{{"", "", 1 << 30}, {"on", "5M", 5 << 20}, {"off", "5M", 0}, {"on", "much", 1 << 30}} {
		v := Vars{}
		v.set("result_cache", 0, c.cache)
		v.set("result_cache_size", 0, c.size)
		if got := newFramework(v).ResultCache; got != c.want {
			t.Errorf("%+v is %d", c, got)
		}
	}
}

// A conf with one huge index lacks tens of thousands of values: its error is a line
// that can be read.
func TestManyProblems(t *testing.T) {
	for _, text := range []string{
		"BUILT_MODULE_NAME[999999999]=x", "DEST_MODULE_LOCATION[70000]=/extra",
		"BUILT_MODULE_NAME=({1..9999}.ko); DEST_MODULE_LOCATION=({1..9999})",
	} {
		l, ksd := testLoader(t)
		file := filepath.Join(ksd, "dkms.conf")
		writeFile(t, file, minimal+text+"\n")
		_, err := l.Load(t.Context(), request(ksd, file, testKernels[0]))
		var invalid *Invalid
		if !errors.As(err, &invalid) || len(err.Error()) > 2000 || !strings.Contains(err.Error(), "[1]") || !strings.Contains(err.Error(), "more like these") {
			t.Errorf("%s: %d bytes, %.300v", text, len(fmt.Sprint(err)), err)
		}
	}
	same := &Module{File: "f"}
	for range 9999 {
		same.Objects = append(same.Objects, Object{Built: "x", Dest: "x"})
	}
	if err := same.Strict(); err == nil || len(err.Error()) > 4000 {
		t.Errorf("%.300v", err)
	}
}
