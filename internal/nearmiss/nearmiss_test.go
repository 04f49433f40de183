// SPDX-License-Identifier: Apache-2.0

package nearmiss

import "testing"

func TestFind(t *testing.T) {
	words := []string{"build", "install", "uninstall", "status"}
	for _, tc := range []struct {
		word  string
		limit int
		want  string
	}{
		{"bulid", 3, "build"},
		{"instal", 3, "install"},
		{"statsu", 3, "status"},
		{"status", 1, "status"},
		{"xyz", 3, ""},
		{"", 3, ""},
		{"uninstal", 2, "uninstall"},
	} {
		if got := Find(tc.word, words, tc.limit); got != tc.want {
			t.Errorf("Find(%q, limit %d) = %q, want %q", tc.word, tc.limit, got, tc.want)
		}
	}
}

func FuzzDistance(f *testing.F) {
	f.Add("build", "bulid")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, a, b string) {
		d := distance(a, b)
		if d != distance(b, a) {
			t.Errorf("distance(%q, %q) is not symmetric", a, b)
		}
		if (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Errorf("distance(%q, %q) = %d", a, b, d)
		}
	})
}
