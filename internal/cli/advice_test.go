// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestAdvice(t *testing.T) {
	for _, c := range []struct{ line, text, want string }{
		{"doctor", "$ dkms fsck --repair", "$ dkms fsck --repair"},
		{"doctor --root /r", "    next: $ dkms fsck --repair\n", "    next: $ dkms --root /r fsck --repair\n"},
		{"doctor --root /r", "    next: $ apt-get install linux-headers-6.1\n", "    next: $ chroot /r apt-get install linux-headers-6.1\n"},
		{"install a/1 --root=/r", "Install it with: apt-get install gcc\nDo.\n", "Install it with: chroot /r apt-get install gcc\nDo.\n"},
		{"doctor --root /r", "    next: $ su -c 'dkms doctor hello'\n", "    next: $ su -c 'dkms --root /r doctor hello'\n"},
		{"build a/1 --root /r", "Next: get it:\n    apt-get install gcc\n", "Next: get it:\n    chroot /r apt-get install gcc\n"},
		{"doctor --root /r", "$ export PATH=$PATH:/sbin", "$ export PATH=$PATH:/sbin"},
		{"doctor --dkmstree /t", "$ apt-get install x", "$ apt-get install x"},
		{"fsck --dkmstree /t --installtree=/i --sourcetree /s", "`dkms status` lists them, dkms hook prerm 6.1 too",
			"`dkms --dkmstree /t --sourcetree /s --installtree /i status` lists them, dkms --dkmstree /t --sourcetree /s --installtree /i hook prerm 6.1 too"},
		{"fsck --dkmstree '/a_b'", "dkms fsck", `dkms --dkmstree ''\''/a_b'\''' fsck`},
		{"doctor -k 6.1 -a armhf", "$ dkms install a/1 -k 6.1; or: dkms fsck", "$ dkms -a armhf install a/1 -k 6.1; or: dkms fsck"},
		{"doctor -k 6.1/armhf --dkmstree /t", "$ dkms build a/1 -k 6.1 --force", "$ dkms --dkmstree /t -a armhf build a/1 -k 6.1 --force"},
		{"doctor -a x -k 6.1", "dkms build a/1 -k 6.1/y", "dkms build a/1 -k 6.1/y"},
		{"doctor --dkmstree /t", "another dkms is at work, mydkms fsck, dkms-fsck/1, dkms fscks", "another dkms is at work, mydkms fsck, dkms-fsck/1, dkms fscks"},
	} {
		a, err := parse(strings.Fields(c.line))
		if err != nil {
			t.Fatal(err)
		}
		d := adviceFor(a)
		if got := d.complete(c.text); got != c.want {
			t.Errorf("%s: %q\nis %q\nwant %q", c.line, c.text, got, c.want)
		}
		var b bytes.Buffer
		if io.WriteString(d.people(&b), c.text); b.String() != c.want {
			t.Errorf("%s: written %q", c.line, b.String())
		}
		text, err := d.json(map[string][]string{"next": {c.text}})
		var doc map[string][]string
		if err != nil || json.Unmarshal(text, &doc) != nil {
			t.Fatal(err, string(text))
		}
		if doc["next"][0] != c.want && !strings.Contains(c.text, "next: ") && !strings.HasPrefix(c.text, "Install") && !strings.HasPrefix(c.text, "Next") {
			t.Errorf("%s: JSON %q", c.line, doc["next"][0])
		}
	}
}

// What a command line says of trees is in all that it tells people to do.
func TestAdviceEverywhere(t *testing.T) {
	root := world(t)
	for line, want := range map[string]string{
		"doctor none":                  "`dkms --dkmstree " + root + "/tree --sourcetree " + root + "/src --installtree " + root + "/lib/modules status`",
		"doctor c -k 9.9":              "",
		"fsck":                         "next: $ dkms --dkmstree ",
		"fsck --json":                  `"$ dkms --dkmstree `,
		"explain install none -k 9.9":  "`dkms --dkmstree ",
		"build b/1 -k 9.9-none --json": "",
	} {
		_, out, errw := dkms(t, root, line)
		if !strings.Contains(out+errw, want) {
			t.Errorf("%s: %q isn't in\n%s%s", line, want, out, errw)
		}
		for _, verb := range []string{"fsck", "status", "install", "doctor", "autoinstall", "add"} {
			for _, before := range []string{"$ ", "`"} {
				if strings.Contains(out+errw, before+"dkms "+verb) {
					t.Errorf("%s: a command without the trees:\n%s%s", line, out, errw)
				}
			}
		}
	}
}

// Actions of our own heed each option and word, or refuse it; upstream's take any.
func TestStrict(t *testing.T) {
	root := world(t)
	t.Chdir(root + "/src")
	must(t, writeFile("a", "dkms.conf", "PACKAGE_NAME=a\n"))
	for line, want := range map[string]string{
		"doctor --repair":      "doctor takes no --repair",
		"metrics --json":       "metrics takes no --json",
		"doctor a b":           "doctor takes one module at a time, and no \"b\"",
		"verify a b":           "verify takes one module at a time",
		"verify -j 2":          "verify takes no -j",
		"ready --force":        "ready takes no --force",
		"fsck -k 6.1":          "fsck takes no --kernelver",
		"lint . --force":       "lint takes no --force",
		"log a --directive A=": "log takes no --directive",
		"list --repair":        "list takes no --repair",
		"doctor ./a":           "doctor takes a module by its name, and \"./a\" is a directory; with its source added (dkms add ./a)",
		"log ./a":              "log takes a module by its name",
		"verify a ./none":      "\"./none\" is a file",
		"lint":                 "lint needs the directory",
		"matrix":               "matrix needs the directory",
		"explain install":      "explain install needs a module",
		"preflight":            "preflight needs a kernel",
		"fsck --dkmstree " + root + "/src/a/dkms.conf": "--dkmstree needs a directory, and",
	} {
		code, out, errw := dkmsWith(t, root, line)
		if code != 2 || out != "" || !strings.Contains(strings.ToLower(errw), strings.ToLower(want)) {
			t.Errorf("%s: code %d, %q %q, want %q", line, code, out, errw, want)
		}
	}
	for _, line := range []string{"status --repair", "status a --diagnosis x", "remove a/1 --all --dry-run --json --output /x"} {
		if code, _, errw := dkms(t, root, line); code != 0 {
			t.Errorf("%s: code %d, %s", line, code, errw)
		}
	}
	// A bare word is a module's name, whatever the directory has.
	if code, out, errw := dkms(t, root, "verify b"); code == 2 {
		t.Error(out, errw)
	}
	if code, _, errw := dkms(t, root, "doctor a"); code == 2 || strings.Contains(errw, "is a directory") {
		t.Error(code, errw)
	}
}

// dkmsWith is dkms for a line that may name its tree itself.
func dkmsWith(t *testing.T, root, line string) (code int, out, errw string) {
	t.Helper()
	if !strings.Contains(line, "--dkmstree") {
		return dkms(t, root, line)
	}
	var o, e bytes.Buffer
	code = Main(t.Context(), strings.Fields(line), Stdio{Out: &o, Err: &e, Environ: os.Environ()})
	return code, o.String(), e.String()
}

// A directory that isn't dkms's is no tree with a hundred faults.
func TestNoTree(t *testing.T) {
	root := world(t)
	code, out, errw := dkmsWith(t, root, "fsck --dkmstree "+root+"/src")
	if code != 3 || out != "" || !strings.Contains(errw, "is no DKMS tree") {
		t.Errorf("%d %q %q", code, out, errw)
	}
}

func writeFile(dir, name, text string) error {
	return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/"+name, []byte(text), 0o644))
}
