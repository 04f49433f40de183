// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// probe stands in for grub-probe, which wants a disk below the root. All else
// of GRUB's is real.
const probe = `#!/bin/sh
for last; do :; done
case "$*" in
  *target=device*) echo /dev/vda1 ;;
  *target=fs_uuid*) echo 0f4d9ab3-2c39-4a8c-a9f3-6c83a0b2d1e7 ;;
  *target=fs*) echo ext2 ;;
  *target=partmap*) echo gpt ;;
  *target=hints_string*) echo "--hint-bios=hd0,gpt1" ;;
  *target=compatibility_hint*) echo hd0,gpt1 ;;
esac
`

const gateFile = "etc/default/grub.d/dkms-gate.cfg"

// newGRUB is a machine with two kernels and a menu of grub-mkconfig's.
func newGRUB(t *testing.T, defaults string) *machine {
	t.Helper()
	m := newMachine(t)
	m.kernel(m.older)
	m.kernel(m.newer)
	m.write("usr/sbin/grub-probe", probe)
	lab.MustExec(t, "ln", "-sf", "/lib/systemd/systemd", m.Path("sbin/init"))
	m.write("etc/default/grub", "GRUB_TIMEOUT=5\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=quiet\n"+defaults)
	if err := os.MkdirAll(m.Path("boot/grub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.Path("usr/sbin/grub-probe"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.MustRun("update-grub")
	return m
}

func (m *machine) checkScript() {
	m.t.Helper()
	m.MustRun("grub-script-check", "/boot/grub/grub.cfg")
}

// The gate on Debian: pinned, a newer kernel arrives, unpinned.
func TestGRUB(t *testing.T) {
	m := newGRUB(t, "GRUB_DEFAULT=0\n")
	before := m.read("boot/grub/grub.cfg")
	if c := m.wantNext(m.newer, m.newer); c.Loader != "grub" || !strings.HasPrefix(c.Entry, "gnulinux-simple-") {
		t.Errorf("the default is %+v", c)
	}
	if do[bool](m, "unpin", "") {
		t.Error("something was unpinned where nothing was pinned")
	}
	if !do[bool](m, "pin", m.older) {
		t.Error("pin changed nothing")
	}
	m.checkScript()
	c := m.wantNext(m.older, m.older)
	if !strings.Contains(c.Entry, ">gnulinux-"+m.older+"-advanced-") {
		t.Errorf("the pinned entry is %+v", c)
	}
	if got := do[string](m, "pinned", ""); got != m.older {
		t.Errorf("pinned is %q", got)
	}
	held := m.read(gateFile)
	if do[bool](m, "pin", m.older) || m.read(gateFile) != held {
		t.Error("the second pin changed something")
	}

	// The package of a newer kernel runs update-grub.
	const newest = "6.99.0-1-amd64"
	m.kernel(newest)
	m.MustRun("update-grub")
	m.wantNext(m.older, m.older)
	if !do[bool](m, "pin", m.newer) {
		t.Error("pin of another kernel changed nothing")
	}
	m.wantNext(m.newer, m.newer)
	lab.MustExec(t, "rm", m.Path("boot/vmlinuz-"+newest), m.Path("boot/config-"+newest), m.Path("boot/initrd.img-"+newest))
	if !do[bool](m, "unpin", "") {
		t.Error("unpin changed nothing")
	}
	m.checkScript()
	if got := m.read("boot/grub/grub.cfg"); got != before {
		t.Error("grub.cfg isn't what it was")
	}
	if r := lab.Exec(t, "test", "-e", m.Path(gateFile)); r.Code == 0 {
		t.Error("the gate's file is still there")
	}
	m.wantNext(m.newer, m.newer)
}

// Without submenus the entries are at the top, and the directory of the gate's
// file may be missing.
func TestGRUBFlat(t *testing.T) {
	m := newGRUB(t, "GRUB_DEFAULT=2\nGRUB_DISABLE_SUBMENU=y\nGRUB_DISABLE_RECOVERY=true\n")
	lab.MustExec(t, "rm", "-r", m.Path("etc/default/grub.d"))
	m.write("etc/default/grub", m.read("etc/default/grub")+"GRUB_DEFAULT=0\n")
	m.MustRun("update-grub")
	m.wantNext(m.newer, m.newer)
	do[bool](m, "pin", m.older)
	m.checkScript()
	m.wantNext(m.older, m.older)
	do[bool](m, "unpin", "")
	if _, err := os.Stat(m.Path("etc/default/grub.d")); err == nil {
		t.Error("the directory of the gate's file is still there")
	}
	m.wantNext(m.newer, m.newer)
}

// What nothing is known of is refused, and nothing changed; so is a setting
// that goes before ours.
func TestGRUBRefused(t *testing.T) {
	m := newGRUB(t, "GRUB_DEFAULT=0\n")
	before := m.read("boot/grub/grub.cfg")
	refused := func(release, want string) {
		t.Helper()
		r := m.try("pin", release)
		if r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("pin %q: %d %s", release, r.Code, r.Stderr)
		}
		if _, err := os.Stat(m.Path(gateFile)); err == nil {
			t.Errorf("pin %q left its file", release)
		}
		if m.read("boot/grub/grub.cfg") != before {
			t.Errorf("pin %q changed grub.cfg", release)
		}
	}
	refused("6.7.8-amd64", "has no menu entry of its own")
	refused("../../etc", "is no kernel release")
	m.write("etc/default/grub.d/zz-local.cfg", "GRUB_DEFAULT=0\n")
	refused(m.older, "something else sets the default")
	m.write("etc/default/grub.d/zz-local.cfg", "")
	m.write("etc/grub.d/99_broken", "#!/bin/sh\necho 'menuentry {'\n")
	lab.MustExec(t, "chmod", "755", m.Path("etc/grub.d/99_broken"))
	refused(m.older, "making /boot/grub/grub.cfg again")
}

// grub-set-default, grub-reboot and the gate together.
func TestGRUBSaved(t *testing.T) {
	m := newGRUB(t, "GRUB_DEFAULT=saved\n")
	m.MustRun("grub-editenv", "/boot/grub/grubenv", "create")
	m.wantNext(m.newer, m.newer)
	m.MustRun("grub-set-default", "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux "+m.older)
	m.wantNext(m.older, m.older)
	m.MustRun("grub-reboot", "0")
	if c := m.wantNext(m.newer, m.older); !c.OneShot || !strings.Contains(c.Why, "next_entry") {
		t.Errorf("the choice is %+v", c)
	}
	env := m.read("boot/grub/grubenv")
	do[bool](m, "pin", m.older)
	m.wantNext(m.newer, m.older)
	do[bool](m, "unpin", "")
	if m.read("boot/grub/grubenv") != env {
		t.Error("grubenv isn't what it was")
	}
	m.MustRun("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry")
	m.MustRun("grub-set-default", "1>2")
	m.wantNext(m.older, m.older)
}

// The gate by saved_entry: a grub-mkconfig that reads no directory, as
// Fedora's.
func TestGRUBEnvironment(t *testing.T) {
	m := newGRUB(t, "GRUB_DEFAULT=saved\n")
	lab.MustExec(t, "sed", "-i", "s/default.grub[.]d/nowhere/", m.Path("usr/sbin/grub-mkconfig"))
	m.MustRun("grub-editenv", "/boot/grub/grubenv", "create")
	env := m.read("boot/grub/grubenv")
	for _, old := range []string{"", "0"} {
		if old != "" {
			m.MustRun("grub-set-default", old)
			env = m.read("boot/grub/grubenv")
		}
		do[bool](m, "pin", m.older)
		m.wantNext(m.older, m.older)
		if do[bool](m, "pin", m.older) || do[string](m, "pinned", "") != m.older {
			t.Error("the second pin changed something")
		}
		do[bool](m, "unpin", "")
		if m.read("boot/grub/grubenv") != env || do[string](m, "pinned", "") != "" {
			t.Errorf("saved_entry %q: grubenv isn't what it was", old)
		}
	}
	// What somebody sets in between is what counts afterwards.
	do[bool](m, "pin", m.older)
	m.MustRun("grub-set-default", "1")
	m.wantNext(m.newer, m.newer)
	do[bool](m, "pin", m.older)
	m.wantNext(m.older, m.older)
	do[bool](m, "unpin", "")
	if got := m.MustRun("grub-editenv", "/boot/grub/grubenv", "list").Stdout; got != "saved_entry=1\n" {
		t.Errorf("grubenv has %q", got)
	}
	m.write("etc/default/grub", "GRUB_DEFAULT=0\n")
	m.MustRun("update-grub")
	if r := m.try("pin", m.older); r.Code == 0 || !strings.Contains(r.Stderr, "GRUB_DEFAULT=saved") {
		t.Errorf("pin: %s", r.Stderr)
	}
}
