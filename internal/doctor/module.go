// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/finding"
	"dkms-go/internal/state"
	"dkms-go/internal/verify"
)

// source wants a module to be in the tree, with its source.
func source(f *Facts, k *Kernel, m *Module) []finding.Finding {
	switch {
	case m.StandIn && !f.repeated(k):
		next := "put its source back to " + m.Source
		if line := f.Distro.ReinstallCommand(m.Owner); m.Owner != "" && line != "" {
			next = "$ " + line
		}
		return one(finding.Warning, m.ID.String(), "its source is lost; what is installed stays, and can be removed", "it can't be built again, nor for a new kernel, which will come up without it",
			next, command("dkms add %s", m.ID))
	case m.StandIn:
		return nil
	case m.Condition == state.Absent || m.Condition == state.Hidden:
		if f.asked(m) {
			return one(finding.Error, m.ID.String(), "it is not in the DKMS tree; its source is in "+m.Source,
				"nobody has added it: its package was installed before dkms, or it was only unpacked", installLine(m.ID, k))
		}
		return one(finding.Note, m.ID.String(), "it is not in the DKMS tree; its source is in "+m.Source,
			"its package was installed before dkms", installLine(m.ID, k))
	case m.Condition != state.Broken || f.repeated(k):
		return nil
	case m.SourceThere:
		return one(finding.Error, m.ID.String(), "broken: the link to its source is missing", "it can be neither built nor removed", command("ln -sfn %s %s", m.Source, m.Link))
	}
	next := []string{"put its source back to " + m.Source}
	if line := f.Distro.ReinstallCommand(m.Owner); m.Owner != "" && line != "" {
		next = []string{"$ " + line}
	}
	return one(finding.Error, m.ID.String(), "broken: its source is gone from "+m.Source, "it can't be built for another kernel; what is installed stays", next...)
}

// repeated reports whether a kernel isn't the first: what is true of a module
// whatever the kernel was told with that.
func (f *Facts) repeated(k *Kernel) bool { return k != &f.Kernels[0] }

// confs wants dkms.conf to be usable.
func confs(f *Facts, k *Kernel, m *Module) []finding.Finding {
	if m.ConfError == "" || m.Condition == state.Broken || f.repeated(k) {
		return nil
	}
	return one(finding.Error, m.ID.String(), "its dkms.conf can't be used: "+m.ConfError, "it can be neither built nor installed",
		append(f.replacement(k, m), "mend it; dkms.conf(5) describes every directive")...)
}

// replacement are the steps to another version that works.
func (f *Facts) replacement(k *Kernel, m *Module) []string {
	for _, id := range m.Others {
		return []string{installLine(id, k)}
	}
	if m.Newer != "" && m.Owner != "" {
		return []string{f.install(m.Owner)}
	}
	return nil
}

// excluded tells that a module isn't meant for a kernel: of interest to who asked
// for it, and to who would lose it.
func excluded(f *Facts, k *Kernel, m *Module) []finding.Finding {
	if m.Excluded == "" || m.Condition == state.Broken {
		return nil
	}
	s := finding.Note
	why := "its dkms.conf says which kernels it supports"
	switch {
	case f.asked(m):
		s = finding.Error
	case m.Needed != "":
		s, why = finding.Warning, m.Needed
	case len(m.Fits) > 0:
		return nil // it has a kernel that it is for
	}
	next := f.replacement(k, m)
	if len(m.Fits) > 0 && len(next) == 0 {
		next = []string{command("dkms install %s -k %s", m.ID, m.Fits[0]), "boot kernel " + m.Fits[0] + ", or get a version of the module that supports kernel " + k.Release}
	}
	if len(next) == 0 {
		next = []string{"get a version of the module that supports kernel " + k.Release}
	}
	return one(s, where(m.ID, k), "it is not meant for this kernel: "+m.Excluded, why, next...)
}

// depends wants the modules that one is built with.
func depends(f *Facts, k *Kernel, m *Module) []finding.Finding {
	if len(m.Depends) == 0 || !f.wants(m) {
		return nil
	}
	var names, next []string
	for _, d := range m.Depends {
		names = append(names, d.Name)
		switch {
		case d.ID.Version != "":
			next = append(next, installLine(d.ID, k))
		case d.Package != "":
			next = append(next, f.install(d.Package))
		default:
			next = append(next, "install the module "+d.Name+", which BUILD_DEPENDS names")
		}
	}
	return one(finding.Error, where(m.ID, k), "what it is built with is not installed for this kernel: "+strings.Join(names, " "),
		"BUILD_DEPENDS of its dkms.conf", append(next, installLine(m.ID, k))...)
}

// failed tells of a failure that is kept.
func failed(f *Facts, k *Kernel, m *Module) []finding.Finding {
	if m.Outcome == nil || m.Outcome.State != state.OutcomeFailed || m.Installed && len(m.Stale) == 0 || m.Excluded != "" || m.Condition != state.Added {
		return nil
	}
	if !k.buildable() || len(m.Depends) > 0 || m.ConfError != "" {
		return nil // told by its own check
	}
	s, why := finding.Error, "the last attempt failed ("+m.Outcome.When.Format("2006-01-02 15:04")+"), and the kernel lacks it"
	if m.Active != "" {
		s, why = finding.Warning, "the last attempt failed; "+m.Active+" stays installed"
	}
	next := f.replacement(k, m)
	h := hintSteps(m.Outcome)
	hints, commands := h.words, h.commands
	if h.cause != "" {
		why = h.cause + "; " + why
	}
	switch {
	case len(next) > 0:
	case len(commands) > 0:
		next = append(commands, installLine(m.ID, k))
	case m.Transient:
		why += "; it was a fault of the machine, which may be over"
		next = []string{installLine(m.ID, k)}
	case m.Again:
		why += "; what it is built from has changed since: the kernel's headers, its source, its settings or a tool"
		next = []string{installLine(m.ID, k)}
		for _, h := range hints {
			next = append(next, "if that fails in the same way: "+h)
		}
	default:
		next = append(hints, "once that is mended: dkms install "+m.ID.String()+" -k "+k.Release)
	}
	if h.log != "" {
		why += "; " + h.log
	}
	return one(s, where(m.ID, k), m.Outcome.Error, why, next...)
}

// LogHint begins the hint of an outcome that names the log.
const LogHint = "All that the commands said is in "

// hints are those of an outcome: its cause, where the log is, and what to do, in words
// and as commands ("Install it with: COMMAND").
type hints struct {
	cause, log      string
	words, commands []string
}

// hintSteps sorts what an outcome says.
func hintSteps(o *state.Outcome) (s hints) {
	for _, h := range o.Hints {
		_, line, ok := strings.Cut(h, "with: ")
		switch {
		case strings.HasPrefix(h, "Install ") && ok:
			s.commands = append(s.commands, "$ "+line)
		case strings.HasPrefix(h, "Cause: "):
			s.cause = strings.TrimSuffix(strings.TrimPrefix(h, "Cause: "), ".")
		case strings.HasPrefix(h, LogHint):
			s.log = "all" + strings.TrimPrefix(h, "All")
		case !strings.Contains(h, o.Error):
			s.words = append(s.words, strings.TrimPrefix(h, "Next: "))
		}
	}
	return s
}

// order tells of modules that wait for what is there.
func order(f *Facts, k *Kernel, m *Module) []finding.Finding {
	if m.Outcome == nil || m.Outcome.State != state.OutcomeWaiting || m.Installed || m.Excluded != "" || !k.buildable() {
		return nil
	}
	next := installLine(m.ID, k)
	if m.Auto && f.Asked.Module == "" {
		next = command("dkms autoinstall -k %s", k.Release)
	}
	switch m.Outcome.Waiting {
	case state.WaitingHeaders:
		return one(finding.Error, where(m.ID, k), "it still waits for the kernel's headers, and they are there",
			"they came after the hook of the kernel's image, and nothing called dkms then", next)
	case state.WaitingImage:
		if k.Image {
			return one(finding.Error, where(m.ID, k), "it still waits for the kernel's image, and that is there",
				"it came after the hook of the headers, and nothing called dkms then", next)
		}
		return one(finding.Note, where(m.ID, k), "it waits for the kernel's image, whose package builds it", "only the headers are installed", next)
	}
	return one(finding.Warning, where(m.ID, k), "a hook gave up waiting for another dkms, and did not build it", "", next)
}

// installed wants the modules of a kernel to be there, where nothing else was told
// of them.
func installed(f *Facts, k *Kernel, m *Module) []finding.Finding {
	switch {
	case m.StandIn, m.Installed, m.Outcome != nil, m.Excluded != "", m.ConfError != "", len(m.Depends) > 0, m.Condition != state.Added, !k.buildable():
		return nil
	case m.Active != "" && !f.asked(m):
		if !m.Auto {
			return nil
		}
		return one(finding.Warning, where(m.ID, k), "version "+m.Active+" is installed and not this one, which is newer", "nothing has built it since it was added", command("dkms autoinstall -k %s", k.Release))
	case m.Needed == "" && !m.Auto && !f.asked(m):
		return nil
	}
	s, why := finding.Warning, "nothing has built it for this kernel: its package or the kernel's didn't call dkms"
	next := command("dkms autoinstall -k %s", k.Release)
	if k.Running {
		s = finding.Error
	}
	if !m.Auto {
		next, why = installLine(m.ID, k), "its dkms.conf doesn't ask for automatic installation (AUTOINSTALL)"
	}
	if m.Needed != "" && !k.Running {
		why = m.Needed + ", and " + k.name() + ", would come up without it: " + why
	}
	what := "it is not installed for this kernel"
	if m.Built {
		what = "it is built and not installed for this kernel"
	}
	if f.asked(m) {
		s, next = min(s, finding.Warning), installLine(m.ID, k)
		if m.Needed == "" && !m.Auto {
			s, why = finding.Note, "nothing stands in the way"
		}
	}
	return one(s, where(m.ID, k), what, why, next)
}

// stale tells of what must be built again.
func stale(f *Facts, k *Kernel, m *Module) []finding.Finding {
	if m.StandIn || len(m.Stale) == 0 || m.Active == "" || m.Outcome != nil || !k.buildable() {
		return nil
	}
	return staleFinding(state.ID{Module: m.Module, Version: m.Active}, k, m.Stale, m.Auto && f.Asked.Module == "")
}

func staleFinding(id state.ID, k *Kernel, changed []string, auto bool) []finding.Finding {
	next := installLine(id, k)
	if auto {
		next = command("dkms autoinstall -k %s", k.Release)
	}
	return one(finding.Warning, where(id, k), "stale, changed since it was built: "+strings.Join(changed, ", "),
		"it may not fit any more; until it is built again the old objects stay", next)
}

// objects tells what the kernel would not load.
func objects(f *Facts, k *Kernel, m *Module) []finding.Finding {
	var all []finding.Finding
	id := state.ID{Module: m.Module, Version: m.Active}
	for _, o := range m.Objects {
		for _, p := range o.Problems {
			if p.Code == verify.Result && !f.damaged(id, k) {
				all = append(all, one(finding.Warning, where(id, k), "its result in the DKMS tree has lost an object, of which what is installed is intact: "+o.Path,
					"the object could be neither installed again nor compared", command("dkms fsck --repair"))...)
			}
			if !p.Refuse || p.Code == "signature" && k.Signing.Trusted.Answer != 0 && len(signing(f, k)) > 0 {
				continue
			}
			var next []string
			switch {
			case o.Winner != "" && p.Code == "shadowed":
				next = []string{command("mv %s %s.aside", o.Winner, o.Winner), command("depmod -a %s", k.Release)}
			case p.Code == "shadowed":
				next = []string{command("depmod -a %s", k.Release)}
			case p.Code == "initramfs":
				next = []string{f.initramfsLine(k)}
			case f.damaged(id, k): // what would be installed is gone as well
				next = []string{command("dkms fsck --repair"), installLine(id, k)}
			case p.Code == "unreadable":
				next = []string{installLine(id, k)}
			default:
				next = []string{command("dkms install %s -k %s --force", id, k.Release)}
			}
			at := o.Path
			if at == "" {
				at = where(id, k) + ": " + o.Report.Name
			}
			all = append(all, one(finding.Error, at, strings.TrimPrefix(p.Text, at+" "), "kernel "+k.Release+" would not load it", next...)...)
		}
	}
	return all
}

// damaged reports whether the check of the tree has told of a module's result.
func (f *Facts) damaged(id state.ID, k *Kernel) bool {
	return slices.ContainsFunc(f.Damage, func(i state.Inconsistency) bool {
		return i.Kind == state.ResultWrong && i.Key.ID == id && i.Key.Kernel == k.Release
	})
}

// initramfsLine makes a kernel's initramfs again.
func (f *Facts) initramfsLine(k *Kernel) string {
	switch k.InitramfsTool {
	case "update-initramfs":
		return command("update-initramfs -u -k %s", k.Release)
	case "dracut":
		return command("dracut --force %s %s", k.Initramfs, k.Release)
	case "mkinitcpio":
		return command("mkinitcpio -k %s -g %s", k.Release, k.Initramfs)
	}
	return "install the tool that made " + k.Initramfs + ", and make it again"
}

// loaded compares what is loaded with what is installed.
func loaded(f *Facts, k *Kernel, m *Module) []finding.Finding {
	var all []finding.Finding
	for _, o := range m.Objects {
		if !o.Loaded || o.LoadedSource == "" || o.SrcVersion == "" || o.LoadedSource == o.SrcVersion || o.Refused() {
			continue
		}
		why := fmt.Sprintf("loaded is srcversion %s, installed %s: a reload or a reboot is needed", o.LoadedSource, o.SrcVersion)
		next := []string{command("modprobe -r %s", o.Kernel), command("modprobe %s", o.Kernel)}
		if o.InUse {
			next = []string{"it is in use: stop what uses it and reload it, or reboot"}
		}
		all = append(all, one(finding.Warning, o.Kernel, "another build of it is loaded than is installed of "+m.Module+"/"+m.Active, why, next...)...)
	}
	return all
}

// autoload wants loaded what something asks for.
func autoload(f *Facts, k *Kernel, m *Module) []finding.Finding {
	var all []finding.Finding
	var idle []string
	for _, o := range m.Objects {
		if !o.Judged || o.Loaded || o.Refused() {
			continue
		}
		load := command("modprobe %s", o.Kernel)
		switch {
		case o.Asked != "" && o.Blocked == "":
			all = append(all, one(finding.Warning, o.Kernel, "it is installed and not loaded, and "+o.Asked+" asks for it",
				"it was installed after the machine had started, or loading it failed (dmesg tells)", load)...)
		case o.Blocked != "" && f.asked(m):
			all = append(all, one(finding.Note, o.Kernel, "it is installed, and "+o.Blocked+" keeps it from being loaded", "", "remove the line of "+o.Blocked+" if that is not wanted")...)
		case f.asked(m):
			idle = append(idle, o.Kernel)
		}
	}
	if len(idle) > 0 && len(all) == 0 && !slices.ContainsFunc(m.Objects, func(o Object) bool { return o.Loaded }) {
		all = one(finding.Note, m.ID.String(), "it is installed and not loaded, and nothing asks for it: no device, no list of modules-load.d", "",
			command("dkms autoload on %s", m.Module), command("modprobe -a %s", strings.Join(idle, " ")))
	}
	return all
}
