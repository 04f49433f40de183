// SPDX-License-Identifier: Apache-2.0

package vercmp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestPad(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"6.1.0-50-amd64", "006.001.000-050-amd064"},
		{"2.6.9-1cvs200409091247", "002.006.009-001cvs200409091247"},
		{"6.12.117+deb12-amd64", "006.012.117+deb012-amd064"},
		{"1", "001"},
		{"12", "012"},
		{"123", "123"},
		{"1234", "1234"},
		{"007", "007"},
		{"1 2", "001002"},
		{" 1  22 ", "001022"},
		{"a1b2c", "a001b002c"},
		{"1.2.3.4", "001.002.003.004"},
		{"x", "x"},
		{"é1", "é001"},
	} {
		if got := Pad(tt.in); got != tt.want {
			t.Errorf("Pad(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// The oddities are part of the contract: dkms.conf files are written to them.
func TestLess(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"6.1", "6.2", true},
		{"6.2", "6.10", true},
		{"6.1", "6.1.0-50", true},
		{"4.12", "4.12-rc1", true},
		{"20230101", "999", true},
		{"1.0", "1.0", false},
		{"2.0", "1.0", false},
	} {
		if got := Less(tt.a, tt.b); got != tt.want {
			t.Errorf("Less(%q, %q) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// random returns a string of bytes that matter to version order.
func random(r *rand.Rand, alphabet string, most int) string {
	b := make([]byte, r.IntN(most+1))
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

func TestNaturalLikeSort(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	lines := []string{".", "..", "a", "a.", "a..b", "a.b.c", "a.1", "a.gz", "a-1.gz", "a1.~b", "1.0~rc1", "1.0", "01", "1", "001",
		"6.1.0-50-amd64", "6.1.0-9-amd64", "6.12.117+deb12-amd64", "6.1.0-50-cloud-amd64", "6.8.0-60-generic", "5.14.0-70.el9.x86_64", "\xff1", "a\x80"}
	for range 3000 {
		// Releases of sort differ on whether ".a" is all extension.
		lines = append(lines, strings.TrimLeft(random(r, "0012 9ab.c~-+_Z", 7), "."))
	}
	sort := exec.Command("sort", "-V")
	sort.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	sort.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := sort.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	slices.SortFunc(lines, Natural)
	for i := range want {
		if lines[i] != want[i] {
			t.Fatalf("place %d: got %q, sort -V has %q", i, lines[i], want[i])
		}
	}
}

func TestDebLikeDpkg(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	pairs := [][2]string{
		{"1.0", "1.0-0"}, {"1.0-1", "1.0-1.1"}, {"0:1.0", "1.0"}, {"1:1", "2"}, {"1.0~rc1", "1.0"}, {"1.0~~", "1.0~"}, {"1.0+b1", "1.0"},
		{"3.0.10-8+deb12u1", "3.0.10-8"}, {"3.2.2-1~deb13u1", "3.2.2-1"}, {"1.2-3-4", "1.2-3-5"}, {"1.a", "1.+"}, {"1.010", "1.10"}, {"10:0", "9:9"},
	}
	version := func() string {
		v := fmt.Sprint(r.IntN(3)) + random(r, "0129ab.~+", 5)
		if r.IntN(3) == 0 {
			v = fmt.Sprint(r.IntN(3)) + ":" + v
		}
		if r.IntN(2) == 0 {
			v += "-" + fmt.Sprint(r.IntN(3)) + random(r, "01ab.~+", 3)
		}
		return v
	}
	for range 150 {
		pairs = append(pairs, [2]string{version(), version()})
	}
	var script bytes.Buffer
	for _, p := range pairs {
		fmt.Fprintf(&script, "if dpkg --compare-versions '%s' lt '%s'; then echo -1; elif dpkg --compare-versions '%s' eq '%s'; then echo 0; else echo 1; fi\n", p[0], p[1], p[0], p[1])
	}
	bash := exec.Command("bash")
	bash.Stdin = &script
	out, err := bash.Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range strings.Fields(string(out)) {
		p := pairs[i]
		if got := fmt.Sprint(Deb(p[0], p[1])); got != want {
			t.Errorf("Deb(%q, %q) = %s, dpkg says %s", p[0], p[1], got, want)
		}
		if got := fmt.Sprint(-Deb(p[1], p[0])); got != want {
			t.Errorf("-Deb(%q, %q) = %s, dpkg says %s", p[1], p[0], got, want)
		}
	}
}

func FuzzOrders(f *testing.F) {
	f.Add("6.1.0-50-amd64", "6.12.117+deb12-amd64", "1:1.0~rc1-1")
	f.Add(".", "a.~", "00")
	f.Add("", " 1 ", "\xff-")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if p := Pad(a); Pad(p) != p {
			t.Errorf("Pad(%q) isn't stable: %q", a, p)
		}
		for name, compare := range map[string]func(a, b string) int{"Natural": Natural, "Deb": Deb, "RPM": func(a, b string) int { return RPM(a, b, '^') }} {
			if compare(a, a) != 0 {
				t.Errorf("%s(%q, itself) isn't 0", name, a)
			}
			if compare(a, b) != -compare(b, a) {
				t.Errorf("%s(%q, %q) isn't antisymmetric", name, a, b)
			}
			if compare(a, b) <= 0 && compare(b, c) <= 0 && compare(a, c) > 0 {
				t.Errorf("%s isn't transitive for %q, %q, %q", name, a, b, c)
			}
		}
	})
}
