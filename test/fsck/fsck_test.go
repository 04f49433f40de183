// SPDX-License-Identifier: Apache-2.0

// Package fsck_test damages trees that real builds have made, in twelve ways, and
// has fsck find it, repair it and find nothing more.
package fsck_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// world is a root with modules that are installed for the newer kernel: letters of one
// object, two of two objects, own, which takes the place of a kernel's object, and
// keep, which no damage is done to; one also for the older kernel. late is only added.
type world struct {
	*testing.T
	root     *lab.Root
	old, new string
	objects  string // of all modules, by kernel
}

const tree = "/var/lib/dkms"

func letters() []string { return strings.Split("abcdefgh", "") }

// installed makes the world and freezes it: each damage is done in a root over it.
func installed(t *testing.T) world {
	w := world{T: t, root: lab.BareScratch(t)}
	w.old, w.new = lab.Kernels(t)
	w.objects = compile(t, map[string][]string{
		w.old: {"one"},
		w.new: append(letters(), "one", "keep", "two_a", "two_b", "dummy", "late"),
	})
	for _, m := range append(letters(), "one", "keep") {
		w.source(m, m)
		w.must("add", m+"/1.0")
	}
	w.source("two", "two_a", "two_b")
	w.source("own", "dummy")
	w.must("add", "two/1.0")
	w.must("add", "own/1.0")
	w.must("autoinstall", "-k", w.new)
	w.must("install", "one/1.0", "-k", w.old)
	w.source("late", "late")
	w.must("add", "late/1.0")
	w.root.Freeze()
	return w
}

// over returns the world as it was, for one test.
func (w world) over(t *testing.T) world {
	w.T, w.root = t, lab.AptRootOver(t, w.root)
	return w
}

// compile makes objects for kernels, all of one at once, and returns the directory
// with a directory of them for each kernel.
func compile(t *testing.T, objects map[string][]string) string {
	root := lab.Scratch(t)
	for kernel, names := range objects {
		dir := root.Path("objects", kernel)
		for _, o := range names {
			write(t, filepath.Join(dir, o+".c"), "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\nMODULE_VERSION(\"1.0\");\n")
		}
		write(t, filepath.Join(dir, "Makefile"), "obj-m := "+strings.Join(names, ".o ")+".o\n")
		root.MustRun("make", "-j2", "-C", "/lib/modules/"+kernel+"/build", "M=/objects/"+kernel, "modules")
	}
	return root.Path("objects")
}

// source puts a module to the source tree that ships its objects.
func (w world) source(module string, names ...string) {
	dir := w.root.Path("usr/src", module+"-1.0")
	conf := fmt.Sprintf("PACKAGE_NAME=%s\nPACKAGE_VERSION=1.0\nAUTOINSTALL=yes\nMAKE[0]=\"cp $kernelver/*.ko .\"\n", module)
	for i, o := range names {
		conf += fmt.Sprintf("BUILT_MODULE_NAME[%d]=%s\nDEST_MODULE_LOCATION[%d]=/updates\n", i, o, i)
		for _, kernel := range []string{w.old, w.new} {
			data, err := os.ReadFile(filepath.Join(w.objects, kernel, o+".ko"))
			if err == nil {
				write(w, filepath.Join(dir, kernel, o+".ko"), string(data))
			} else if kernel == w.new {
				w.Fatal(err)
			}
		}
	}
	write(w, filepath.Join(dir, "dkms.conf"), conf)
	write(w, filepath.Join(dir, "Makefile"), "clean:\n")
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (w world) dkms(args ...string) lab.Result {
	w.Helper()
	return lab.Exec(w, lab.Binary(w), append([]string{"--root", w.root.Dir}, args...)...)
}

func (w world) must(args ...string) string {
	w.Helper()
	r := w.dkms(args...)
	if r.Code != 0 {
		w.Fatalf("dkms %q: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// do runs a shell script in the root's directory; K and K2 are the kernels.
func (w world) do(script string) {
	w.Helper()
	env := []string{"T=" + w.root.Path(tree), "R=" + w.root.Dir, "K=" + w.old, "K2=" + w.new, "I=" + w.root.Path("lib/modules", w.new, "updates/dkms")}
	lab.MustExec(w, "env", append(env, "sh", "-euc", script)...)
}

type report struct {
	Schema             string
	Findings, Repaired []struct {
		Check, Severity, Where, What string
		Next                         []string
	}
	Aside string
}

// fsck runs it and wants an exit code; it returns what JSON says.
func (w world) fsck(code int, args ...string) report {
	w.Helper()
	res := w.dkms(append([]string{"fsck", "--json"}, args...)...)
	if res.Code != code {
		w.Fatalf("fsck %q: exit code %d, want %d\n%s%s", args, res.Code, code, res.Stdout, res.Stderr)
	}
	var r report
	if err := json.Unmarshal([]byte(res.Stdout), &r); err != nil || r.Schema != "dkms-fsck/1" {
		w.Fatalf("fsck %q: %v\n%s", args, err, res.Stdout)
	}
	lab.CheckJSON(w, res.Stdout)
	return r
}

// checks lists the checks of findings, each once.
func (r report) checks() []string {
	var list []string
	for _, f := range r.Findings {
		list = append(list, f.Check)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// clean wants the repair, nothing left but notes, and a tree that works.
func (w world) clean() report {
	w.Helper()
	r := w.fsck(0, "--repair")
	if len(r.Repaired) == 0 {
		w.Error("nothing was repaired")
	}
	for _, f := range w.fsck(0).Findings {
		if f.Severity != "note" {
			w.Errorf("found again: %+v", f)
		}
	}
	return r
}

// wants compares what status says of a module with lines that stand for it.
func (w world) wants(module string, lines ...string) {
	w.Helper()
	got := w.must("status", module)
	want := ""
	for _, l := range lines {
		want += module + "/1.0" + l + "\n"
	}
	if got != want {
		w.Errorf("status of %s is\n%swant\n%s", module, got, want)
	}
}

func (w world) is(kernel, state string) string { return ", " + kernel + ", x86_64: " + state }

// sum returns the digest of a file of the root, "" if it is not there.
func (w world) sum(path string) string {
	if _, err := os.Stat(w.root.Path(path)); err != nil {
		return ""
	}
	return strings.Fields(lab.MustExec(w, "sha256sum", w.root.Path(path)).Stdout)[0]
}

func (w world) object(name string) string {
	return filepath.Join("lib/modules", w.new, "updates/dkms", name+".ko.xz")
}

// damage is one way to damage a tree.
type damage struct {
	name  string
	how   string
	code  int
	found []string
	// after looks at what the repair has made of it.
	after func(w world)
}

func damages() []damage {
	keeps := func(module string) func(world) {
		return func(w world) {
			w.wants(module, w.is(w.new, "installed"))
			w.must("verify", module)
			w.must("remove", module+"/1.0", "--all")
		}
	}
	return []damage{
		{"source gone", `rm -r $R/usr/src/two-1.0`, 28, []string{"source"}, func(w world) {
			w.wants("two", w.is(w.new, "installed"))
			w.must("verify", "two")
			w.must("remove", "two/1.0", "--all")
			if w.sum(w.object("two_a")) != "" {
				w.Error("the object is still there")
			}
		}},
		{"source link gone", `rm $T/two/1.0/source`, 28, []string{"source"}, keeps("two")},
		{"unreadable conf", `printf 'MAKE[0]="make\n(((' >$R/usr/src/two-1.0/dkms.conf`, 28, []string{"conf"}, func(w world) {
			w.wants("two", w.is(w.new, "installed"))
			w.source("two", "two_a", "two_b")
			w.must("add", "two/1.0")
			w.must("build", "two/1.0", "-k", w.new, "--force")
		}},
		{"empty conf", `: >$R/usr/src/two-1.0/dkms.conf`, 28, []string{"conf"}, keeps("two")},
		{"dangling link", `rm -r $T/two/1.0/$K2`, 28, []string{"link"}, keeps("two")},
		{"dangling link and no object", `rm -r $T/own/1.0/$K2 $I/dummy.ko.xz`, 28, []string{"link"}, func(w world) {
			w.wants("own", ": added")
			if w.sum(filepath.Join("lib/modules", w.new, "kernel/drivers/net/dummy.ko.xz"))+w.sum(filepath.Join("lib/modules", w.new, "kernel/drivers/net/dummy.ko")) == "" {
				w.Error("the kernel's own object is not back")
			}
			w.must("install", "own/1.0", "-k", w.new)
		}},
		{"result without objects", `rm -r $T/two/1.0/$K2/x86_64/module`, 28, []string{"link", "result"}, keeps("two")},
		{"result lacks an object", `rm $T/two/1.0/$K2/x86_64/module/two_b*`, 28, []string{"result"}, keeps("two")},
		{"object without result", `rm -r $T/two`, 27, []string{"object"}, keeps("two")},
		{"object of nobody's kernel", `cp $R/lib/modules/$K/updates/dkms/one.ko* $I/stray.ko; ls $I`, 27, []string{"object"}, func(w world) {
			if w.sum(filepath.Join("lib/modules", w.new, "updates/dkms/stray.ko")) != "" {
				w.Error("the object is still there")
			}
		}},
		{"altered installed file", `cp $I/two_a.ko.xz $I/two_b.ko.xz`, 28, []string{"installed"}, keeps("two")},
		{"cut installed file", `truncate -s 100 $I/two_b.ko.xz`, 28, []string{"installed"}, keeps("two")},
		{"installed file gone", `rm $I/two_b.ko.xz`, 28, []string{"installed"}, keeps("two")},
		{"missing original", `rm $T/own/original_module/$K2/x86_64/dummy.ko*[!n]`, 27, []string{"original"}, keeps("own")},
		{"half-removed kernel", `rm -r $R/lib/modules/$K/build $R/lib/modules/$K/source`, 27, []string{"kernel"}, func(w world) {
			w.wants("one", w.is(w.new, "installed"))
			if _, err := os.Stat(w.root.Path("lib/modules", w.old)); err == nil {
				w.Error("the kernel's directory is still there")
			}
		}},
		{"foreign file", `echo notes >$T/two/notes; mkdir -p $T/backup/x; echo x >$T/backup/x/y; echo z >$T/two/1.0/$K2/x86_64/module/z`, 27, []string{"foreign"}, keeps("two")},
		{"wrong owner", `chown -R 1234:1234 $T/two; chmod 777 $T/one`, 27, []string{"owner"}, func(w world) {
			keeps("two")(w)
			if got := lab.MustExec(w, "find", w.root.Path(tree), "-path", "*/build", "-prune", "-o", "(", "!", "-user", "0", "-o", "-perm", "/022", "!", "-type", "l", ")", "-print").Stdout; got != "" {
				w.Error(got)
			}
		}},
		{"stale lock", `echo "process 99999999 (dkms)" >$T/.lock; mkdir $T/.journal; echo x >$T/.journal/1.prepare`, 27, []string{"lock", "unfinished"}, keeps("two")},
		{"a directory as lock", `mkdir $T/.lock`, 27, []string{"lock"}, keeps("two")},
		{"damaged journal", `mkdir $T/.journal; echo '[{' >$T/.journal/1.commit`, 28, []string{"journal"}, keeps("two")},
		{"a pipe as build.json", `rm $T/two/1.0/$K2/x86_64/build.json; mkfifo $T/two/1.0/$K2/x86_64/build.json`, 27, []string{"foreign"}, keeps("two")},
		{"empty build.json", `echo {} >$T/two/1.0/$K2/x86_64/build.json`, 27, []string{"record"}, keeps("two")},
		{"truncated build.json", `truncate -s 100 $T/two/1.0/$K2/x86_64/build.json`, 27, []string{"record"}, keeps("two")},
	}
}

// TestFsck damages one world in many ways.
func TestFsck(t *testing.T) {
	w := installed(t)
	t.Run("sound", func(t *testing.T) {
		w := w.over(t)
		before := w.snapshot()
		if r := w.fsck(0); len(r.Findings) > 0 {
			t.Errorf("%+v", r.Findings)
		}
		w.fsck(0, "--repair")
		if after := w.snapshot(); after != before {
			t.Errorf("something was changed:\n%s\n%s", before, after)
		}
	})
	t.Run("all at once", func(t *testing.T) { testAllAtOnce(t, w) })
	t.Run("others", func(t *testing.T) { testOthers(t, w) })
	if os.Getenv("CI") == "true" {
		return // whose time is short; all at once has each kind
	}
	t.Run("people", func(t *testing.T) { testPeople(t, w) })
	for _, d := range damages() {
		t.Run(d.name, func(t *testing.T) { testDamage(t, w.over(t), d) })
	}
}

// testDamage does one damage.
func testDamage(t *testing.T, w world, d damage) {
	keep := w.sum(w.object("keep"))
	w.do(d.how)
	before := w.snapshot()
	r := w.fsck(d.code)
	if !slices.Equal(r.checks(), d.found) {
		t.Errorf("found %q, want %q: %+v", r.checks(), d.found, r.Findings)
	}
	w.fsck(d.code, "--repair", "--dry-run")
	if after := w.snapshot(); after != before {
		t.Errorf("a check has changed something:\n%s\n%s", before, after)
	}
	for _, f := range w.clean().Repaired {
		t.Logf("%s: %s: %s %q", f.Check, f.Where, f.What, f.Next)
	}
	d.after(w)
	w.wants("keep", w.is(w.new, "installed"))
	if w.sum(w.object("keep")) != keep {
		t.Error("a sound object was changed")
	}
}

// allAtOnce does damage of all twelve kinds.
const allAtOnce = `
rm -r $R/usr/src/a-1.0
printf 'MAKE[0]="make' >$R/usr/src/b-1.0/dkms.conf
rm -r $T/c/1.0/$K2
rm -r $T/d/1.0/$K2/x86_64/module
rm -r $T/e
truncate -s 100 $I/f.ko.xz
rm $T/own/original_module/$K2/x86_64/dummy.ko*[!n]
rm -r $R/lib/modules/$K/build $R/lib/modules/$K/source
echo notes >$T/notes
chown -R 1234:1234 $T/g
touch $T/.lock
truncate -s 100 $T/h/1.0/$K2/x86_64/build.json`

// testOthers has damage of all kinds, none of which stops the commands for modules
// that are sound.
func testOthers(t *testing.T, base world) {
	w := base.over(t)
	w.do(allAtOnce)
	if got := w.dkms("status"); got.Code != 0 || !strings.Contains(got.Stdout, "keep/1.0"+w.is(w.new, "installed")+"\n") {
		t.Errorf("status: %+v", got)
	}
	w.must("status", "keep")
	got := w.dkms("autoinstall", "-k", w.new)
	t.Logf("autoinstall: exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	w.wants("late", w.is(w.new, "installed"))
	w.must("remove", "keep/1.0", "--all")
	w.must("remove", "f/1.0", "--all")
}

// testAllAtOnce has damage of all kinds: all is found, and repaired in one run.
func testAllAtOnce(t *testing.T, base world) {
	w := base.over(t)
	before := map[string]string{}
	for _, m := range append(letters(), "keep", "one", "dummy", "two_a") {
		before[m] = w.sum(w.object(m))
	}
	w.do(allAtOnce)
	r := w.fsck(28)
	want := []string{"conf", "foreign", "installed", "kernel", "link", "lock", "object", "original", "owner", "record", "result", "source"}
	if !slices.Equal(r.checks(), want) {
		t.Errorf("found %q, want %q", r.checks(), want)
	}
	r = w.clean()
	if _, err := os.Stat(w.root.Path(r.Aside, tree, "notes")); err != nil {
		t.Error(err)
	}
	for m, sum := range before {
		if got := w.sum(w.object(m)); got != sum || sum == "" {
			t.Errorf("the installed object %s was %q and is %q", m, sum, got)
		}
	}
	for _, m := range append(letters(), "keep", "one", "own", "two") {
		got := w.must("status", m)
		if !strings.HasPrefix(got, m+"/1.0"+w.is(w.new, "installed")) || strings.Contains(got, w.old) {
			t.Errorf("status of %s is %s", m, got)
		}
	}
	w.must("verify")
}

// testPeople has what only people can repair, and who may not write or read.
func testPeople(t *testing.T, base world) {
	w := base.over(t)
	dkms := "$ dkms --root " + w.root.Path() + " "
	w.do(`rm $T/two/1.0/$K2/x86_64/module/two_b* $I/two_b.ko*`)
	if r := w.fsck(28, "--repair"); len(r.Repaired) > 0 || !strings.Contains(strings.Join(r.Findings[0].Next, " "), dkms+"build two/1.0 -k "+w.new+" --force "+dkms+"install two/1.0 -k "+w.new) {
		t.Errorf("%+v", r)
	}
	if w.sum(w.object("two_a")) == "" {
		t.Error("the object that is left is gone")
	}
	w.must("build", "two/1.0", "-k", w.new, "--force")
	w.must("install", "two/1.0", "-k", w.new)
	w.fsck(0)

	w.do(`mkdir -p $R/keep && mv $T/one $T/one.away; mv $T/one.away $R/keep/one; mv $R/usr/src/one-1.0 $R/keep`)
	r := w.fsck(27, "--repair") // two kernels load objects of which nothing is known
	if len(r.Findings) != 2 || w.sum(w.object("one")) == "" {
		t.Errorf("%+v", r.Findings)
	}
	w.do(`mv $R/keep/one $T; mv $R/keep/one-1.0 $R/usr/src; chmod 700 $T/two`)
	w.fsck(0)

	// Nobody may read some of it, and changes nothing.
	w.do(`chmod 755 $R $R/.. $R/../.. 2>/dev/null || :`)
	nobody := lab.Exec(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", lab.Binary(t), "fsck",
		"--dkmstree", w.root.Path(tree), "--sourcetree", w.root.Path("usr/src"), "--installtree", w.root.Path("lib/modules"))
	// Links of the root lead nowhere from outside: sources are told of as gone.
	if nobody.Code != 28 || !strings.Contains(nobody.Stdout, "note: "+w.root.Path(tree, "two")) {
		t.Errorf("%+v", nobody)
	}
}

// snapshot is all that is below the tree and the kernels' directories.
func (w world) snapshot() string {
	return lab.MustExec(w, "find", w.root.Path(tree), w.root.Path("lib/modules", w.new), w.root.Path("lib/modules", w.old), "-printf", "%p %m %U %s %T@ %l\n").Stdout
}
