// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/capacity"
	"dkms-go/internal/distro"
	"dkms-go/internal/finding"
	"dkms-go/internal/state"
	"dkms-go/internal/trust"
	"dkms-go/internal/verify"
)

// well are the facts of a machine on which all is well: hello/1.0 is installed for
// the running kernel and for the one that boots next.
func well() *Facts {
	hello := func() Module {
		return Module{
			ID: state.ID{Module: "hello", Version: "1.0"}, Condition: state.Added, Auto: true, SourceThere: true,
			Source: "/usr/src/hello-1.0", Link: "/var/lib/dkms/hello/1.0/source", Built: true, Installed: true, Active: "1.0",
			Objects: []Object{{Report: verify.Report{Name: "hello.ko", Path: "/lib/modules/K/hello.ko", SrcVersion: "A"}, Kernel: "hello"}},
		}
	}
	f := &Facts{
		Distro: distro.Distro{ID: "debian"}, Memory: capacity.Memory{Bytes: 1 << 30, Of: "this machine"},
		Dirs: []Dir{
			{Path: "/var/lib/dkms", Use: "builds", Disk: capacity.Disk{Free: 1 << 30, Files: -1, Mount: "/"}, Need: 1 << 20, Scripts: true},
			{Path: "/boot", Use: "images", Disk: capacity.Disk{Free: 1 << 30, Files: 1 << 20, Mount: "/boot"}, Need: 50 << 20, Boot: true},
		},
		Hooks: []Hook{{"/etc/kernel/postinst.d/dkms", true, true}},
	}
	for _, release := range []string{"6.1.0", "6.12.0"} {
		f.Kernels = append(f.Kernels, Kernel{
			Release: release, Arch: "x86_64", Running: release == "6.1.0", Next: release == "6.12.0", Tree: true, Image: true,
			Headers: Headers{Dir: "/lib/modules/" + release + "/build", There: true, Release: release}, Built: 12, Found: 12, Compiler: "gcc-12",
			Initramfs: "/boot/initrd.img-" + release, InitramfsTool: "update-initramfs", Modules: []Module{hello()},
		})
	}
	f.Kernels[1].Modules[0].Needed = "kernel 6.1.0, which runs, has hello/1.0"
	f.Kernels[0].Modules[0].Objects[0].Judged, f.Kernels[0].Modules[0].Objects[0].Loaded, f.Kernels[0].Modules[0].Objects[0].LoadedSource = true, true, "A"
	return f
}

// absentFrom takes the module out of a kernel.
func absentFrom(k *Kernel) *Module {
	m := &k.Modules[0]
	m.Built, m.Installed, m.Active, m.Objects = false, false, "", nil
	return m
}

func outcomeOf(kind, waiting, text string, hints ...string) *state.Outcome {
	return &state.Outcome{Module: "hello", Version: "1.0", State: kind, Waiting: waiting, Error: text, Hints: hints, When: time.Unix(0, 0).UTC()}
}

func TestWell(t *testing.T) {
	if found := Run(well()); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	if found := Run(&Facts{}); len(found) > 0 {
		t.Errorf("of nothing: %+v", found)
	}
}

// TestFindings changes one thing and wants one finding.
func TestFindings(t *testing.T) {
	refused := func(code verify.Code, text string) func(f *Facts) {
		return func(f *Facts) {
			o := &f.Kernels[0].Modules[0].Objects[0]
			o.Problems = []verify.Problem{{Code: code, Refuse: true, Text: text}}
		}
	}
	checked := map[string]bool{}
	for _, c := range []struct {
		name   string
		change func(f *Facts)
		want   string // check, severity and parts of the text, cut at |
	}{
		{"user", func(f *Facts) { f.UID = 1000; f.Sudo = true }, "root|note|$ sudo dkms doctor"},
		{"user asks", func(f *Facts) { f.UID = 1000; f.Asked.Module = "hello" }, "root|note|$ su -c 'dkms doctor hello'"},
		{"user asks of a kernel", func(f *Facts) { f.UID, f.Sudo, f.Named, f.Asked.Module = 1000, true, true, "hello" }, "root|note|$ sudo dkms doctor hello -k 6.1.0"},
		{"user's own tree", func(f *Facts) { f.UID, f.Writable, f.Asked.Module = 1000, true, "hello" }, "root|note|nothing can be installed"},
		{"unread", func(f *Facts) { f.Unread = []string{"/var/lib/dkms/hello"} }, "tree|warning|/var/lib/dkms/hello: user 0 may not read it"},
		{"headers only", func(f *Facts) { f.Kernels[1].Image = false }, "kernel|warning|only its headers are installed"},
		{"source lost", func(f *Facts) { f.Kernels[0].Modules[0].StandIn = true }, "source|warning|its source is lost|$ dkms add hello/1.0"},
		{"result lost", func(f *Facts) {
			f.Kernels[0].Modules[0].Objects[0].Problems = []verify.Problem{{Code: verify.Result, Text: "x"}}
		}, "objects|warning|what is installed is intact|$ dkms fsck --repair"},
		{"container", func(f *Facts) { f.Absent = "5.0" }, "kernel|note|kernel 5.0|6.1.0 is looked at"},
		{"no kernel", func(f *Facts) { f.Kernels[1].Tree, f.Kernels[1].Image = false, false }, "kernel|error|not installed here"},
		{"remains", func(f *Facts) { f.Kernels[1].Headers.There, f.Kernels[1].Image = false, false }, "kernel|error|neither its image nor its headers"},
		{"at work", func(f *Facts) { f.AtWork = true; f.Damage = []state.Inconsistency{{Path: "/x", What: "x"}} }, "tree|note|at work"},
		{"damage", func(f *Facts) { f.Damage = []state.Inconsistency{{Path: "/x", What: "bad"}} }, "tree|warning|/x: bad|$ dkms fsck --repair"},
		{"index", func(f *Facts) { f.IndexDue = []string{"6.1.0"} }, "tree|warning|module index|$ dkms autoinstall -k 6.1.0"},
		{"read-only", func(f *Facts) { f.Dirs[0].ReadOnly = true }, "read-only|error|$ mount -o remount,rw /"},
		{"noexec", func(f *Facts) { f.Dirs[0].NoExec, f.Dirs[1].NoExec = true, true }, "read-only|error|$ mount -o remount,exec /"},
		{"full", func(f *Facts) { f.Dirs[0].Free = 1; f.Dirs[0].Cached = 1 << 30 }, "disk|error|0 MiB are free|$ dkms cache clean"},
		{"boot", func(f *Facts) { f.Dirs[1].Free = 40 << 20 }, "disk|warning|40 MiB are free, 50 may|$ apt-get autoremove --purge"},
		{"inodes", func(f *Facts) { f.Dirs[1].Files = 3 }, "disk|error|3 more files only"},
		{"memory", func(f *Facts) { f.Need = 2 << 30 }, "memory|warning|1024 MiB free in this machine, and one compiler may need 2048 MiB"},
		{"hook lost", func(f *Facts) { f.Hooks[0].There = false; f.HooksPackage = "dkms-go" }, "hooks|warning|$ apt-get install --reinstall -o Dpkg::Options::=--force-confmiss dkms-go"},
		{"hook without x", func(f *Facts) { f.Hooks[0].Executable = false }, "hooks|warning|$ chmod +x /etc/kernel/postinst.d/dkms"},
		{"off", func(f *Facts) { f.Disabled = "/etc/dkms/no-autoinstall" }, "hooks|note|$ rm /etc/dkms/no-autoinstall"},
		{"no headers", func(f *Facts) {
			k := &f.Kernels[1]
			absentFrom(k)
			k.Headers.There, k.Headers.Package = false, "linux-headers-6.12.0"
		}, "headers|error|keeps from being built: hello/1.0|$ apt-get install linux-headers-6.12.0|$ dkms autoinstall -k 6.12.0"},
		{"no headers, nothing due", func(f *Facts) { f.Kernels[1].Headers.There = false }, "headers|note|no configured source"},
		{"half headers", func(f *Facts) {
			f.Kernels[1].Headers.Missing, f.Kernels[1].Headers.Owners = []string{"/usr/lib/kbuild/x"}, []string{"linux-kbuild"}
		}, "headers|note|/usr/lib/kbuild/x|--reinstall|linux-kbuild"},
		{"another flavour", func(f *Facts) { f.Kernels[1].Headers.Release = "6.12.0-rt" }, "headers|warning|of another kernel: 6.12.0-rt"},
		{"tools", func(f *Facts) {
			absentFrom(&f.Kernels[1])
			f.Kernels[1].Tools = []Tool{{"make", "make", ""}, {"gcc-12", "gcc-12", ""}}
		}, "toolchain|error|make, gcc-12|$ apt-get install make gcc-12"},
		{"PATH", func(f *Facts) { f.Kernels[1].Tools = []Tool{{"depmod", "kmod", "/usr/sbin"}} }, "toolchain|warning|it lacks /usr/sbin, where depmod is|$ export PATH=$PATH:/usr/sbin"},
		{"no initramfs tool", func(f *Facts) { f.Kernels[1].InitramfsTool = "" }, "initramfs|note|/boot/initrd.img-6.12.0: nothing is installed"},
		{"old compiler", func(f *Facts) { f.Kernels[1].Found = 9 }, "toolchain|warning|version 12 of its compiler, and gcc-12 is version 9"},
		{"source gone", func(f *Facts) {
			for i := range f.Kernels {
				m := &f.Kernels[i].Modules[0]
				m.Condition, m.SourceThere, m.Owner = state.Broken, false, "hello-dkms"
			}
		}, "source|error|its source is gone|--reinstall|hello-dkms"},
		{"link gone", func(f *Facts) { f.Kernels[0].Modules[0].Condition = state.Broken }, "source|error|$ ln -sfn /usr/src/hello-1.0 /var/lib/dkms/hello/1.0/source"},
		{"not added", func(f *Facts) { f.Kernels[0].Modules[0].Condition = state.Absent }, "source|note|not in the DKMS tree|$ dkms install hello/1.0 -k 6.1.0"},
		{"conf", func(f *Facts) { f.Kernels[0].Modules[0].ConfError, f.Kernels[1].Modules[0].ConfError = "bad", "bad" }, "conf|error|can't be used: bad"},
		{"excluded, needed", func(f *Facts) { absentFrom(&f.Kernels[1]).Excluded = "too new" }, "excluded|warning|too new|kernel 6.1.0, which runs, has"},
		{"excluded, asked", func(f *Facts) {
			f.Asked.Module = "hello"
			m := absentFrom(&f.Kernels[1])
			m.Excluded, m.Fits = "too new", []string{"6.1.0"}
		}, "excluded|error|$ dkms install hello/1.0 -k 6.1.0"},
		{"excluded, another version", func(f *Facts) {
			m := absentFrom(&f.Kernels[1])
			m.Excluded, m.Others = "too new", []state.ID{{Module: "hello", Version: "2.0"}}
		}, "excluded|warning|$ dkms install hello/2.0 -k 6.12.0"},
		{"depends", func(f *Facts) {
			absentFrom(&f.Kernels[1]).Depends = []Depend{{Name: "a", ID: state.ID{Module: "a", Version: "1"}}, {Name: "b", Package: "b-dkms"}, {Name: "c"}}
		}, "depends|error|a b c|$ dkms install a/1 -k 6.12.0|$ apt-get install b-dkms|install the module c|$ dkms install hello/1.0 -k 6.12.0"},
		{"failed", func(f *Facts) {
			absentFrom(&f.Kernels[1]).Outcome = outcomeOf(state.OutcomeFailed, "", "x.c:1: error", "The first error: x.c:1: error", "The log is in /log")
		}, "failed|error|x.c:1: error|The log is in /log|once that is mended"},
		{"failed, newer package", func(f *Facts) {
			m := absentFrom(&f.Kernels[1])
			m.Outcome, m.Owner, m.Newer = outcomeOf(state.OutcomeFailed, "", "x"), "hello-dkms", "2"
		}, "failed|error|$ apt-get install hello-dkms"},
		{"failed, a tool", func(f *Facts) {
			absentFrom(&f.Kernels[1]).Outcome = outcomeOf(state.OutcomeFailed, "", "bc: not found", "Install the compiler with: apt-get install bc")
		}, "failed|error|$ apt-get install bc|$ dkms install hello/1.0 -k 6.12.0"},
		{"failed, again", func(f *Facts) {
			m := absentFrom(&f.Kernels[1])
			m.Outcome, m.Again, m.Transient = outcomeOf(state.OutcomeFailed, "", "disk full"), true, true
		}, "failed|error|fault of the machine|$ dkms install hello/1.0 -k 6.12.0"},
		{"failed, changed since", func(f *Facts) {
			m := absentFrom(&f.Kernels[1])
			m.Outcome, m.Again = outcomeOf(state.OutcomeFailed, "", "no strlcpy", "Next: replace strlcpy", "All that the commands said is in /x/make.log, and shown by: dkms log hello/1.0"), true
		}, "failed|error|has changed since|all that the commands said is in /x/make.log|if that fails in the same way: replace strlcpy"},
		{"failed, an old one stays", func(f *Facts) {
			m := &f.Kernels[1].Modules[0]
			m.Installed, m.Active, m.Outcome = false, "0.9", outcomeOf(state.OutcomeFailed, "", "x")
		}, "failed|warning|0.9 stays installed"},
		{"order", func(f *Facts) {
			absentFrom(&f.Kernels[1]).Outcome = outcomeOf(state.OutcomeWaiting, state.WaitingHeaders, "waiting: headers")
		}, "order|error|headers, and they are there|$ dkms autoinstall -k 6.12.0"},
		{"order, image", func(f *Facts) {
			absentFrom(&f.Kernels[1]).Outcome = outcomeOf(state.OutcomeWaiting, state.WaitingImage, "waiting: image")
		}, "order|error|image, and that is there"},
		{"order, lock", func(f *Facts) {
			absentFrom(&f.Kernels[1]).Outcome = outcomeOf(state.OutcomeWaiting, state.WaitingLock, "waiting: lock")
		}, "order|warning|another dkms"},
		{"next lacks it", func(f *Facts) { absentFrom(&f.Kernels[1]) }, "installed|warning|kernel 6.1.0, which runs, has hello/1.0|$ dkms autoinstall -k 6.12.0"},
		{"next lacks it, by hand", func(f *Facts) { absentFrom(&f.Kernels[1]).Auto = false }, "installed|warning|AUTOINSTALL|$ dkms install hello/1.0 -k 6.12.0"},
		{"running lacks it", func(f *Facts) { absentFrom(&f.Kernels[0]).Built = true }, "installed|error|built and not installed"},
		{"newer is not built", func(f *Facts) { f.Kernels[1].Modules[0].Installed, f.Kernels[1].Modules[0].Active = false, "0.9" }, "installed|warning|version 0.9 is installed and not this one"},
		{"stale", func(f *Facts) { f.Kernels[1].Modules[0].Stale = []string{"the compiler"} }, "stale|warning|the compiler|$ dkms autoinstall -k 6.12.0"},
		{"vermagic", refused("vermagic", "is for another"), "objects|error|is for another|$ dkms install hello/1.0 -k 6.1.0 --force"},
		{"lost", refused("unreadable", "is not there"), "objects|error|$ dkms install hello/1.0 -k 6.1.0"},
		{"not indexed", refused("shadowed", "is not in modules.dep"), "objects|error|$ depmod -a 6.1.0"},
		{"initramfs", refused("initramfs", "belongs there"), "objects|error|$ update-initramfs -u -k 6.1.0"},
		{"untrusted", func(f *Facts) {
			f.Kernels[0].Signing = Signing{Trusted: trust.Verdict{Answer: trust.No, Why: "not enrolled"}, Enforced: trust.Verdict{Answer: trust.Yes, Why: "Secure Boot"}, Command: "mokutil --import /k", Note: "then reboot"}
			refused("signature", "is signed by nobody")(f)
		}, "signing|error|not enrolled|$ apt-get install mokutil|$ mokutil --import /k|then reboot"},
		{"no key", func(f *Facts) {
			f.Kernels[0].Signing = Signing{Unusable: "none", None: true, Enforced: trust.Verdict{Answer: trust.Yes}}
		}, "signing|error|$ dkms key generate|$ dkms key enrol"},
		{"another is loaded", func(f *Facts) { f.Kernels[0].Modules[0].Objects[0].LoadedSource = "B" }, "loaded|warning|srcversion B, installed A|$ modprobe -r hello|$ modprobe hello"},
		{"another is loaded, in use", func(f *Facts) {
			o := &f.Kernels[0].Modules[0].Objects[0]
			o.LoadedSource, o.InUse = "B", true
		}, "loaded|warning|reboot"},
		{"not loaded", func(f *Facts) {
			o := &f.Kernels[0].Modules[0].Objects[0]
			o.Loaded, o.Asked = false, "/etc/modules-load.d/x.conf"
		}, "autoload|warning|/etc/modules-load.d/x.conf asks for it|$ modprobe hello"},
		{"nothing asks", func(f *Facts) { f.Asked.Module = "hello"; f.Kernels[0].Modules[0].Objects[0].Loaded = false }, "autoload|note|$ dkms autoload on hello|$ modprobe -a hello"},
		{"elsewhere", func(f *Facts) { f.Elsewhere = []state.Outcome{*outcomeOf(state.OutcomeFailed, "", "x")} }, "elsewhere|warning|$ dkms doctor hello/1.0 -k"},
		{"stale elsewhere", func(f *Facts) {
			f.Stale = []Stale{{Key: state.Key{ID: state.ID{Module: "hello", Version: "1"}, Kernel: "5"}, Changed: []string{"x"}}}
		}, "elsewhere|warning|$ dkms install hello/1 -k 5"},
		{"held", func(f *Facts) { f.Held = "6.1.0" }, "boot-gate|note|held at it"},
		{"gone", func(f *Facts) {
			f.Gone = []state.Key{{ID: state.ID{Module: "a", Version: "1"}, Kernel: "5"}, {ID: state.ID{Module: "b", Version: "1"}, Kernel: "5"}}
		}, "leftovers|note|a/1 b/1|$ dkms hook prerm 5"},
	} {
		f := well()
		c.change(f)
		found := Run(f)
		for _, one := range found {
			checked[one.Check] = true
		}
		if len(found) != 1 {
			t.Errorf("%s: %d findings: %+v", c.name, len(found), found)
			continue
		}
		parts := strings.Split(c.want, "|")
		text := fmt.Sprintf("%s %s %s: %s: %s %q", found[0].Check, found[0].Severity, found[0].Where, found[0].What, found[0].Why, found[0].Next)
		if found[0].Check != parts[0] || found[0].Severity.String() != parts[1] || slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) }) {
			t.Errorf("%s: %s, want %q", c.name, text, parts)
		}
	}
	for _, c := range Checks() {
		if !checked[c.Name] {
			t.Errorf("nothing makes the check %s find something", c.Name)
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Checks() {
		if seen[c.Name] || c.About == "" || c.machine == nil && c.kernel == nil {
			t.Errorf("%+v", c)
		}
		seen[c.Name] = true
	}
	f := well()
	f.UID, f.Held = 1, "x"
	f.Dirs[0].ReadOnly = true
	if found := Run(f); found[0].Severity != finding.Error || found[len(found)-1].Severity != finding.Note {
		t.Errorf("not sorted: %+v", found)
	}
}

// What is the same for several modules of a kernel is one finding.
func TestGrouped(t *testing.T) {
	f := well()
	k := &f.Kernels[1]
	absentFrom(k).Needed = ""
	for _, name := range []string{"one", "two"} {
		m := k.Modules[0]
		m.ID = state.ID{Module: name, Version: "1.0"}
		k.Modules = append(k.Modules, m)
	}
	by := k.Modules[0] // its own step
	by.ID, by.Auto, by.Needed = state.ID{Module: "by", Version: "1.0"}, false, "kernel 6.1.0, which runs, has by/1.0"
	k.Modules = append(k.Modules, by)
	list := Run(f)
	if len(list) != 2 || list[0].Where != "hello/1.0 one/1.0 two/1.0, kernel 6.12.0" || !slices.Equal(list[0].Next, []string{"$ dkms autoinstall -k 6.12.0"}) || list[1].Where != "by/1.0, kernel 6.12.0" {
		t.Errorf("%+v", list)
	}
}
