// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/finding"
	"dkms-go/internal/state"
)

// root tells ordinary users that they can't install.
func root(f *Facts) []finding.Finding {
	if f.UID == 0 {
		return nil
	}
	what := "not run by root: some of what follows can't be seen"
	why := "only root may write to the trees of dkms and of kernels"
	line := "dkms doctor"
	if f.Asked.Module != "" {
		line += " " + strings.Trim(f.Asked.String(), "/")
		what = "not run by root: nothing can be built in the DKMS tree, nor installed"
	}
	if f.Writable {
		why = "only root may write to the trees of kernels"
		what = strings.Replace(what, "built in the DKMS tree, nor installed", "installed", 1)
	}
	if f.Named && len(f.Kernels) > 0 {
		line += " -k " + f.Kernels[0].Release
	}
	next := command("su -c '%s'", line)
	if f.Sudo {
		next = command("sudo %s", line)
	}
	return one(finding.Note, "", what, fmt.Sprintf("it runs as user %d, and %s", f.UID, why), next)
}

// absent says that the running kernel isn't the one that is judged.
func absent(f *Facts) []finding.Finding {
	if f.Absent == "" {
		return nil
	}
	what := "it runs, and has no modules here"
	if len(f.Kernels) > 0 {
		what += "; kernel " + f.Kernels[0].Release + " is looked at in its place"
	}
	return one(finding.Note, "kernel "+f.Absent, what, "in a container or a chroot that is so; otherwise its package was removed or replaced, and a reboot is due")
}

// present wants a kernel that was named to be there.
func present(f *Facts, k *Kernel) []finding.Finding {
	switch {
	case k.Tree && !k.Image && k.Headers.There && (k.Named || k.Running || k.Next):
		return one(finding.Warning, k.name(), "only its headers are installed, not the kernel itself",
			"modules can be built for it, and it can't be booted: dkms ready says of it that it is not ready", "install the kernel itself, or remove its headers")
	case k.Tree && (k.Image || k.Headers.There):
		return nil
	case k.Tree:
		return one(finding.Error, "kernel "+k.Release, "neither its image nor its headers are here", "what is left of it is a directory of modules", f.install(k.Headers.Package))
	}
	return one(finding.Error, "kernel "+k.Release, "it is not installed here", "there is no directory of modules for it", f.install(k.Headers.Package))
}

// damage tells of the tree.
func damage(f *Facts) []finding.Finding {
	if f.AtWork {
		return one(finding.Note, "", "another dkms is at work: what is found now may be over in a moment", "")
	}
	var all []finding.Finding
	for _, dir := range f.Unread {
		all = append(all, one(finding.Warning, dir, fmt.Sprintf("user %d may not read it: what is in it is not judged", f.UID), "", "run dkms doctor as root")...)
	}
	for _, d := range f.Damage {
		all = append(all, one(finding.Warning, d.Path, d.What, "", command("dkms fsck --repair"))...)
	}
	for _, k := range f.IndexDue {
		all = append(all, one(finding.Warning, "kernel "+k, "its objects were changed and its module index was not brought up to date", "an earlier dkms was ended in between", command("dkms autoinstall -k %s", k))...)
	}
	return all
}

// mounts looks at how directories are mounted.
func mounts(f *Facts) []finding.Finding {
	var all []finding.Finding
	seen := map[string]bool{}
	for _, d := range f.Dirs {
		remount := func(option string) string {
			if d.Mount == "" {
				return ""
			}
			return command("mount -o remount,%s %s", option, d.Mount)
		}
		switch {
		case seen[d.Mount] && d.Mount != "":
		case d.ReadOnly:
			all = append(all, one(finding.Error, d.Path, "it is mounted read-only", "no "+d.Use+" can be written there; after an error of the disk the system mounts it so by itself (dmesg tells)", remount("rw"))...)
		case d.NoExec && d.Scripts:
			all = append(all, one(finding.Error, d.Path, "it is mounted noexec", "builds run scripts and programs of the module there: permission denied", remount("exec"))...)
		default:
			continue
		}
		seen[d.Mount] = true
	}
	return all
}

// Bounds of what is too little, in files and in bytes.
const (
	fewFiles = 256
	tiny     = 4 << 20
)

// disk looks at what is free.
func disk(f *Facts) []finding.Finding {
	var all []finding.Finding
	for _, d := range f.Dirs {
		tidy := func() string {
			switch line := f.Distro.TidyCommand(); {
			case d.Cached > d.Need/4:
				return command("dkms cache clean")
			case d.Boot && line != "":
				return "$ " + line
			}
			return "make room on " + d.Path
		}
		switch {
		case d.ReadOnly:
		case d.Files >= 0 && d.Files < fewFiles:
			all = append(all, one(finding.Error, d.Path, fmt.Sprintf("its file system takes %d more files only", d.Files), d.Use+" will fail", tidy())...)
		case d.Free < d.Need:
			s := finding.Warning
			if d.Free < min(d.Need, tiny) {
				s = finding.Error
			}
			all = append(all, one(s, d.Path, fmt.Sprintf("%d MiB are free, %d may be needed", d.Free>>20, d.Need>>20), d.Use+" will fail once it is full", tidy())...)
		}
	}
	return all
}

// memory looks at what a compiler may use.
func memory(f *Facts) []finding.Finding {
	if f.Memory.Of == "" || f.Need == 0 || f.Memory.Bytes >= f.Need {
		return nil
	}
	return one(finding.Warning, "", fmt.Sprintf("%v, and one compiler may need %d MiB", f.Memory, f.Need>>20),
		"a compiler without memory is killed, and the build fails", "end what uses the memory, or add swap, before the next build")
}

// hooks wants the packages of kernels to call dkms.
func hooks(f *Facts) []finding.Finding {
	var all []finding.Finding
	var lost []string
	for _, h := range f.Hooks {
		switch {
		case !h.There:
			lost = append(lost, h.Path)
		case !h.Executable:
			all = append(all, one(finding.Warning, h.Path, "it is not executable, so it is passed over", "modules are not built for a kernel that is installed or updated", command("chmod +x %s", h.Path))...)
		}
	}
	if len(lost) > 0 {
		next := "install the package of dkms again: it brings these files"
		if line := f.Distro.ReinstallCommand(f.HooksPackage); f.HooksPackage != "" && line != "" {
			next = "$ " + line
		}
		all = append(all, one(finding.Warning, strings.Join(lost, " "), "not there: packages of kernels don't call dkms", "modules are not built for a kernel that is installed or updated, nor taken out with one", next)...)
	}
	if f.Disabled != "" {
		all = append(all, one(finding.Note, f.Disabled, "it turns automatic installation off", "no hook builds a module for a new kernel while it is there", command("rm %s", f.Disabled))...)
	}
	return all
}

// elsewhere tells of kernels that aren't looked at by themselves.
func elsewhere(f *Facts) []finding.Finding {
	var all []finding.Finding
	for _, o := range f.Elsewhere {
		k := &Kernel{Release: o.Kernel, Arch: o.Arch}
		why, next := "", []string{command("dkms doctor %s -k %s", o.Key().ID, o.Kernel)}
		if o.State == state.OutcomeFailed {
			why = "the last attempt failed"
		}
		all = append(all, one(finding.Warning, where(o.Key().ID, k), o.Error, why, next...)...)
	}
	for _, s := range f.Stale {
		all = append(all, staleFinding(s.Key.ID, &Kernel{Release: s.Key.Kernel}, s.Changed, s.Auto)...)
	}
	return all
}

// gate tells that the boot default is held.
func gate(f *Facts) []finding.Finding {
	if f.Held == "" {
		return nil
	}
	return one(finding.Note, "kernel "+f.Held, "the boot default is held at it until a newer kernel is ready", "boot_gate=on in framework.conf", command("dkms ready --next-boot"))
}

// leftovers has one finding for each kernel that is gone.
func leftovers(f *Facts) []finding.Finding {
	var all []finding.Finding
	for i, key := range f.Gone {
		if i > 0 && f.Gone[i-1].Kernel == key.Kernel {
			continue
		}
		var ids []string
		for _, other := range f.Gone {
			if other.Kernel == key.Kernel && !slices.Contains(ids, other.ID.String()) {
				ids = append(ids, other.ID.String())
			}
		}
		all = append(all, one(finding.Note, "kernel "+key.Kernel, "it is gone, and modules are kept for it: "+strings.Join(ids, " "),
			"it was removed without the hook of dkms; they only take room", command("dkms hook prerm %s", key.Kernel))...)
	}
	return all
}
