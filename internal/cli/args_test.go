// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// show writes what a command line was understood as.
func (a *args) show() string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+value)
		}
	}
	add("action", a.action)
	add("module", a.module)
	add("version", a.version)
	add("kernels", strings.Join(a.kernels, ","))
	add("arches", strings.Join(a.arches, ","))
	add("tree", a.kernelTree)
	add("directives", strings.Join(a.directives, ","))
	add("conf", a.conf)
	add("config", a.kconfig)
	add("source", a.ksource)
	add("template", a.template)
	add("archive", a.archive)
	add("dir", a.sourceDir)
	add("dkmstree", a.dkmsTree)
	add("sourcetree", a.sourceTree)
	add("installtree", a.insTree)
	add("root", a.root)
	add("j", a.jobs)
	var set []string
	for _, name := range slices.Sorted(maps.Keys(a.set)) {
		if o, _, _, _ := find(name); o.Arg == "" {
			set = append(set, name)
		}
	}
	add("set", strings.Join(set, ","))
	add("old", strings.Join(a.old, ","))
	add("odd", strings.Join(a.odd, ","))
	add("stop", a.stop)
	return strings.Join(parts, " ")
}

func TestParse(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{"conf.d/dkms.conf": "", "empty/x": "", "my.tar.gz": "", "my-dkms.conf": ""} {
		d, _, _ := strings.Cut(name, "/")
		if d != name {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct{ line, want string }{
		{"", ""},
		{"status", "action=status"},
		{"m/1 status", "action=status module=m version=1"},
		{"build m/1/2", "action=build module=m version=1/2"},
		{"build -m m -v 1 -k K -a A", "action=build module=m version=1 kernels=K arches=A"},
		{"build --module=m/1 --kernelver=K/A -k L", "action=build module=m version=1 kernels=K,L arches=A"},
		{"build --module m --kernelver K --arch A", "action=build module=m kernels=K arches=A"},
		{"build --kernelverXYZ K --moduleX=m --archX A", "action=build module=m kernels=K arches=A"},
		{"build --archiveX f --archive=g", "action=build archive=g"},
		{"build --configX=c --kernelsourcedirs d --config=e", "action=build config=e source=d"},
		{"build --directive=A=b=c --directive D=e", "action=build directives=A=b=c,D=e"},
		{"match --templatekernel=T", "action=match template=T"},
		{"build -c my.conf -j 4", "action=build conf=my.conf j=4"},
		{"build --dkmstree d --sourcetree=s --installtree i --root r", "action=build dkmstree=d sourcetree=s installtree=i root=r"},
		{"build m -m n", "action=build module=n"},
		{"build -m n m", "action=build module=n odd=m"},
		{"build m n o", "action=build module=m odd=n,o"},
		{"build -k", "action=build"},
		{"build -m", "action=build"},
		{"remove --all --force --quiet -q", "action=remove set=--all,--force,--quiet"},
		{"build --no-initrd --no-clean-kernel --no-prepare-kernel", "action=build old=--no-initrd,--no-clean-kernel,--no-prepare-kernel"},
		{"--version build", "action=build stop=--version"},
		{"-V", "stop=--version"},
		{"build --help -x --nonsense", "action=build stop=--help"},
		{"-h build", "action=build stop=--help"},
		{"add conf.d", "action=add dir=conf.d"},
		{"add conf.d/dkms.conf", "action=add dir=conf.d"},
		{"add my-dkms.conf", "action=add dir=."},
		{"add my.tar.gz", "action=add archive=my.tar.gz"},
		{"add empty", "action=add module=empty"},
		{"add /nowhere/at/all", "action=add"},
		{"build -k ./empty", "action=build tree=" + dir + "/empty"},
		{"build -k empty", "action=build kernels=empty"},
		{"build -k ./none", "action=build kernels=. arches=none"},
		{"build -k /x86_64", "action=build arches=x86_64"},
	}
	for _, c := range cases {
		a, err := parse(strings.Fields(c.line))
		if err != nil || a.show() != c.want {
			t.Errorf("%s: %q %v, want %q", c.line, a.show(), err, c.want)
		}
	}
	for value, want := range map[string]string{" m \t": "m", "m\nn": "m", "": "", "\n": ""} {
		if a, err := parse([]string{"build", "-m", value}); err != nil || a.module != want {
			t.Errorf("%q: %q %v", value, a.module, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	cases := []struct {
		line string
		code int
		says string
	}{
		{"build -k=X", 2, `"-k=X"`}, {"build -j4", 2, `"-j4"`}, {"build -kX", 2, `"-kX"`}, {"build -", 2, `"-"`}, {"build --", 2, `"--"`},
		{"build --forse", 2, "did you mean --force?"}, {"build --all=x", 2, "--all=x"}, {"build --rootX r", 2, "--rootX"},
		{"build --versions", 2, "--version"}, {"build --no-initrdX", 2, "--no-initrdX"},
		{"build install", 4, "one at a time"},
		{"mktarball --binaries-only --source-only", 8, "nothing to pack"},
		{"build -k a -a x -a y", 1, "2 architectures for 1 kernels"},
		{"remove -k a --all", 2, "-k and --all"},
		{"remove -a a --all", 3, "-a and --all"},
	}
	for _, c := range cases {
		_, err := parse(strings.Fields(c.line))
		var u *usage
		if !errors.As(err, &u) || u.code != c.code || !strings.Contains(u.text, c.says) {
			t.Errorf("%s: %v", c.line, err)
		}
	}
	if _, err := parse(strings.Fields("build -k a -k b -a x -a y")); err != nil {
		t.Error(err)
	}
}

// Options are found by their name, and no option hides another.
func TestEveryOptionIsFound(t *testing.T) {
	for _, want := range Options() {
		for _, word := range []string{want.Long, want.Short} {
			if word == "" {
				continue
			}
			if o, _, _, ok := find(word); !ok || o.Name() != want.Name() {
				t.Errorf("%s is taken for %s", word, o.Name())
			}
		}
		if want.Long == "" || want.Arg == "" {
			continue
		}
		if o, value, inline, ok := find(want.Long + "=v=w"); !ok || o.Name() != want.Name() || value != "v=w" || !inline {
			t.Errorf("%s=v=w is %s %q", want.Long, o.Name(), value)
		}
		if o, _, _, ok := find(want.Long + "X"); ok != want.Loose || ok && o.Name() != want.Name() {
			t.Errorf("%sX is %q", want.Long, o.Name())
		}
	}
}

// Whatever the words, parsing ends, and every word that begins like an option
// is one, a value, or an error.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"status", "build\x00-m\x00m/1", "add\x00--module=x/1\x00-k\x00a/b", "--help\x00build", "-k", "-j4", "\x00\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words := strings.Split(s, "\x00")
		a, err := parse(words)
		if a == nil {
			t.Fatal("no arguments")
		}
		var u *usage
		codes := []int{codeArchCount, codeUsage, codeKernelAndAll, codeArchAndAll, codeTwoActions, codeBothOnly}
		if err != nil && (!errors.As(err, &u) || !slices.Contains(codes, u.code) || u.text == "") {
			t.Errorf("%q: %v", words, err)
		}
		if strings.ContainsAny(fmt.Sprint(a.kernels, a.jobs), "\n") {
			t.Errorf("a value with a line's end: %q", words)
		}
	})
}
