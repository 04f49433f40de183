// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/host"
)

// machine is a made-up machine below a directory: its paths, and a PATH with
// nothing in it but what a test puts there.
type machine struct {
	host.Paths
	dir string
	env []string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	dir := t.TempDir()
	p := host.Default()
	for _, place := range []*string{
		&p.Boot, &p.InstallTree, &p.MachineID, &p.KernelInstall, &p.InitramfsTools, &p.InitramfsToolsShare,
		&p.DracutConf, &p.MkinitcpioConf, &p.MkinitcpioConfDir, &p.MkinitcpioPresets,
	} {
		*place = dir + *place
	}
	for i := range p.ESP {
		p.ESP[i] = dir + p.ESP[i]
	}
	for i := range p.DracutDirs {
		p.DracutDirs[i] = dir + p.DracutDirs[i]
	}
	return machine{p, dir, []string{"PATH=" + t.TempDir()}}
}

func (m machine) write(t *testing.T, path, text string) string {
	t.Helper()
	path = filepath.Join(m.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tool puts a program into PATH that records its arguments and then does what
// script says.
func (m machine) tool(t *testing.T, name, script string) {
	t.Helper()
	dir := strings.TrimPrefix(m.env[0], "PATH=")
	text := "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\necho " + name + ` "$@" >>` + m.dir + "/calls\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// calls returns what the tools of a machine were called with, since last asked.
func (m machine) calls(t *testing.T) string {
	t.Helper()
	text, _ := os.ReadFile(filepath.Join(m.dir, "calls"))
	os.Remove(filepath.Join(m.dir, "calls"))
	return strings.ReplaceAll(string(text), m.dir, "")
}

func TestFind(t *testing.T) {
	for _, want := range []string{
		"boot/initrd.img-K", "boot/initramfs-K.img", "boot/initrd-K", "boot/0123/K/initrd", "boot/token/K/initrd",
		"efi/0123/K/initrd", "boot/efi/token/K/initrd", "lib/modules/K/initrd",
	} {
		m := newMachine(t)
		m.write(t, "etc/machine-id", "0123\n")
		m.write(t, "etc/kernel/entry-token", "token\n")
		for _, other := range []string{"boot/initrd.img-L", "boot/initrd.img-K.old", "boot/other/K/initrd", "boot/0123/L/initrd"} {
			m.write(t, other, "x")
		}
		if got, ok := Find(m.Paths, "K"); ok {
			t.Errorf("found %s without %s", got, want)
		}
		m.write(t, want, "x")
		if got, ok := Find(m.Paths, "K"); !ok || got != filepath.Join(m.dir, want) {
			t.Errorf("found %q, want %s", got, want)
		}
		for _, bad := range []string{"", ".", "..", "../boot/K", "/"} {
			if got, ok := Find(m.Paths, bad); ok {
				t.Errorf("kernel %q has %s", bad, got)
			}
		}
	}
}

// The image of a kernel package on Arch is that of the kernel in /boot.
func TestFindByPackage(t *testing.T) {
	m := newMachine(t)
	m.write(t, "lib/modules/K/pkgbase", "linux\n")
	m.write(t, "lib/modules/K/vmlinuz", "kernel K")
	m.write(t, "boot/initramfs-linux.img", "x")
	m.write(t, "boot/vmlinuz-linux", "kernel J")
	if got, ok := Find(m.Paths, "K"); ok {
		t.Errorf("the image %s of kernel J was found for K", got)
	}
	m.write(t, "boot/vmlinuz-linux", "kernel K")
	if got, ok := Find(m.Paths, "K"); !ok || got != filepath.Join(m.Boot, "initramfs-linux.img") {
		t.Errorf("found %q", got)
	}
}

func TestConfigured(t *testing.T) {
	m := newMachine(t)
	m.write(t, "etc/initramfs-tools/modules", "# no\n\nmy-one opt=1\n  two\n")
	m.write(t, "usr/share/initramfs-tools/modules.d/pkg", "three\n")
	m.write(t, "etc/dracut.conf", "#add_drivers+=no\nadd_drivers+=\" a-1 a2 \"\n")
	m.write(t, "etc/dracut.conf.d/x.conf", "if true; then force_drivers+=' b\n c.ko '; fi\nomit_drivers+=no\ndrivers=\"=dir $d e\"\n")
	m.write(t, "usr/lib/dracut/dracut.conf.d/x.conf", "add_drivers+=hidden\n")
	m.write(t, "usr/lib/dracut/dracut.conf.d/y.conf", "add_drivers+=\\\nf\n")
	m.write(t, "etc/dracut.conf.d/z.txt", "add_drivers+=no\n")
	m.write(t, "etc/mkinitcpio.conf", "MODULES=(g h? # no\n  'i' \"j k\")\nHOOKS=(no)\n")
	m.write(t, "etc/mkinitcpio.conf.d/a.conf", "MODULES+=(l)\n")
	for tool, want := range map[Tool][]string{
		UpdateInitramfs: {"my_one", "two", "three"},
		Dracut:          {"a_1", "a2", "b", "c", "e", "f"},
		Mkinitcpio:      {"g", "h", "i", "j", "k", "l"},
		NoTool:          nil,
	} {
		listed, err := Configured(m.Paths, tool)
		var got []string
		for _, l := range listed {
			got = append(got, l.Name)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", tool, got, err, want)
		}
	}
	m.write(t, "etc/mkinitcpio.conf", "MODULES=(g")
	if _, err := Configured(m.Paths, Mkinitcpio); err == nil || !strings.Contains(err.Error(), "mkinitcpio.conf") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestBelongs(t *testing.T) {
	m := newMachine(t)
	m.tool(t, "dracut", "")
	m.write(t, "etc/dracut.conf", "add_drivers+=named")
	m.write(t, "boot/initramfs-K.img", string(archive(t, map[string][]byte{"lib/modules/K/kernel/in-it.ko.xz": []byte("x")})))
	q := Question{Release: "K", Objects: []string{"plain", "in_it", "named"}, Env: m.env}
	for byConf, want := range map[bool]string{
		false: "in_it: in /boot/initramfs-K.img already; named: named in /etc/dracut.conf; ",
		true:  "plain: dkms.conf says so; in_it: dkms.conf says so; named: dkms.conf says so; ",
	} {
		q.ByConf = byConf
		all, err := Belongs(m.Paths, q)
		got := ""
		for _, b := range all {
			got += b.Object + ": " + strings.ReplaceAll(b.Why, m.dir, "") + "; "
		}
		if err != nil || got != want {
			t.Errorf("by conf %v: %q, %v", byConf, got, err)
		}
	}
	if all, err := Belongs(m.Paths, Question{Release: "L", Objects: q.Objects, Env: m.env}); err != nil || len(all) != 1 {
		t.Errorf("a kernel without an image: %v, %v", all, err)
	}
}

// Each tool is asked for the one kernel, once; which one that is, is told by
// the name of the image and by what the machine has.
func TestRebuildCommands(t *testing.T) {
	newer := string(archive(t, map[string][]byte{"new": []byte("x")}))
	for name, c := range map[string]struct {
		image string
		files map[string]string
		tools []string
		want  string
	}{
		"debian":     {"boot/initrd.img-K", nil, []string{"update-initramfs", "dracut"}, "update-initramfs -u -k K"},
		"fedora":     {"boot/initramfs-K.img", nil, []string{"dracut"}, "dracut --force /boot/initramfs-K.img.dkms-new K"},
		"bls":        {"boot/id/K/initrd", map[string]string{"etc/machine-id": "id"}, []string{"dracut"}, "dracut --force /boot/id/K/initrd.dkms-new K"},
		"arch":       {"boot/initramfs-K.img", nil, []string{"mkinitcpio"}, "mkinitcpio -k K -g /boot/initramfs-K.img.dkms-new"},
		"both":       {"boot/initramfs-K.img", nil, []string{"mkinitcpio", "dracut"}, "dracut --force /boot/initramfs-K.img.dkms-new K"},
		"generator":  {"boot/initramfs-K.img", map[string]string{"etc/kernel/install.conf": "layout=bls\ninitrd_generator=mkinitcpio\n"}, []string{"mkinitcpio", "dracut"}, "mkinitcpio -k K -g /boot/initramfs-K.img.dkms-new"},
		"preset":     {"boot/initramfs-linux.img", arch(), []string{"mkinitcpio", "dracut"}, "mkinitcpio -p linux"},
		"no image":   {"boot/initrd.img-L", nil, []string{"update-initramfs"}, ""},
		"no tool":    {"boot/initramfs-K.img", nil, []string{"update-initramfs"}, ""},
		"not for us": {"boot/initramfs-K.img", nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			for path, text := range c.files {
				m.write(t, path, text)
			}
			path, other := m.write(t, c.image, "old"), m.write(t, "boot/initramfs-L.img", "another kernel's")
			fresh := m.write(t, "new.cpio", newer)
			for _, tool := range c.tools {
				m.tool(t, tool, `for a; do case $a in *.dkms-new) cp `+fresh+` $a; exit; esac; done; cp --remove-destination `+fresh+` `+path)
			}
			r, err := Rebuild(context.Background(), m.Paths, "K", m.env, &bytes.Buffer{})
			if got := strings.TrimSpace(m.calls(t)); got != c.want {
				t.Errorf("called %q, want %q", got, c.want)
			}
			want := newer
			if c.want == "" {
				want = "old"
				if !errors.Is(err, ErrNoImage) && !errors.Is(err, ErrNoTool) {
					t.Errorf("error: %v", err)
				}
			} else if err != nil || r.Image != path || !strings.HasPrefix(c.want, string(r.Tool)) {
				t.Errorf("rebuilt %+v, %v", r, err)
			}
			holds(t, path, want)
			holds(t, other, "another kernel's")
			if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func arch() map[string]string {
	return map[string]string{
		"lib/modules/K/pkgbase": "linux\n", "lib/modules/K/vmlinuz": "k", "boot/vmlinuz-linux": "k",
		"etc/mkinitcpio.d/linux.preset": "PRESETS=('default')\n",
	}
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s has %d bytes, %v, want %d", path, len(got), err, len(want))
	}
}

// Whatever a tool does before it fails, the old image is there afterwards.
func TestRebuildFails(t *testing.T) {
	for name, script := range map[string]string{
		"it fails":           "echo half >$file; exit 3",
		"it removes":         "rm -f $file; exit 1",
		"it makes nothing":   "rm -f $file",
		"it makes no cpio":   "echo MZ >$file",
		"it makes it empty":  ": >$file",
		"it is killed":       "echo half >$file; kill -9 $$",
		"it changes nothing": "rm -f $file.dkms-new",
	} {
		for _, preset := range []bool{false, true} {
			m := newMachine(t)
			image := "boot/initramfs-K.img"
			if preset {
				image = "boot/initramfs-linux.img"
				for path, text := range arch() {
					m.write(t, path, text)
				}
			}
			path := m.write(t, image, "old")
			if !preset {
				script = "file=" + path + ".dkms-new; " + script
			} else {
				script = "file=" + path + "; " + script
			}
			m.tool(t, "mkinitcpio", script)
			if _, err := Rebuild(context.Background(), m.Paths, "K", m.env, &bytes.Buffer{}); err == nil {
				t.Errorf("%s, preset %v: no error", name, preset)
			}
			holds(t, path, "old")
			if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
				t.Errorf("%s: left behind: %q", name, left)
			}
		}
	}
	m := newMachine(t)
	path := m.write(t, "boot/initrd.img-K", "old")
	m.tool(t, "update-initramfs", "echo not updating")
	if _, err := Rebuild(context.Background(), m.Paths, "K", m.env, &bytes.Buffer{}); !errors.Is(err, ErrUnchanged) {
		t.Errorf("nothing changed: %v", err)
	}
	holds(t, path, "old")
}
