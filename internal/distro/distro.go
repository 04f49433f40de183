// SPDX-License-Identifier: Apache-2.0

// Package distro tells which family of distributions a machine belongs to and
// what follows from that: where objects go, which helpers exist and how a
// package is installed.
package distro

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"dkms-go/internal/host"
)

// ErrNoOSRelease says that the machine has no os-release file at all.
var ErrNoOSRelease = errors.New("the machine has no os-release file")

// Distro is the distribution of a machine.
type Distro struct {
	// ID is "ubuntu" on Ubuntu itself, else the whole ID_LIKE value where it
	// is set, else ID. Families are told by how it starts: "rhel centos
	// fedora" is RHEL's, "ubuntu debian" Ubuntu's.
	ID string
}

// Detect reads the first of p.OSRelease that exists (os-release(5)); the file
// is parsed, not executed. The error is ErrNoOSRelease when none exists.
func Detect(p host.Paths) (Distro, error) {
	for _, path := range p.OSRelease {
		values, err := ReadAssignments(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Distro{}, err
		}
		return Distro{ID: identify(values)}, nil
	}
	return Distro{}, ErrNoOSRelease
}

// identify applies the rule of Distro.ID. An ID_LIKE that is set to nothing
// counts as set, as it always has in dkms: what it decides (the directory
// that objects lie in) must not change under an installed module.
func identify(values map[string]string) string {
	id, ok := values["ID"]
	if !ok {
		id = "linux" // the default that os-release(5) gives
	}
	if id == "ubuntu" {
		return id
	}
	if like, ok := values["ID_LIKE"]; ok {
		return like
	}
	return id
}

// is reports whether the ID starts with one of the names.
func (d Distro) is(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(d.ID, name) })
}

// InstallDir returns the directory below a kernel's tree that objects are
// installed in, with a leading slash: addonDir if set, else the family's own
// directory, else confDir, the conf's DEST_MODULE_LOCATION (dkms(8)).
func (d Distro) InstallDir(confDir, addonDir string) string {
	switch {
	case addonDir != "":
		return "/" + addonDir
	case d.is("fedora", "centos", "rhel"):
		return "/extra"
	case d.is("sles", "suse", "opensuse"):
		return "/updates"
	case d.is("debian", "ubuntu", "arch"):
		return "/updates/dkms"
	default:
		return confDir
	}
}

// ArchIsUname reports whether a kernel's architecture is always that of
// uname -m; elsewhere the kernel's rpm package is asked first.
func (d Distro) ArchIsUname() bool {
	return d.is("debian", "ubuntu", "arch", "gentoo")
}

// PlatformKeys reports whether the family's kernels take keys of the firmware for
// objects too, which is a patch of theirs.
func (d Distro) PlatformKeys() bool {
	return d.is("debian", "fedora", "centos", "rhel")
}

// Weak returns the commands that link objects into, and unlink them from, the
// other kernels that they are compatible with, or nil where the family has no
// such helper. Both read the paths of objects from stdin, one a line.
func (d Distro) Weak(p host.Paths, release string) (add, remove []string) {
	switch {
	case d.is("rhel"):
		return []string{p.WeakModules, "--no-initramfs", "--add-modules"},
			[]string{p.WeakModules, "--no-initramfs", "--remove-modules"}
	case d.is("sles", "suse", "opensuse"):
		return []string{p.WeakModulesSUSE, "--add-kernel-modules", release},
			[]string{p.WeakModulesSUSE, "--remove-kernel-modules", release}
	default:
		return nil, nil
	}
}

// AddonDir returns ADDON_MODULES_DIR from the environment or, if that has
// none, from p.AddonSysconfig: the directory below a kernel's tree, without a
// leading slash, that replaces all other choices. It is empty where neither
// sets it.
func AddonDir(p host.Paths, environ []string) string {
	const name = "ADDON_MODULES_DIR"
	for _, variable := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(variable, name+"="); ok && value != "" {
			return value
		}
	}
	values, err := ReadAssignments(p.AddonSysconfig)
	if err != nil {
		return ""
	}
	return values[name]
}
