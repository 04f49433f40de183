// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"strings"

	"dkms-go/internal/finding"
	"dkms-go/internal/trust"
)

// gravity is how bad it is that nothing can be built for a kernel: an error if
// something is to be built, a note if all is there.
func (f *Facts) gravity(k *Kernel) (s finding.Severity, why string) {
	if names := f.wanting(k); len(names) > 0 {
		return finding.Error, "it keeps from being built: " + strings.Join(names, " ")
	}
	if len(k.Modules) == 0 {
		return finding.Warning, "no module can be built for it"
	}
	return finding.Note, "all modules are there, but none could be built again"
}

// headers wants them there, complete, and of the kernel.
func headers(f *Facts, k *Kernel) []finding.Finding {
	if !k.Tree || !k.Image && !k.Headers.There {
		return nil // told by present
	}
	s, why := f.gravity(k)
	at := k.name()
	h := k.Headers
	again := f.again(k)
	switch {
	case !h.There && h.Package != "":
		return one(s, at, "its headers are not installed: there is no "+h.Dir+"/include", why, append([]string{f.install(h.Package)}, again...)...)
	case !h.There:
		return one(s, at, "its headers are not installed: there is no "+h.Dir+"/include, and no configured source of packages has them", why,
			"bring the lists of packages up to date, or install another kernel with its headers; headers elsewhere are named with --kernelsourcedir")
	case k.foreign():
		return one(max(s, finding.Warning), at, fmt.Sprintf("the headers in %s are of another kernel: %s", h.Dir, h.Release), why+"; objects that are built with them would not load",
			append([]string{f.reinstall(k)}, again...)...)
	case len(h.Missing) > 0:
		return one(s, at, "its headers are not complete, they lack "+strings.Join(h.Missing, " "), why, append([]string{f.reinstall(k)}, again...)...)
	}
	return nil
}

// reinstall brings back what headers lack.
func (f *Facts) reinstall(k *Kernel) string {
	packages := k.Headers.Owners
	if len(packages) == 0 && k.Headers.Package != "" {
		packages = []string{k.Headers.Package}
	}
	if line := f.Distro.ReinstallCommand(packages...); line != "" {
		return "$ " + line
	}
	return "install the headers of kernel " + k.Release + " again"
}

// toolchain wants the commands of a build.
func toolchain(f *Facts, k *Kernel) []finding.Finding {
	s, why := f.gravity(k)
	if !k.Headers.There {
		return nil // one after the other; what is needed is known by the headers
	}
	var names, packages []string
	var all []finding.Finding
	for _, t := range k.Tools {
		if t.Dir != "" {
			all = append(all, one(max(s, finding.Warning), "PATH", "it lacks "+t.Dir+", where "+t.Name+" is", "su without a dash keeps the PATH of an ordinary user; "+why, command("export PATH=$PATH:%s", t.Dir))...)
			continue
		}
		names, packages = append(names, t.Name), append(packages, t.Package)
	}
	if len(names) > 0 {
		all = append(all, one(s, k.name(), "a build needs what is not installed: "+strings.Join(names, ", "), why, append([]string{f.install(packages...)}, f.again(k)...)...)...)
	}
	if k.Found > 0 && k.Built > k.Found {
		all = append(all, one(finding.Warning, k.name(), fmt.Sprintf("it was built with version %d of its compiler, and %s is version %d", k.Built, k.Compiler, k.Found),
			"an older compiler may not know the options that the kernel is built with", "install version "+fmt.Sprint(k.Built)+" of the compiler")...)
	}
	return all
}

// initramfs wants the tool that makes a kernel's image again.
func initramfs(f *Facts, k *Kernel) []finding.Finding {
	if k.Initramfs == "" || k.InitramfsTool != "" {
		return nil
	}
	return one(finding.Note, k.Initramfs, "nothing is installed that could make it again: "+strings.Join([]string{"update-initramfs", "dracut", "mkinitcpio"}, ", "),
		"a module that belongs into it would not get there")
}

// signing wants a key that the kernel trusts, where it asks for one.
func signing(f *Facts, k *Kernel) []finding.Finding {
	s := k.Signing
	if s.Enforced.Answer != trust.Yes || len(k.Modules) == 0 {
		return nil
	}
	at, only := k.name(), "the kernel loads nothing without a signature that it trusts: "+s.Enforced.Why
	var tool string
	if !s.Mokutil && strings.Contains(s.Command, "mokutil") || s.Command == "dkms key enrol" && !s.Mokutil {
		tool = f.install("mokutil")
	}
	enrol := []string{tool, "$ " + s.Command, s.Note}
	if s.Command == "" {
		enrol = []string{s.Note}
	}
	switch {
	case s.None:
		return one(finding.Error, at, "there is no key to sign modules with yet", only, append([]string{command("dkms key generate")}, command("dkms key enrol"), "then reboot, and confirm it in the blue screen of MokManager")...)
	case s.Unusable != "":
		return one(finding.Error, at, "nothing can be signed: "+s.Unusable, only, command("dkms key status"))
	case s.Trusted.Answer == trust.No:
		return one(finding.Error, at, "it doesn't trust the key that modules are signed with: "+s.Trusted.Why, only, enrol...)
	}
	return nil
}
