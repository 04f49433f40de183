// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// From the distribution's dkms to dkms-go and back: with framework.conf as it
// was installed, edited, and with the distribution's package purged between.
func TestSwitch(t *testing.T) {
	t.Parallel()
	k := lab.AptKernels(t)
	root := distribution(t)
	hooksBefore := tree(t, root, "etc/kernel")
	dirs := []string{"var/lib/dkms", "usr/lib/modules/" + k.Cur, "usr/lib/modules/" + k.Cloud}
	before, rows := tree(t, root, dirs...), status(root)
	if len(rows) != 2 || strings.Count(strings.Join(rows, "\n"), ": installed") != 2 {
		t.Fatalf("status with the distribution's dkms: %q", rows)
	}
	conf := read(t, root.Path(frameworkConf))
	same := func(when, hooks string) {
		t.Helper()
		if got := status(root); !slices.Equal(got, rows) {
			t.Errorf("%s: status is\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(rows, "\n"))
		}
		if got := tree(t, root, dirs...); got != before {
			t.Errorf("%s: files are\n%s\nwant\n%s", when, got, before)
		}
		if got := read(t, root.Path(frameworkConf)); got != conf {
			t.Errorf("%s: framework.conf is %q, want %q", when, got, conf)
		}
		wantHooks(t, root, hooks)
		if got := tree(t, root, "etc/kernel"); hooks == "theirs" && got != hooksBefore {
			t.Errorf("%s: hooks are\n%s\nwant\n%s", when, got, hooksBefore)
		}
		wantSound(t, root)
	}

	name := root.AddDeb(lab.Deb(t))
	root.MustApt("install", name)
	same("dkms-go", "ours")
	root.MustApt("install", "dkms")
	same("back", "theirs")

	appendTo(t, root.Path(frameworkConf), edit)
	conf += edit
	root.MustApt("install", name)
	same("edited, dkms-go", "ours")
	root.MustApt("install", "dkms")
	same("edited, back", "theirs")
	root.MustApt("purge", "dkms-go")
	root.MustRun("rm", name)
	same("purged", "theirs")
	wantGone(t, root)

	root.MustApt("install", root.AddDeb(lab.Deb(t)))
	root.MustRun("dpkg", "--purge", "dkms")
	wantHooks(t, root, "ours")
	root.MustApt("install", "dkms")
	wantHooks(t, root, "theirs")
	wantSound(t, root)
}

func debName(t *testing.T) string {
	parts := strings.Split(lab.Deb(t), "/")
	return parts[len(parts)-1]
}

// Where no dkms was.
func TestFresh(t *testing.T) {
	t.Parallel()
	root := lab.AptRoot(t)
	before := tree(t, root, "etc/kernel", "usr/share/man", "usr/lib/systemd")
	name := root.AddDeb(lab.Deb(t))
	root.MustApt("install", name)
	wantSound(t, root)
	wantHooks(t, root, "ours")
	root.MustRun("dkms", "status")
	if got, want := read(t, root.Path(frameworkConf)), read(t, root.Path("usr/share/dkms-go/framework.conf")); got != want {
		t.Errorf("framework.conf is %q", got)
	}

	root.MustApt("remove", "dkms-go")
	wantHooks(t, root, "")
	root.MustApt("install", name)
	wantHooks(t, root, "ours")
	root.MustApt("purge", "dkms-go")
	root.MustRun("rm", name)
	wantGone(t, root)
	if got := tree(t, root, "etc/kernel", "usr/share/man", "usr/lib/systemd"); got != before {
		t.Errorf("after purge:\n%s\nwant\n%s", got, before)
	}
	if exists(root.Path("etc/dkms")) {
		t.Errorf("etc/dkms is left:\n%s", tree(t, root, "etc/dkms"))
	}
}

// An edited framework.conf of ours stays in force with the distribution's dkms,
// and is back in its place with dkms-go.
func TestFreshEdited(t *testing.T) {
	t.Parallel()
	root := lab.AptRoot(t)
	name := root.AddDeb(lab.Deb(t))
	root.MustApt("install", name)
	appendTo(t, root.Path(frameworkConf), edit)
	conf := read(t, root.Path(frameworkConf))

	root.MustApt("remove", "dkms-go")
	root.MustApt("install", name)
	if got := read(t, root.Path(frameworkConf)); got != conf {
		t.Errorf("after remove and install framework.conf is %q, want %q", got, conf)
	}

	root.MustApt("install", "dkms")
	wantSound(t, root)
	wantHooks(t, root, "theirs")
	if got := read(t, root.Path(dropIn)); got != conf {
		t.Errorf("with the distribution's dkms: %s is %q, want %q", dropIn, got, conf)
	}

	root.MustApt("install", name)
	wantSound(t, root)
	wantHooks(t, root, "ours")
	if got := read(t, root.Path(dropIn)); got != conf {
		t.Errorf("with dkms-go again: %s is %q, want %q", dropIn, got, conf)
	}
	root.MustApt("purge", "dkms-go")
	root.MustRun("rm", name)
	wantGone(t, root)
}

// From dkms-go to a later dkms-go.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	root := lab.AptRoot(t)
	root.MustApt("install", root.AddDeb(lab.Deb(t)))
	later := relabel(t, root)
	before := tree(t, root, "etc")
	root.MustApt("install", later)
	wantSound(t, root)
	wantHooks(t, root, "ours")
	if got := root.MustRun("dpkg-query", "-W", "-f", "${Version}", "dkms-go").Stdout; got != "99" {
		t.Errorf("the version is %q", got)
	}
	if got := tree(t, root, "etc"); got != before {
		t.Errorf("etc is\n%s\nwant\n%s", got, before)
	}
	appendTo(t, root.Path(frameworkConf), edit)
	conf := read(t, root.Path(frameworkConf))
	root.MustApt("install", "--reinstall", later)
	if got := read(t, root.Path(frameworkConf)); got != conf {
		t.Errorf("framework.conf is %q, want %q", got, conf)
	}
	root.MustApt("purge", "dkms-go")
	root.MustRun("sh", "-c", "rm /root/dkms-go_*.deb")
	wantGone(t, root)
}

// relabel makes the package under test again, as version 99, and returns its
// name in the root.
func relabel(t *testing.T, root *lab.Root) string {
	t.Helper()
	name := "/root/" + debName(t)
	root.MustRun("sh", "-ec", `
		dpkg-deb -R "$1" /tmp/later
		sed -i 's/^Version: .*/Version: 99/' /tmp/later/DEBIAN/control
		dpkg-deb -Znone -b /tmp/later /root/dkms-go_99.deb`, "relabel", name)
	return "/root/dkms-go_99.deb"
}
