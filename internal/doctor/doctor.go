// SPDX-License-Identifier: Apache-2.0

// Package doctor tells from the facts of a machine what keeps modules from being
// built, installed and loaded, why, and what to do: facts in, findings out. A
// machine on which all is well has no findings.
package doctor

import (
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/finding"
	"dkms-go/internal/state"
)

// Check is one thing that is looked at.
type Check struct {
	// Name is what its findings are called by, About what it looks at.
	Name, About string
	// whole says that it is about the machine as a whole, and not looked at for one
	// module.
	whole bool
	// machine or kernel is what it does, the latter for each kernel.
	machine func(f *Facts) []finding.Finding
	kernel  func(f *Facts, k *Kernel) []finding.Finding
}

// Checks are all checks, in the order in which they are made.
func Checks() []Check {
	return []Check{
		{Name: "root", About: "who runs dkms may build and install", machine: root},
		{Name: "kernel", About: "the kernel is installed here", machine: absent, kernel: present},
		{Name: "tree", About: "the DKMS tree agrees with itself, and no change is unfinished", machine: damage},
		{Name: "read-only", About: "what is written to isn't mounted read-only, nor without the right to run programs", machine: mounts},
		{Name: "disk", About: "there is room in the DKMS tree, in the kernel's tree and where kernels' images are", machine: disk},
		{Name: "memory", About: "there is memory for a compiler", machine: memory},
		{Name: "hooks", About: "the packages of kernels call dkms", whole: true, machine: hooks},
		{Name: "headers", About: "the kernel's headers are there, complete, and its own", kernel: headers},
		{Name: "toolchain", About: "make, the kernel's compiler and what else a build needs are there", kernel: toolchain},
		{Name: "source", About: "the module is in the DKMS tree, with its source", kernel: each(source)},
		{Name: "conf", About: "its dkms.conf can be used", kernel: each(confs)},
		{Name: "excluded", About: "the module is meant for the kernel: `BUILD_EXCLUSIVE_*`, `OBSOLETE_BY`", kernel: each(excluded)},
		{Name: "depends", About: "the modules of `BUILD_DEPENDS` are installed", kernel: each(depends)},
		{Name: "failed", About: "no attempt for the kernel has failed", kernel: each(failed)},
		{Name: "order", About: "no module waits for a package that is there", kernel: each(order)},
		{Name: "installed", About: "the kernel has every module that asks for it, or that the running kernel has", kernel: each(installed)},
		{Name: "stale", About: "nothing has changed since a module was built", kernel: each(stale)},
		{Name: "objects", About: "the kernel would load what is installed: all that `dkms verify` looks at", kernel: each(objects)},
		{Name: "initramfs", About: "the tool that makes the kernel's initramfs is there", kernel: initramfs},
		{Name: "signing", About: "the kernel trusts the key that objects are signed with, where it asks for that", kernel: signing},
		{Name: "loaded", About: "what is loaded is what is installed", kernel: each(loaded)},
		{Name: "autoload", About: "what a list of modules-load.d or a device asks for is loaded", kernel: each(autoload)},
		{Name: "elsewhere", About: "no module has failed, waits or is stale for another kernel", whole: true, machine: elsewhere},
		{Name: "boot-gate", About: "the boot default isn't held at an older kernel", whole: true, machine: gate},
		{Name: "leftovers", About: "nothing is kept for kernels that are gone", whole: true, machine: leftovers},
	}
}

// Run makes all checks. The worst findings come first.
func Run(f *Facts) []finding.Finding {
	var all []finding.Finding
	for _, c := range Checks() {
		if c.whole && f.Asked.Module != "" {
			continue
		}
		var found []finding.Finding
		if c.machine != nil {
			found = c.machine(f)
		}
		for i := range f.Kernels {
			if c.kernel != nil {
				found = append(found, c.kernel(f, &f.Kernels[i])...)
			}
		}
		found = grouped(found)
		for i := range found {
			found[i].Check = c.Name
		}
		all = append(all, found...)
	}
	finding.Sort(all)
	return all
}

// kernelMark stands between the modules and the kernel that a finding is about.
const kernelMark = ", kernel "

// grouped makes one of the findings that say the same of several modules of a kernel.
func grouped(list []finding.Finding) []finding.Finding {
	var all []finding.Finding
	for _, f := range list {
		module, kernel, ok := strings.Cut(f.Where, kernelMark)
		i := slices.IndexFunc(all, func(o finding.Finding) bool {
			_, other, of := strings.Cut(o.Where, kernelMark)
			return ok && of && other == kernel && o.Severity == f.Severity && o.What == f.What && o.Why == f.Why && slices.Equal(o.Next, f.Next)
		})
		if i < 0 {
			all = append(all, f)
			continue
		}
		before, _, _ := strings.Cut(all[i].Where, kernelMark)
		all[i].Where = before + " " + module + kernelMark + kernel
	}
	return all
}

// each makes a check of one module one of all modules of a kernel.
func each(check func(f *Facts, k *Kernel, m *Module) []finding.Finding) func(*Facts, *Kernel) []finding.Finding {
	return func(f *Facts, k *Kernel) []finding.Finding {
		var all []finding.Finding
		for i := range k.Modules {
			all = append(all, check(f, k, &k.Modules[i])...)
		}
		return all
	}
}

// one is a list of one finding.
func one(s finding.Severity, where, what, why string, next ...string) []finding.Finding {
	next = slices.DeleteFunc(next, func(n string) bool { return n == "" || n == "$ " })
	return []finding.Finding{{Severity: s, Where: where, What: what, Why: why, Next: next}}
}

// asked reports whether the module was asked about by name.
func (f *Facts) asked(m *Module) bool { return f.Asked.Module != "" && f.Asked.Module == m.Module }

// command is a command to type.
func command(format string, args ...any) string { return "$ " + fmt.Sprintf(format, args...) }

// installLine is the command that installs a version of a module for a kernel.
func installLine(id state.ID, k *Kernel) string {
	return command("dkms install %s -k %s", id, k.Release)
}

// where names a module and a kernel.
func where(id state.ID, k *Kernel) string { return id.String() + kernelMark + k.Release }

// name says of a kernel what it is.
func (k *Kernel) name() string {
	var roles []string
	if k.Running {
		roles = append(roles, "runs")
	}
	if k.Next {
		roles = append(roles, "boots next")
	}
	if len(roles) == 0 {
		return "kernel " + k.Release
	}
	return "kernel " + k.Release + ", which " + strings.Join(roles, " and ")
}

// wants reports whether something is to be built of a module for the kernel.
func (f *Facts) wants(m *Module) bool {
	if m.StandIn || m.Condition != state.Added && m.Condition != state.Absent || m.Excluded != "" || m.Installed && len(m.Stale) == 0 {
		return false
	}
	return m.Auto && m.Condition == state.Added || m.Needed != "" && m.Active == "" || f.asked(m)
}

// wanting names the modules that are to be built for a kernel.
func (f *Facts) wanting(k *Kernel) []string {
	var names []string
	for i := range k.Modules {
		if m := &k.Modules[i]; f.wants(m) {
			names = append(names, m.ID.String())
		}
	}
	return names
}

// buildable reports whether headers and tools are there.
func (k *Kernel) buildable() bool {
	return k.Headers.There && len(k.Headers.Missing) == 0 && !k.foreign() && len(k.Tools) == 0
}

// foreign reports whether the headers are of another kernel.
func (k *Kernel) foreign() bool { return k.Headers.Release != "" && k.Headers.Release != k.Release }

// again are the commands that make the modules of a kernel once its obstacle is gone;
// one that needs others first has a finding of its own.
func (f *Facts) again(k *Kernel) []string {
	var steps []string
	auto := false
	for i := range k.Modules {
		m := &k.Modules[i]
		switch {
		case !f.wants(m), len(m.Depends) > 0:
		case f.Asked.Module != "", !m.Auto:
			steps = append(steps, installLine(m.ID, k))
		default:
			auto = true
		}
	}
	if auto {
		steps = append(steps, command("dkms autoinstall -k %s", k.Release))
	}
	return steps
}

// install is the command that installs packages, or words to that end where the
// distribution's isn't known.
func (f *Facts) install(packages ...string) string {
	packages = slices.DeleteFunc(slices.Compact(packages), func(p string) bool { return p == "" })
	if len(packages) == 0 {
		return ""
	}
	if line := f.Distro.InstallCommand(packages...); line != "" {
		return "$ " + line
	}
	return "install " + strings.Join(packages, " ")
}
