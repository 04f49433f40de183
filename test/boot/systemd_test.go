// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/boot"
	"dkms-go/test/lab"
)

const loaderConf = "efi/loader/loader.conf"

// newSystemd is a machine with two kernels on a partition of systemd-boot,
// put there by kernel-install.
func newSystemd(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.kernel(m.older)
	m.kernel(m.newer)
	if err := os.MkdirAll(m.Path("efi"), 0o755); err != nil {
		t.Fatal(err)
	}
	// bootctl wants the top of a file system.
	lab.MustExec(t, "mount", "-t", "tmpfs", "efi", m.Path("efi"))
	m.write("efi/EFI/Linux/.keep", "")
	m.write(loaderConf, "timeout 3\n#console-mode keep\n")
	m.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	m.write("etc/kernel/entry-token", "debian\n")
	m.write("etc/kernel/install.conf", "layout=bls\n")
	// In place of the one that runs depmod, which takes long.
	m.write("etc/kernel/install.d/50-depmod.install", "#!/bin/sh\n")
	lab.MustExec(t, "chmod", "755", m.Path("etc/kernel/install.d/50-depmod.install"))
	m.write("etc/kernel/cmdline", "root=/dev/vda1 ro\n")
	for _, r := range []string{m.older, m.newer} {
		m.MustRun("env", "BOOT_ROOT=/efi", "kernel-install", "add", r, "/boot/vmlinuz-"+r, "/boot/initrd.img-"+r)
	}
	return m
}

// list runs `bootctl list`.
func (m *machine) list(args ...string) string {
	m.t.Helper()
	args = append([]string{"SYSTEMD_RELAX_ESP_CHECKS=1", "bootctl", "--esp-path=/efi"}, args...)
	return m.MustRun("env", append(args, "list")...).Stdout
}

// order returns the ids of bootctl in the order of the menu.
func (m *machine) order() (ids []string) {
	m.t.Helper()
	dec := json.NewDecoder(strings.NewReader(m.list("--json=short")))
	for dec.More() {
		var e struct{ ID string }
		if err := dec.Decode(&e); err != nil {
			m.t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// standard returns the id of the entry that bootctl calls the default.
func (m *machine) standard() string {
	m.t.Helper()
	chosen := false
	for line := range strings.Lines(m.list()) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ": "); name {
		case "title":
			chosen = strings.Contains(value, "(default)")
		case "id":
			if chosen {
				return value
			}
		}
	}
	return ""
}

// The gate with systemd-boot; bootctl must see the same default.
func TestSystemdBoot(t *testing.T) {
	m := newSystemd(t)
	same := func(release string) {
		t.Helper()
		c := m.wantNext(release, release)
		if standard := m.standard(); c.Loader != "systemd-boot" || c.Entry != standard {
			t.Errorf("the entry is %+v; bootctl has %s", c, standard)
		}
	}
	same(m.newer)
	for _, conf := range []string{
		m.read(loaderConf), "", "default debian-" + m.older + "*", "default debian-" + m.newer + ".conf\r\ntimeout 5\r\n",
		"# dkms-gate: default x\n\tdefault\t nothing-*\ndefault  debian-6*.conf",
	} {
		m.write(loaderConf, conf)
		first := strings.TrimSuffix(strings.TrimPrefix(m.standard(), "debian-"), ".conf")
		same(first)
		do[bool](m, "pin", m.older)
		same(m.older)
		if do[string](m, "pinned", "") != m.older || do[bool](m, "pin", m.older) {
			t.Errorf("%q: the second pin changed something", conf)
		}
		do[bool](m, "pin", m.newer)
		same(m.newer)
		if !do[bool](m, "unpin", "") || m.read(loaderConf) != conf {
			t.Errorf("%q became %q", conf, m.read(loaderConf))
		}
		same(first)
	}
	if do[bool](m, "unpin", "") {
		t.Error("something was unpinned where nothing was pinned")
	}
	conf := m.read(loaderConf)
	if r := m.try("pin", "6.7.8"); r.Code == 0 || !strings.Contains(r.Stderr, "no entry for it") || m.read(loaderConf) != conf {
		t.Errorf("pin of an unknown release: %s", r.Stderr)
	}
	if found, _ := filepath.Glob(m.Path("efi/loader/*")); len(found) != 2 {
		t.Errorf("left beside loader.conf: %q", found)
	}
}

// A unified kernel image among the entries, made with systemd's own stub.
func TestUnified(t *testing.T) {
	m := newSystemd(t)
	const newest = "6.99.0-1-amd64"
	m.write("uname", newest)
	lab.MustExec(t, "objcopy",
		"--add-section", ".osrel="+m.Path("usr/lib/os-release"), "--change-section-vma", ".osrel=0x20000",
		"--add-section", ".uname="+m.Path("uname"), "--change-section-vma", ".uname=0x30000",
		"--add-section", ".linux="+m.Path("boot/vmlinuz-"+m.newer), "--change-section-vma", ".linux=0x2000000",
		m.Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub"), m.Path("efi/EFI/Linux/debian-new.efi"))
	ids := m.order()
	if !slices.Contains(ids, "debian-new.efi") {
		t.Fatalf("bootctl has %q", ids)
	}
	c := do[boot.Choice](m, "next", "")
	if c.Entry != m.standard() {
		t.Errorf("the entry is %+v; bootctl has %q", c, ids)
	}
	do[bool](m, "pin", newest)
	if standard := m.standard(); m.wantNext(newest, newest).Entry != standard || standard != "debian-new.efi" {
		t.Errorf("pinned; bootctl has %q", standard)
	}
}

// The order of the menu, where no default is set: bootctl's.
func TestSystemdBootOrder(t *testing.T) {
	m := newSystemd(t)
	for _, pair := range [][2]string{
		{"version 6.1.0-9", "version 6.1.0-10"},
		{"version 6.1~rc1", "version 6.1"},
		{"version 6.1", "version 6.1-2"},
		{"version 6.1a", "version 6.1"},
		{"version 6.1^1", "version 6.1"},
		{"version 6.1.1", "version 6.1^1"},
		{"version 6.1+b1", "version 6.1"},
		{"version 6.10\nsort-key b", "version 6.1\nsort-key a"},
		{"version 6.10", "version 6.1\nsort-key z"},
		{"version 1\nsort-key a\nmachine-id 11111111111111111111111111111111", "version 2\nsort-key a\nmachine-id 22222222222222222222222222222222"},
		{"version a", "version 1"},
		{"version 6.1\nsort-key a", "version 6.1.0\nsort-key a"},
		{"version 06\nsort-key a", "version 6\nsort-key a"},
		{"version 6.1_2\nsort-key a", "version 6.1.2\nsort-key a"},
		{"version 6.1ab\nsort-key a", "version 6.1B\nsort-key a"},
	} {
		for _, swap := range []bool{false, true} {
			names := []string{"one.conf", "two.conf"}
			if swap {
				names[0], names[1] = names[1], names[0]
			}
			lab.MustExec(t, "sh", "-c", "rm "+m.Path("efi/loader/entries")+"/*")
			for i, name := range names {
				m.write("efi/loader/entries/"+name, "title "+name+"\nlinux /vmlinuz-6.1\n"+pair[i]+"\n")
			}
			ids := m.order()
			r := m.try("next", "")
			var c struct{ Entry string }
			if err := json.Unmarshal([]byte(r.Stdout), &c); err != nil {
				t.Fatalf("%q: %s", pair, r.Stderr)
			}
			if c.Entry != ids[0] {
				t.Errorf("%q: %q is the first, bootctl has %q", pair, c.Entry, ids)
			}
		}
	}
}
