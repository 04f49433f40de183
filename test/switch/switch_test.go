// SPDX-License-Identifier: Apache-2.0

// Package switchover tests that one DKMS tree can be used by this program and
// by another dkms in turn: what one has added, built and installed the other
// lists, uninstalls and removes, and nothing is left behind.
//
// The other is the distribution's dkms of the lab, and with $DKMS_PEER also
// the script that it names, upstream's of the version that this program takes
// the place of.
package switchover

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// peer is another dkms.
type peer struct {
	name   string
	script string
	// old is set for a version before 3.1.3: it words remarks in the status
	// in another way, and knows no broken modules.
	old bool
	// archives is set when originals are archived on this distribution.
	archives bool
}

// peers returns the other programs to try.
func peers(t *testing.T) []peer {
	t.Helper()
	all := []peer{{name: "debian", script: filepath.Join(lab.Oracle(t), "usr/sbin/dkms"), old: true}}
	if script := os.Getenv("DKMS_PEER"); script != "" {
		all = append(all, peer{name: "upstream", script: script, archives: true})
	}
	return all
}

// machine is a root with both programs: ours is "dkms", the other "peer".
type machine struct {
	*lab.Root
	t      *testing.T
	peer   peer
	kernel string
	before map[string]string
}

func newMachine(t *testing.T, p peer, kernel string) *machine {
	t.Helper()
	m := &machine{Root: lab.Scratch(t), t: t, peer: p, kernel: kernel}
	m.AddOracle()
	lab.MustExec(t, "install", "-m", "755", p.script, m.Path("usr/sbin/peer"))
	m.AddBinary()
	return m
}

// source writes the source of a module with one object.
func (m *machine) source(name, version, object, location string) {
	m.t.Helper()
	files := map[string]string{
		"dkms.conf": fmt.Sprintf("PACKAGE_NAME=%q\nPACKAGE_VERSION=%q\nBUILT_MODULE_NAME[0]=%q\nDEST_MODULE_LOCATION[0]=%q\nAUTOINSTALL=\"yes\"\n", name, version, object, location),
		"Makefile":  "obj-m := " + object + ".o\n",
		object + ".c": fmt.Sprintf("#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\nMODULE_VERSION(%q);\nstatic int __init start(void) { return 0; }\nmodule_init(start);\n",
			version),
	}
	for file, text := range files {
		path := m.Path("usr/src", name+"-"+version, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			m.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *machine) exists(elem ...string) bool {
	_, err := os.Lstat(m.Path(elem...))
	return err == nil
}

// snapshot returns the files of the directories that dkms writes to, without
// what either program keeps: logs and the signing key.
func (m *machine) snapshot() map[string]string {
	m.t.Helper()
	files := map[string]string{}
	for _, dir := range []string{"var/lib/dkms", "usr/src", "etc/dkms", "tmp", "var/tmp", "usr/lib/modules/" + m.kernel} {
		top := m.Path(dir)
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(m.Dir, path)
			if strings.HasPrefix(name, "usr/src/linux-") || strings.HasPrefix(name, "var/lib/dkms/mok.") || strings.HasPrefix(name, "var/lib/dkms/.log") {
				return skip(d)
			}
			files[name], err = describe(path)
			return err
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	return files
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// describe tells the kind, mode and content of a file. The order of the lines
// of an index follows that of the directory: it is no difference.
func describe(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return os.Readlink(path)
	case !info.Mode().IsRegular() || strings.HasSuffix(path, ".bin"):
		return info.Mode().String(), nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(filepath.Base(path), "modules.") {
		lines := strings.SplitAfter(string(data), "\n")
		slices.Sort(lines)
		data = []byte(strings.Join(lines, ""))
	}
	return fmt.Sprintf("%v %x", info.Mode(), sha256.Sum256(data)), nil
}

// clean checks that the root is as it was when before was taken. The index
// that an old peer makes even for a kernel without one is its own affair.
func (m *machine) clean(taker string) {
	m.t.Helper()
	after := m.snapshot()
	if taker == "peer" && m.peer.old {
		maps.DeleteFunc(after, func(name, _ string) bool {
			return m.before[name] == "" && strings.HasPrefix(name, "usr/lib/modules/"+m.kernel+"/modules.")
		})
	}
	for _, name := range slices.Sorted(maps.Keys(m.before)) {
		if now, ok := after[name]; !ok {
			m.t.Errorf("gone: %s", name)
		} else if now != m.before[name] {
			m.t.Errorf("changed: %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, ok := m.before[name]; !ok {
			m.t.Errorf("left behind: %s", name)
		}
	}
}

// sameStatus checks that both programs list the tree in the same bytes.
func (m *machine) sameStatus(want string) {
	m.t.Helper()
	ours := m.MustRun("dkms", "status").Stdout
	theirs := m.MustRun("peer", "status").Stdout
	if m.peer.old {
		theirs = strings.NewReplacer(
			" (original_module exists)", " (Original modules exist)",
			" (WARNING! Missing some built modules!)", " (Built modules are missing in the kernel modules folder)",
			" (WARNING! Diff between built and installed module!)", " (Differences between built and installed modules)",
		).Replace(theirs)
	}
	if ours != theirs {
		m.t.Errorf("ours lists\n%stheirs lists\n%s", ours, theirs)
	}
	if ours != want {
		m.t.Errorf("the status is\n%swant\n%s", ours, want)
	}
	if m.t.Failed() {
		m.t.FailNow()
	}
}

// both runs a test in both directions with every peer: maker is the program
// that makes the tree, taker the one that takes it back.
func both(t *testing.T, test func(t *testing.T, p peer, maker, taker string)) {
	for _, p := range peers(t) {
		for _, d := range [][2]string{{"peer", "dkms"}, {"dkms", "peer"}} {
			t.Run(p.name+"/"+d[0]+" to "+d[1], func(t *testing.T) { test(t, p, d[0], d[1]) })
		}
	}
}

// Two versions, one installed and one built; a third only added; another
// module installed and then changed by hand.
func TestSwitch(t *testing.T) {
	older, _ := lab.Kernels(t)
	both(t, func(t *testing.T, p peer, maker, taker string) {
		m := newMachine(t, p, older)
		for _, v := range []string{"1.0", "2.0", "3.0"} {
			m.source("tiny", v, "tiny_one", "/updates")
		}
		m.source("other", "0.1~rc2+x", "other", "/extra")
		m.before = m.snapshot()

		m.MustRun(maker, "add", "-m", "tiny", "-v", "3.0")
		m.MustRun(maker, "add", "-m", "tiny", "-v", "1.0")
		m.MustRun(maker, "build", "-m", "tiny", "-v", "1.0", "-k", older)
		m.MustRun(maker, "install", "-m", "tiny", "-v", "2.0", "-k", older)
		m.MustRun(maker, "install", "-m", "other", "-v", "0.1~rc2+x", "-k", older)
		on := ", " + older + ", x86_64: "
		rest := "tiny/1.0" + on + "built\ntiny/2.0" + on + "installed\ntiny/3.0: added\n"
		m.sameStatus("other/0.1~rc2+x" + on + "installed\n" + rest)
		m.MustRun("dkms", "fsck") // what either has made is in order

		object := m.Path("usr/lib/modules", older, "updates/dkms/other.ko")
		data, err := os.ReadFile(object)
		if err == nil {
			err = os.WriteFile(object, append(data, 0), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		m.sameStatus("other/0.1~rc2+x" + on + "installed (Differences between built and installed modules)\n" + rest)

		// The other program goes on: it takes 2.0 for the installed version.
		m.MustRun(taker, "install", "-m", "tiny", "-v", "2.0", "-k", older)
		m.MustRun(taker, "build", "-m", "tiny", "-v", "1.0", "-k", older)
		m.sameStatus("other/0.1~rc2+x" + on + "installed (Differences between built and installed modules)\n" + rest)
		m.MustRun(taker, "uninstall", "-m", "tiny", "-v", "2.0", "-k", older)
		m.MustRun(taker, "uninstall", "-m", "other", "-v", "0.1~rc2+x", "-k", older)
		m.sameStatus("other/0.1~rc2+x" + on + "built\ntiny/1.0" + on + "built\ntiny/2.0" + on + "built\ntiny/3.0: added\n")
		if m.exists("usr/lib/modules", older, "updates") {
			t.Error("objects or their directory are still in the kernel's tree")
		}
		m.MustRun(taker, "install", "-m", "tiny", "-v", "1.0", "-k", older)
		m.sameStatus("other/0.1~rc2+x" + on + "built\ntiny/1.0" + on + "installed\ntiny/2.0" + on + "built\ntiny/3.0: added\n")
		for _, name := range []string{"other/0.1~rc2+x", "tiny/1.0", "tiny/2.0", "tiny/3.0"} {
			m.MustRun(taker, "remove", name, "--all")
		}
		m.sameStatus("")
		m.clean(taker)
	})
}

// A module whose source has gone is broken for ours and for a newer peer; when
// the source is back it can be removed.
func TestBrokenSource(t *testing.T) {
	older, _ := lab.Kernels(t)
	both(t, func(t *testing.T, p peer, maker, taker string) {
		m := newMachine(t, p, older)
		m.source("tiny", "1.0", "tiny_one", "/updates")
		m.source("lost", "1.0", "lost", "/updates")
		m.before = m.snapshot()
		m.MustRun(maker, "install", "tiny/1.0", "-k", older)
		m.MustRun(maker, "install", "lost/1.0", "-k", older)
		away := m.Path("usr/lost-1.0")
		if err := os.Rename(m.Path("usr/src/lost-1.0"), away); err != nil {
			t.Fatal(err)
		}
		rest := "tiny/1.0, " + older + ", x86_64: installed\n"
		if got := m.MustRun("dkms", "status").Stdout; got != "lost/1.0: broken\n"+rest {
			t.Errorf("our status is\n%s", got)
		}
		if !p.old {
			m.sameStatus("lost/1.0: broken\n" + rest)
		}
		if taker == "dkms" || !p.old {
			for _, verb := range []string{"remove", "uninstall", "build"} {
				if r := m.Run(taker, verb, "lost/1.0", "-k", older); r.Code != 4 {
					t.Errorf("%s of a broken module: exit code %d, want 4\n%s", verb, r.Code, r.Stderr)
				}
			}
		}
		if err := os.Rename(away, m.Path("usr/src/lost-1.0")); err != nil {
			t.Fatal(err)
		}
		m.sameStatus("lost/1.0, " + older + ", x86_64: installed\n" + rest)
		m.MustRun(taker, "remove", "lost/1.0", "--all")
		m.MustRun(taker, "remove", "tiny/1.0", "--all")
		m.sameStatus("")
		m.clean(taker)
	})
}

// A module that takes the place of one of the kernel's own: the original is
// archived, comes back, and the index of the kernel's modules is right.
func TestOriginal(t *testing.T) {
	_, newer := lab.Kernels(t)
	both(t, func(t *testing.T, p peer, maker, taker string) {
		m := newMachine(t, p, newer)
		m.source("dummy", "9.9", "dummy", "/kernel/drivers/net")
		m.thin()
		m.before = m.snapshot()
		original := "usr/lib/modules/" + newer + "/kernel/drivers/net/dummy.ko.xz"
		archives := maker == "dkms" || p.archives

		m.MustRun(maker, "install", "dummy/9.9", "-k", newer)
		line := "dummy/9.9, " + newer + ", x86_64: installed"
		if archives {
			line += " (Original modules exist)"
		}
		m.sameStatus(line + "\n")
		if m.exists(original) == archives {
			t.Errorf("the original is in its place: %v", !archives)
		}
		if got := m.found("dummy"); got != "updates/dkms/dummy.ko.xz" {
			t.Errorf("modules.dep leads to %q", got)
		}
		m.MustRun(taker, "uninstall", "dummy/9.9", "-k", newer)
		m.sameStatus("dummy/9.9, " + newer + ", x86_64: built\n")
		if archives && taker == "peer" && !p.archives {
			return // Debian's patch drops what others have archived: the original is lost
		}
		if got := m.found("dummy"); got != "kernel/drivers/net/dummy.ko.xz" {
			t.Errorf("modules.dep leads to %q", got)
		}
		m.MustRun(taker, "remove", "dummy/9.9", "--all")
		m.sameStatus("")
		m.clean(taker)
	})
}

// thin leaves the kernel only its network drivers, which makes depmod quick.
func (m *machine) thin() {
	m.t.Helper()
	kernel := m.Path("usr/lib/modules", m.kernel, "kernel")
	for _, dir := range []string{kernel, filepath.Join(kernel, "drivers")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, e := range entries {
			if name := e.Name(); name != "drivers" && name != "net" {
				if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
					m.t.Fatal(err)
				}
			}
		}
	}
	if err := os.RemoveAll(filepath.Join(kernel, "net")); err != nil {
		m.t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(kernel, "drivers/net"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := os.RemoveAll(filepath.Join(kernel, "drivers/net", e.Name())); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	m.MustRun("depmod", m.kernel)
}

// found returns the object that modules.dep has for a name.
func (m *machine) found(name string) string {
	m.t.Helper()
	data, err := os.ReadFile(m.Path("usr/lib/modules", m.kernel, "modules.dep"))
	if err != nil {
		m.t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		if object, _, _ := strings.Cut(line, ":"); strings.HasPrefix(filepath.Base(object), name+".ko") {
			all = append(all, object)
		}
	}
	return strings.Join(all, " ")
}
