// SPDX-License-Identifier: Apache-2.0

// Package initramfs_test has the real tools make images of a real kernel.
package initramfs_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/host"
	"dkms-go/internal/initramfs"
	"dkms-go/test/lab"
)

// machine is a root's machine, whose tools run in it.
type machine struct {
	host.Paths
	dir string
	env []string
}

func machineAt(t *testing.T, dir string) machine {
	t.Helper()
	p := host.Default()
	for _, place := range []*string{
		&p.Boot, &p.InstallTree, &p.MachineID, &p.KernelInstall, &p.InitramfsTools, &p.InitramfsToolsShare, &p.DracutConf,
	} {
		*place = dir + *place
	}
	for i := range p.DracutDirs {
		p.DracutDirs[i] = dir + p.DracutDirs[i]
	}
	p.ESP = nil
	return machine{p, dir, []string{"PATH=" + t.TempDir()}}
}

func (m machine) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(m.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// inRoot makes a tool of the root callable: it runs there, and its arguments are
// recorded.
func (m machine) inRoot(t *testing.T, name string) {
	t.Helper()
	text := "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\necho " + name + ` "$@" >>` + m.dir + "/calls\n" +
		`for a; do set -- "$@" "${a#` + m.dir + `}"; shift; done; exec chroot ` + m.dir + " " + name + ` "$@"` + "\n"
	if err := os.WriteFile(filepath.Join(strings.TrimPrefix(m.env[0], "PATH="), name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (m machine) calls() string {
	text, _ := os.ReadFile(filepath.Join(m.dir, "calls"))
	return string(text)
}

// Each image holds the object before and after it is replaced.
func TestRebuildWithRealTools(t *testing.T) {
	release := lab.AptKernels(t).Cloud
	for _, tool := range []initramfs.Tool{initramfs.UpdateInitramfs, initramfs.Dracut} {
		t.Run(string(tool), func(t *testing.T) {
			root := lab.AptRoot(t)
			m := machineAt(t, root.Dir)
			// Small images: large ones take minutes.
			m.write(t, "etc/initramfs-tools/conf.d/few", "MODULES=list\n")
			m.write(t, "etc/dracut.conf.d/few.conf", "dracutmodules=\" base \"\n")
			if tool == initramfs.Dracut {
				root.MustApt("install", "dracut")
			}
			root.MustApt("install", "linux-image-"+release)
			m.inRoot(t, string(tool))
			m.write(t, "etc/initramfs-tools/modules", "dummy\n")
			m.write(t, "etc/dracut.conf.d/x.conf", "add_drivers+=\" dummy \"\n")

			path, ok := initramfs.Find(m.Paths, release)
			if owner, _ := initramfs.Owner(m.Paths, release, m.env); !ok || owner != tool {
				t.Fatalf("image %q of %q", path, owner)
			}
			why, err := initramfs.Belongs(m.Paths, initramfs.Question{Release: release, Objects: []string{"dummy", "virtio_blk", "nothing"}, Env: m.env})
			if err != nil || len(why) < 1 || why[0].Object != "dummy" || !strings.Contains(why[0].Why, "named in") {
				t.Errorf("belongs: %+v, %v", why, err)
			}
			object := filepath.Join(root.Dir, "lib/modules", release, "kernel/drivers/net/dummy.ko")
			data, err := os.ReadFile(object)
			if err != nil {
				t.Fatal(err)
			}
			check := func(want initramfs.Held) {
				t.Helper()
				if held, err := initramfs.Holds(path, "dummy", data); err != nil || held != want {
					t.Errorf("holds: %v, %v, want %v", held, err, want)
				}
			}
			check(initramfs.Missing)
			var out bytes.Buffer
			if _, err := initramfs.Rebuild(context.Background(), m.Paths, release, m.env, &out); err != nil {
				t.Fatalf("%v\n%s", err, out.Bytes())
			}
			check(initramfs.Same)
			data, err = os.ReadFile(filepath.Join(root.Dir, "lib/modules", release, "kernel/drivers/net/ifb.ko"))
			if err != nil {
				t.Fatal(err)
			}
			check(initramfs.Other)
			if got := m.calls(); strings.Count(got, "\n") != 1 || !strings.Contains(got, release) {
				t.Errorf("calls: %q", got)
			}
		})
	}
}
