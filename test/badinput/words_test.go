// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// entry is a file of a hostile archive.
type entry struct {
	name, link, body string
	kind             byte
}

func (w *world) archive(name string, entries ...entry) {
	w.t.Helper()
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: 0o644, Size: int64(len(e.body))}
		if err := t.WriteHeader(h); err != nil {
			w.t.Fatal(err)
		}
		if _, err := t.Write([]byte(e.body)); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := t.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.write(name, b.String())
}

// An archive that would write, or lead, out of its own directory is refused as
// a whole, whichever verb brings it in.
func TestArchiveRefused(t *testing.T) {
	good := entry{name: "evil-1.0/dkms.conf", body: conf("evil", "1.0", "evil")}
	bundle := []entry{
		{name: "dkms_main_tree/", kind: tar.TypeDir}, {name: "dkms_source_tree/dkms.conf", body: conf("evil", "1.0", "evil")},
		{name: "dkms_source_tree/evil.c", body: source("1.0", 0)},
	}
	for name, c := range map[string]struct {
		entries []entry
		code    int
	}{
		"..":               {[]entry{good, {name: "../../../../usr/src/x", body: "x"}}, 7},
		".. inside":        {[]entry{good, {name: "evil-1.0/../../x", body: "x"}}, 7},
		"absolute":         {[]entry{good, {name: "/etc/x", body: "x"}}, 7},
		"absolute link":    {[]entry{good, {name: "evil-1.0/x", link: "/etc/passwd", kind: tar.TypeSymlink}}, 7},
		"link out":         {[]entry{good, {name: "evil-1.0/x", link: "../../etc", kind: tar.TypeSymlink}}, 7},
		"through a link":   {[]entry{good, {name: "x", link: "/etc", kind: tar.TypeSymlink}, {name: "x/y", body: "y"}}, 7},
		"hard link":        {[]entry{good, {name: "x", link: "/etc/passwd", kind: tar.TypeLink}}, 7},
		"character device": {[]entry{good, {name: "x", kind: tar.TypeChar}}, 7},
		"block device":     {[]entry{good, {name: "x", kind: tar.TypeBlock}}, 7},
		"pipe":             {[]entry{good, {name: "x", kind: tar.TypeFifo}}, 7},
		"no conf":          {[]entry{{name: "x/y", body: "y"}}, 3},
		"bad kernel":       {append(bundle, entry{name: "dkms_main_tree/../../x/x86_64/module/evil.ko", body: "x"}), 7},
		"bad name":         {[]entry{{name: "x/dkms.conf", body: conf("../evil", "1.0", "evil")}}, 8},
		"bad version":      {[]entry{{name: "x/dkms.conf", body: conf("evil", "../1.0", "evil")}}, 8},
		"bad conf":         {[]entry{{name: "x/dkms.conf", body: "PACKAGE_NAME=\"x\nif\n"}}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.archive("evil.tar", c.entries...)
			for _, args := range [][]string{{"ldtarball", "/evil.tar"}, {"add", "/evil.tar"}, {"install", "/evil.tar", "-k", release}} {
				w.refused(c.code, nil, args...)
			}
		})
	}
	for _, c := range []refusal{
		{"missing", nil, []string{"ldtarball", "/none.tar.gz"}, 2, []string{"/none.tar.gz"}},
		{"not an archive", func(w *world) { w.write("x.tar.gz", "hello") }, []string{"ldtarball", "/x.tar.gz"}, 7, []string{"/x.tar.gz"}},
		{"cut short", func(w *world) {
			archived(w)
			data, err := os.ReadFile(w.path("out/hello.tar.gz"))
			if err != nil {
				w.t.Fatal(err)
			}
			w.write("x.tar.gz", string(data[:len(data)/2]))
		}, []string{"ldtarball", "/x.tar.gz"}, 7, []string{"/x.tar.gz"}},
		{"added already", func(w *world) { archived(w); added(w) }, []string{"ldtarball", "/out/hello.tar.gz"}, 8, []string{"hello/1.0"}},
	} {
		c.test(t)
	}
}

// A misspelt directive is no error, since a conf may have variables of its
// own; it is pointed out.
func TestUnknownDirective(t *testing.T) {
	w := newWorld(t)
	w.module("hello", "1.0", "hello")
	confOf(conf("hello", "1.0", "hello") + "BUILD_EXCLUSIV_KERNEL=\"^6\"\nmy_own=1\n")(w)
	r := w.must("add", "hello/1.0")
	want := "Warning: /usr/src/hello-1.0/dkms.conf:6: BUILD_EXCLUSIV_KERNEL is not a directive of dkms.conf, did you mean BUILD_EXCLUSIVE_KERNEL?\n"
	if r.Stderr != want {
		t.Errorf("stderr %q, want %q", r.Stderr, want)
	}
}

// A conf that has become malformed must not keep its module from being removed.
func TestRemoveWithMalformedConf(t *testing.T) {
	for name, setup := range map[string]func(w *world){"added": added, "built": built, "installed": installed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.module("hello", "1.0", "hello")
			before := snapshot(t, w.path("lib/modules"))
			setup(w)
			confOf(conf("hello", "1.0", "hello") + "fi\n")(w)
			w.must("remove", "hello/1.0", "--all")
			if diff := changes(before, snapshot(t, w.path("lib/modules"))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An excluded module is a warning, exit code 77.
func TestExcluded(t *testing.T) {
	w := newWorld(t)
	w.module("hello", "1.0", "hello")
	confOf(conf("hello", "1.0", "hello") + "BUILD_EXCLUSIVE_KERNEL=\"^7\"\n")(w)
	added(w)
	before := snapshot(t, w.dir)
	for _, verb := range []string{"build", "install"} {
		r := w.dkms(verb, "hello/1.0", "-k", release)
		if r.Code != 77 || r.Stdout != "" || strings.Count(r.Stderr, "Warning: ") != 1 || !strings.Contains(r.Stderr, "BUILD_EXCLUSIVE_KERNEL") {
			t.Errorf("%s: exit code %d\nstdout:\n%sstderr:\n%s", verb, r.Code, r.Stdout, r.Stderr)
		}
	}
	if diff := changes(before, snapshot(t, w.dir)); diff != "" {
		t.Error(diff)
	}
}

// A compiler that isn't there is named with the package that has it.
func TestMissingCompiler(t *testing.T) {
	for _, c := range []struct{ name, config, variables, words string }{
		{"by the configuration", "CONFIG_CC_VERSION_TEXT=\"gcc-99 (Debian 99.1) 99.1\"\n", "", "gcc-99"},
		{"by .kernelvariables", "CONFIG_MODULES=y\n", "CC = gcc-99\n", "gcc-99"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.module("hello", "1.0", "hello")
			tree := "lib/modules/" + release + "/build/"
			w.write(tree+".config", c.config)
			if c.variables != "" {
				w.write(tree+".kernelvariables", c.variables)
			} else {
				w.write(tree+"Makefile", "CC := gcc-99\n"+kbuild)
			}
			added(w)
			before := snapshot(t, w.path("lib/modules"))
			r := w.dkms("build", "hello/1.0", "-k", release)
			w.complains(r, 10, []string{c.words, "apt-get install gcc-99"})
			if diff := changes(before, snapshot(t, w.path("lib/modules"))); diff != "" {
				t.Error(diff)
			}
			if got := w.must("status").Stdout; got != "hello/1.0: added\n" {
				t.Errorf("status is %q", got)
			}
		})
	}
}

// Two versions and two modules with the same object: only one is installed,
// the other is refused, kept or put back as it should.
func TestSameObject(t *testing.T) {
	w := newWorld(t)
	w.module("hello", "1.0", "hello")
	w.module("hello", "2.0", "hello")
	w.module("other", "3.0", "hello")
	w.must("install", "hello/2.0", "-k", release)
	w.must("build", "hello/1.0", "-k", release)

	before := snapshot(t, w.dir)
	r := w.dkms("install", "hello/1.0", "-k", release)
	w.complains(r, 6, []string{`"1.0"`, `"2.0"`})
	if r.Stdout != "" {
		t.Errorf("stdout:\n%s", r.Stdout)
	}
	if diff := changes(before, snapshot(t, w.dir)); diff != "" {
		t.Errorf("a refused install changed files:\n%s", diff)
	}
	w.consistent()

	w.must("install", "other/3.0", "-k", release)
	want := "hello/1.0, " + release + ", x86_64: built\n" +
		"hello/2.0, " + release + ", x86_64: installed (Differences between built and installed modules)\n" +
		"other/3.0, " + release + ", x86_64: installed (Original modules exist)\n"
	if got := w.must("status").Stdout; got != want {
		t.Errorf("status is\n%swant\n%s", got, want)
	}
	w.consistent()
	w.must("remove", "other/3.0", "--all")
	if diff := changes(before, without(snapshot(t, w.dir), "var/lib/dkms/.log/other")); diff != "" {
		t.Errorf("files differ after other/3.0 has gone:\n%s", diff)
	}
}

// without leaves names with the prefix out.
func without(files map[string]string, prefix string) map[string]string {
	for name := range files {
		if strings.HasPrefix(name, prefix) {
			delete(files, name)
		}
	}
	return files
}

// A reader that doesn't read on is no error.
func TestClosedPipe(t *testing.T) {
	w := newWorld(t)
	for _, n := range strings.Split("a b c d e f g h i j", " ") {
		w.module(n, "1.0", n)
		w.must("add", n+"/1.0")
	}
	line := `set -o pipefail; "$@" | true; echo "${PIPESTATUS[0]}"`
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"list"}, {"list", "--json"}, {"config", "a/1.0", "-k", release}, {"--help"}, {"--version"}} {
		for _, private := range []bool{false, args[0] != "config"} {
			words := []string{"-c", line, "bash", lab.Binary(t)}
			if private {
				words = append(words, "--dkmstree", w.path("var/lib/dkms"), "--sourcetree", w.path("usr/src"), "--installtree", w.path("lib/modules"))
			} else {
				words = append(words, "--root", w.dir)
			}
			cmd := exec.Command("bash", append(words, args...)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			if code := strings.TrimSpace(stdout.String()); code != "0" && code != "141" || stderr.Len() > 0 {
				t.Errorf("%q into a closed pipe: exit code %s\n%s", args, code, &stderr)
			}
		}
	}
}

// What programs read is on stdout, alone.
func TestDataOnStdout(t *testing.T) {
	w := newWorld(t)
	w.module("hello", "1.0", "hello")
	w.module("gone", "1.0", "gone")
	w.must("add", "gone/1.0")
	built(w)
	if err := os.RemoveAll(w.path("usr/src/gone-1.0")); err != nil {
		t.Fatal(err)
	}
	r := w.must("status")
	want := "gone/1.0: broken\nhello/1.0, " + release + ", x86_64: built\n"
	if r.Stdout != want || !strings.Contains(r.Stderr, "Error! ") {
		t.Errorf("status: stdout %q, want %q; stderr %q", r.Stdout, want, r.Stderr)
	}
	for _, args := range [][]string{
		{"status", "-m", "hello"}, {"status", "none"}, {"status", "--json"}, {"list"}, {"list", "--json"},
		{"config", "hello/1.0", "-k", release}, {"config", "hello/1.0", "-k", release, "--json"},
		{"install", "hello/1.0", "-k", release}, {"uninstall", "hello/1.0", "-k", release}, {"unbuild", "hello/1.0", "-k", release},
		{"mktarball", "hello/1.0", "--source-only", "-k", release}, {"remove", "hello/1.0", "--all"}, {"--help"}, {"build", "--help"}, {"--version"},
	} {
		if r := w.must(args...); r.Stderr != "" && args[len(args)-1] != "--json" {
			t.Errorf("%q: stderr:\n%s", args, r.Stderr)
		}
	}
}

// On a machine without compiler, or without make, the package to install is
// named for the kernel at hand, and nothing is built.
func TestNoTools(t *testing.T) {
	older, newer := lab.Kernels(t)
	root := lab.Scratch(t)
	root.AddBinary()
	for name, text := range map[string]string{
		"dkms.conf": conf("hello", "1.0", "hello"), "Makefile": "obj-m := hello.o\n",
		"hello.c": "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n",
	} {
		path := root.Path("usr/src/hello-1.0", name)
		if err := os.MkdirAll(root.Path("usr/src/hello-1.0"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root.MustRun("dkms", "add", "hello/1.0")
	for _, c := range []struct{ glob, words string }{
		{"usr/bin/*gcc*", "apt-get install gcc-12"},
		{"usr/bin/make", "apt-get install make"},
	} {
		lab.MustExec(t, "sh", "-c", `rm -f "$1"/`+c.glob+` "$1"/usr/bin/cc "$1"/usr/bin/*clang*`, "rm", root.Dir)
		for _, kernel := range []string{older, newer} {
			w := &world{t, root.Dir}
			w.complains(root.Run("dkms", "build", "hello/1.0", "-k", kernel), 10, []string{c.words})
			if got := root.MustRun("dkms", "status").Stdout; got != "hello/1.0: added\n" {
				t.Errorf("status is %q", got)
			}
		}
	}
}

// What only root may do is refused to others; they may look.
func TestNotRoot(t *testing.T) {
	w := newWorld(t)
	w.module("hello", "1.0", "hello")
	w.module("fresh", "1.0", "fresh")
	added(w)
	for dir := w.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The link leads into the root, seen from inside.
	if err := os.Remove(w.path("var/lib/dkms/hello/1.0/source")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(w.path("usr/src/hello-1.0"), w.path("var/lib/dkms/hello/1.0/source")); err != nil {
		t.Fatal(err)
	}
	binary := w.path("dkms")
	lab.MustExec(t, "install", "-m", "755", lab.Binary(t), binary)
	nobody := func(args ...string) lab.Result {
		words := []string{"--reuid=65534", "--regid=65534", "--clear-groups", binary,
			"--dkmstree", w.path("var/lib/dkms"), "--sourcetree", w.path("usr/src"), "--installtree", w.path("lib/modules")}
		return lab.Exec(t, "setpriv", append(words, args...)...)
	}
	before := snapshot(t, w.dir)
	if r := nobody("status"); r.Code != 0 || r.Stdout != "hello/1.0: added\n" || r.Stderr != "" {
		t.Errorf("status: %+v", r)
	}
	for _, args := range [][]string{
		{"add", "fresh/1.0"}, {"build", "hello/1.0", "-k", release}, {"install", "hello/1.0", "-k", release}, {"uninstall", "hello/1.0", "-k", release},
		{"unbuild", "hello/1.0", "-k", release}, {"remove", "hello/1.0", "--all"}, {"autoinstall", "-k", release},
		{"kernel_postinst", "-k", release}, {"kernel_prerm", "-k", release}, {"match", "--templatekernel", "x", "-k", release},
	} {
		w.complains(nobody(args...), 1, nil)
	}
	if diff := changes(before, snapshot(t, w.dir)); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
}
