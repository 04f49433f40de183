// SPDX-License-Identifier: Apache-2.0

// Package diagnose tells from the log of a failed build why it failed: the first
// real error, what kind of failure it is, what it is about, and what to do next.
//
// It reads values only. What the machine has to say to it, such as which kernels
// declare a name, is asked for with Question and given with Answer.
package diagnose

import (
	"strings"
)

// Class is a kind of failure. The words are part of what dkms prints as JSON and
// stay the same between versions.
type Class string

// The classes.
const (
	// API: the kernel doesn't offer, or offers otherwise, what the module uses.
	API Class = "kernel-api"
	// Compiler: the compiler, or another tool of the build, is missing or wrong.
	Compiler Class = "compiler"
	// Headers: the kernel's headers are missing, incomplete or another kernel's.
	Headers Class = "headers"
	// Config: the kernel is built without, or with, an option that matters.
	Config Class = "config"
	// Memory: no memory, or no more processes.
	Memory Class = "memory"
	// Disk: no space, or a file that may not become as large.
	Disk Class = "disk"
	// Network: a command wants the network.
	Network Class = "network"
	// Timeout: it took longer than it may.
	Timeout Class = "timeout"
	// Patch: a patch doesn't apply.
	Patch Class = "patch"
	// Name: what was built has not the name that dkms.conf gives.
	Name Class = "module-name"
	// Dependency: symbols of another module are missing.
	Dependency Class = "dependency"
	// Object: what was built is empty, cut short or damaged.
	Object Class = "object"
	// Excluded: the module itself says that it isn't meant for the kernel.
	Excluded Class = "excluded"
	// Confined: a command wanted what confined commands may not do.
	Confined Class = "confined"
	// Code: an error in the module's own source or makefiles.
	Code Class = "code"
	// Unknown: none of the above can be told.
	Unknown Class = "unknown"
)

// Classes lists all classes.
func Classes() []Class {
	return []Class{API, Compiler, Headers, Config, Memory, Disk, Network, Timeout, Patch, Name, Object, Dependency, Excluded, Confined, Code, Unknown}
}

// titles are the words that people read.
func (c Class) title() string {
	return map[Class]string{
		API: "the kernel's API differs from what the module expects", Compiler: "the compiler or another tool is missing or the wrong one",
		Headers: "the kernel's headers are missing, incomplete or another kernel's", Config: "the kernel's configuration lacks what the module needs",
		Memory: "the machine, or the build's limit, ran out of memory or processes", Disk: "the disk, or the build's limit, is full",
		Network: "the build wants the network", Timeout: "the build took too long", Patch: "a patch doesn't apply",
		Name: "the built object has another name than dkms.conf says", Object: "the built object is empty, cut short or damaged", Dependency: "symbols of another module are missing",
		Excluded: "the module isn't meant for this kernel", Confined: "the build wanted what a confined one may not do",
		Code: "an error in the module's own source", Unknown: "the cause is not one that dkms knows",
	}[c]
}

// Kind is what sort of thing an error is about.
type Kind string

// The kinds of a Subject.
const (
	Function Kind = "function"
	Symbol   Kind = "symbol" // an exported one
	Macro    Kind = "macro"
	Member   Kind = "member"
	Type     Kind = "type"
	Header   Kind = "header"
	Name2    Kind = "name" // a function, macro, variable or enumerator
	// Callback is a member that is a function's address, of another signature.
	Callback Kind = "callback"
	Option   Kind = "option"
	Program  Kind = "program"
)

// Subject is what an error is about.
type Subject struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	// Of is the type that a member belongs to, as the compiler writes it.
	Of string `json:"of,omitempty"`
	// Wants is the type that the kernel has, Has the one that the module has.
	Wants string `json:"kernel_type,omitempty"`
	Has   string `json:"module_type,omitempty"`
	// changed says that the name is there and its form is what differs.
	changed bool
	// note says more of how it differs.
	note string
}

// Diagnosis is why a build failed.
type Diagnosis struct {
	Class Class `json:"class"`
	// Error is the line of the log that tells it best, as it can be shown; LogLine
	// is its number in the log, from 1. Without a log they are "" and 0.
	Error   string `json:"error"`
	LogLine int    `json:"log_line,omitempty"`
	// Guess says that the line isn't known as an error: it is the last thing said.
	Guess bool `json:"guess,omitempty"`
	// File and Line are the place that the line names, as it names it.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Used is the place in the module, FILE:LINE, that led to an error in a header.
	Used string `json:"used,omitempty"`
	// Subject is what it is about, if that can be told.
	Subject *Subject `json:"subject,omitempty"`
	// Has are the kernels that have it as the module expects, Lacks those that
	// don't, of those whose headers are here.
	Has   []string `json:"kernels_with,omitempty"`
	Lacks []string `json:"kernels_without,omitempty"`
	// What is the cause in a sentence, Next are the steps to take.
	What string   `json:"what"`
	Next []string `json:"next"`

	facts Facts
	// other is the kernel whose headers it looked for in place of the one's that
	// it is built for.
	other string
	// needs are the options by which the kernel's headers leave the subject out,
	// where is the header that declares it, similar the kernels of the same version
	// in another flavour that have it.
	needs   []string
	where   string
	similar []string
}

// Stage names the part of a build that failed, in the words of package build.
type Stage string

// The stages that matter here.
const (
	StagePatchPath Stage = "patch path"
	StagePatch     Stage = "patch"
	StagePreBuild  Stage = "pre_build"
	StageMake      Stage = "make"
	StageMissing   Stage = "missing object"
	StageCollect   Stage = "collect"
	StageVerify    Stage = "verify"
	StagePostBuild Stage = "post_build"
)

// Facts are what is known of the build besides its log. What isn't known is empty.
type Facts struct {
	// Module is name/version, Kernel and Arch what it was built for.
	Module, Kernel, Arch string
	// BuildDir is the build directory as commands saw it, HeaderDirs are those of
	// the kernel's headers.
	BuildDir   string
	HeaderDirs []string
	// Depends are the modules that its conf says it needs.
	Depends []string
	// Confined says that the commands were confined; Refused what they seem to
	// have been refused, Network that one wanted the network.
	Confined bool
	// Config returns the value of an option of the kernel's configuration; nil if
	// that isn't known.
	Config func(option string) (string, bool)
	// Makefiles is the text of the module's makefiles.
	Makefiles string
	// Install returns the command that installs what has a program, "" if unknown.
	Install func(program string) string
	// Overrides is the directory of the administrator's overrides of dkms.conf.
	Overrides string
	// Headers is the command that installs the kernel's headers, "" if unknown.
	Headers string
}

// name is the module's name without its version.
func (f Facts) name() string { name, _, _ := strings.Cut(f.Module, "/"); return name }

// Read diagnoses a failure by its log.
func Read(log []byte, facts Facts) Diagnosis {
	text := open(log)
	d := text.judge(facts)
	d.facts = facts
	d.conclude()
	return d
}

// Failed reports whether a log is one of a build that failed, or didn't end.
func Failed(log []byte) bool {
	t := open(log)
	return t.stage != "" || t.code != 0
}

// Without is the diagnosis of a failure that has no log: its class is known.
func Without(c Class, facts Facts) Diagnosis {
	d := Diagnosis{Class: c, facts: facts}
	d.conclude()
	return d
}

// conclude writes the texts of what has been found.
func (d *Diagnosis) conclude() {
	d.What = d.sentence()
	d.Next = d.steps()
}
