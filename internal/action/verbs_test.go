// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dkms-go/internal/ko"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

var background = context.Background()

func TestLifeOfAModule(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.wantStatus("")
	m.must(m.engine().Add(background, Selection{ID: id}, k1))
	if got := m.out.String(); got != "Creating symlink "+m.root+"/tree/m/1/source -> "+m.root+"/src/m-1\n" {
		t.Error(got)
	}
	m.wantStatus("m/1 added")
	m.reason(m.engine().Add(background, Selection{ID: id}, k1), AlreadyAdded)

	m.must(m.engine().Build(background, Selection{ID: id}, []plan.Target{k1}))
	m.wantStatus("m/1@6.1.0 built")
	m.must(m.install(id, k1, k2, k1))
	m.wantStatus("m/1@6.1.0 installed, m/1@6.2.0 installed")
	for _, k := range []string{"6.1.0", "6.2.0"} {
		if got := m.read("lib/modules/" + k + "/modules.dep"); got != "updates/dkms/m.ko:\n" {
			t.Errorf("%s: the index has %q", k, got)
		}
	}
	m.must(m.install(id, k1))
	if !strings.Contains(m.out.String(), "Module m/1 already installed on kernel 6.1.0 (x86_64), skip.") {
		t.Error(m.said())
	}
	list := m.engine().List(Filter{}, nil)
	if len(list) != 1 || len(list[0].Installed) != 2 || list[0].Source != m.root+"/src/m-1" {
		t.Errorf("%+v", list)
	}

	m.must(m.engine().Back(background, id, []plan.Target{k1}, false, plan.ToBuilt))
	m.wantStatus("m/1@6.1.0 built, m/1@6.2.0 installed")
	m.must(m.engine().Back(background, id, []plan.Target{k1}, false, plan.ToAdded))
	m.wantStatus("m/1@6.2.0 installed")
	m.must(m.engine().Back(background, id, []plan.Target{k1}, false, plan.ToNothing))
	m.wantStatus("m/1@6.2.0 installed") // a kernel is left
	m.must(m.engine().Back(background, id, nil, true, plan.ToNothing))
	m.wantStatus("")
	if m.has("tree/m") || !m.has("src/m-1/dkms.conf") || m.has("lib/modules/6.2.0/updates") {
		t.Error("too much or too little is left")
	}
	m.reason(m.engine().Back(background, id, nil, true, plan.ToNothing), NotAdded)
}

func TestInstallAddsAndBuilds(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1", "POST_ADD=hook", `PRE_BUILD="hook pre"`, `POST_INSTALL="hook post"`)
	m.put("src/m-1/hook", "#!/bin/sh\necho hook $1 $module $kernelver\n", 0o755)
	m.must(m.install(id, k1))
	out := m.out.String()
	for _, want := range []string{"Creating symlink", "hook\n", "Running the pre_build script... done.\n", "Building module(s)... done.\n", "Installing ", "hook post m 6.1.0\n", "Running depmod... done.\n"} {
		if i := strings.Index(out, want); i < 0 {
			t.Errorf("%q is missing, or too early, in\n%s", want, m.said())
		} else {
			out = out[i+len(want):]
		}
	}
}

func TestForce(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.install(id, k1))
	m.set.Force = true
	m.must(m.install(id, k1))
	if !strings.Contains(m.out.String(), "Installing ") {
		t.Error(m.said())
	}
	m.wantStatus("m/1@6.1.0 installed")
}

// A reinstall that can't be done leaves the module installed.
func TestForceWithoutObject(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.install(id, k1))
	m.must(os.Remove(m.root + "/tree/m/1/6.1.0/x86_64/module/m.ko"))
	m.set.Force = true
	m.reason(m.install(id, k1), InstallFailed)
	if !m.has("lib/modules/6.1.0/updates/dkms/m.ko") || !m.has("tree/m/kernel-6.1.0-x86_64/module") {
		t.Error("the module is no longer installed")
	}
}

// What was installed is taken out, whatever the conf says by then.
func TestRemoveAfterConfChanged(t *testing.T) {
	for name, conf := range map[string]string{
		"renamed": "\nDEST_MODULE_NAME[0]=other\n",
		"broken":  "\nBUILT_MODULE_NAME[0]=m.ko\n",
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.put("lib/modules/6.1.0/kernel/m.ko", "the kernel's own")
			id := m.source("m/1")
			m.set.Force = true
			m.must(m.install(id, k1))
			m.set.Force = false
			if m.has("lib/modules/6.1.0/kernel/m.ko") {
				t.Fatal("the original was not kept")
			}
			m.put("src/m-1/dkms.conf", m.read("src/m-1/dkms.conf")+conf)
			m.must(m.engine().Back(background, id, nil, true, plan.ToNothing))
			if m.has("lib/modules/6.1.0/updates") || m.read("lib/modules/6.1.0/kernel/m.ko") != "the kernel's own" {
				t.Error("not taken out:", m.files("lib"), m.files("tree"))
			}
		})
	}
}

// An installed object that has gone is put back.
func TestInstallOfWhatIsLost(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.install(id, k1))
	object := "lib/modules/6.1.0/updates/dkms/m.ko"
	m.must(os.Remove(m.root + "/" + object))
	m.must(m.install(id, k1))
	if !m.has(object) {
		t.Error("install:", m.said())
	}
	m.must(os.Remove(m.root + "/" + object))
	m.must(m.engine().Autoinstall(background, []plan.Target{k1}, state.ID{}))
	if !m.has(object) {
		t.Error("autoinstall:", m.said())
	}
}

func TestTwoVersions(t *testing.T) {
	m := newMachine(t)
	old, new := m.source("m/1"), m.source("m/2", "BUILD_EXCLUSIVE_KERNEL=^6")
	m.put("src/m-2/m.c", source+"int second;\n")
	m.must(m.install(old, k1))
	m.must(m.install(new, k1))
	m.wantStatus("m/1@6.1.0 built, m/2@6.1.0 installed")
	m.must(m.engine().Back(background, old, nil, true, plan.ToNothing))
	m.wantStatus("m/2@6.1.0 installed")
	if !strings.Contains(m.read("lib/modules/6.1.0/updates/dkms/m.ko"), "second") {
		t.Error("the wrong version is installed")
	}
}

// Each refusal leaves everything as it was.
func TestRefusals(t *testing.T) {
	cases := []struct {
		name string
		want Reason
		make func(m *machine) func() error
	}{
		{"no source", NoSourceDir, func(m *machine) func() error {
			return func() error {
				return m.engine().Add(background, Selection{ID: state.ID{Module: "m", Version: "1"}}, k1)
			}
		}},
		{"no version", NoModule, func(m *machine) func() error {
			return func() error { return m.engine().Add(background, Selection{ID: state.ID{Module: "m"}}, k1) }
		}},
		{"bad name", BadName, func(m *machine) func() error {
			return func() error {
				return m.engine().Add(background, Selection{ID: state.ID{Module: "../m", Version: "1"}}, k1)
			}
		}},
		{"no conf", NoConf, func(m *machine) func() error {
			id := m.source("m/1")
			os.Remove(m.root + "/src/m-1/dkms.conf")
			return func() error { return m.engine().Add(background, Selection{ID: id}, k1) }
		}},
		{"bad conf", BadConf, func(m *machine) func() error {
			id := m.source("m/1", "DEST_MODULE_LOCATION=nowhere")
			return func() error { return m.engine().Add(background, Selection{ID: id}, k1) }
		}},
		{"a name in the conf that leads away", BadConf, func(m *machine) func() error {
			id := m.source("m/1", "PACKAGE_NAME=../../etc")
			return func() error { return m.engine().Add(background, Selection{ID: id}, k1) }
		}},
		{"a version in the conf with blanks", BadConf, func(m *machine) func() error {
			id := m.source("m/1", "PACKAGE_VERSION='1 x'")
			return func() error { return m.install(id, k1) }
		}},
		{"a name that begins like an option", BadConf, func(m *machine) func() error {
			m.source("m/1", "PACKAGE_NAME=-m")
			return func() error { return m.engine().Add(background, Selection{SourceDir: m.root + "/src/m-1"}, k1) }
		}},
		{"headers", NoHeaders, func(m *machine) func() error {
			id := m.source("m/1")
			os.RemoveAll(m.root + "/lib/modules/6.1.0/build/include")
			return func() error { return m.install(id, k1) }
		}},
		{"bare", NoSource, func(m *machine) func() error {
			id := m.source("m/1")
			os.Remove(m.root + "/src/m-1/m.c")
			return func() error { return m.install(id, k1) }
		}},
		{"broken", BrokenModule, func(m *machine) func() error {
			id := m.source("m/1")
			m.put("tree/m/1/build/x", "")
			return func() error { return m.install(id, k1) }
		}},
		{"not added", NotAdded, func(m *machine) func() error {
			id := m.source("m/1")
			m.put("tree/other/1/x", "")
			return func() error { return m.engine().Back(background, id, []plan.Target{k1}, false, plan.ToNothing) }
		}},
		{"no archive", NoArchive, func(m *machine) func() error {
			m.put("tree/x", "")
			return func() error { return m.engine().LoadTarball(background, m.root+"/none.tar", k1) }
		}},
		{"bad archive", BadArchive, func(m *machine) func() error {
			m.put("tree/x", "")
			m.put("a.tar.gz", "text")
			return func() error { return m.engine().LoadTarball(background, m.root+"/a.tar.gz", k1) }
		}},
		{"no dkms.conf", NotSourceTree, func(m *machine) func() error {
			m.put("tree/x", "")
			return func() error { return m.engine().Add(background, Selection{SourceDir: m.root + "/tmp"}, k1) }
		}},
		{"template", NoTemplate, func(m *machine) func() error { return func() error { return m.engine().Match(background, "", k1, "") } }},
		{"same kernel", SameKernel, func(m *machine) func() error {
			return func() error { return m.engine().Match(background, "6.1.0", k1, "") }
		}},
		{"match of nothing", UnknownModule, func(m *machine) func() error {
			return func() error { return m.engine().Match(background, "6.2.0", k1, "none") }
		}},
		{"autoinstall of nothing", UnknownModule, func(m *machine) func() error {
			return func() error { return m.engine().Autoinstall(background, []plan.Target{k1}, state.ID{Module: "none"}) }
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.put("tree/x", "") // so that making the tree doesn't count
			verb := c.make(m)
			m.reason(m.unchanged(verb), c.want)
		})
	}
}

func TestFailuresOfABuild(t *testing.T) {
	cases := []struct {
		name string
		conf string
		want Reason
	}{
		{"compiler", "", MakeFailed},
		{"patch", "PATCH=none.patch", PatchPath},
		{"hook", "PRE_BUILD=hook", HookFailed},
		{"object", "BUILT_MODULE_NAME=other", ObjectMissing},
		{"excluded", "BUILD_EXCLUSIVE_KERNEL=^5", Excluded},
		{"depends", "BUILD_DEPENDS=other", MissingDepends},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			id := m.source("m/1", c.conf)
			m.put("src/m-1/hook", "#!/bin/sh\nexit 42\n", 0o755)
			if c.want == MakeFailed {
				m.put("src/m-1/m.c", "int a = ;\n")
			}
			before := m.files("lib")
			f := m.reason(m.install(id, k1), c.want)
			if !f.Said || m.errw.Len() == 0 {
				t.Error("nobody was told")
			}
			if c.want == HookFailed && f.Status != 42 {
				t.Error(f.Status)
			}
			if m.files("lib") != before {
				t.Error("the kernel's tree has changed")
			}
			m.wantStatus("m/1 added")
		})
	}
}

// A module is added in one step. Where an archive without source left a
// directory in the place of the link, the link replaces it.
func TestAddOverADirectory(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.put("tree/m/1/source/dkms.conf", "old")
	m.put("tree/m/1/build/make.log", "kept")
	os.RemoveAll(m.root + "/tree/m/1/build")
	m.must(m.engine().Add(background, Selection{ID: id}, k1))
	m.wantStatus("m/1 added")
	if to, err := os.Readlink(m.root + "/tree/m/1/source"); to != m.root+"/src/m-1" || !m.has("tree/m/1/build") {
		t.Error(to, err)
	}
}

func TestAddFromADirectory(t *testing.T) {
	m := newMachine(t)
	m.source("m/1")
	if err := os.Rename(m.root+"/src/m-1", m.root+"/checkout"); err != nil {
		t.Fatal(err)
	}
	m.must(m.engine().Add(background, Selection{SourceDir: m.root + "/checkout"}, k1))
	if m.read("src/m-1/m.c") != source {
		t.Error("the source wasn't copied")
	}
	m.wantStatus("m/1 added")
	m.put("checkout/m.c", "changed")
	m.reason(m.unchanged(func() error { return m.engine().Add(background, Selection{SourceDir: m.root + "/checkout"}, k1) }), AlreadyAdded)
	m.set.Force = true
	m.must(m.engine().Add(background, Selection{SourceDir: m.root + "/checkout"}, k1))
	if m.read("src/m-1/m.c") != "changed" {
		t.Error("the source wasn't replaced")
	}
}

func TestPostAddFails(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1", "POST_ADD=hook")
	m.put("src/m-1/hook", "#!/bin/sh\nexit 5\n", 0o755)
	if f := m.reason(m.engine().Add(background, Selection{ID: id}, k1), HookFailed); f.Status != 5 {
		t.Error(f.Status)
	}
	m.wantStatus("m/1 added")
}

func TestDryRunsChangeNothing(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.put("tree/x", "")
	m.must(m.install(m.source("n/1"), k1))
	m.set.DryRun = true
	m.put("lib/modules/6.1.0/empty/dir/x", "")
	os.Remove(m.root + "/lib/modules/6.1.0/empty/dir/x")
	for name, verb := range map[string]func(e *Engine) error{
		"add":     func(e *Engine) error { return e.Add(background, Selection{ID: id}, k1) },
		"install": func(e *Engine) error { return e.Install(background, Selection{ID: id}, []plan.Target{k1}) },
		"remove": func(e *Engine) error {
			return e.Back(background, state.ID{Module: "n", Version: "1"}, nil, true, plan.ToNothing)
		},
		"auto":  func(e *Engine) error { return e.Autoinstall(background, []plan.Target{k2}, state.ID{}) },
		"prerm": func(e *Engine) error { return e.KernelPrerm(background, k1) },
		"match": func(e *Engine) error { return e.Match(background, k1.Kernel, k2, "") },
		"mktarball": func(e *Engine) error {
			return e.MakeTarball(background, state.ID{Module: "n", Version: "1"}, []plan.Target{k1}, PackOptions{})
		},
	} {
		e := m.engine()
		m.must(m.unchanged(func() error { return verb(e) }))
		if m.out.Len() == 0 {
			t.Errorf("%s says nothing", name)
		}
	}
}

func TestStatusNotes(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.install(id, k1))
	m.put("tree/m/original_module/6.1.0/x86_64/m.ko", "x")
	m.put("lib/modules/6.1.0/updates/dkms/m.ko", "by hand")
	m.wantStatus("m/1@6.1.0 installed originals differs")
	os.Remove(m.root + "/tree/m/1/6.1.0/x86_64/build.json")
	m.wantStatus("m/1@6.1.0 installed originals differs")
	os.Remove(m.root + "/tree/m/1/6.1.0/x86_64/module/m.ko")
	m.wantStatus("m/1@6.1.0 installed originals missing")
	os.Remove(m.root + "/tree/m/kernel-6.1.0-x86_64")
	m.wantStatus("m/1@6.1.0 built originals missing")
	os.RemoveAll(m.root + "/src/m-1")
	m.wantStatus("m/1 broken")
	rows := m.engine().Status(background, Filter{Module: "x*"})
	if len(rows) != 0 {
		t.Error(rows)
	}
}

// Status executes nothing of a conf.
func TestStatusRunsNothing(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.install(id, k1))
	os.Remove(m.root + "/tree/m/1/6.1.0/x86_64/build.json")
	m.put("src/m-1/dkms.conf", m.read("src/m-1/dkms.conf")+"touch "+m.root+"/ran\nX=$(touch "+m.root+"/ran)\n")
	m.status()
	if m.has("ran") {
		t.Error("status has run the conf")
	}
}

func TestAutoinstall(t *testing.T) {
	m := newMachine(t)
	for _, id := range []state.ID{
		m.source("dep/1"), m.source("good/1"), m.source("good/2", "BUILD_DEPENDS=dep"), m.source("bad/1"), m.source("behind/1", "BUILD_DEPENDS=bad"),
		m.source("no/1", "AUTOINSTALL=no"), m.source("old/1", "BUILD_EXCLUSIVE_KERNEL=^5"), m.source("onold/1", "BUILD_DEPENDS=old"),
		m.source("later/1", "BUILD_DEPENDS=unknown"), m.source("circle/1", "BUILD_DEPENDS=circle"), m.source("ready/1"),
	} {
		m.must(m.engine().Add(background, Selection{ID: id}, k1))
	}
	m.must(m.install(state.ID{Module: "ready", Version: "1"}, k1))
	m.put("src/bad-1/bad.c", "int a = ;\n")
	m.reason(m.engine().Autoinstall(background, []plan.Target{k1}, state.ID{}), AutoinstallFailed)
	out := m.out.String()
	for _, want := range []string{
		"Autoinstall of module good/2 for kernel 6.1.0 (x86_64)\n",
		"Autoinstall on 6.1.0 succeeded for module(s) ready dep good.\n",
		"Autoinstall on 6.1.0 was skipped for module(s) old.\n",
		"behind/1 autoinstall failed due to missing dependencies: bad.\n",
		"circle/1 autoinstall failed due to missing dependencies: circle.\n",
		"later/1 autoinstall deferred: BUILD_DEPENDS not registered with DKMS: unknown.\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, m.said())
		}
	}
	if want := fmt.Sprintf("Autoinstall on 6.1.0 failed for module(s) bad(%d) onold(%d).\n", MakeFailed, MissingDepends); !strings.Contains(out, want) {
		t.Errorf("%q is missing in\n%s", want, m.said())
	}
	m.wantStatus("bad/1 added, behind/1 added, circle/1 added, dep/1@6.1.0 installed, good/1 added, good/2@6.1.0 installed, " +
		"later/1 added, no/1 added, old/1 added, onold/1 added, ready/1@6.1.0 installed")
}

func TestAutoinstallHasNothingToDo(t *testing.T) {
	m := newMachine(t)
	m.must(m.unchanged(func() error { return m.engine().Autoinstall(background, []plan.Target{k1}, state.ID{}) }))
	m.must(m.install(m.source("m/1"), k1))
	m.must(m.unchanged(func() error { return m.engine().Autoinstall(background, []plan.Target{k1}, state.ID{}) }))
	if m.out.Len() > 0 {
		t.Error(m.said())
	}
	m.put("etc/no-autoinstall", "")
	m.must(m.unchanged(func() error { return m.engine().KernelPostinst(background, k2) }))
	if !strings.Contains(m.out.String(), "disabled") {
		t.Error(m.said())
	}
}

func TestRebuildOfDependents(t *testing.T) {
	m := newMachine(t)
	m.must(m.install(m.source("dep/1"), k1))
	m.must(m.install(m.source("user/1", "BUILD_DEPENDS=dep", "BUILD_DEPENDS_REBUILD=yes"), k1))
	if got := m.read("tree/user/1/6.1.0/x86_64/.dep_dep"); got != "1\n" {
		t.Error(got)
	}
	dep2 := m.source("dep/2")
	m.put("src/dep-2/dep.c", source+"int second;\n")
	m.must(m.install(dep2, k1))
	if got := m.read("tree/user/1/6.1.0/x86_64/.dep_dep"); got != "2\n" || !strings.Contains(m.out.String(), "Rebuilding module user/1 due to updated dependencies") {
		t.Error(got, m.said())
	}
	m.wantStatus("dep/1@6.1.0 built, dep/2@6.1.0 installed, user/1@6.1.0 installed")
}

func TestMatch(t *testing.T) {
	m := newMachine(t)
	m.must(m.engine().Match(background, k1.Kernel, k2, ""))
	if !strings.Contains(m.out.String(), "nothing to be done") {
		t.Error(m.said())
	}
	m.must(m.install(m.source("a/1"), k1))
	m.must(m.install(m.source("b/1"), k1))
	m.must(m.engine().Match(background, k1.Kernel, k2, "a"))
	m.wantStatus("a/1@6.1.0 installed, a/1@6.2.0 installed, b/1@6.1.0 installed")
	m.must(m.engine().Match(background, k1.Kernel, k2, ""))
	m.wantStatus("a/1@6.1.0 installed, a/1@6.2.0 installed, b/1@6.1.0 installed, b/1@6.2.0 installed")
}

func TestKernelHooks(t *testing.T) {
	m := newMachine(t)
	m.must(m.engine().Add(background, Selection{ID: m.source("auto/1")}, k1))
	m.must(m.engine().KernelPostinst(background, k2))
	m.must(m.install(m.source("manual/1", "AUTOINSTALL=no"), k2))
	m.must(m.engine().KernelPreinst(background, k2))
	m.wantStatus("auto/1 added, manual/1@6.2.0 installed")
	m.must(m.engine().KernelPostinst(background, k2))
	m.tool("depmod", "exit 1") // the kernel goes anyway
	m.must(m.engine().KernelPrerm(background, k2))
	if !strings.Contains(m.errw.String(), "dkms: removing module auto/1 for kernel 6.2.0 (x86_64)") {
		t.Error(m.said())
	}
	m.wantStatus("auto/1 added, manual/1 added")
}

func TestTarballs(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.install(id, k1, k2))
	m.must(m.engine().MakeTarball(background, id, nil, PackOptions{AllKernels: true, Archive: m.root + "/a.tar.gz"}))
	m.must(m.engine().Back(background, id, nil, true, plan.ToNothing))
	if err := os.RemoveAll(m.root + "/src/m-1"); err != nil {
		t.Fatal(err)
	}
	m.must(m.engine().LoadTarball(background, m.root+"/a.tar.gz", k1))
	m.wantStatus("m/1@6.1.0 built, m/1@6.2.0 built")
	m.reason(m.unchanged(func() error { return m.engine().LoadTarball(background, m.root+"/a.tar.gz", k1) }), AlreadyLoaded)
	m.must(m.install(id, k1))
	m.reason(m.engine().MakeTarball(background, id, []plan.Target{{Kernel: "7", Arch: "x"}}, PackOptions{}), NotBuilt)
	m.reason(m.engine().LoadTarball(background, "", k1), NoArchive)
}

func TestConfig(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1", "BUILD_EXCLUSIVE_KERNEL=^5", `MAKE="make K=$kernelver"`)
	c, verdict, err := m.engine().Config(background, Selection{ID: id}, k1)
	if err != nil || c.Make != "make K=6.1.0" || verdict.OK {
		t.Error(c, verdict, err)
	}
	if _, _, err := m.engine().Config(background, Selection{SourceDir: m.root + "/src/m-1"}, k1); err != nil {
		t.Error(err)
	}
	_, _, err = m.engine().Config(background, Selection{ID: state.ID{Module: "x", Version: "1"}}, k1)
	m.reason(err, NotAdded)
}

func TestPostTransaction(t *testing.T) {
	m := newMachine(t)
	m.set.Framework.PostTransaction = "x"
	m.put("etc/framework.conf", "try_sign_modules=false\npost_transaction=\"echo changed $kernelver; exit 3\"\n")
	id := m.source("m/1")
	m.must(m.install(id, k1))
	if got := m.read("tree/post_transaction.log"); !strings.Contains(got, "\nchanged 6.1.0\n") || !strings.Contains(got, "# exit code: 3\n") {
		t.Error(got)
	}
	m.must(m.engine().Back(background, id, []plan.Target{k1}, false, plan.ToBuilt))
}

// A failed depmod is told, and the verb fails; the objects are in place.
func TestIndexFails(t *testing.T) {
	m := newMachine(t)
	m.tool("depmod", "echo bad >&2; exit 1")
	id := m.source("m/1")
	m.reason(m.install(id, k1), IndexFailed)
	m.wantStatus("m/1@6.1.0 installed")
	if !m.has(indexDue) {
		t.Error("nothing tells that the index is due")
	}
	m.reason(m.install(id, k1), IndexFailed)
	m.reason(m.engine().Autoinstall(background, []plan.Target{k1}, state.ID{}), IndexFailed)
	m.reason(m.engine().Back(background, id, []plan.Target{k1}, false, plan.ToBuilt), IndexFailed)
	m.wantStatus("m/1@6.1.0 built")
	m.set.NoDepmod = true
	m.must(m.install(m.source("n/1"), k1, k2))
	if !m.has(indexDue) || m.has("tree/.index-due/6.2.0") {
		t.Error("--no-depmod touches the marks", m.files("tree/.index-due"))
	}
}

const indexDue = "tree/.index-due/6.1.0"

// Every verb that installs or removes brings an index up to date that an
// earlier one left behind, also when it has nothing else to do.
func TestIndexLeftBehind(t *testing.T) {
	id := state.ID{Module: "m", Version: "1"}
	one := []plan.Target{k1}
	for name, c := range map[string]struct {
		verb  func(e *Engine) error
		says  string
		index string
	}{
		"install":         {func(e *Engine) error { return e.Install(background, Selection{ID: id}, one) }, "already installed", "m.ko"},
		"install another": {func(e *Engine) error { return e.Install(background, Selection{ID: id}, []plan.Target{k2}) }, "Installing ", "m.ko"},
		"install refused": {func(e *Engine) error {
			if err := e.Install(background, Selection{ID: state.ID{Module: "bad", Version: "1"}}, one); err == nil {
				return errors.New("it was installed")
			}
			return nil
		}, "Running depmod", "m.ko"},
		"autoinstall":     {func(e *Engine) error { return e.Autoinstall(background, one, state.ID{}) }, "Running depmod... done.\n", "m.ko"},
		"kernel_postinst": {func(e *Engine) error { return e.KernelPostinst(background, k1) }, "Running depmod", "m.ko"},
		"kernel_prerm":    {func(e *Engine) error { return e.KernelPrerm(background, k2) }, "Running depmod", "m.ko"},
		"kernel_preinst":  {func(e *Engine) error { return e.KernelPreinst(background, k2) }, "Running depmod", "m.ko"},
		"match":           {func(e *Engine) error { return e.Match(background, k1.Kernel, k2, "") }, "Installing ", "m.ko"},
		"unbuild another": {func(e *Engine) error { return e.Back(background, id, []plan.Target{k2}, false, plan.ToAdded) }, "is not built", "m.ko"},
		"uninstall":       {func(e *Engine) error { return e.Back(background, id, one, false, plan.ToBuilt) }, "was ACTIVE", ""},
		"remove":          {func(e *Engine) error { return e.Back(background, id, nil, true, plan.ToNothing) }, "completely", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.put("lib/modules/6.1.0/kernel/other.ko", "")
			environ := m.set.Environ
			m.tool("depmod", "exit 1")
			m.source("m/1")
			m.source("bad/1", "MAKE=false")
			m.reason(m.install(id, k1), IndexFailed)
			m.set.Environ = environ
			m.must(c.verb(m.engine()))
			if m.has("tree/.index-due") || !strings.Contains(m.out.String(), c.says) {
				t.Error(m.said())
			}
			if got := m.read("lib/modules/6.1.0/modules.dep"); strings.Contains(got, "m.ko") != (c.index != "") || got == "stale\n" {
				t.Errorf("the index has %q", got)
			}
			if c.index == "" {
				return
			}
			m.must(m.unchanged(func() error { return m.install(id, k1) }))
			if strings.Contains(m.out.String(), "depmod") {
				t.Error("once more than needed:", m.said())
			}
		})
	}
}

func TestInterruption(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1", "PRE_BUILD=hook")
	m.put("src/m-1/hook", "#!/bin/sh\ntouch "+m.root+"/begun\nkill -STOP $$\n", 0o755)
	ctx, cancel := context.WithCancelCause(background)
	stop := errors.New("by hand")
	go func() {
		for !m.has("begun") {
		}
		cancel(stop)
	}()
	err := m.engine().Install(ctx, Selection{ID: id}, []plan.Target{k1})
	if f := m.reason(err, Interrupted); !errors.Is(f, stop) || strings.Count(m.errw.String(), "Error!") != 1 {
		t.Error(m.said())
	}
	// One that comes before the first step is no success either.
	m.reason(m.engine().Build(ctx, Selection{ID: id}, []plan.Target{k1}), Interrupted)
	m.reason(m.engine().Autoinstall(ctx, []plan.Target{k1}, state.ID{}), Interrupted)
}

func TestFullDisk(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.put("src/m-1/big", strings.Repeat("x", 200<<10))
	if err := os.MkdirAll(m.root+"/tree", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", m.root+"/tree", "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(m.root+"/tree", unix.MNT_DETACH) })
	err := m.install(id, k1)
	if err == nil || !strings.Contains(m.errw.String(), "no space left") {
		t.Error(err, m.said())
	}
	m.wantStatus("m/1 added")
	m.tidy()
}

func TestReadOnlyTree(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.put("tree/x", "")
	if err := unix.Mount("tmpfs", m.root+"/tree", "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(m.root+"/tree", unix.MNT_DETACH) })
	m.reason(m.install(id, k1), NotWritable)
	m.reason(m.engine().Add(background, Selection{ID: id}, k1), NotWritable)
	m.wantStatus("")
}

// Where objects can't be placed, the error is that of placing them.
func TestReadOnlyKernelTree(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.engine().Build(background, Selection{ID: id}, []plan.Target{k1}))
	m.put("lib/modules/6.1.0/updates/dkms/x", "")
	dir := m.root + "/lib/modules"
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY} {
		if err := unix.Mount(dir, dir, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	want := "write to " + dir + "/6.1.0/updates/dkms: read-only file system"
	if err := m.install(id, k1); err == nil || !strings.Contains(m.errw.String(), want) {
		t.Error(err, m.said())
	}
	m.wantStatus("m/1@6.1.0 built")
	m.tidy()
}

func TestTargets(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	cases := []struct {
		kernels, arches []string
		want            string
		reason          Reason
	}{
		{nil, nil, "6.1.0/x86_64", 0},
		{[]string{"7"}, nil, "7/x86_64", 0},
		{[]string{"7", "8"}, []string{"a"}, "7/a 8/a", 0},
		{[]string{"7", "8"}, []string{"a", "b"}, "7/a 8/b", 0},
		{[]string{""}, nil, "", EmptyKernel},
		{[]string{"7"}, []string{""}, "", EmptyKernel},
		{[]string{"../7"}, nil, "", BadName},
		{[]string{"7"}, []string{"a/b"}, "", BadName},
	}
	for _, c := range cases {
		targets, err := e.Targets(c.kernels, c.arches, true)
		if c.want == "" {
			m.reason(err, c.reason)
			continue
		}
		var got []string
		for _, t := range targets {
			got = append(got, t.Kernel+"/"+t.Arch)
		}
		if strings.Join(got, " ") != c.want || err != nil {
			t.Errorf("%v %v: %v %v", c.kernels, c.arches, got, err)
		}
	}
}

func TestEngineNeedsOSRelease(t *testing.T) {
	m := newMachine(t)
	os.Remove(m.root + "/os-release")
	_, err := New(m.set)
	m.reason(err, NoOSRelease)
}

func TestForceList(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.engine().Build(background, Selection{ID: id}, []plan.Target{k1}))
	same := m.read("tree/m/1/6.1.0/x86_64/module/m.ko")
	m.put("lib/modules/6.1.0/kernel/m.ko", same)
	m.reason(m.install(id, k1), InstallFailed)
	m.put("force/list", "other\nm_version-override\n")
	m.must(m.install(id, k1))
	if !strings.Contains(m.out.String(), "Forcing version override of m") {
		t.Error(m.said())
	}
	m.must(m.engine().Back(background, id, []plan.Target{k1}, false, plan.ToBuilt))
	if m.read("lib/modules/6.1.0/kernel/m.ko") != same {
		t.Error("the original isn't back")
	}
}

// Two kernels prepared side by side share the key that one of them makes.
func TestOneKeyForTwoKernels(t *testing.T) {
	m := newMachine(t)
	m.put("etc/framework.conf", "try_sign_modules=true\n")
	for _, k := range []string{"6.1.0", "6.2.0"} {
		m.put("lib/modules/"+k+"/build/.config", "CONFIG_MODULE_SIG_HASH=\"sha256\"\n")
		m.put("lib/modules/"+k+"/build/scripts/sign-file", "", 0o755)
	}
	m.put("mok/x", "")
	m.must(m.install(m.source("m/1"), k1, k2))
	cert, err := ko.LoadCertificate(m.root + "/mok/mok.pub")
	if err != nil {
		t.Fatal(err, m.said())
	}
	for _, k := range []string{"6.1.0", "6.2.0"} {
		data := []byte(m.read("lib/modules/" + k + "/updates/dkms/m.ko"))
		s, ok, err := ko.ParseSignature(data)
		if err != nil || !ok || s.Verify(ko.Unsigned(data), cert) != nil {
			t.Errorf("%s isn't signed with the key that is there now: %v %v", k, ok, err)
		}
	}
}

func TestFacts(t *testing.T) {
	m := newMachine(t)
	a, b := m.source("a/1", "BUILD_DEPENDS=x"), m.source("b/1")
	m.must(m.engine().Add(background, Selection{ID: a}, k1))
	m.put("tree/a/1/6.1.0/x86_64/module/a.ko", "")
	m.put("tree/a/1/6.1.0/x86_64/.dep_x", "7\n")
	m.put("tree/h/1/x", "")
	f := m.engine().facts(background, []state.ID{b, a}, []plan.Target{k1, k2}, func(id state.ID, r plan.Result) bool { return id == a })
	if len(f.Modules) != 3 || f.Modules[0].Condition != state.Added || f.Modules[1].Condition != state.Hidden || f.Modules[2].Condition != state.Absent {
		t.Errorf("%+v", f.Modules)
	}
	r := f.Results[k1.Key(a)]
	if !r.Built || r.Installed || r.Conf == nil || r.Recorded["x"] != "7" || f.Results[k1.Key(b)].Conf != nil || f.Results[k2.Key(a)].Built || !f.Kernels[k2].Headers {
		t.Errorf("%+v", f.Results)
	}
}

func TestNested(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1", "POST_ADD=hook")
	m.put("src/m-1/hook", "#!/bin/sh\nenv > "+m.root+"/env\n", 0o755)
	m.must(m.engine().Add(background, Selection{ID: id}, k1))
	if !strings.Contains(m.read("env"), "\n"+state.LockEnv+"="+m.root+"/tree\n") {
		t.Error("a dkms among the hook's commands would wait for us")
	}
}

func TestSaveEnvironment(t *testing.T) {
	m := newMachine(t)
	m.set.Environ = append(os.Environ(), "CFLAGS=-broken")
	if env := strings.Join(m.engine().baseEnv(), "\n"); strings.Contains(env, "CFLAGS=") {
		t.Error(env)
	}
	if run.Code(nil) != 0 {
		t.Error("no code")
	}
}

// An object for another kernel becomes no result.
func TestInstallForAnotherKernel(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1", `MAKE="/usr/bin/make -C $kernel_source_dir M=$dkms_tree/m/1/build KERNELRELEASE=9.9.9"`)
	f := m.reason(m.install(id, k1), NotVerified)
	if !strings.Contains(f.Error(), "9.9.9") || !strings.Contains(f.Error(), "6.1.0") || m.has("lib/modules/6.1.0/updates") {
		t.Error(f, m.said())
	}
	m.wantStatus("m/1 added")
	m.set.Force = true
	m.must(m.install(id, k1))
}
