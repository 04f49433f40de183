// SPDX-License-Identifier: Apache-2.0

package vercmp

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// judge is a living process that answers each line with a line.
type judge struct {
	in  io.Writer
	out *bufio.Reader
}

func newJudge(f *testing.F, argv ...string) *judge {
	f.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		f.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return &judge{in, bufio.NewReader(out)}
}

func (j *judge) ask(t *testing.T, a, b string) string {
	t.Helper()
	if _, err := fmt.Fprintf(j.in, "%s\t%s\n", a, b); err != nil {
		t.Fatal(err)
	}
	line, err := j.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// FuzzDeb compares with dpkg's own code: its Perl module for all valid versions, and the program for some.
func FuzzDeb(f *testing.F) {
	for _, p := range [][2]string{{"1.0", "1.0-0"}, {"1:1", "2"}, {"1.0~rc1", "1.0"}, {"6.1.170-1", "6.12.17-1~bpo12+1"}, {"1.2-3-4", "1.2-3-5"}, {"1.010", "1.10"}} {
		f.Add(p[0], p[1])
	}
	perl := newJudge(f, "perl", "-MDpkg::Version", "-e", `$| = 1; while (<>) { chomp; my ($a, $b) = split /\t/;
		my $c = eval { version_compare($a, $b) }; print $c // "none", "\n" }`)
	valid := regexp.MustCompile(`^([0-9]{1,9}:)?[0-9][A-Za-z0-9.+~-]*$`) // deb-version(7)
	n := 0
	f.Fuzz(func(t *testing.T, a, b string) {
		if !valid.MatchString(a) || !valid.MatchString(b) {
			return
		}
		want := perl.ask(t, a, b)
		if want == "none" {
			return
		}
		if got := fmt.Sprint(Deb(a, b)); got != want {
			t.Errorf("Deb(%q, %q) = %s, dpkg says %s", a, b, got, want)
		}
		if n++; n%64 == 0 {
			for _, relation := range []string{"lt", "eq", "gt"} {
				said := exec.Command("dpkg", "--compare-versions", a, relation, b).Run() == nil
				if got := (relation == "lt" && want == "-1") || (relation == "eq" && want == "0") || (relation == "gt" && want == "1"); got != said {
					t.Errorf("%q %s %q: %v, dpkg says %v", a, relation, b, got, said)
				}
			}
		}
	})
}

// FuzzRPM compares with rpm.
func FuzzRPM(f *testing.F) {
	for _, p := range [][2]string{{"1.0", "1.0~rc1"}, {"1.0^a", "1.0"}, {"5.14.0-70.el9", "5.14.0-427.el9"}, {"1.a", "1.1"}, {"a01", "a1"}, {"^~", "~^"}} {
		f.Add(p[0], p[1])
	}
	lua := newJudge(f, "rpmlua", "-e", `while true do local l = io.read() if not l then break end
		local a, b = l:match("^(.*)\t(.*)$") local ok, c = pcall(rpm.vercmp, a, b) print(ok and c or "none") io.flush() end`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsAny(a+b, "\n\t\x00-:") { // the last two end a release and an epoch
			return
		}
		want := lua.ask(t, a, b)
		if want == "none" {
			return
		}
		if got := fmt.Sprint(RPM(a, b, '^')); got != want {
			t.Errorf("RPM(%q, %q) = %s, rpm says %s", a, b, got, want)
		}
		// For GRUB the plus is what the caret is here.
		swap := strings.NewReplacer("^", "+", "+", "^")
		if got := fmt.Sprint(RPM(swap.Replace(a), swap.Replace(b), '+')); got != want {
			t.Errorf("RPM(%q, %q) for GRUB = %s", swap.Replace(a), swap.Replace(b), got)
		}
	})
}

// FuzzNatural sorts lines as "sort -V" does.
func FuzzNatural(f *testing.F) {
	f.Add("6.1.0-50-amd64\n6.1.0-9-amd64\n6.12.117+deb12-amd64\n5.14.0-70.el9.x86_64\na.gz\na-1.gz\n1.0~rc1\n1.0")
	f.Add("..\n.\na.\na..b\n01\n1\n001\n\xff1\na\x80\n~\n~1\n-")
	f.Fuzz(func(t *testing.T, text string) {
		var lines []string
		for _, line := range strings.Split(text, "\n") {
			// Releases of sort differ on whether ".a" is all extension.
			if line == "." || line == ".." || !strings.HasPrefix(line, ".") && !strings.ContainsRune(line, 0) {
				lines = append(lines, line)
			}
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
		if !slices.Equal(lines, want) && len(lines) > 0 {
			t.Errorf("%q, sort -V has %q", lines, want)
		}
	})
}
