// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"os"
	"testing"
)

// refusal is a command that is refused before anything is done.
type refusal struct {
	name  string
	setup func(w *world)
	args  []string
	code  int
	words []string // of the error
}

func (c refusal) test(t *testing.T) {
	t.Run(c.name, func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.module("hello", "1.0", "hello")
		if c.setup != nil {
			c.setup(w)
		}
		w.refused(c.code, c.words, c.args...)
	})
}

// confOf returns a setup that writes the dkms.conf of hello/1.0.
func confOf(text string) func(w *world) {
	return func(w *world) { w.write("usr/src/hello-1.0/dkms.conf", text) }
}

func added(w *world) { w.must("add", "hello/1.0") }

func built(w *world) { w.must("build", "hello/1.0", "-k", release) }

func TestConfRefused(t *testing.T) {
	good := conf("hello", "1.0", "hello")
	for _, c := range []refusal{
		{"missing", func(w *world) { os.Remove(w.path("usr/src/hello-1.0/dkms.conf")) },
			[]string{"add", "hello/1.0"}, 4, []string{"/usr/src/hello-1.0/dkms.conf"}},
		{"missing, named by -c", nil, []string{"add", "hello/1.0", "-c", "/none.conf"}, 4, []string{"/none.conf"}},
		{"a directory", func(w *world) {
			os.Remove(w.path("usr/src/hello-1.0/dkms.conf"))
			w.mkdir("usr/src/hello-1.0/dkms.conf")
		}, []string{"add", "hello/1.0"}, 4, []string{"/usr/src/hello-1.0/dkms.conf"}},
		{"empty", confOf(""), []string{"add", "hello/1.0"}, 8, []string{"PACKAGE_NAME", "PACKAGE_VERSION"}},
		{"no version", confOf("PACKAGE_NAME=hello\nBUILT_MODULE_NAME=hello\nDEST_MODULE_LOCATION=/extra\n"),
			[]string{"add", "hello/1.0"}, 8, []string{"PACKAGE_VERSION"}},
		{"syntax", confOf(good + "if true; then\n"), []string{"add", "hello/1.0"}, 8, []string{"/usr/src/hello-1.0/dkms.conf"}},
		{"binary", confOf("\x7fELF\x00\x01\x02\x00"), []string{"add", "hello/1.0"}, 8, []string{"/usr/src/hello-1.0/dkms.conf"}},
		{"bad location", confOf(good + "DEST_MODULE_LOCATION[0]=/usr/lib\n"), []string{"add", "hello/1.0"}, 8, []string{"DEST_MODULE_LOCATION[0]"}},
		{"location with ..", confOf(good + "DEST_MODULE_LOCATION[0]=/extra/../../../../etc\n"), []string{"add", "hello/1.0"}, 8, []string{"DEST_MODULE_LOCATION[0]"}},
		{"object name with ..", confOf(good + "DEST_MODULE_NAME[0]=../../hello\n"), []string{"add", "hello/1.0"}, 8, []string{"DEST_MODULE_NAME[0]"}},
		{"object name with .ko", confOf(good + "BUILT_MODULE_NAME[0]=hello.ko\n"), []string{"add", "hello/1.0"}, 8, []string{"BUILT_MODULE_NAME[0]"}},
		{"one destination twice", confOf(conf("hello", "1.0", "hello", "other") + "DEST_MODULE_NAME[1]=hello\n"),
			[]string{"add", "hello/1.0"}, 8, []string{"DEST_MODULE_NAME"}},
		{"one object twice", confOf(conf("hello", "1.0", "hello", "hello")), []string{"add", "hello/1.0"}, 8, []string{"BUILT_MODULE_NAME"}},
		{"malformed when built", func(w *world) { added(w); confOf(good + "fi\n")(w) },
			[]string{"build", "hello/1.0", "-k", release}, 8, []string{"dkms.conf"}},
		{"malformed when installed", func(w *world) { built(w); confOf(good + "fi\n")(w) },
			[]string{"install", "hello/1.0", "-k", release}, 8, []string{"dkms.conf"}},
		{"missing when built", func(w *world) { added(w); os.Remove(w.path("usr/src/hello-1.0/dkms.conf")) },
			[]string{"build", "hello/1.0", "-k", release}, 4, []string{"dkms.conf"}},
	} {
		c.test(t)
	}
}

// A name of a module or version that isn't the name of one directory never
// becomes part of a path.
func TestNameRefused(t *testing.T) {
	names := [][]string{
		{"-m", "..", "-v", "1.0"}, {"-m", ".", "-v", "1.0"}, {"-m", "hello", "-v", ".."},
		{"-m", "hello", "-v", "../../../etc"}, {"-m", "hello/../x"}, {"hello/1.0/../../x"}, {"-m", "hello", "-v", "1.0/x"},
		{"-m", "a b", "-v", "1.0"}, {"-m", "he*", "-v", "1.0"}, {"-m", "hello", "-v", "$(id)"}, {"-m", "-x", "-v", "1.0"},
	}
	for _, verb := range []string{"add", "build", "install", "uninstall", "unbuild", "remove", "mktarball", "config"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.module("hello", "1.0", "hello")
			for _, name := range names {
				w.refused(1, []string{"is no valid module"}, append([]string{verb, "-k", release}, name...)...)
			}
		})
	}
	for _, c := range []refusal{
		{"kernel ..", nil, []string{"build", "hello/1.0", "-k", ".."}, 1, []string{"kernel release"}},
		{"kernel x/../y", nil, []string{"build", "hello/1.0", "-k", "x/../y"}, 1, []string{"architecture"}},
		{"arch ..", nil, []string{"build", "hello/1.0", "-k", release, "-a", ".."}, 1, []string{"architecture"}},
		{"conf names ../x", func(w *world) { w.write("in/dkms.conf", conf("../x", "1.0", "x")) },
			[]string{"add", "/in"}, 8, []string{"../x", "/in/dkms.conf"}},
		{"conf has version ..", func(w *world) { w.write("in/dkms.conf", conf("x", "..", "x")) },
			[]string{"add", "/in"}, 8, []string{`".."`, "/in/dkms.conf"}},
		{"conf has version 1/2", func(w *world) { w.write("in/dkms.conf", conf("x", "1/2", "x")) },
			[]string{"add", "/in"}, 8, []string{"1/2", "/in/dkms.conf"}},
	} {
		c.test(t)
	}
}

func TestStateRefused(t *testing.T) {
	for _, c := range []refusal{
		{"no module", nil, []string{"add"}, 1, []string{"dkms add <module>/<version>"}},
		{"no version", nil, []string{"build", "hello"}, 1, []string{"dkms build <module>/<version>"}},
		{"no source", nil, []string{"add", "none/1.0"}, 2, []string{"/usr/src/none-1.0"}},
		{"build without source", nil, []string{"build", "none/1.0", "-k", release}, 2, []string{"/usr/src/none-1.0"}},
		{"added already", added, []string{"add", "hello/1.0"}, 3, []string{"hello/1.0"}},
		{"not added: remove", nil, []string{"remove", "hello/1.0", "--all"}, 3, []string{"hello/1.0"}},
		{"not added: unbuild", nil, []string{"unbuild", "hello/1.0", "-k", release}, 3, []string{"hello/1.0"}},
		{"not added: uninstall", nil, []string{"uninstall", "hello/1.0", "-k", release}, 3, []string{"hello/1.0"}},
		{"other version", added, []string{"remove", "hello/2.0", "--all"}, 3, []string{"hello/1.0"}},
		{"not built", added, []string{"mktarball", "hello/1.0", "-k", release}, 6, []string{release}},
		{"no kernel", built, []string{"install", "hello/1.0", "-k", "6.2.0-none"}, 21, []string{"6.2.0-none"}},
		{"no headers", nil, []string{"build", "hello/1.0", "-k", "6.2.0-9-amd64"}, 21, []string{"No configured package source has headers for kernel 6.2.0-9-amd64."}},
		{"no headers, fedora", func(w *world) { w.write("etc/os-release", "ID=fedora\n") },
			[]string{"install", "hello/1.0", "-k", "6.2.0-1.fc39.x86_64"}, 21, []string{"No configured package source has headers for kernel 6.2.0-1.fc39.x86_64."}},
		{"no headers, autoinstall", added, []string{"autoinstall", "-k", "6.2.0-9-amd64"}, 21, []string{"No configured package source has headers for kernel 6.2.0-9-amd64."}},
		{"broken link", func(w *world) { added(w); os.RemoveAll(w.path("usr/src/hello-1.0")) },
			[]string{"build", "hello/1.0", "-k", release}, 4, []string{"/usr/src/hello-1.0"}},
		{"broken link, removed", func(w *world) { added(w); os.RemoveAll(w.path("usr/src/hello-1.0")) },
			[]string{"remove", "hello/1.0", "--all"}, 4, []string{"/usr/src/hello-1.0"}},
		{"no kernel tree", nil, []string{"build", "hello/1.0", "-k", "/usr"}, 21, []string{"/usr"}},
		{"only a conf", func(w *world) { os.Remove(w.path("usr/src/hello-1.0/hello.c")); added(w) },
			[]string{"build", "hello/1.0", "-k", release}, 8, []string{"source"}},
	} {
		c.test(t)
	}
}

func TestFrameworkRefused(t *testing.T) {
	framework := func(text string) func(w *world) {
		return func(w *world) { w.write("etc/dkms/framework.conf", text) }
	}
	for _, c := range []refusal{
		{"syntax", framework("dkms_tree=\"/x\nif\n"), []string{"add", "hello/1.0"}, 8, []string{"/etc/dkms/framework.conf"}},
		{"a directory", func(w *world) { os.Remove(w.path("etc/dkms/framework.conf")); w.mkdir("etc/dkms/framework.conf") },
			[]string{"add", "hello/1.0"}, 8, []string{"/etc/dkms/framework.conf"}},
		{"binary", framework("\x7fELF\x00\x00"), []string{"add", "hello/1.0"}, 8, []string{"/etc/dkms/framework.conf"}},
		{"tree is a file", func(w *world) { framework("dkms_tree=/file\n")(w); w.write("file", "") },
			[]string{"add", "hello/1.0"}, 1, []string{"/file"}},
	} {
		c.test(t)
	}
}

func TestCommandLineRefused(t *testing.T) {
	for _, c := range []refusal{
		{"unknown option", nil, []string{"build", "--frobnicate"}, 2, []string{"--frobnicate"}},
		{"near miss", nil, []string{"build", "hello/1.0", "--verbos"}, 2, []string{"did you mean --verbose?"}},
		{"near miss with a value", nil, []string{"build", "hello/1.0", "--kernelve=x"}, 2, []string{"did you mean --kernelver?"}},
		{"action", nil, []string{"biuld"}, 2, []string{"did you mean build?"}},
		{"two actions", nil, []string{"build", "install"}, 4, []string{"build", "install"}},
		{"-j x", nil, []string{"build", "hello/1.0", "-k", release, "-j", "many"}, 2, []string{`"many"`}},
		{"-j -1", nil, []string{"build", "hello/1.0", "-k", release, "-j", "-1"}, 2, []string{`"-1"`}},
		{"-j 1.5", nil, []string{"build", "hello/1.0", "-k", release, "-j", "1.5"}, 2, []string{`"1.5"`}},
		{"-k and --all", nil, []string{"remove", "hello/1.0", "-k", release, "--all"}, 2, []string{"--all"}},
		{"-a and --all", nil, []string{"remove", "hello/1.0", "-a", "x86_64", "--all"}, 3, []string{"--all"}},
		{"arches", nil, []string{"build", "hello/1.0", "-k", release, "-a", "x", "-a", "y"}, 1, []string{"-a"}},
		{"build --all", nil, []string{"build", "hello/1.0", "--all"}, 5, []string{"--all"}},
		{"two kernels", nil, []string{"autoinstall", "-k", "a", "-k", "b"}, 4, []string{"one kernel"}},
		{"no kernel", nil, []string{"kernel_postinst"}, 4, []string{"-k"}},
		{"only and only", nil, []string{"mktarball", "hello/1.0", "--source-only", "--binaries-only"}, 8, []string{"--source-only"}},
		{"empty kernel", nil, []string{"build", "hello/1.0", "-k", ""}, 16, []string{"empty"}},
	} {
		c.test(t)
	}
}

func TestUpgradeVerbsRefused(t *testing.T) {
	for _, c := range []refusal{
		{"verify: unknown module", added, []string{"verify", "none"}, 3, []string{"none"}},
		{"verify: nothing built", added, []string{"verify", "hello"}, 3, []string{"hello", "dkms status"}},
		{"verify: arches", added, []string{"verify", "hello", "-a", "x", "-a", "y"}, 1, []string{"-a"}},
		{"verify: unknown option", nil, []string{"verify", "--frobnicate"}, 2, []string{"--frobnicate"}},
		{"ready: --all", nil, []string{"ready", "--all"}, 5, []string{"--all"}},
		{"ready: a module", added, []string{"ready", "hello/1.0"}, 2, []string{"by name"}},
		{"ready: empty kernel", nil, []string{"ready", "-k", ""}, 16, []string{"empty"}},
		{"ready: two ways", nil, []string{"ready", "-k", release, "--next-boot"}, 2, []string{"--next-boot"}},
		{"ready: two kernels", nil, []string{"ready", "-k", "a", "-k", "b"}, 4, []string{"one kernel"}},
		{"ready: no such kernel", nil, []string{"ready", "-k", "6.2.0-none"}, 23, []string{"6.2.0-none"}},
		{"ready: bad kernel", nil, []string{"ready", "-k", "a b"}, 1, []string{"kernel release"}},
		{"ready: nothing boots", nil, []string{"ready"}, 23, []string{"-k"}},
		{"ready: no model", nil, []string{"ready", "-k", release, "--templatekernel", ""}, 2, []string{"--templatekernel"}},
		{"autoload: nothing", nil, []string{"autoload"}, 2, []string{"on, off or status"}},
		{"autoload: no module", nil, []string{"autoload", "on"}, 2, []string{"a module"}},
		{"autoload: a word", nil, []string{"autoload", "maybe", "hello"}, 2, []string{`"maybe"`}},
		{"autoload: too many", nil, []string{"autoload", "on", "hello", "x"}, 2, []string{"a module"}},
		{"autoload: empty module", added, []string{"autoload", "on", ""}, 3, []string{`""`}},
		{"autoload: unknown module", added, []string{"autoload", "on", "none"}, 3, []string{"none"}},
		{"autoload: bad name", added, []string{"autoload", "off", "../x"}, 1, []string{`".."`}},
		{"autoload: bad name, status", added, []string{"autoload", "status", "../x"}, 1, []string{`".."`}},
		{"hook: nothing", nil, []string{"hook"}, 2, []string{"image", "boot"}},
		{"hook: unknown", nil, []string{"hook", "haeders"}, 2, []string{"did you mean headers?"}},
		{"hook: bad kernel", added, []string{"hook", "headers", "../x"}, 1, []string{"kernel release"}},
		{"hook: bad kernel, verdict", added, []string{"hook", "verdict", "a b"}, 1, []string{"kernel release"}},
		{"hook image: bad kernel", added, []string{"hook", "image", "../x"}, 0, []string{"kernel release"}},
		{"hook prerm: bad kernel", installed, []string{"hook", "prerm", "../x"}, 0, []string{"kernel release"}},
		{"hook prerm: no kernel", installed, []string{"hook", "prerm"}, 0, []string{"not given"}},
		{"hook package: no version", nil, []string{"hook", "package", "hello"}, 1, []string{"dkms hook package <name> <version>"}},
		{"hook package: bad name", nil, []string{"hook", "package", "../x", "1.0"}, 1, []string{"module name"}},
		{"hook package: no source", nil, []string{"hook", "package", "none", "1.0"}, 2, []string{"/usr/src/none-1.0"}},
		{"hook autoinstaller: no verb", nil, []string{"hook", "autoinstaller"}, 2, []string{"start"}},
		{"hook autoinstaller: a word", nil, []string{"hook", "autoinstaller", "begin"}, 2, []string{"start"}},
		{"hook autoinstaller: bad kernel", added, []string{"hook", "autoinstaller", "start", "../x"}, 1, []string{"kernel release"}},
		{"hook pacman: a word", nil, []string{"hook", "pacman", "frob"}, 2, []string{"install"}},
	} {
		c.test(t)
	}
}
