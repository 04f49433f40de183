// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"dkms-go/internal/action"
	"dkms-go/internal/pack"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// Verb is one action of the command line.
type Verb struct {
	Name string
	// Usage is the arguments behind the name, Help what it does.
	Usage, Help string
	// Options are those that mean something to it besides the common ones.
	Options []string
	// ReadOnly says that it only tells, and executes nothing for it.
	ReadOnly bool
	// Kernelless says that it can do without any kernel.
	Kernelless bool
	// All says that --all is taken; One that exactly one kernel is worked
	// on, Explicit that it must be named.
	All, One, Explicit bool
	// Words says that the words behind it that are no options are its own.
	Words bool
	// Raw says that all words behind the action are its own, options too.
	Raw bool
	// Result says that it changes something, and prints with --json what became of
	// its steps.
	Result bool
	// Codes are reasons of failure that are typical of it.
	Codes []action.Reason
	// More is further text of its help.
	More func() string
	run  func(context.Context, *command) error
}

// commonOptions mean the same to every action.
var commonOptions = []string{"--root", "--dkmstree", "--sourcetree", "--installtree", "--verbose", "--quiet", "--debug", "--help", "--version"}

var (
	selectOptions  = []string{"--module", "-v"}
	kernelOptions  = []string{"--kernelver", "--arch"}
	packageOptions = with(selectOptions, kernelOptions, []string{"--binary", "--field", "--output", "--directive", "-j", "--dry-run", "--json"})
	buildOptions   = []string{"-c", "--config", "--kernelsourcedir", "--directive", "-j", "--force", "--dry-run", "--json"}
)

func with[T any](lists ...[]T) []T {
	var all []T
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

var buildCodes = []action.Reason{
	action.NoSourceDir, action.AlreadyAdded, action.NoConf, action.BrokenModule, action.NoAll, action.PatchPath, action.PatchFailed,
	action.ObjectMissing, action.BadConf, action.NoSource, action.NotSourceTree, action.MakeFailed, action.MissingDepends,
	action.NoHeaders, action.BadKernelTree, action.NotVerified, action.Excluded, action.HookFailed, action.NotConfined,
}

// verbTable lists the actions in the order of the help.
var verbTable = []Verb{
	{
		Name: "add", Result: true, Kernelless: true, Usage: "<module>/<version> | <directory> | <archive>", Help: "register a module whose source is in the source tree, or bring it there",
		Options: with(selectOptions, kernelOptions, []string{"-c", "--directive", "--archive", "--force", "--rpm_safe_upgrade", "--dry-run", "--json"}),
		Codes:   []action.Reason{action.NoModule, action.NotWritable, action.NoSourceDir, action.AlreadyAdded, action.NoConf, action.NoAll, action.BadArchive, action.BadConf, action.NotSourceTree, action.HookFailed},
		run:     func(ctx context.Context, c *command) error { return c.engine.Add(ctx, c.selection(), c.targets[0]) },
	},
	{
		Name: "build", Result: true, Usage: "<module>/<version> [-k <kernel>]...", Help: "compile a module for one or more kernels, adding it if needed",
		Options: with(selectOptions, kernelOptions, buildOptions, []string{"--check-reproducible"}), Codes: append(buildCodes[:len(buildCodes):len(buildCodes)], action.NotReproducible),
		run: func(ctx context.Context, c *command) error { return c.engine.Build(ctx, c.selection(), c.targets) },
	},
	{
		Name: "install", Result: true, Usage: "<module>/<version> [-k <kernel>]...", Help: "install a module for one or more kernels, building it if needed",
		Options: with(selectOptions, kernelOptions, buildOptions, []string{"--force-version-override", "--no-depmod", "--modprobe-on-install", "--symlink-modules", "--rpm_safe_upgrade"}),
		Codes:   append(buildCodes[:len(buildCodes):len(buildCodes)], action.NotRoot, action.InstallFailed, action.IndexFailed, action.InitramfsFailed, action.PreInstallFailed),
		run:     func(ctx context.Context, c *command) error { return c.engine.Install(ctx, c.selection(), c.targets) },
	},
	{
		Name: "uninstall", Result: true, Usage: "<module>/<version> [-k <kernel>]... | --all", Help: "take a module out of kernels' trees; it stays built", All: true,
		Options: with(selectOptions, kernelOptions, []string{"--all", "--no-depmod", "--dry-run", "--json"}),
		Codes:   []action.Reason{action.NoModule, action.NotRoot, action.NotAdded, action.BrokenModule, action.BadConf},
		run:     back(plan.ToBuilt),
	},
	{
		Name: "unbuild", Result: true, Usage: "<module>/<version> [-k <kernel>]... | --all", Help: "delete what was built for kernels; the module stays added", All: true,
		Options: with(selectOptions, kernelOptions, []string{"--all", "--no-depmod", "--dry-run", "--json"}),
		Codes:   []action.Reason{action.NoModule, action.NotWritable, action.NotAdded, action.BrokenModule, action.BadConf},
		run:     back(plan.ToAdded),
	},
	{
		Name: "remove", Result: true, Kernelless: true, Usage: "<module>/<version> [-k <kernel>]... | --all", Help: "undo everything for kernels, and the registration once no kernel is left", All: true,
		Options: with(selectOptions, kernelOptions, []string{"--all", "--no-depmod", "--rpm_safe_upgrade", "--dry-run", "--json"}),
		Codes:   []action.Reason{action.NoModule, action.NotWritable, action.NotAdded, action.BrokenModule, action.BadConf},
		run:     back(plan.ToNothing),
	},
	{
		Name: "status", ReadOnly: true, Usage: "[<module>[/<version>]] [-k <kernel>]...", Help: "show how modules stand; names and kernels may be shell patterns", All: true,
		Options: with(selectOptions, kernelOptions, []string{"--json"}),
		run:     status,
	},
	{
		Name: "list", ReadOnly: true, Usage: "[<module>[/<version>]]", Help: "list modules with the kernels each is built and installed for", All: true,
		Options: with(selectOptions, kernelOptions, []string{"--json"}),
		run:     list,
	},
	{
		Name: "verify", ReadOnly: true, Usage: "[<module>[/<version>]] [-k <kernel>]...", Help: "tell of each object whether its kernel would load it; nothing is loaded", All: true,
		Options: with(selectOptions, kernelOptions, []string{"--json"}), Codes: []action.Reason{action.NotAdded, action.NotVerified},
		run: verify,
	},
	{
		Name: "ready", ReadOnly: true, Usage: "[--next-boot | -k <kernel>]", Help: "tell whether a kernel, by default the one that boots next, has all modules that it needs", One: true,
		Options: with(kernelOptions, []string{"--next-boot", "--templatekernel", "--json"}), Codes: []action.Reason{action.OneKernel, action.NoAll, action.NotReady},
		run: ready,
	},
	{
		Name: "explain", Words: true, Usage: "build|install|autoinstall [<module>[/<version>]] [-k <kernel>]...",
		Help:    "tell what an action would do for kernels and why, with the facts compared; nothing is done",
		Options: with(selectOptions, kernelOptions, []string{"-c", "--config", "--kernelsourcedir", "--directive", "--force", "--force-version-override", "--no-depmod", "--symlink-modules", "--json"}),
		Codes: []action.Reason{
			action.NotAdded, action.NoConf, action.OneKernel, action.BrokenModule, action.InstallFailed, action.BadConf, action.NoSource, action.MakeFailed,
			action.AutoinstallFailed, action.MissingDepends, action.NoHeaders, action.NotConfined, action.Excluded,
		},
		run: explainVerb,
	},
	{
		Name: "preflight", Words: true, Usage: "<kernel> | <header packages>... [<module>[/<version>]]... [-k <kernel>]...",
		Help:    "tell whether the modules of the tree would build for a kernel, also for one that is not installed; nothing is installed",
		Options: with(kernelOptions, []string{"-j", "--download", "--json"}), Codes: asideCodes,
		run: preflight,
	},
	{
		Name: "matrix", Words: true, Usage: "<directory>... --kernels <kernel>,...", Help: "build modules from directories for several kernels, and show a table of what came of it; nothing is added",
		Options: with(kernelOptions, []string{"--kernels", "-j", "--download", "--json", "--markdown", "--html"}), Codes: append(asideCodes[:len(asideCodes):len(asideCodes)], action.NotSourceTree, action.NoConf),
		run: matrix,
	},
	{
		Name: "doctor", ReadOnly: true, Usage: "[<module>[/<version>]] [-k <kernel>]", Help: "tell what keeps modules from being built, installed and loaded, why, and what to do", One: true,
		Options: with(selectOptions, kernelOptions, []string{"--json"}), Codes: []action.Reason{action.OneKernel, action.NoAll, action.NotAdded, action.EmptyKernel, action.FoundWarning, action.FoundError},
		run: doctorVerb,
	},
	{
		Name: "fsck", Words: true, Kernelless: true, Usage: "[--repair] [--json]", Help: "look for what is not in order in the DKMS tree and in what is installed, and repair it",
		Options: []string{"--repair", "--dry-run", "--json"}, Codes: []action.Reason{action.NotWritable, action.NotAdded, action.FoundWarning, action.FoundError, action.Busy},
		run: fsck,
	},
	{
		Name: "lint", ReadOnly: true, Words: true, Kernelless: true, Usage: "<directory> | <dkms.conf>", Help: "tell a module's author what to do better; nothing of the module is executed",
		Options: []string{"--json"}, Codes: []action.Reason{action.NotSourceTree, action.NoConf, action.FoundWarning, action.FoundError},
		run: lintVerb,
	},
	{
		Name: "log", ReadOnly: true, Usage: "[<module>[/<version>]] [-k <kernel>]... | <file>", Help: "show the log of the last build and, if it failed, why and what to do next",
		Options: with(selectOptions, kernelOptions, []string{"--diagnosis", "--json"}), Codes: []action.Reason{action.NoLog},
		run: logVerb,
	},
	{
		Name: "config", Kernelless: true, Usage: "<module>/<version> | <directory> [-k <kernel>]", Help: "show what dkms.conf comes to for a kernel",
		Options: with(selectOptions, kernelOptions, []string{"-c", "--config", "--kernelsourcedir", "--directive", "--json"}), One: true,
		Codes: []action.Reason{action.NoModule, action.NotAdded, action.NoConf, action.BadConf},
		run:   config,
	},
	{
		Name: "autoinstall", Result: true, Kernelless: true, Usage: "[<module>[/<version>]] [-k <kernel>]", Help: "install, for one kernel, all modules that ask for it, dependencies first", One: true,
		Options: with(selectOptions, kernelOptions, buildOptions[1:], []string{"--no-depmod", "--modprobe-on-install", "--symlink-modules"}),
		Codes:   []action.Reason{action.NotRoot, action.OneKernel, action.NoAll, action.AutoinstallFailed, action.NotAdded, action.UnknownModule, action.NoHeaders},
		run: func(ctx context.Context, c *command) error {
			return c.engine.Autoinstall(ctx, c.targets, c.id())
		},
	},
	{
		Name: "match", Result: true, Usage: "--templatekernel <kernel> [-k <kernel>] [<module>]", Help: "install for a kernel what is installed for another", One: true,
		Options: with(selectOptions, kernelOptions, buildOptions, []string{"--templatekernel", "--no-depmod"}),
		Codes:   []action.Reason{action.NotRoot, action.NoTemplate, action.SameKernel, action.UnknownModule, action.OneKernel, action.NoAll, action.NoHeaders},
		run: func(ctx context.Context, c *command) error {
			return c.engine.Match(ctx, c.args.template, c.targets[0], c.args.module)
		},
	},
	{
		Name: "mktarball", Kernelless: true, Usage: "<module>/<version> [-k <kernel>]... | --all", Help: "pack the source and what is built into an archive", All: true,
		Options: with(selectOptions, kernelOptions, []string{"--all", "-c", "--archive", "--binaries-only", "--source-only", "--dry-run"}),
		Codes:   []action.Reason{action.NoModule, action.NotAdded, action.BrokenModule, action.NotBuilt, action.ArchiveFailed, action.NoPlace},
		run: func(ctx context.Context, c *command) error {
			return c.engine.MakeTarball(ctx, c.id(), c.targets, action.PackOptions{
				Archive: c.args.archive, SourceOnly: c.args.has("--source-only"), BinaryOnly: c.args.has("--binaries-only"), AllKernels: c.args.has("--all"),
			})
		},
	},
	{
		Name: "ldtarball", Result: true, Kernelless: true, Usage: "<archive>", Help: "add a module from an archive, with what is built in it",
		Options: with(kernelOptions, []string{"--archive", "--force", "--dry-run", "--json"}),
		Codes:   []action.Reason{action.NotRoot, action.NoStub, action.NoArchive, action.NoConfInArchive, action.BadArchive, action.AlreadyLoaded, action.BadConf},
		run: func(ctx context.Context, c *command) error {
			return c.engine.LoadTarball(ctx, c.args.archiveName(), c.targets[0])
		},
	},
	{
		Name: "init", Words: true, Kernelless: true, Usage: "[<directory>]", Help: "write a dkms.conf to begin with, and dkms.mk, for a module's source; what is there stays",
		Options: with(selectOptions, []string{"--dry-run", "--json"}), Codes: []action.Reason{action.NotSourceTree, action.NotWritable, action.NoSource},
		run: initVerb,
	},
	{
		Name: "mkdeb", Words: true, Kernelless: true, Usage: "[<directory> | <module>/<version>] [--binary -k <kernel>]", Help: "make a Debian package of a module's source, or of what is built for a kernel",
		Options: packageOptions, Codes: packageCodes, More: fieldHelp, run: packages(pack.Deb),
	},
	{
		Name: "mkrpm", Words: true, Kernelless: true, Usage: "[<directory> | <module>/<version>] [--binary -k <kernel>]", Help: "make an rpm package of a module's source, or of what is built for a kernel",
		Options: packageOptions, Codes: packageCodes, More: fieldHelp, run: packages(pack.RPM),
	},
	{
		Name: "mkpackages", Words: true, Kernelless: true, Usage: "[<directory> | <module>/<version>] [--binary -k <kernel>]", Help: "make both packages",
		Options: packageOptions, Codes: packageCodes, More: fieldHelp, run: packages(pack.Deb, pack.RPM),
	},
	{
		Name: "export", Usage: "<module>/<version> [-k <kernel>]...", Help: "write what is built for kernels into bundles, for machines that can't build it",
		Options: with(selectOptions, kernelOptions, []string{"--output", "--sign", "--with-source", "--dry-run"}),
		Codes:   []action.Reason{action.NoModule, action.KeyFailed, action.NotAdded, action.BrokenModule, action.NotBuilt, action.ArchiveFailed, action.BadConf},
		run: func(ctx context.Context, c *command) error {
			return c.engine.Export(ctx, c.id(), c.targets, action.ExportOptions{Dir: c.args.output, SignKey: c.args.signKey, WithSource: c.args.has("--with-source")})
		},
	},
	{
		Name: "import", Result: true, Words: true, Kernelless: true, Usage: "<bundle> [-k <kernel>]", Help: "install a module from a bundle, without compiler, headers or source",
		Options: with(kernelOptions, []string{"--trust", "--force", "--no-depmod", "--modprobe-on-install", "--dry-run", "--json"}),
		Codes: []action.Reason{
			action.NotRoot, action.KeyFailed, action.NoArchive, action.InstallFailed, action.BadArchive, action.AlreadyLoaded, action.NotVerified,
			action.Untrusted, action.OtherKernel, action.Excluded,
		},
		run: importVerb,
	},
	{
		Name: "push", Usage: "<module>/<version> [-k <kernel>]... --to <address> --sign <file>", Help: "put what is built for kernels into a registry or a directory, for others to pull",
		Options: with(selectOptions, kernelOptions, []string{"--to", "--sign", "--with-source", "--dry-run"}),
		Codes:   []action.Reason{action.NoModule, action.KeyFailed, action.NotAdded, action.BrokenModule, action.NotBuilt, action.ArchiveFailed, action.BadConf, action.NoPrebuilt},
		run: func(ctx context.Context, c *command) error {
			return c.engine.Push(ctx, c.id(), c.targets, c.args.to, action.ExportOptions{SignKey: c.args.signKey, WithSource: c.args.has("--with-source")})
		},
	},
	{
		Name: "pull", Result: true, Usage: "<module>/<version> [-k <kernel>]... [--from <address>]", Help: "install a module for kernels from a source of prebuilts; nothing is built",
		Options: with(selectOptions, kernelOptions, []string{"--from", "--trust", "--force", "--no-depmod", "--modprobe-on-install", "--dry-run", "--json"}),
		Codes: []action.Reason{
			action.NoModule, action.NotRoot, action.KeyFailed, action.NotAdded, action.InstallFailed, action.BadConf, action.Untrusted, action.NoPrebuilt,
		},
		run: func(ctx context.Context, c *command) error {
			return c.engine.Pull(ctx, c.id(), c.targets, c.args.from, c.args.trust)
		},
	},
	{
		Name: "generate_mok", Help: "make the module signing key if there is none",
		Codes: []action.Reason{action.KeyFailed},
		run:   func(ctx context.Context, c *command) error { return c.engine.MakeKey(ctx) },
	},
	{
		Name: "kernel_preinst", Usage: "-k <kernel>", Help: "for kernel packages: before a kernel is replaced", One: true, Explicit: true,
		Options: kernelOptions, Codes: hookCodes,
		run: func(ctx context.Context, c *command) error { return c.engine.KernelPreinst(ctx, c.targets[0]) },
	},
	{
		Name: "kernel_postinst", Usage: "-k <kernel>", Help: "for kernel packages: after a kernel was installed", One: true, Explicit: true,
		Options: kernelOptions, Codes: append(hookCodes[:len(hookCodes):len(hookCodes)], action.AutoinstallFailed, action.NoHeaders),
		run: func(ctx context.Context, c *command) error { return c.engine.KernelPostinst(ctx, c.targets[0]) },
	},
	{
		Name: "kernel_prerm", Usage: "-k <kernel>", Help: "for kernel packages: before a kernel is removed", One: true, Explicit: true,
		Options: kernelOptions, Codes: hookCodes,
		run: func(ctx context.Context, c *command) error { return c.engine.KernelPrerm(ctx, c.targets[0]) },
	},
	{
		Name: "autoload", Raw: true, Kernelless: true, Usage: "on|off|status <module>[/<version>]", Help: "load a module's objects at boot, or not",
		Options: []string{"--json"},
		Codes:   []action.Reason{action.NotRoot, action.NotWritable, action.NotAdded, action.NoConf, action.BadConf},
		run:     autoloadVerb,
	},
	{
		Name: "cache", Words: true, Kernelless: true, Usage: "stats|clean", Help: "show or remove what is kept between builds",
		Options: []string{"--json"}, Codes: []action.Reason{action.NotWritable},
		run: cacheVerb,
	},
	{
		Name: "key", Words: true, Kernelless: true, Usage: "status|generate|enrol [-k <kernel>]", Help: "tell of the signing key whether the kernel trusts it, make it, or enrol it; or make a key for bundles",
		Options: with(kernelOptions, []string{"--bundle", "--json", "--dry-run"}), Codes: []action.Reason{action.NotRoot, action.NotWritable, action.KeyFailed, action.BadConf, action.EmptyKernel, action.NotTrusted},
		run: keyVerb,
	},
	{
		Name: "metrics", ReadOnly: true, Words: true, Kernelless: true, Usage: "[--output <file>]", Help: "print how modules stand as metrics of Prometheus",
		Options: []string{"--output"}, Codes: []action.Reason{action.NotWritable},
		run: metricsVerb,
	},
	{
		Name: "hub", Words: true, Kernelless: true, Usage: "enrol <url> <code> [--ca <file>] [--name <name>] | report | status",
		Help:    "make this host one of a hub's, tell the hub how modules stand, or tell of the hub",
		Options: []string{"--ca", "--name", "--json"}, Codes: []action.Reason{action.NotRoot, action.NotWritable, action.HubFailed},
		run: hubVerb,
	},
	{
		Name: "hook", Raw: true, Kernelless: true, Usage: "<name> [<argument>]...", Help: "do the work of a package manager's hook", More: hookHelp,
		Codes: []action.Reason{action.NotRoot, action.NoModule, action.BadName, action.AutoinstallFailed, action.HookFailed},
		run:   hook,
	},
}

// asideCodes are those of what is built aside.
var asideCodes = []action.Reason{
	action.NotRoot, action.NotWritable, action.NotAdded, action.BrokenModule, action.BadArchive, action.BadConf,
	action.AutoinstallFailed, action.EmptyKernel, action.NoHeaders, action.NotConfined,
}

// packageCodes are those of what makes packages.
var packageCodes = []action.Reason{
	action.NoModule, action.BadName, action.NoSourceDir, action.NotWritable, action.NoConf, action.ArchiveFailed, action.ObjectMissing, action.BadConf, action.NoSource,
	action.NotSourceTree, action.NoPlace, action.MakeFailed, action.MissingDepends, action.NoHeaders, action.NotVerified, action.NotConfined, action.BadPackage, action.Excluded,
}

var hookCodes = []action.Reason{action.NotRoot, action.OneKernel, action.NoAll, action.RemoveFailed}

// Verbs returns the table.
func Verbs() []Verb { return verbTable }

func verbNamed(name string) *Verb {
	for i := range verbTable {
		if verbTable[i].Name == name {
			return &verbTable[i]
		}
	}
	return nil
}

func back(d plan.Depth) func(context.Context, *command) error {
	return func(ctx context.Context, c *command) error {
		return c.engine.Back(ctx, c.id(), c.targets, c.args.has("--all"), d)
	}
}

func (c *command) id() state.ID {
	return state.ID{Module: c.args.module, Version: c.args.version}
}

func (c *command) selection() action.Selection {
	return action.Selection{ID: c.id(), SourceDir: c.args.sourceDir, Archive: c.args.archive}
}
