// SPDX-License-Identifier: Apache-2.0

// Package host names the places on a machine that dkms reads and writes.
//
// It is the only package with machine paths in it: everything else gets a
// Paths value, so that a test, an image build or a private tree can put each
// place elsewhere.
package host

import "path/filepath"

// Paths are the places dkms works with. Default gives those of a running
// machine; framework.conf and the command line may move the three trees.
type Paths struct {
	// DKMSTree holds the state of all modules (dkms(8), --dkmstree).
	DKMSTree string
	// Cache holds what can be made again: module facts for the index, results,
	// durations. It may be removed at any time.
	Cache string
	// SourceTree holds one <module>-<version> directory per module source.
	SourceTree string
	// InstallTree holds one directory per kernel release.
	InstallTree string
	// ConfDir holds framework.conf, framework.conf.d and the per-module
	// overrides of dkms.conf.
	ConfDir string
	// HubFile says how to speak to the host's hub; only root may read it.
	HubFile string
	// TrustDir holds the keys that prebuilts must be signed by.
	TrustDir string
	// Temp is where short-lived files go: $TMPDIR or the system's default.
	Temp string
	// Boot holds System.map-<kernel>, vmlinuz-<kernel> and config-<kernel>.
	Boot string
	// DebugBoot holds System.map-<kernel> of the packages with debug symbols.
	DebugBoot string
	// GRUBDirs may have GRUB's grub.cfg and grubenv, the first that has counts.
	GRUBDirs []string
	// GRUBGate is the file of the boot gate that Debian's grub-mkconfig reads.
	GRUBGate string
	// LoaderRoots are where the partitions of systemd-boot may be mounted, in
	// bootctl(1)'s order.
	LoaderRoots []string
	// EFIVars is efivarfs; MOKVars has what shim handed on, a file per variable.
	// Firmware is their parent, which every machine has, but not every container.
	EFIVars, MOKVars, Firmware string
	// Lockdown tells how the running kernel is locked down
	// (kernel_lockdown(7)), SigEnforce whether it takes signed objects only.
	Lockdown, SigEnforce string
	// ForceDir lists modules whose installation a distribution forces.
	ForceDir string
	// OSRelease are the os-release(5) files, the first that exists counts.
	OSRelease []string
	// AddonSysconfig may set ADDON_MODULES_DIR (SUSE).
	AddonSysconfig string
	// MOKDir holds the default module signing key, mok.key and mok.pub. It
	// does not follow DKMSTree: one machine has one key.
	MOKDir string
	// ShimMOKDir holds Ubuntu's machine owner key, MOK.priv and MOK.der.
	ShimMOKDir string
	// PortageConf is Gentoo's make.conf.
	PortageConf string
	// KbuildDir is where Debian's linux-kbuild packages live, without the
	// version suffix.
	KbuildDir string
	// Proc is the proc file system.
	Proc string
	// Cgroup is where control groups are mounted (cgroups(7)).
	Cgroup string
	// SysDevices is the tree that is searched for modalias files.
	SysDevices string
	// ApportHook is Ubuntu's crash reporter and the hook run for a failed
	// build; both must exist for it to run.
	Apport, ApportHook string
	// DepmodDirs hold depmod.d(5), the most important first.
	DepmodDirs []string
	// ModulesLoadUnit is restarted by --modprobe-on-install if it exists.
	ModulesLoadUnit string
	// ModulesLoadDir holds the administrator's lists of modules to load at
	// boot (modules-load.d(5)).
	ModulesLoadDir string
	// ModulesLoadDirs are all directories of such lists, and ModprobeDirs those of
	// modprobe.d(5), the most important first.
	ModulesLoadDirs, ModprobeDirs []string
	// PackagedSources and PackagedLibraries are where packages of kernels' headers
	// have files besides InstallTree.
	PackagedSources, PackagedLibraries string
	// SystemCommands are the directories of programs that only root's PATH has.
	SystemCommands []string
	// SysModule has a directory for each module that is loaded or built in.
	SysModule string
	// KernelPlugin is the plugin of dkms for kernel-install(8), PacmanHook its hook
	// for pacman. Debian's hooks are below KernelInstall.
	KernelPlugin, PacmanHook string
	// ESP are the mount points of the EFI system partition besides Boot.
	ESP []string
	// MachineID is machine-id(5), which names directories of boot loader
	// entries; KernelInstall has kernel-install(8)'s entry-token and
	// install.conf, and the directories of hooks that Debian's kernel packages run.
	MachineID, KernelInstall string
	// InitramfsTools and InitramfsToolsShare hold what the administrator and
	// packages tell initramfs-tools(7).
	InitramfsTools, InitramfsToolsShare string
	// DracutConf and the *.conf files in DracutDirs are dracut.conf(5); a file
	// in an earlier directory hides one of the same name in a later one.
	DracutConf string
	DracutDirs []string
	// MkinitcpioConf and the *.conf files in MkinitcpioConfDir are
	// mkinitcpio.conf(5); MkinitcpioPresets has one file per kernel package.
	MkinitcpioConf, MkinitcpioConfDir, MkinitcpioPresets string
	// JournalSocket takes entries for the systemd journal; without it none are sent.
	JournalSocket string
	// WeakModules and WeakModulesSUSE are the helpers of those families.
	WeakModules, WeakModulesSUSE string
}

// Default returns the paths of a machine as distributions lay it out.
func Default() Paths {
	return Paths{
		DKMSTree:            "/var/lib/dkms",
		Cache:               "/var/cache/dkms",
		SourceTree:          "/usr/src",
		InstallTree:         "/lib/modules",
		ConfDir:             "/etc/dkms",
		HubFile:             "/etc/dkms/hub.json",
		TrustDir:            "/etc/dkms/trust.d",
		Temp:                "/tmp",
		Boot:                "/boot",
		DebugBoot:           "/usr/lib/debug/boot",
		ForceDir:            "/usr/share/dkms/modules_to_force_install",
		OSRelease:           []string{"/etc/os-release", "/usr/lib/os-release"},
		AddonSysconfig:      "/etc/sysconfig/module-init-tools",
		MOKDir:              "/var/lib/dkms",
		ShimMOKDir:          "/var/lib/shim-signed/mok",
		PortageConf:         "/etc/portage/make.conf",
		KbuildDir:           "/usr/lib/linux-kbuild-",
		Proc:                "/proc",
		Cgroup:              "/sys/fs/cgroup",
		SysDevices:          "/sys/devices",
		JournalSocket:       "/run/systemd/journal/socket",
		Apport:              "/usr/share/apport/apport",
		ApportHook:          "/usr/share/apport/package-hooks/dkms_packages.py",
		DepmodDirs:          []string{"/etc/depmod.d", "/run/depmod.d", "/usr/local/lib/depmod.d", "/lib/depmod.d"},
		ModulesLoadUnit:     "/lib/systemd/system/systemd-modules-load.service",
		ModulesLoadDir:      "/etc/modules-load.d",
		ModulesLoadDirs:     []string{"/etc/modules-load.d", "/run/modules-load.d", "/usr/local/lib/modules-load.d", "/usr/lib/modules-load.d"},
		ModprobeDirs:        []string{"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"},
		PackagedSources:     "/usr/src",
		PackagedLibraries:   "/usr/lib",
		SystemCommands:      []string{"/usr/local/sbin", "/usr/sbin", "/sbin"},
		SysModule:           "/sys/module",
		KernelPlugin:        "/usr/lib/kernel/install.d/40-dkms.install",
		PacmanHook:          "/usr/share/libalpm/hooks/70-dkms-install.hook",
		ESP:                 []string{"/efi", "/boot/efi"},
		MachineID:           "/etc/machine-id",
		KernelInstall:       "/etc/kernel",
		InitramfsTools:      "/etc/initramfs-tools",
		InitramfsToolsShare: "/usr/share/initramfs-tools",
		DracutConf:          "/etc/dracut.conf",
		DracutDirs:          []string{"/etc/dracut.conf.d", "/usr/lib/dracut/dracut.conf.d"},
		MkinitcpioConf:      "/etc/mkinitcpio.conf",
		MkinitcpioConfDir:   "/etc/mkinitcpio.conf.d",
		MkinitcpioPresets:   "/etc/mkinitcpio.d",
		WeakModules:         "/usr/sbin/weak-modules",
		WeakModulesSUSE:     "/usr/lib/module-init-tools/weak-modules2",
		GRUBDirs:            []string{"/boot/grub", "/boot/grub2"},
		GRUBGate:            "/etc/default/grub.d/dkms-gate.cfg",
		LoaderRoots:         []string{"/efi", "/boot", "/boot/efi"},
		EFIVars:             "/sys/firmware/efi/efivars",
		MOKVars:             "/sys/firmware/efi/mok-variables",
		Firmware:            "/sys/firmware",
		Lockdown:            "/sys/kernel/security/lockdown",
		SigEnforce:          "/sys/module/module/parameters/sig_enforce",
	}
}

// What dkms keeps below Paths.Cache: results of builds, facts of module indexes,
// and what was read out of other files; CacheAside has private places of builds that
// are tried, which go with the run.
const (
	CacheAside   = "aside"
	CacheResults = "results"
	CacheIndex   = "index"
	CacheFacts   = "facts"
)

// Cached returns the place of something in the cache, "" if there is none.
func (p Paths) Cached(name string) string {
	if p.Cache == "" {
		return ""
	}
	return filepath.Join(p.Cache, name)
}

// KernelTree returns the directory that objects for a kernel are installed
// below.
func (p Paths) KernelTree(release string) string {
	return filepath.Join(p.InstallTree, release)
}

// SystemMap returns the symbol table that depmod may check against; the file
// need not exist.
func (p Paths) SystemMap(release string) string {
	return filepath.Join(p.Boot, "System.map-"+release)
}

// Images returns where a kernel's image may be, the likeliest first: where
// bootloaders have it, by the names of installkernel(8), then below the
// kernel's tree (Fedora, Arch).
func (p Paths) Images(release string) []string {
	tree := p.KernelTree(release)
	return []string{
		filepath.Join(p.Boot, "vmlinuz-"+release), filepath.Join(p.Boot, "vmlinux-"+release),
		filepath.Join(tree, "vmlinuz"), filepath.Join(tree, "vmlinux"),
	}
}

// Configs returns where a kernel's configuration may be that came with its
// image and not with its headers.
func (p Paths) Configs(release string) []string {
	return []string{filepath.Join(p.Boot, "config-"+release), filepath.Join(p.KernelTree(release), "config")}
}

// Symvers returns where the list of a kernel's exported symbols may be that
// came with its image and not with its headers (Fedora, SUSE).
func (p Paths) Symvers(release string) []string {
	var paths []string
	for _, ext := range []string{".xz", ".gz", ".zst"} {
		paths = append(paths, filepath.Join(p.KernelTree(release), "symvers"+ext), filepath.Join(p.Boot, "symvers-"+release+ext))
	}
	return paths
}
