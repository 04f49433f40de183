// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/conf"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// hook runs a hook as a package would.
func (m *machine) hook(name string, args ...string) error {
	m.t.Helper()
	return m.engine().Hook(context.Background(), name, args, strings.NewReader(""))
}

// compiles counts the compiler's runs so far.
func (m *machine) compiles() int {
	text, _ := os.ReadFile(m.root + "/compiles")
	return strings.Count(string(text), "\n")
}

// counted makes each compilation leave a line.
func (m *machine) counted() {
	for _, k := range []string{k1.Kernel, k2.Kernel} {
		m.put("lib/modules/"+k+"/build/Makefile", strings.Replace(kbuild, "\t@for", "\t@echo x >>"+m.root+"/compiles\n\t@for", 1))
	}
}

// image makes the image of a kernel be there.
func (m *machine) image(t plan.Target) { m.put("boot/vmlinuz-"+t.Kernel, "image of "+t.Kernel) }

func (m *machine) wantSaid(words ...string) {
	m.t.Helper()
	for _, w := range words {
		if !strings.Contains(m.said(), w) {
			m.t.Errorf("%q isn't said:\n%s", w, m.said())
		}
	}
}

// Whatever the order in which image and headers come, the module is built once.
func TestKernelArrivesInParts(t *testing.T) {
	for _, order := range []string{"headers, image", "image, headers"} {
		t.Run(order, func(t *testing.T) {
			m := newMachine(t)
			m.counted()
			id := m.source("m/1")
			m.must(m.engine().Add(context.Background(), Selection{ID: id}, k1))
			build := m.root + "/lib/modules/6.1.0/build"
			if order == "headers, image" {
				m.must(m.hook("headers", k1.Kernel))
				m.wantSaid("waiting: image", "m/1 for kernel 6.1.0")
			} else {
				if err := os.Rename(build, m.root+"/aside"); err != nil {
					t.Fatal(err)
				}
				m.image(k1)
				m.must(m.hook("image", k1.Kernel))
				m.wantSaid("waiting: headers")
				if err := os.Rename(m.root+"/aside", build); err != nil {
					t.Fatal(err)
				}
			}
			m.wantStatus("m/1 added")
			if m.compiles() != 0 {
				t.Error("it was built too early")
			}
			if order == "headers, image" {
				m.image(k1)
				m.must(m.hook("image", k1.Kernel))
			} else {
				m.must(m.hook("headers", k1.Kernel))
			}
			m.wantStatus("m/1@6.1.0 installed")
			for _, h := range []string{"headers", "image", "verdict"} {
				m.must(m.hook(h, k1.Kernel))
			}
			if n := m.compiles(); n != 1 {
				t.Errorf("%d builds, want 1", n)
			}
			if m.has("tree/.outcome") {
				t.Error("an outcome is left")
			}
		})
	}
}

// A module that isn't meant for a kernel doesn't wait for its headers, also by a
// configuration that only the image has brought.
func TestExcludedModulesDoNotWait(t *testing.T) {
	m := newMachine(t)
	m.put("boot/config-6.1.0", "CONFIG_A=y\n# CONFIG_B is not set\n")
	for name, exclusive := range map[string]string{
		"other/1": "BUILD_EXCLUSIVE_KERNEL=^5", "b/1": "BUILD_EXCLUSIVE_CONFIG=CONFIG_B", "a/1": "BUILD_EXCLUSIVE_CONFIG=CONFIG_A",
	} {
		m.must(m.engine().Add(context.Background(), Selection{ID: m.source(name, exclusive)}, k1))
	}
	if err := os.RemoveAll(m.root + "/lib/modules/6.1.0/build"); err != nil {
		t.Fatal(err)
	}
	m.image(k1)
	m.must(m.hook("image", k1.Kernel))
	for _, name := range []string{"other", "b", "a"} {
		if waits := m.has("tree/.outcome/" + name); waits != (name == "a") {
			t.Errorf("%s waits: %v\n%s", name, waits, m.said())
		}
	}
}

// What reads of the image is built anew when the image comes; what doesn't, not.
func TestImageMakesResultsStale(t *testing.T) {
	m := newMachine(t)
	m.counted()
	plain, reads := m.source("plain/1"), m.source("reads/1", `PRE_BUILD="conf.sh"`)
	m.put("src/reads-1/conf.sh", "#!/bin/sh\ncat "+m.root+"/boot/System.map-6.1.0 2>/dev/null || :\n", 0o755)
	m.must(m.install(plain, k1))
	m.must(m.install(reads, k1))
	before := m.compiles()
	m.put("boot/System.map-6.1.0", "the real one")
	rows := m.engine().Status(context.Background(), Filter{})
	if len(rows[0].Stale) != 0 || len(rows[1].Stale) != 1 {
		t.Errorf("stale: %v and %v", rows[0].Stale, rows[1].Stale)
	}
	m.image(k1)
	m.must(m.hook("image", k1.Kernel))
	m.must(m.hook("image", k1.Kernel))
	if n := m.compiles() - before; n != 1 {
		t.Errorf("%d builds, want 1\n%s", n, m.said())
	}
	m.wantStatus("plain/1@6.1.0 installed, reads/1@6.1.0 installed")
}

func TestHeadersUpgradedInPlace(t *testing.T) {
	m := newMachine(t)
	m.counted()
	m.image(k1)
	id := m.source("m/1")
	m.put("lib/modules/6.1.0/build/Module.symvers", "")
	m.must(m.install(id, k1))
	object := m.read("lib/modules/6.1.0/updates/dkms/m.ko")
	m.put("lib/modules/6.1.0/build/Module.symvers", "0x00000001\ta\tother\tEXPORT_SYMBOL\t\n")
	if rows := m.engine().Status(context.Background(), Filter{}); len(rows[0].Stale) != 1 || rows[0].State != StateInstalled {
		t.Errorf("%+v", rows[0])
	}
	// A rebuild that fails leaves what is there, and isn't tried again.
	m.put("src/m-1/m.c", "#error no\n")
	m.must(m.hook("headers", k1.Kernel))
	m.must(m.hook("headers", k1.Kernel))
	m.wantSaid("m/1 for kernel 6.1.0 (x86_64): failed, optional", "#error no", "Not tried again until something has changed")
	if n := m.compiles(); n != 2 {
		t.Errorf("%d builds, want 2", n)
	}
	if m.read("lib/modules/6.1.0/updates/dkms/m.ko") != object {
		t.Error("the old object has changed")
	}
	m.put("src/m-1/m.c", source)
	m.must(m.hook("headers", k1.Kernel))
	if rows := m.engine().Status(context.Background(), Filter{}); len(rows[0].Stale) != 0 || rows[0].State != StateInstalled {
		t.Errorf("%+v\n%s", rows[0], m.said())
	}
	if n := m.compiles(); n != 3 || m.has("tree/.outcome") {
		t.Errorf("%d builds, want 3", n)
	}
}

// Another compiler makes what it built stale, the same one reinstalled doesn't.
func TestCompilerReplaced(t *testing.T) {
	m := newMachine(t)
	real, err := exec.LookPath("gcc")
	if err != nil {
		t.Fatal(err)
	}
	compiler := func(version string) {
		m.tool("gcc", `case $1 in --version) echo "gcc `+version+`";; *) exec `+real+` "$@";; esac`)
	}
	compiler("12.2")
	id := m.source("m/1")
	m.must(m.install(id, k1))
	stale := func() []string { return m.engine().Status(context.Background(), Filter{})[0].Stale }
	if s := stale(); len(s) != 0 {
		t.Errorf("stale from the start: %v", s)
	}
	compiler("12.2")
	if s := stale(); len(s) != 0 {
		t.Errorf("stale by the same compiler: %v", s)
	}
	compiler("13.1")
	if s := stale(); len(s) != 1 || s[0] != "the compiler" {
		t.Errorf("stale: %v", s)
	}
	m.must(m.engine().Autoinstall(context.Background(), []plan.Target{k1}, state.ID{}))
	if s := stale(); len(s) != 0 {
		t.Errorf("stale after a rebuild: %v", s)
	}
}

func TestFailurePolicy(t *testing.T) {
	for _, c := range []struct{ conf, override, framework, want string }{
		{"", "", conf.Optional, "optional"},
		{"", "", conf.Required, "required"},
		{"FAILURE_POLICY=required", "", conf.Optional, "required"},
		{"FAILURE_POLICY=Optional", "", conf.Required, "optional"},
		{"FAILURE_POLICY=optional", "FAILURE_POLICY=required\n", conf.Optional, "required"},
		{"FAILURE_POLICY=maybe", "", conf.Optional, "required"},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			m := newMachine(t)
			m.set.Framework.Policy = c.framework
			m.image(k1)
			id := m.source("bad/1", c.conf)
			m.put("src/bad-1/bad.c", "#error no\n")
			if c.override != "" {
				m.put("etc/bad.conf", c.override)
			}
			m.must(m.engine().Add(context.Background(), Selection{ID: id}, k1))
			m.must(m.hook("image", k1.Kernel)) // always, so that other hooks run
			m.wantSaid("bad/1 for kernel 6.1.0 (x86_64): failed, "+c.want, "#error no")
			for _, h := range []string{"headers", "verdict", "boot"} {
				err := m.hook(h, k1.Kernel)
				if c.want == "required" {
					m.reason(err, AutoinstallFailed)
				} else {
					m.must(err)
				}
			}
			err := m.hook("package", "bad", "1", "", "", "")
			if c.want == "required" {
				if f := m.reason(err, HookFailed); f.Status != int(MakeFailed) {
					t.Errorf("status %d", f.Status)
				}
			} else {
				m.must(err)
			}
		})
	}
}

// The verdict goes by what is declared now, as its error promises.
func TestPolicyChangedAfterFailure(t *testing.T) {
	m := newMachine(t)
	m.image(k1)
	id := m.source("bad/1", "FAILURE_POLICY=required")
	m.put("src/bad-1/bad.c", "#error no\n")
	m.must(m.engine().Add(context.Background(), Selection{ID: id}, k1))
	m.must(m.hook("image", k1.Kernel))
	m.reason(m.hook("verdict", k1.Kernel), AutoinstallFailed)
	m.put("etc/bad.conf", "FAILURE_POLICY=optional\n")
	m.must(m.hook("verdict", k1.Kernel))
	m.put("etc/bad.conf", "FAILURE_POLICY=required\n")
	m.reason(m.hook("verdict", k1.Kernel), AutoinstallFailed)
}

// A disk's failure is kept, and tried again by the next hook.
func TestFailureOfTheMachine(t *testing.T) {
	m := newMachine(t)
	m.counted()
	m.image(k1)
	id := m.source("m/1", "FAILURE_POLICY=required")
	m.must(m.engine().Add(context.Background(), Selection{ID: id}, k1))
	m.put("lib/modules/6.1.0/updates/dkms", "in the way")
	m.must(m.hook("image", k1.Kernel))
	m.reason(m.hook("verdict", k1.Kernel), AutoinstallFailed)
	if strings.Contains(m.said(), "Not tried again") {
		t.Error(m.said())
	}
	if err := os.Remove(m.root + "/lib/modules/6.1.0/updates/dkms"); err != nil {
		t.Fatal(err)
	}
	m.must(m.hook("image", k1.Kernel))
	m.must(m.hook("verdict", k1.Kernel))
	m.wantStatus("m/1@6.1.0 installed")
}

// An index that can't be made fails the transaction for required modules only.
func TestIndexFailsInAHook(t *testing.T) {
	for _, policy := range []string{"optional", "required"} {
		m := newMachine(t)
		m.image(k1)
		m.tool("depmod", "echo no room >&2; exit 4")
		id := m.source("m/1", "FAILURE_POLICY="+policy)
		m.must(m.engine().Add(context.Background(), Selection{ID: id}, k1))
		errs := []error{m.hook("headers", k1.Kernel), m.hook("package", "m", "1", "", "", "")}
		m.wantSaid("no room")
		for _, err := range errs {
			if policy == "optional" {
				m.must(err)
			} else {
				m.reason(err, IndexFailed)
			}
		}
		if !m.has("tree/.index-due/6.1.0") {
			t.Error("the index isn't due any more")
		}
	}
}

// What a machine is short of says nothing of the module.
func TestShortOfSpaceIsTriedAgain(t *testing.T) {
	m := newMachine(t)
	m.counted()
	m.image(k1)
	for name, failure := range map[string]string{
		"full": "echo 'm.c:1: fatal error: error writing to /tmp/x.s: No space left on device'; exit 1",
		"kill": "kill -9 $$$$",
	} {
		id := m.source(name+"/1", "FAILURE_POLICY=required")
		m.must(m.engine().Add(context.Background(), Selection{ID: id}, k1))
		m.put("lib/modules/6.1.0/build/Makefile", "all:\n\t@"+failure+"\n")
		m.must(m.hook("image", k1.Kernel))
		m.reason(m.hook("verdict", k1.Kernel), AutoinstallFailed)
		m.put("lib/modules/6.1.0/build/Makefile", kbuild)
		m.must(m.hook("image", k1.Kernel))
		m.must(m.hook("verdict", k1.Kernel))
	}
	m.wantStatus("full/1@6.1.0 installed, kill/1@6.1.0 installed")
}

// A package whose dkms.conf can't be used fails as any other failure does.
func TestPackageWithBadConf(t *testing.T) {
	for policy, lines := range map[string]string{"optional": "", "required": "FAILURE_POLICY=required\n"} {
		m := newMachine(t)
		m.image(k1)
		m.source("m/1", `MAKE="unclosed`)
		m.put("etc/m.conf", lines)
		err := m.hook("package", "m", "1", "", "", "")
		m.wantSaid("unexpected EOF")
		if policy == "required" {
			m.reason(err, BadConf)
			m.reason(m.hook("verdict", k1.Kernel), AutoinstallFailed)
		} else {
			m.must(err)
			m.must(m.hook("verdict", k1.Kernel))
		}
		if n := len(m.engine().Outcomes(Filter{Module: "m"})); n != 2 {
			t.Errorf("%d outcomes, want 2", n)
		}
		m.wantStatus("m/1 added")
		m.must(m.engine().Back(context.Background(), state.ID{Module: "m", Version: "1"}, nil, true, plan.ToNothing))
		m.wantStatus("")
	}
}

// Whatever was kept of it, a required module that isn't installed fails.
func TestRequiredModuleThatIsBroken(t *testing.T) {
	m := newMachine(t)
	m.image(k1)
	id := m.source("m/1")
	m.put("etc/m.conf", "FAILURE_POLICY=required\n")
	m.must(m.engine().Add(context.Background(), Selection{ID: id}, k1))
	if err := os.Rename(m.root+"/src/m-1", m.root+"/aside"); err != nil {
		t.Fatal(err)
	}
	m.must(m.hook("image", k1.Kernel))
	m.reason(m.hook("verdict", k1.Kernel), AutoinstallFailed)
	r, err := m.engine().Ready(context.Background(), k1.Kernel, "")
	m.reason(err, NotReady)
	if len(r.Modules) != 1 || !strings.Contains(r.Modules[0].Reasons[0], "broken") {
		t.Errorf("%+v", r.Modules)
	}
}

// The failure of a version counts until a later one is installed.
func TestSupersededFailure(t *testing.T) {
	m := newMachine(t)
	m.image(k1)
	m.put("etc/m.conf", "FAILURE_POLICY=required\n")
	m.source("m/1")
	m.put("src/m-1/m.c", "#error no\n")
	m.reason(m.hook("package", "m", "1", "", "", ""), HookFailed)
	m.source("m/2")
	m.must(m.hook("package", "m", "2", "", "", ""))
	m.must(m.hook("headers", k1.Kernel))
	m.must(m.hook("verdict", k1.Kernel))
}

// A truncated object is put back, one that others have changed is left alone.
func TestDamagedObject(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.install(id, k1))
	const object = "lib/modules/6.1.0/updates/dkms/m.ko"
	whole := m.read(object)
	m.put(object, whole[:len(whole)/2])
	m.must(m.install(id, k1))
	if m.read(object) != whole {
		t.Error("the truncated object is still there")
	}
	m.put(object, whole+"a signature")
	m.must(m.install(id, k1))
	if m.read(object) != whole+"a signature" {
		t.Error("an object that others have changed was replaced")
	}
}

// dpkg makes the machine look as if dkms was started by a maintainer script.
func (m *machine) dpkg(script string, args ...string) {
	m.t.Helper()
	words := append([]string{"/bin/sh", "/var/lib/dpkg/info/m-dkms." + script}, args...)
	m.put(fmt.Sprintf("proc/%d/cmdline", os.Getppid()), strings.Join(words, "\x00")+"\x00")
	m.set.Paths.Proc = m.root + "/proc"
	m.set.Environ = append(os.Environ(), "DPKG_MAINTSCRIPT_NAME="+script)
}

// An upgrade of a package removes the old version first, says the package; what
// is installed stays until the new version works, kernel by kernel.
func TestPackageUpgradeKeepsWhatWorks(t *testing.T) {
	m := newMachine(t)
	ctx := context.Background()
	m.source("m/1")
	m.must(m.hook("package", "m", "1", "", "", ""))
	m.wantStatus("m/1@6.1.0 installed, m/1@6.2.0 installed")
	old := m.read("lib/modules/6.2.0/updates/dkms/m.ko")

	m.dpkg("prerm", "upgrade", "2")
	m.must(m.engine().Back(ctx, state.ID{Module: "m", Version: "1"}, nil, true, plan.ToNothing))
	os.RemoveAll(m.root + "/src/m-1") // the package takes its files away
	m.wantStatus("m/1@6.1.0 installed, m/1@6.2.0 installed")

	m.source("m/2")
	m.put("src/m-2/m.c", "#if "+`__has_include("/dev/null")`+"\n"+source+"int b = 2;\n#endif\n")
	m.put("lib/modules/6.2.0/build/Makefile", "all:\n\t@echo 'm.c:1:1: error: API has changed'; exit 1\n")
	m.dpkg("postinst", "configure", "1")
	m.must(m.hook("package", "m", "2", "", "", "1"))
	m.wantSaid("m/2 for kernel 6.2.0 (x86_64): failed, optional", "API has changed")
	m.wantStatus("m/1@6.2.0 installed, m/2@6.1.0 installed")
	if m.read("lib/modules/6.2.0/updates/dkms/m.ko") != old {
		t.Error("the old object has changed")
	}
	// A third version works everywhere: nothing is left of the others.
	m.put("lib/modules/6.2.0/build/Makefile", kbuild)
	m.dpkg("prerm", "upgrade", "3")
	m.must(m.engine().Back(ctx, state.ID{Module: "m", Version: "2"}, nil, true, plan.ToNothing))
	os.RemoveAll(m.root + "/src/m-2")
	m.source("m/3")
	m.dpkg("postinst", "configure", "2")
	m.must(m.hook("package", "m", "3", "", "", "2"))
	m.wantStatus("m/3@6.1.0 installed, m/3@6.2.0 installed")
	for _, dir := range []string{"tree/.source", "tree/.outcome", "tree/m/1", "tree/m/2"} {
		if m.has(dir) {
			t.Errorf("%s is left", dir)
		}
	}
	// Removal of the package removes.
	m.dpkg("prerm", "remove")
	m.must(m.engine().Back(ctx, state.ID{Module: "m", Version: "3"}, nil, true, plan.ToNothing))
	m.wantStatus("")
}

func TestPackageReinstallBuildsOnlyWhatHasChanged(t *testing.T) {
	m := newMachine(t)
	m.counted()
	ctx := context.Background()
	id := m.source("m/1")
	m.must(m.hook("package", "m", "1", "", "", ""))
	reinstall := func() {
		m.dpkg("prerm", "upgrade", "1")
		m.must(m.engine().Back(ctx, id, nil, true, plan.ToNothing))
		m.dpkg("postinst", "configure", "1")
		m.must(m.hook("package", "m", "1", "", "", "1"))
		m.wantStatus("m/1@6.1.0 installed, m/1@6.2.0 installed")
		if to, _ := os.Readlink(m.root + "/tree/m/1/source"); to != m.root+"/src/m-1" || m.has("tree/.source") {
			t.Errorf("the source is %s", to)
		}
	}
	reinstall()
	if n := m.compiles(); n != 2 {
		t.Errorf("%d builds, want 2", n)
	}
	m.put("src/m-1/m.c", source+"int more;\n")
	reinstall()
	if n := m.compiles(); n != 4 {
		t.Errorf("%d builds, want 4", n)
	}
}

// The successor that fails everywhere, and then goes, takes the old one along.
func TestRemovalOfAFailedSuccessor(t *testing.T) {
	m := newMachine(t)
	ctx := context.Background()
	m.source("m/1")
	m.must(m.hook("package", "m", "1", "", "", ""))
	m.dpkg("prerm", "upgrade", "2")
	m.must(m.engine().Back(ctx, state.ID{Module: "m", Version: "1"}, nil, true, plan.ToNothing))
	m.source("m/2")
	m.put("src/m-2/m.c", "#error no\n")
	m.must(m.hook("package", "m", "2", "", "", "1"))
	m.wantStatus("m/1@6.1.0 installed, m/1@6.2.0 installed, m/2 added")
	// The package is installed once more: the old one goes on serving.
	m.dpkg("prerm", "upgrade", "2")
	m.must(m.engine().Back(ctx, state.ID{Module: "m", Version: "2"}, nil, true, plan.ToNothing))
	m.must(m.hook("package", "m", "2", "", "", "2"))
	m.wantStatus("m/1@6.1.0 installed, m/1@6.2.0 installed, m/2 added")
	m.dpkg("prerm", "remove")
	m.must(m.engine().Back(ctx, state.ID{Module: "m", Version: "2"}, nil, true, plan.ToNothing))
	m.wantStatus("")
	for _, dir := range []string{"lib/modules/6.1.0/updates", "tree/.source", "tree/.outcome", "tree/m"} {
		if m.has(dir) {
			t.Errorf("%s is left", dir)
		}
	}
}

// A module that came before the one it needs is built when that one comes.
func TestPackageBringsDependents(t *testing.T) {
	m := newMachine(t)
	m.source("needs/1", "BUILD_DEPENDS=base")
	m.must(m.hook("package", "needs", "1", "", "", ""))
	m.wantStatus("needs/1 added")
	m.source("base/1")
	m.must(m.hook("package", "base", "1", "", "", ""))
	m.wantStatus("base/1@6.1.0 installed, base/1@6.2.0 installed, needs/1@6.1.0 installed, needs/1@6.2.0 installed")
	if m.has("tree/.outcome") {
		t.Error("an outcome is left")
	}
}

func TestKernelRemoval(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.install(id, k1))
	m.must(m.hook("preinst", k1.Kernel))
	m.wantStatus("m/1@6.1.0 installed")
	m.must(m.hook("prerm", k1.Kernel))
	m.wantStatus("m/1 added")
	if m.has("lib/modules/6.1.0/updates") {
		t.Error("a directory is left")
	}
}

func TestAutoinstallerScript(t *testing.T) {
	m := newMachine(t)
	id := m.source("m/1")
	m.must(m.engine().Add(context.Background(), Selection{ID: id}, k1))
	m.must(m.hook("autoinstaller", "stop"))
	m.must(m.hook("autoinstaller", "start", "6.9.0"))
	m.wantSaid("6.9.0 was skipped since its headers are missing")
	m.must(m.hook("autoinstaller", "start"))
	m.wantStatus("m/1@6.1.0 installed")
}

func TestPacmanHook(t *testing.T) {
	m := newMachine(t)
	m.source("m/1")
	run := func(verb string, paths ...string) {
		t.Helper()
		for i, p := range paths {
			paths[i] = strings.TrimPrefix(filepath.Join(m.root, p), "/")
		}
		m.must(m.engine().Hook(context.Background(), "pacman", []string{verb}, strings.NewReader(strings.Join(paths, "\n")+"\n")))
	}
	run("install", "src/m-1/dkms.conf", "lib/modules/6.1.0/vmlinuz")
	m.wantStatus("m/1@6.1.0 installed, m/1@6.2.0 installed")
	run("remove", "lib/modules/6.1.0/vmlinuz")
	m.wantStatus("m/1@6.2.0 installed")
	run("remove", "src/m-1/dkms.conf")
	m.wantStatus("")
}

// The boot default stays at the kernel that has its modules until the new one
// has them as well.
func TestBootGate(t *testing.T) {
	m := newMachine(t)
	m.set.Framework.BootGate = true
	m.set.Paths.LoaderRoots = []string{m.root + "/efi"}
	arrives := func(k string) {
		m.put("boot/vmlinuz-"+k, "image")
		m.put("efi/vmlinuz-"+k, "image")
		m.put("efi/loader/entries/"+k+".conf", "title Linux\nversion "+k+"\nlinux /vmlinuz-"+k+"\n")
		m.put("lib/modules/"+k+"/modules.dep", "updates/dkms/m.ko:\n")
	}
	const loader = "timeout 3\ndefault 6*.conf\n"
	m.put("efi/loader/loader.conf", loader)
	arrives(k1.Kernel)
	id := m.source("m/1")
	m.must(m.install(id, k1))
	arrives(k2.Kernel)
	m.put("lib/modules/6.2.0/build/Makefile", "all:\n\t@echo 'm.c:1:1: error: API has changed'; exit 1\n")

	m.must(m.hook("image", k2.Kernel))
	if m.read("efi/loader/loader.conf") != loader {
		t.Error("the image's hook was too early to touch the default")
	}
	m.must(m.hook("verdict", k2.Kernel))
	m.wantSaid("The boot default is held at kernel 6.1.0")
	if text := m.read("efi/loader/loader.conf"); !strings.Contains(text, "\ndefault 6.1.0.conf\n") {
		t.Errorf("loader.conf is %q\n%s", text, m.said())
	}
	_, err := m.engine().Ready(context.Background(), k2.Kernel, "")
	m.reason(err, NotReady)

	// Whatever makes the new kernel ready gives it free.
	m.put("lib/modules/6.2.0/build/Makefile", kbuild)
	m.must(m.install(id, k2))
	m.wantSaid("The boot default is free again.")
	if text := m.read("efi/loader/loader.conf"); text != loader {
		t.Errorf("loader.conf is %q", text)
	}
}
