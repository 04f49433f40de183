// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strings"
)

// sentence is the cause for people, without the full stop.
func (d *Diagnosis) sentence() string {
	detail := d.detail()
	if detail == "" {
		return d.Class.title()
	}
	return d.Class.title() + ": " + detail
}

// detail says what the subject has to do with it.
func (d *Diagnosis) detail() string {
	s := d.Subject
	switch {
	case d.other != "":
		return fmt.Sprintf("it looks for the headers of kernel %s, and is built for %s", d.other, d.facts.Kernel)
	case s == nil:
		return ""
	case s.Kind == Option:
		return s.Name
	case s.Kind == Program:
		return s.Name + " is not there"
	case s.Name == "":
		return ""
	case d.Class == Config:
		return d.subject() + d.lacksOption()
	case d.Class == Dependency:
		return "nothing that is known exports " + s.Name
	case d.Class == API:
		return d.subject() + d.how() + d.since()
	}
	return d.subject()
}

// subject names what it is about.
func (d *Diagnosis) subject() string {
	s := d.Subject
	switch s.Kind {
	case Member:
		if s.Of != "" {
			return fmt.Sprintf("the member %s of %s", s.Name, s.Of)
		}
		return "the member " + s.Name
	case Callback:
		return "the signature of " + s.Name
	case Header:
		return "the header " + s.Name
	case Symbol:
		return "the symbol " + s.Name
	case Type:
		return "the type " + s.Name
	case Function, Macro:
		return fmt.Sprintf("the %s %s", s.Kind, s.Name)
	}
	return s.Name
}

// how tells what differs.
func (d *Diagnosis) how() string {
	s := d.Subject
	switch {
	case s.note != "":
		return ": " + s.note
	case s.Wants != "" && s.Has != "":
		return fmt.Sprintf(" (the kernel's is %s, the module's %s)", s.Wants, s.Has)
	case d.where != "" && s.Kind != Header:
		return fmt.Sprintf(", which <%s> declares and the file doesn't include", d.where)
	}
	return ""
}

// since tells which kernels have it, of those whose headers are here.
func (d *Diagnosis) since() string {
	if len(d.Has) == 0 && (len(d.Lacks) == 0 || d.Subject.note != "") || d.where != "" {
		return ""
	}
	form := ""
	if d.Subject.changed {
		form = " as the module expects"
	}
	has := strings.Join(d.Has, ", ")
	switch lacks := strings.Join(d.Lacks, ", "); {
	case has == "" && len(d.Lacks) == 1:
		return fmt.Sprintf("; kernel %s doesn't have it%s", lacks, form)
	case has == "":
		return fmt.Sprintf("; none of the kernels here has it%s", form)
	case lacks == "":
		return fmt.Sprintf("; all kernels here have it: %s", has)
	default:
		return fmt.Sprintf("; it is%s in %s, and not in %s", form, has, lacks)
	}
}

func (d *Diagnosis) lacksOption() string {
	switch {
	case len(d.needs) > 0:
		return fmt.Sprintf(", which depends on %s in the configuration of kernel %s", strings.Join(d.needs, " and "), d.facts.Kernel)
	case len(d.similar) > 0:
		return fmt.Sprintf(", which kernel %s has and %s hasn't", strings.Join(d.similar, ", "), d.facts.Kernel)
	}
	return ""
}

// module is how steps call the module.
func (d *Diagnosis) module() string {
	if d.facts.Module != "" {
		return d.facts.Module
	}
	return "<module>/<version>"
}

// kernel is how steps call the kernel.
func (d *Diagnosis) kernel() string {
	if d.facts.Kernel != "" {
		return d.facts.Kernel
	}
	return "<kernel>"
}

// steps are what to do next: commands begin with "$ ".
func (d *Diagnosis) steps() []string {
	m, k := d.module(), d.kernel()
	switch d.Class {
	case API:
		return d.apiSteps()
	case Compiler:
		return d.toolSteps()
	case Headers:
		return d.headerSteps()
	case Config:
		return []string{"Use a kernel of another flavour, which has the option, or build one that has.", "Module authors: BUILD_EXCLUSIVE_CONFIG in dkms.conf names what is needed, and spares the attempt."}
	case Memory:
		return []string{"Close programs or add swap, or build with fewer jobs:", fmt.Sprintf("$ dkms build %s -k %s -j 1", m, k), "The limits of a build are build_memory_limit and build_process_limit in framework.conf."}
	case Disk:
		return []string{"Make room:", "$ df -h", "$ dkms cache clean", "The limits of a build are build_disk_reserve and build_file_limit in framework.conf."}
	case Network:
		if d.facts.Confined {
			return []string{fmt.Sprintf("The commands of modules have no network. If you trust the module: CONFINE=network in %s/%s.conf.", d.facts.Overrides, d.facts.name()), "Else get a version that has with it all it needs."}
		}
		return []string{"Look at the network, or get a version that has with it all it needs."}
	case Timeout:
		return []string{"If it waited for an answer: nobody can give one; see the module's documentation for how to build it unattended.", "If it is that large: build_time_limit in framework.conf."}
	case Patch:
		return []string{"The patch was made for another version of the source. Get the one for this version, or take it out of PATCH in dkms.conf."}
	case Name:
		return []string{"Make BUILT_MODULE_NAME and BUILT_MODULE_LOCATION in dkms.conf say what the Makefile makes."}
	case Object:
		return []string{"Look whether the disk is full, or has errors:", "$ df -h", "Else something in the module's Makefile or scripts has written over the object: tell its author, with the log."}
	case Dependency:
		return d.dependencySteps()
	case Excluded:
		return []string{"Get a version of the module that is for this kernel, or stay with a kernel that it is for."}
	case Confined:
		return []string{fmt.Sprintf("If you trust the module: CONFINE=off in %s/%s.conf.", d.facts.Overrides, d.facts.name())}
	case Code:
		return []string{"Tell the module's author, with the log.", "If you wrote it: mend the line."}
	}
	return []string{"Read the end of the log: that of the command that failed is last."}
}

func (d *Diagnosis) apiSteps() []string {
	name := d.facts.name()
	if name == "" {
		name = "the module"
	}
	list := []string{fmt.Sprintf("Get a version of %s that supports kernel %s: a newer one, if the kernel is newer than the module.", name, d.kernel())}
	if len(d.Has) > 0 && d.where == "" {
		list = append(list, fmt.Sprintf("Until then boot a kernel that it builds for, such as %s.", d.likely()))
	}
	return list
}

// likely is the kernel that has it and is most like the one that was built for: of
// its flavour.
func (d *Diagnosis) likely() string {
	for _, release := range d.Has {
		if flavour(release) == flavour(d.facts.Kernel) {
			return release
		}
	}
	return d.Has[0]
}

// flavour is the end of a release, behind its version.
func flavour(release string) string {
	rest := strings.TrimPrefix(release, versionOf().FindString(release))
	if at := strings.IndexByte(rest, '-'); at >= 0 {
		rest = rest[at:]
	}
	return rest
}

func (d *Diagnosis) toolSteps() []string {
	if s := d.Subject; s != nil && s.Kind == Program {
		if d.facts.Install != nil {
			if line := d.facts.Install(s.Name); line != "" {
				return []string{"Install it:", "$ " + line}
			}
		}
		return []string{fmt.Sprintf("Install the package that has %s.", s.Name)}
	}
	return []string{fmt.Sprintf("Use the compiler that kernel %s was built with, or one that takes the same options; the kernel's configuration has it in CONFIG_CC_VERSION_TEXT.", d.kernel())}
}

func (d *Diagnosis) headerSteps() []string {
	if d.other != "" {
		return []string{"The Makefile or MAKE in dkms.conf must build for the kernel that dkms names: $kernelver, $kernel_source_dir, KERNELRELEASE."}
	}
	line := d.facts.Headers
	if line == "" {
		return []string{fmt.Sprintf("Install the headers of kernel %s again, all of their packages in the same version.", d.kernel())}
	}
	return []string{"Install the kernel's headers, again if they are there:", "$ " + line}
}

func (d *Diagnosis) dependencySteps() []string {
	if len(d.facts.Depends) > 0 {
		return []string{fmt.Sprintf("Install first what it depends on (%s), for the same kernel:", strings.Join(d.facts.Depends, ", ")), fmt.Sprintf("$ dkms install %s -k %s", d.facts.Depends[0], d.kernel())}
	}
	return []string{"Build and install the module that has the symbol, for the same kernel, and name it in BUILD_DEPENDS of dkms.conf."}
}
