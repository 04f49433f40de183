// SPDX-License-Identifier: Apache-2.0

package conf

import "testing"

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
