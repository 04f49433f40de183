// SPDX-License-Identifier: Apache-2.0

package build

import "testing"

func TestShared(t *testing.T) {
	for in, want := range map[string]string{
		" -j4 all": "  all", " -j all": "  all", " -C x -j$(nproc)": " -C x ", " --jobs=3 x": "  x",
		" V=1 all": " V=1 all", " CFLAGS='-O2 -j4'": " CFLAGS='-O2 -j4'", " -jx": " -jx", " -C a-j4": " -C a-j4",
	} {
		if got := shared(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestTokens(t *testing.T) {
	for line, want := range map[string]int{
		"make all": 1, "cd x && make -j4 all": 4, "make -j": everything, "make -j`nproc` x": everything, "make -j 8\nmake -j2": 8,
	} {
		if got := tokens(line); got != want {
			t.Errorf("%q: %d, want %d", line, got, want)
		}
	}
}
