// SPDX-License-Identifier: Apache-2.0

package build

import (
	"strings"
	"testing"
)

// What programs really say when they are refused something, with the shells,
// coreutils, compilers and clients of Debian 12.
func TestRefusals(t *testing.T) {
	for line, want := range map[string]string{
		"/var/lib/dkms/m/1/build/w.sh: 2: cannot create /etc/told: Read-only file system":         "/etc/told",
		"bash: line 1: /etc/told: Read-only file system":                                          "/etc/told",
		"touch: cannot touch '/usr/src/m-1/x': Read-only file system":                             "/usr/src/m-1/x",
		"cp: cannot create regular file '/lib/modules/6.1/x': Read-only file system":              "/lib/modules/6.1/x",
		"cat: /etc/shadow: Permission denied":                                                     "/etc/shadow",
		"mkdir: cannot create directory ‘/root/x’: Permission denied":                             "/root/x",
		"rm: cannot remove '/etc/passwd': Read-only file system":                                  "/etc/passwd",
		"Assembler messages: Fatal error: can't create /usr/src/linux/a.o: Read-only file system": "/usr/src/linux/a.o",
		"curl: (6) Could not resolve host: example.org":                                           "the network",
		"wget: unable to resolve host address 'example.org'":                                      "the network",
		"fatal: unable to access 'https://example.org/': Could not resolve host: example.org":     "the network",
		"connect: Network is unreachable":                                                         "the network",
		"/var/lib/dkms/m/1/build/w.c:3:10: fatal error: x.h: No such file or directory":           "",
		"make: *** [Makefile:3: all] Error 1":                                                     "",
		"w.c: In function 'f':":                                                                   "",
	} {
		var got string
		for _, r := range refusals([]byte("# command: make\n" + line + "\n")) {
			got = r.What
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	log := "# command: first\ncat: /a: Permission denied\n# command: second\ncat: /b: Permission denied\ncat: /b: Permission denied\n"
	if r := refusals([]byte(log)); len(r) != 1 || r[0].What != "/b" {
		t.Errorf("%v of what the last command was refused", r)
	}
}

// Three paths are enough, and none is longer than its line.
func FuzzRefusals(f *testing.F) {
	f.Add("cat: /etc/shadow: Permission denied")
	f.Add("x: Read-only file system: '/etc'")
	f.Add("a: Could not resolve host: b")
	f.Fuzz(func(t *testing.T, line string) {
		found := refusals([]byte(strings.Repeat(line+"\n", 3)))
		if len(found) > 3 {
			t.Fatal(found)
		}
		for _, r := range found {
			if r.What == "" || !r.Network && (r.What[0] != '/' || !strings.Contains(line, r.What)) {
				t.Errorf("%q of %q", r.What, line)
			}
		}
	})
}
