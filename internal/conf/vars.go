// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"maps"
	"slices"
	"strings"
)

// Array is a shell variable: index to value. A scalar has index 0 only. An
// array may have holes.
type Array map[int]string

// Sorted returns the indices in ascending order.
func (a Array) Sorted() []int { return slices.Sorted(maps.Keys(a)) }

// Scalar returns the value that the shell gives for the plain name: that of
// index 0.
func (a Array) Scalar() string { return a[0] }

// Max returns the highest index, -1 for an empty array.
func (a Array) Max() int {
	highest := -1
	for i := range a {
		highest = max(highest, i)
	}
	return highest
}

// Vars are variables after evaluation, by name. Unset ones are absent.
type Vars map[string]Array

// Get returns the scalar value of a variable, "" when it is unset.
func (v Vars) Get(name string) string { return v[name][0] }

func (v Vars) set(name string, index int, value string) {
	if v[name] == nil {
		v[name] = Array{}
	}
	v[name][index] = value
}

func (v Vars) clone() Vars {
	c := make(Vars, len(v))
	for name, a := range v {
		c[name] = maps.Clone(a)
	}
	return c
}

// The directives of dkms.conf (dkms(8), "DKMS.CONF"), by the way they are
// used below.
const (
	varPackageName    = "PACKAGE_NAME"
	varPackageVersion = "PACKAGE_VERSION"
	varExArch         = "BUILD_EXCLUSIVE_ARCH"
	varExConfig       = "BUILD_EXCLUSIVE_CONFIG"
	varExKernel       = "BUILD_EXCLUSIVE_KERNEL"
	varExMin          = "BUILD_EXCLUSIVE_KERNEL_MIN"
	varExMax          = "BUILD_EXCLUSIVE_KERNEL_MAX"
	varBuilt          = "BUILT_MODULE_NAME"
	varBuiltDir       = "BUILT_MODULE_LOCATION"
	varDest           = "DEST_MODULE_NAME"
	varDestDir        = "DEST_MODULE_LOCATION"
	varObsoleteBy     = "OBSOLETE_BY"
	varClean          = "CLEAN"
	// These two are not upstream's, which passes over them.
	varPolicy    = "FAILURE_POLICY"
	varInitramfs = "INITRAMFS"
	// So are these, which are for packages of the module only.
	VarDescription = "PACKAGE_DESCRIPTION"
	VarHomepage    = "PACKAGE_HOMEPAGE"
	VarLicense     = "PACKAGE_LICENSE"
	VarMaintainer  = "PACKAGE_MAINTAINER"
	VarDependsDeb  = "PACKAGE_DEPENDS_DEB"
	VarDependsRPM  = "PACKAGE_DEPENDS_RPM"
)

// moduleNames returns the variables that are taken from a dkms.conf. Their
// order is the order of the second evaluation, so a value may refer to those
// before it. The lower-case ones are upstream's results, which a conf can set.
func moduleNames() []string {
	return []string{
		varPackageName, varPackageVersion, "POST_ADD", "POST_BUILD", "POST_INSTALL", "POST_REMOVE",
		"PRE_BUILD", "PRE_INSTALL", "BUILD_DEPENDS",
		varExArch, varExConfig, varExKernel, varExMin, varExMax, "build_exclude",
		"MAKE", "MAKE_MATCH", "PATCH", "PATCH_MATCH", "patch_array",
		varBuilt, "built_module_name", varBuiltDir, "built_module_location",
		varDest, "dest_module_name", varDestDir, "dest_module_location",
		"STRIP", "strip", "AUTOINSTALL", "NO_WEAK_MODULES", "BUILD_DEPENDS_REBUILD",
		varObsoleteBy, varClean, "REMAKE_INITRD", "MODULES_CONF", "MODULES_CONF_OBSOLETES",
		"MODULES_CONF_ALIAS_TYPE", "MODULES_CONF_OBSOLETE_ONLY",
		varPolicy, varInitramfs,
		VarDescription, VarHomepage, VarLicense, VarMaintainer, VarDependsDeb, VarDependsRPM,
	}
}

// Apart returns the directives that have no part in what a build makes, nor in where
// it is installed: what a failure means to a package manager, and what is for packages of
// the module.
func Apart() []string {
	return []string{varPolicy, VarDescription, VarHomepage, VarLicense, VarMaintainer, VarDependsDeb, VarDependsRPM}
}

// compilerNames returns what upstream removes from its environment.
func compilerNames() []string {
	return []string{"CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS"}
}

// Directives returns the names of the directives of dkms.conf.
func Directives() []string {
	return slices.DeleteFunc(moduleNames(), func(name string) bool { return name != strings.ToUpper(name) })
}

// Variables returns the variables that dkms sets for a dkms.conf.
func Variables() []string {
	vars := (&Loader{}).moduleShell(Request{})
	return append(slices.Sorted(maps.Keys(vars)), "tmp_location")
}
