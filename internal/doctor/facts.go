// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"dkms-go/internal/capacity"
	"dkms-go/internal/distro"
	"dkms-go/internal/state"
	"dkms-go/internal/trust"
	"dkms-go/internal/verify"
)

// Facts are what was seen of a machine.
type Facts struct {
	Distro distro.Distro
	// Asked is the module that is asked about: without a name all, without a
	// version the one that counts.
	Asked state.ID
	// UID is who runs dkms, Sudo whether sudo is there.
	UID  int
	Sudo bool
	// Writable says that who runs dkms may write to the DKMS tree, Named that the
	// kernel was named. Unread are the directories of modules that can't be read.
	Writable, Named bool
	Unread          []string
	// Absent is the running kernel if it is not installed here.
	Absent string
	// Dirs are the directories that are written to.
	Dirs []Dir
	// Memory is what is free of it, Need what one compiler may need, in bytes.
	Memory capacity.Memory
	Need   int64
	// Hooks are the hooks of kernel packages, HooksPackage is the package of dkms,
	// looked for if a hook is amiss. Disabled is the file that turns off what they
	// do, if it is there.
	Hooks        []Hook
	HooksPackage string
	Disabled     string
	// AtWork says that another dkms is changing the tree.
	AtWork bool
	// Damage is what doesn't agree in the tree, IndexDue are the kernels whose
	// module index an earlier run left behind.
	Damage   []state.Inconsistency
	IndexDue []string
	// Gone has the results for kernels that aren't installed any more.
	Gone []state.Key
	// Kernels are judged one by one: the one that is asked about, then the one that
	// boots next. Only the first has what only the running kernel has.
	Kernels []Kernel
	// Elsewhere are the outcomes for other kernels, Stale the stale installed
	// results for them.
	Elsewhere []state.Outcome
	Stale     []Stale
	// Held is the kernel that the boot gate holds the default at, or "".
	Held string
}

// Dir is a directory that is written to.
type Dir struct {
	// Path is the directory, Use a word for what is written there.
	Path, Use string
	capacity.Disk
	// Need is how many bytes it takes before something fails for want of room.
	Need int64
	// Scripts says that programs are run there; Boot that it has images of kernels.
	Scripts, Boot bool
	// Cached is how many bytes can be had by `dkms cache clean`.
	Cached int64
}

// Hook is a file by which a package of a kernel calls dkms.
type Hook struct {
	Path              string
	There, Executable bool
}

// Stale is a result that its kernel or compiler has changed under.
type Stale struct {
	Key     state.Key
	Changed []string
	// Auto says that autoinstall builds it again.
	Auto bool
}

// Kernel is one kernel, with all modules that it is about.
type Kernel struct {
	Release, Arch string
	// Running, Next and Named say why it is looked at: it runs, it boots next, it
	// was named. WhyNext says how it came to be next.
	Running, Next, Named bool
	WhyNext              string
	// Tree says that it has a directory for modules, Image that it is installed and
	// not only its headers.
	Tree, Image bool
	Headers     Headers
	// Tools are commands that a build needs and that are not there.
	Tools []Tool
	// Built and Found are the versions of the compiler that the kernel was built
	// with and that there is, as their majors, 0 for unknown.
	Built, Found int
	Compiler     string
	Signing      Signing
	// Initramfs is the kernel's image, InitramfsTool what makes it, "" for none.
	Initramfs, InitramfsTool string
	Modules                  []Module
}

// Headers are what modules are compiled with.
type Headers struct {
	Dir   string
	There bool
	// Package brings them, if a source of packages has it.
	Package string
	// Missing are files that a build needs, Owners the packages that they are of.
	Missing, Owners []string
	// Release is the kernel that they are of, "" if they don't tell.
	Release string
}

// Tool is a command, and the package that brings it, if known. Dir is where it is, in
// a directory that PATH lacks.
type Tool struct{ Name, Package, Dir string }

// Signing is how a kernel stands to the key of this machine.
type Signing struct {
	Trusted, Enforced trust.Verdict
	// Unusable says why nothing can be signed, "" if it can. None says that there
	// is no key yet.
	Unusable string
	None     bool
	// Command enrols the key; without one Note says why there is none. Note is also
	// what comes after the command.
	Command, Note string
	// Mokutil says that the tool of that name is there.
	Mokutil bool
}

// Module is how a module stands to a kernel.
type Module struct {
	state.ID
	Condition state.Condition
	// Source is where the module's source should be, Link the link to it in the
	// tree; SourceThere says that it is there, Owner is the package of it.
	Source, Link string
	SourceThere  bool
	Owner        string
	// Newer is a version of that package that could be installed.
	Newer string
	// ConfError says why its dkms.conf can't be used.
	ConfError string
	// Auto is AUTOINSTALL. Excluded says why it isn't meant for the kernel.
	Auto     bool
	Excluded string
	// Others are versions of it that are meant for the kernel, and newer first; Fits
	// are other kernels here that it is meant for.
	Others []state.ID
	Fits   []string
	// Depends are the modules that must be installed for the kernel before it, and
	// aren't.
	Depends []Depend
	// StandIn says that fsck has put something in the place of its source, which is
	// lost: what is installed can be removed, and nothing be built.
	StandIn bool
	// Built and Installed say so of this version for the kernel; Active is the
	// version that is installed, "" for none.
	Built, Installed bool
	Active           string
	// Needed says why the kernel must have it, "" if nothing does.
	Needed string
	// Stale names what has changed since the build of the installed version.
	Stale []string
	// Outcome is what is kept of the last attempt, Again that the same attempt may
	// end otherwise now; Transient, that it was the machine's fault and not what the
	// module is built from.
	Outcome          *state.Outcome
	Again, Transient bool
	// Log is the kept log of the last build, "" if there is none.
	Log string
	// Objects are those of the installed version.
	Objects []Object
}

// Depend is a module of BUILD_DEPENDS that is not installed for the kernel.
type Depend struct {
	Name string
	// ID is the version that could be: in the DKMS tree, or only in the source
	// tree. Without one, Package is what brings it, if known.
	ID      state.ID
	Package string
}

// Object is an installed object.
type Object struct {
	verify.Report
	// Name is what the kernel calls it.
	Kernel string
	// Judged says that Loaded and the rest are known: its kernel runs.
	Judged, Loaded bool
	// LoadedSource is the srcversion of the loaded one, "" if it doesn't tell.
	LoadedSource string
	// InUse says that it can't be unloaded now.
	InUse bool
	// Asked is what wants it loaded: a file, or a device without a driver. Blocked
	// is the file that keeps it from being loaded.
	Asked, Blocked string
	// Winner is the file that modprobe takes in its place.
	Winner string
}
