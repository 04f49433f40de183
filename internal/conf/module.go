// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"fmt"
	"slices"
	"strings"
)

// Module is an evaluated dkms.conf. The fields follow dkms(8), "DKMS.CONF".
type Module struct {
	// Name and Version are PACKAGE_NAME and PACKAGE_VERSION. They need not
	// equal the module and version of the request.
	Name, Version string
	// File is the conf that was read.
	File string
	// Kernel and Arch are what it was evaluated for.
	Kernel, Arch string
	// Objects has one entry per index up to the highest used in
	// BUILT_MODULE_NAME, BUILT_MODULE_LOCATION, DEST_MODULE_NAME and
	// DEST_MODULE_LOCATION.
	Objects []Object
	// Make is the command chosen by MAKE and MAKE_MATCH; empty is the default.
	Make string
	// Patches are the applicable files below patches/, in order.
	Patches []string
	// The hook scripts with their arguments.
	PreBuild, PostBuild, PostAdd, PreInstall, PostInstall, PostRemove string
	// BuildDepends are the modules that must be installed first. One entry
	// with several names counts as several.
	BuildDepends []string
	// BuildDependsRebuild, Autoinstall and NoWeakModules are true for "yes".
	BuildDependsRebuild, Autoinstall, NoWeakModules bool
	// Confine is CONFINE of the administrator's files, not of the module's own: ""
	// for what framework.conf says, ConfineOn, ConfineOff or ConfineNetwork.
	Confine string `json:",omitempty"`
	// Policy is FAILURE_POLICY: Required, Optional, or "" for what framework.conf
	// says.
	Policy string `json:",omitempty"`
	// Initramfs is INITRAMFS: whether the objects belong into the initramfs.
	Initramfs bool `json:",omitempty"`
	// ObsoleteBy is a kernel release.
	ObsoleteBy string
	// Deprecated are the deprecated directives in use.
	Deprecated []string
	// Unknown are assignments that look like misspelt directives.
	Unknown []Unknown
	// Malformed is the first syntax error of the conf and its overrides, as
	// bash words it; what stands behind it was not evaluated.
	Malformed string `json:",omitempty"`
	// Warnings are remarks that are no errors.
	Warnings []string
	// Incomplete is set when NoExec refused something, so that values may be
	// missing; Notes says what.
	Incomplete bool
	Notes      []string
	// Env are the directives of the request but MAKE as NAME=value: upstream
	// exports them to everything it runs.
	Env []string
	// Vars are all variables after evaluation.
	Vars Vars
}

// The failure policies: whether a package manager's transaction fails with the
// module.
const (
	Required = "required"
	Optional = "optional"
)

// Object is one kernel object file of a module.
type Object struct {
	Index int
	// Built is the name without ".ko", BuiltDir its directory below the build
	// directory: empty, or ending in a slash.
	Built, BuiltDir string
	// Dest is the installed name without ".ko", DestDir the directory that the
	// conf asks for.
	Dest, DestDir string
	// Strip tells whether debug information is removed.
	Strip bool
	// Exclusive is what this object is restricted to, from the element at its
	// own index only.
	Exclusive Exclusive
}

// newModule makes a module of evaluated variables.
func newModule(r Request, out *outcome) *Module {
	v := out.vars
	m := &Module{
		File: r.File, Kernel: r.Kernel, Arch: r.Arch,
		Incomplete: out.incomplete, Notes: out.notes, Vars: v,
	}
	if r.Policy != NoExec {
		m.Incomplete = false
	}
	m.direct(r.Directives)
	m.Name, m.Version = v.Get(varPackageName), v.Get(varPackageVersion)
	m.PreBuild, m.PostBuild = v.Get("PRE_BUILD"), v.Get("POST_BUILD")
	m.PreInstall, m.PostInstall = v.Get("PRE_INSTALL"), v.Get("POST_INSTALL")
	m.PostAdd, m.PostRemove = v.Get("POST_ADD"), v.Get("POST_REMOVE")
	m.ObsoleteBy = v.Get(varObsoleteBy)
	m.Autoinstall = isYes(v.Get("AUTOINSTALL"))
	m.NoWeakModules = isYes(v.Get("NO_WEAK_MODULES"))
	m.Initramfs = isYes(v.Get(varInitramfs))
	if m.Policy = strings.ToLower(v.Get(varPolicy)); m.Policy != "" && m.Policy != Required && m.Policy != Optional {
		m.Warnings = append(m.Warnings, fmt.Sprintf("FAILURE_POLICY is %q, it must be required or optional; taken as required", v.Get(varPolicy)))
		m.Policy = Required
	}
	m.BuildDependsRebuild = isYes(v.Get("BUILD_DEPENDS_REBUILD"))
	for _, i := range v["BUILD_DEPENDS"].Sorted() {
		m.BuildDepends = append(m.BuildDepends, strings.Fields(v["BUILD_DEPENDS"][i])...)
	}
	m.Make = chooseMake(v, r.Kernel)
	m.Patches = choosePatches(v, r.Kernel)
	m.Objects = objects(v, m.Name)
	m.Deprecated = deprecated(v)
	if len(m.Objects) == 0 {
		m.Warnings = append(m.Warnings, "no modules are specified")
	}
	return m
}

// direct sets the values of --directive: literally, on the first element.
// Anything but a plain variable name before the "=" has no effect.
func (m *Module) direct(directives []string) {
	names := moduleNames()
	for _, d := range directives {
		name, value, _ := strings.Cut(d, "=")
		if !isName(name) {
			continue
		}
		// Not MAKE, which a make would take for its own name.
		if name != "MAKE" {
			m.Env = append(m.Env, name+"="+value)
		}
		if slices.Contains(names, name) {
			m.Vars.set(name, 0, value)
		}
	}
}

// chooseMake returns the last MAKE whose MAKE_MATCH matches the kernel, else
// MAKE[0] if that has no MAKE_MATCH. The search ends at the number of
// elements, so entries behind a hole are lost, as upstream loses them.
func chooseMake(v Vars, kernel string) string {
	command := ""
	if v.Get("MAKE_MATCH") == "" {
		command = v.Get("MAKE")
	}
	for i := range len(v["MAKE"]) {
		match := v["MAKE_MATCH"][i]
		if v["MAKE"][i] != "" && match != "" && matches(match, kernel) {
			command = v["MAKE"][i]
		}
	}
	return command
}

// choosePatches returns the patches for the kernel. As with MAKE, entries
// behind a hole are lost.
func choosePatches(v Vars, kernel string) []string {
	var patches []string
	for i := range len(v["PATCH"]) {
		match := v["PATCH_MATCH"][i]
		if v["PATCH"][i] != "" && (match == "" || matches(match, kernel)) {
			patches = append(patches, v["PATCH"][i])
		}
	}
	return patches
}

// objects returns the objects with their defaults filled in.
func objects(v Vars, packageName string) []Object {
	count := 1 + max(v[varBuilt].Max(), v[varBuiltDir].Max(), v[varDest].Max(), v[varDestDir].Max())
	if count > maxObjects {
		count = maxObjects
	}
	objs := make([]Object, count)
	strips := stripped(v, count)
	for i := range objs {
		o := Object{
			Index: i,
			Built: v[varBuilt][i], BuiltDir: v[varBuiltDir][i],
			Dest: v[varDest][i], DestDir: v[varDestDir][i],
			Strip:     strips[i],
			Exclusive: exclusiveAt(v, i),
		}
		if o.Built == "" && count == 1 {
			o.Built = packageName
		}
		if o.Dest == "" {
			o.Dest = o.Built
		}
		if o.BuiltDir != "" && !strings.HasSuffix(o.BuiltDir, "/") {
			o.BuiltDir += "/"
		}
		objs[i] = o
	}
	return objs
}

// maxObjects bounds the number of objects, against a conf that uses a huge
// index.
const maxObjects = 1 << 16

// stripped returns for each object whether it is stripped: n… is no, y… is
// yes, empty is what entry 0 says, and other text is yes.
func stripped(v Vars, count int) []bool {
	strips := make([]bool, count)
	words := v["strip"] // upstream's result, which a conf can preset
	first := words[0]
	for i := range strips {
		word := words[i]
		switch value := v["STRIP"][i]; {
		case value == "":
			word = first
			if word == "" {
				word = "yes"
			}
		case value[0] == 'n' || value[0] == 'N':
			word = "no"
		case value[0] == 'y' || value[0] == 'Y':
			word = "yes"
		}
		if i == 0 {
			first = word
		}
		strips[i] = word != "no"
	}
	return strips
}

// deprecated returns the deprecated directives in use. CLEAN is no offence
// when it does nothing.
func deprecated(v Vars) []string {
	var used []string
	switch v.Get(varClean) {
	case "true", "/bin/true", "/usr/bin/true":
	default:
		if len(v[varClean]) > 0 {
			used = append(used, varClean)
		}
	}
	for _, name := range []string{
		"REMAKE_INITRD", "MODULES_CONF", "MODULES_CONF_OBSOLETES",
		"MODULES_CONF_ALIAS_TYPE", "MODULES_CONF_OBSOLETE_ONLY", varObsoleteBy,
	} {
		if len(v[name]) > 0 {
			used = append(used, name)
		}
	}
	return used
}

func isYes(s string) bool { return strings.EqualFold(s, "yes") }
