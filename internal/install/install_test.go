// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/conf"
	"dkms-go/internal/host"
	"dkms-go/internal/ko"
	"dkms-go/internal/state"
)

const kernel = "6.1.0-test"

// object compiles a real object with the given facts in its .modinfo section
// and returns its bytes.
func compiled(t *testing.T, facts ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	text := ""
	for i, f := range facts {
		text += fmt.Sprintf("static const char i%d[] __attribute__((section(\".modinfo\"), used)) = %q;\n", i, f)
	}
	put(t, dir+"/a.c", text+"int a;\n")
	if out, err := exec.Command("gcc", "-c", "-o", dir+"/a.ko", dir+"/a.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(dir + "/a.ko")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// place is a machine in a directory, with module m/1 built for one kernel.
type place struct {
	t    *testing.T
	root string
	Job
	out, errw bytes.Buffer
}

func newPlace(t *testing.T, names ...string) *place {
	t.Helper()
	p := &place{t: t, root: t.TempDir()}
	var objects []conf.Object
	for i, n := range names {
		objects = append(objects, conf.Object{Index: i, Built: n, Dest: n, DestDir: "/kernel/drivers"})
	}
	p.Job = Job{
		Key:   state.Key{ID: state.ID{Module: "m", Version: "1"}, Kernel: kernel, Arch: "x"},
		Tree:  state.Tree{Dir: p.root + "/tree", Sources: p.root + "/src"},
		Paths: host.Paths{InstallTree: p.root + "/lib/modules", ConfDir: p.root + "/etc", Temp: t.TempDir(), Boot: p.root + "/boot"},
		Conf:  &conf.Module{Objects: objects},
		Dir:   func(string) string { return "updates/dkms" },
		Env:   os.Environ(), Out: &p.out, Err: &p.errw,
	}
	p.dir("tree/m/1")
	p.dir("src/m-1")
	p.dir("lib/modules/" + kernel)
	if err := os.Symlink(p.root+"/src/m-1", p.root+"/tree/m/1/source"); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		p.built("1", n+".ko", "object "+n)
	}
	return p
}

func (p *place) dir(name string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Join(p.root, name), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// built puts an object into the result of a version.
func (p *place) built(version, file, content string) {
	p.t.Helper()
	put(p.t, p.root+"/tree/m/"+version+"/"+kernel+"/x/module/"+file, content)
}

// has puts a file into the kernel's tree.
func (p *place) has(file, content string) {
	p.t.Helper()
	put(p.t, p.tree(file), content)
}

func (p *place) tree(file string) string { return p.root + "/lib/modules/" + kernel + "/" + file }

func (p *place) install() error {
	p.t.Helper()
	return p.Install(context.Background())
}

func (p *place) uninstall() {
	p.t.Helper()
	if err := p.Uninstall(context.Background()); err != nil {
		p.t.Fatal(err)
	}
}

// files lists files and links below the kernel's tree with their content.
func (p *place) files() map[string]string {
	p.t.Helper()
	all := map[string]string{}
	top := p.tree("")
	filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel := strings.TrimPrefix(path, top)
		if d.Type()&fs.ModeSymlink != 0 {
			to, _ := os.Readlink(path)
			all[rel] = "-> " + to
			return nil
		}
		text, _ := os.ReadFile(path)
		all[rel] = string(text)
		return nil
	})
	return all
}

// wants compares the kernel's tree with file=content pairs.
func (p *place) wants(pairs ...string) {
	p.t.Helper()
	want := map[string]string{}
	for _, pair := range pairs {
		f, c, _ := strings.Cut(pair, "=")
		want[f] = c
	}
	if got := p.files(); !maps.Equal(got, want) {
		p.t.Errorf("the kernel's tree has %q\nwant %q", got, want)
	}
}

func (p *place) active() string {
	v, _ := p.Tree.Active(p.Key)
	return v
}

func TestInstallAndUninstall(t *testing.T) {
	p := newPlace(t, "a", "b")
	p.Force = true // these objects are no ELF files
	if err := p.install(); err != nil {
		t.Fatal(err, p.errw.String())
	}
	p.wants("updates/dkms/a.ko=object a", "updates/dkms/b.ko=object b")
	if p.active() != "1" || !p.Tree.Installed(p.Key) {
		t.Error("not active")
	}
	if got := p.out.String(); got != "Installing "+p.tree("updates/dkms/a.ko")+"\nInstalling "+p.tree("updates/dkms/b.ko")+"\n" {
		t.Error(got)
	}
	if due := p.Tree.KernelsDue(); !slices.Equal(due, []string{kernel}) {
		t.Error("index due for", due)
	}
	if err := p.Tree.IndexDone(kernel); err != nil {
		t.Fatal(err)
	}
	p.uninstall()
	if due := p.Tree.KernelsDue(); !slices.Equal(due, []string{kernel}) {
		t.Error("index due for", due, "after uninstall")
	}
	if err := p.Tree.IndexDone(kernel); err != nil {
		t.Fatal(err)
	}
	p.NoIndex = true
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.uninstall()
	if due := p.Tree.KernelsDue(); due != nil {
		t.Error("index due although nobody will bring it up to date:", due)
	}
	p.wants()
	if p.active() != "" {
		t.Error("still active")
	}
	if left, _ := os.ReadDir(p.tree("")); len(left) > 0 {
		t.Error("empty directories stay:", left)
	}
}

func TestOriginals(t *testing.T) {
	cases := []struct{ name, original string }{
		{"same place", "updates/dkms/a.ko"},
		{"other compression there", "updates/dkms/a.ko.xz"},
		{"extra", "extra/a.ko"},
		{"updates", "updates/a.ko.zst"},
		{"in the kernel", "kernel/drivers/deep/a.ko.gz"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, "a")
			p.has(c.original, "the distribution's")
			p.has("kernel/other.ko", "other")
			p.Force = true
			if err := p.install(); err != nil {
				t.Fatal(err)
			}
			p.wants("updates/dkms/a.ko=object a", "kernel/other.ko=other")
			kept := filepath.Join(p.Tree.Originals(p.Key), filepath.Base(c.original))
			if text, _ := os.ReadFile(kept); string(text) != "the distribution's" {
				t.Errorf("kept %q", text)
			}
			if text, _ := os.ReadFile(kept + ".origin"); string(text) != p.tree(c.original)+"\n" {
				t.Errorf("origin %q", text)
			}
			p.uninstall()
			p.wants(c.original+"=the distribution's", "kernel/other.ko=other")
			if _, err := os.Stat(p.root + "/tree/m/original_module"); err == nil {
				t.Error("an empty directory of originals stays")
			}
		})
	}
}

// Of several the first counts, the others stay where they are.
func TestOneOriginalOfSeveral(t *testing.T) {
	p := newPlace(t, "a")
	p.has("extra/a.ko", "extra")
	p.has("kernel/a.ko", "kernel")
	p.Force = true
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.wants("updates/dkms/a.ko=object a", "kernel/a.ko=kernel")
	p.uninstall()
	p.wants("extra/a.ko=extra", "kernel/a.ko=kernel")
}

func TestOriginOutsideIsRefused(t *testing.T) {
	for _, origin := range []string{"/outside/a.ko", "/lib/modules/" + kernel + "/../../../a.ko", "/lib/modules/other/a.ko", ""} {
		p := newPlace(t, "a")
		p.has("extra/a.ko", "original")
		p.Force = true
		if err := p.install(); err != nil {
			t.Fatal(err)
		}
		kept := filepath.Join(p.Tree.Originals(p.Key), "a.ko")
		put(t, kept+".origin", p.root+origin+"\n")
		if origin == "" {
			put(t, kept+".origin", "")
		}
		p.uninstall()
		p.wants()
		if text, _ := os.ReadFile(kept); string(text) != "original" || !strings.Contains(p.errw.String(), "outside") {
			t.Errorf("%q: kept %q, said %s", origin, text, p.errw.String())
		}
	}
}

// Old programs left originals without their place; they go where the conf says.
func TestOriginalWithoutOrigin(t *testing.T) {
	p := newPlace(t, "a")
	p.Force = true
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(p.Tree.Originals(p.Key), "a.ko"), "old")
	p.uninstall()
	p.wants("kernel/drivers/a.ko=old")
}

func TestSymlinks(t *testing.T) {
	p := newPlace(t, "a")
	p.has("updates/dkms/a.ko", "original")
	p.Force, p.Symlink = true, true
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.wants("updates/dkms/a.ko=-> " + filepath.Join(p.Tree.Objects(p.Key), "a.ko"))
	p.uninstall()
	p.wants("updates/dkms/a.ko=original")
}

func TestNewVersionReplacesOldOne(t *testing.T) {
	p := newPlace(t, "a", "gone", "changed")
	p.Force = true
	p.has("kernel/a.ko", "original")
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.has("updates/dkms/changed.ko", "by hand")
	p.has("updates/dkms/foreign.ko", "foreign")
	p.Key.Version = "2"
	p.Conf.Objects = p.Conf.Objects[:1]
	p.built("2", "a.ko.xz", "new a")
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.wants("updates/dkms/a.ko.xz=new a", "updates/dkms/changed.ko=by hand", "updates/dkms/foreign.ko=foreign")
	if p.active() != "2" {
		t.Error(p.active())
	}
	p.uninstall()
	p.wants("kernel/a.ko=original", "updates/dkms/changed.ko=by hand", "updates/dkms/foreign.ko=foreign")
}

// A rebuilt result may be compressed in another way than the installed one.
func TestReplacedWithOtherCompression(t *testing.T) {
	p := newPlace(t, "a")
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.built("1", "a.ko.xz", "rebuilt")
	if err := os.Remove(p.Tree.Objects(p.Key) + "/a.ko"); err != nil {
		t.Fatal(err)
	}
	p.Replace = true
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.wants("updates/dkms/a.ko.xz=rebuilt")
}

func TestUninstallOfInactive(t *testing.T) {
	p := newPlace(t, "a")
	p.has("updates/dkms/a.ko", "object a")
	p.uninstall()
	p.wants("updates/dkms/a.ko=object a")
	if !strings.Contains(p.out.String(), "INACTIVE") {
		t.Error(p.out.String())
	}
}

// What lies there now is somebody else's: another version than ours.
func TestUninstallLeavesOthers(t *testing.T) {
	p := newPlace(t, "a", "b")
	ours, theirs := string(compiled(t, "version=1")), string(compiled(t, "version=2"))
	p.built("1", "a.ko", ours)
	p.built("1", "b.ko", ours)
	if err := p.install(); err != nil {
		t.Fatal(err, p.errw.String())
	}
	p.has("updates/dkms/a.ko", theirs)
	if err := os.Remove(p.tree("updates/dkms/b.ko")); err != nil {
		t.Fatal(err)
	}
	p.uninstall()
	p.wants("updates/dkms/a.ko=" + theirs)
	for _, name := range []string{"a", "b"} {
		if !strings.Contains(p.out.String(), "Module "+name+".ko was not found within "+p.tree("")+"\n") {
			t.Error(p.out.String())
		}
	}
}

// An object placed where the conf says, by a distribution that follows it, is
// found as well.
func TestUninstallFindsConfsPlace(t *testing.T) {
	p := newPlace(t, "a")
	p.Dir = func(location string) string { return location }
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.wants("kernel/drivers/a.ko=object a")
	p.Dir = func(string) string { return "extra" }
	p.uninstall()
	p.wants()
}

func TestRefusals(t *testing.T) {
	problem := func(err error) Problem {
		var f *Failure
		if !errors.As(err, &f) {
			t.Fatalf("error %v", err)
		}
		return f.Problem
	}
	p := newPlace(t, "a")
	p.Key.Kernel = "none"
	if got := problem(p.install()); got != NoKernelTree {
		t.Error(got)
	}
	p = newPlace(t, "a", "b")
	if err := os.Remove(p.Tree.Objects(p.Key) + "/b.ko"); err != nil {
		t.Fatal(err)
	}
	if got := problem(p.install()); got != ObjectMissing {
		t.Error(got)
	}
	p.wants()
	p = newPlace(t, "a")
	p.Conf.PreInstall = "pre"
	put(t, p.root+"/src/m-1/pre", "#!/bin/sh\nexit 3\n")
	if err := os.Chmod(p.root+"/src/m-1/pre", 0o755); err != nil {
		t.Fatal(err)
	}
	if got := problem(p.install()); got != PreInstallFailed {
		t.Error(got)
	}
	p.wants()
	p.Force = true
	if err := p.install(); err != nil {
		t.Error(err)
	}
	p = newPlace(t, "a")
	p.dir("lib/modules/" + kernel + "/updates/dkms/a.ko")
	if got := problem(p.install()); got != PlacingFailed {
		t.Error(got)
	}
	if p.active() != "" {
		t.Error("half an install")
	}
}

func TestVersionRules(t *testing.T) {
	obj := func(facts ...string) string { return string(compiled(t, facts...)) }
	cases := []struct {
		name         string
		theirs, ours string
		change       func(*Job)
		ok           bool
		says         string
	}{
		{name: "newer", theirs: obj("version=1.9"), ours: obj("version=1.10"), ok: true},
		{name: "older", theirs: obj("version=2"), ours: obj("version=1"), says: "not newer"},
		{name: "older, forced", theirs: obj("version=2"), ours: obj("version=1"), change: func(j *Job) { j.Force = true }, ok: true},
		{name: "older, version forced", theirs: obj("version=2"), ours: obj("version=1"), change: func(j *Job) { j.ForceVersion = true }, ok: true},
		{name: "older, replaced", theirs: obj("version=2"), ours: obj("version=1"), change: func(j *Job) { j.Replace = true }, ok: true},
		{name: "same", theirs: obj("version=1", "srcversion=A"), ours: obj("version=1", "srcversion=A", "x=y"), says: "already there"},
		{name: "same of other source", theirs: obj("version=1", "srcversion=A"), ours: obj("version=1", "srcversion=B"), ok: true},
		{name: "no versions, other bytes", theirs: obj("x=1"), ours: obj("x=2"), ok: true},
		{name: "no versions, same bytes", theirs: obj("x=1"), ours: obj("x=1"), says: "without a version"},
		{name: "only theirs", theirs: obj("version=1"), ours: obj("x=1"), says: "not newer"},
		{name: "only ours", theirs: obj("x=1"), ours: obj("version=1"), ok: true},
		{name: "words behind the version", theirs: obj("version=1 of today"), ours: obj("version=1 of today", "x=y"), says: "already there"},
		{name: "checksum in the version", theirs: obj("version=1 AAA"), ours: obj("version=1 BBB"), ok: true},
		{name: "no object", theirs: "text", ours: obj("version=1"), says: "reading"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, "a")
			p.built("1", "a.ko", c.ours)
			p.has("kernel/a.ko", c.theirs)
			if c.change != nil {
				c.change(&p.Job)
			}
			err := p.install()
			if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v", err)
			}
			if !c.ok {
				p.wants("kernel/a.ko=" + c.theirs)
			}
		})
	}
}

func TestObsolete(t *testing.T) {
	p := newPlace(t, "a")
	p.Conf.ObsoleteBy = "6.0"
	if err := p.install(); err == nil || !strings.Contains(err.Error(), "OBSOLETE_BY") {
		t.Error(err)
	}
	p.Conf.ObsoleteBy = "6.2"
	if err := p.install(); err != nil {
		t.Error(err)
	}
}

// One refused object doesn't keep the others out; it is told.
func TestSomeRefused(t *testing.T) {
	p := newPlace(t, "a", "b")
	p.built("1", "a.ko", string(compiled(t, "version=1")))
	p.has("kernel/a.ko", string(compiled(t, "version=2")))
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(p.files())); fmt.Sprint(got) != "[kernel/a.ko updates/dkms/b.ko]" || !strings.Contains(p.errw.String(), "Warning") {
		t.Error(got, p.errw.String())
	}
}

func TestModuleWithoutObjects(t *testing.T) {
	p := newPlace(t)
	p.dir("tree/m/1/" + kernel + "/x/module")
	if err := p.install(); err != nil || p.active() != "1" {
		t.Error(err, p.active())
	}
	p.wants()
	p.uninstall()
}

func TestHooks(t *testing.T) {
	p := newPlace(t, "a")
	p.Conf.PreInstall, p.Conf.PostInstall, p.Conf.PostRemove = "h pre", "h post", "h removed"
	put(t, p.root+"/src/m-1/h", "#!/bin/sh\necho \"$1 $(ls "+p.tree("updates/dkms")+" 2>/dev/null)\"\nexit $([ $1 = pre ]; echo $?)\n")
	if err := os.Chmod(p.root+"/src/m-1/h", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.uninstall()
	for _, want := range []string{"Running the pre_install script:\npre \n", "Running the post_install script:\npost a.ko\n", "Running the post_remove script:\nremoved \n"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, p.out.String())
		}
	}
	if strings.Count(p.errw.String(), "Warning: the post_") != 2 {
		t.Error(p.errw.String())
	}
}

// weak-modules is told once of all that was placed, and of all that was taken out.
func TestWeakModules(t *testing.T) {
	p := newPlace(t, "a", "b")
	tell := func() string {
		var out bytes.Buffer
		p.Weak.Tell(t.Context(), os.Environ(), &out, &out)
		return out.String()
	}
	p.Weak = &Weak{Add: []string{"sh", "-c", "sed 's/^/added: /'; exit 1"}, Remove: []string{"sed", "s/^/gone: /"}}
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	a, b := p.tree("updates/dkms/a.ko")+"\n", p.tree("updates/dkms/b.ko")+"\n"
	if got, want := tell(), "Adding linked weak modules...\nadded: "+a+"added: "+b+"Warning: telling weak-modules: "; !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := tell(); got != "" {
		t.Errorf("told twice: %q", got)
	}
	p.uninstall()
	if got, want := tell(), "Removing linked weak modules...\ngone: "+a+"gone: "+b; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	p.Conf.NoWeakModules = true
	if err := p.install(); err != nil {
		t.Fatal(err)
	}
	p.uninstall()
	if got := tell(); got != "" {
		t.Errorf("NO_WEAK_MODULES, and told: %q", got)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"a.ko.gz", "b.ko.bz2", "c.ko.zst", "c.ko"} {
		put(t, dir+"/"+f, "")
	}
	for name, want := range map[string]string{"a": "a.ko.gz", "b": "", "c": "c.ko", "d": ""} {
		path, ok := Find(dir, name)
		if ok != (want != "") || ok && filepath.Base(path) != want {
			t.Errorf("%s: %s", name, path)
		}
	}
}

func TestRefresh(t *testing.T) {
	p := newPlace(t, "a")
	ctx := context.Background()
	if ran, err := Refresh(ctx, p.Paths, kernel, os.Environ(), false); ran.Ran || err != nil {
		t.Error("depmod for a kernel without an image", ran, err)
	}
	xz, err := ko.Compress(compiled(t, "license=GPL", "alias=pci:v0001*"), ko.XZ)
	if err != nil {
		t.Fatal(err)
	}
	p.has("updates/dkms/a.ko.xz", string(xz))
	p.has("modules.dep", "stale")
	if ran, err := Refresh(ctx, p.Paths, kernel, os.Environ(), false); !ran.Ran || err != nil {
		t.Fatal(ran, err)
	}
	files := p.files()
	if files["modules.dep"] != "updates/dkms/a.ko.xz:\n" || !strings.Contains(files["modules.alias"], "alias pci:v0001* a") {
		t.Errorf("%q %q", files["modules.dep"], files["modules.alias"])
	}
	left, _ := os.ReadDir(p.Paths.Temp)
	if len(left) > 0 {
		t.Error("temporary files stay:", left)
	}
	if err := os.RemoveAll(p.tree("updates")); err != nil {
		t.Fatal(err)
	}
	if _, err := Refresh(ctx, p.Paths, kernel, os.Environ(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.tree("modules.dep")); err == nil {
		t.Error("the index of a removed kernel stays:", slices.Sorted(maps.Keys(p.files())))
	}
}

// depmod makes the index where dkms was told so, and where it is another one than
// those whose index dkms makes.
func TestRefreshByDepmod(t *testing.T) {
	real, err := exec.LookPath("depmod")
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	put(t, other+"/depmod", "#!/bin/sh\nif [ \"$1\" = --version ]; then echo kmod version 99; echo +XZ; else exec "+real+" \"$@\"; fi\n")
	if err := os.Chmod(other+"/depmod", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		told bool
		how  string
	}{
		{os.Getenv("PATH"), false, "module index made by dkms: 1 of 1 objects read"},
		{os.Getenv("PATH"), true, "depmod was run: framework.conf says so"},
		{other + ":" + os.Getenv("PATH"), false, "kmod 99 isn't one that was compared"},
	} {
		p := newPlace(t, "a")
		p.has("updates/dkms/a.ko", string(compiled(t, "license=GPL", "alias=pci:v0001*")))
		p.has("modules.dep", "stale")
		got, err := Refresh(t.Context(), p.Paths, kernel, append(os.Environ(), "PATH="+c.path), c.told)
		if err != nil || !got.Ran || !strings.Contains(got.How, c.how) {
			t.Errorf("%+v, %v; want %q", got, err, c.how)
		}
		if files := p.files(); !strings.Contains(files["modules.alias"], "alias pci:v0001* a") {
			t.Errorf("%q", files["modules.alias"])
		}
	}
}

func TestRefreshFails(t *testing.T) {
	p := newPlace(t, "a")
	p.has("modules.dep", "stale")
	bin := t.TempDir()
	put(t, bin+"/depmod", "#!/bin/sh\necho no good >&2\nexit 1\n")
	if err := os.Chmod(bin+"/depmod", 0o755); err != nil {
		t.Fatal(err)
	}
	ran, err := Refresh(context.Background(), p.Paths, kernel, append(os.Environ(), "PATH="+bin), false)
	if !ran.Ran || err == nil || !strings.Contains(err.Error(), kernel) {
		t.Error(ran, err)
	}
	p.wants("modules.dep=stale")
}
