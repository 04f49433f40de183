// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"
)

// upstreams are the actions that upstream has too. It takes any option with any
// action, and passes over words that it has no use for: so do they here. The others
// refuse what they would not heed.
func upstreams() []string {
	return []string{
		"add", "build", "install", "uninstall", "unbuild", "remove", "status", "match", "autoinstall", "mktarball", "ldtarball",
		"generate_mok", "kernel_preinst", "kernel_postinst", "kernel_prerm",
	}
}

// Strict reports whether an action refuses options that mean nothing to it.
func (v *Verb) Strict() bool { return !slices.Contains(upstreams(), v.Name) }

// takes reports whether an option means something to an action.
func (v *Verb) takes(option string) bool {
	return slices.Contains(v.Options, option) || slices.Contains(commonOptions, option) ||
		option == "--all" // of which countKernels tells
}

// strict refuses what a strict action would pass over: by the table of actions.
func (a *args) strict(v *Verb) error {
	if !v.Strict() {
		return nil
	}
	for _, option := range a.given {
		if !v.takes(option) {
			return usageError("%s takes no %s", v.Name, option)
		}
	}
	if len(a.odd) > 0 {
		return usageError("%s takes one module at a time, and no %q", v.Name, strings.Join(a.odd, " "))
	}
	if v.Words || v.Raw {
		return nil
	}
	if a.module != "" && a.bare() && a.sourceDir != "" && v.Name != "config" {
		return usageError("%s takes one module at a time, and no %q", v.Name, a.module)
	}
	a.byName(v)
	if a.module != "" && !slices.Contains(v.Options, "--module") {
		return nil // it tells of that itself
	}
	return a.placeless(v)
}

// placeless refuses directories and files for an action that takes modules by their
// names.
func (a *args) placeless(v *Verb) error {
	switch place := a.place + a.missing; {
	case place == "" || a.module == "" && a.place == "":
		return nil // carryOut tells of what is missing
	case a.sourceDir != "" && v.Name == "config", a.sourceDir == "" && v.Name == "log" && a.module == "":
		return nil
	case a.sourceDir != "":
		return usageError("%s takes a module by its name, and %q is a directory; with its source added (dkms add %s) it has one", v.Name, place, shellQuote(place))
	default:
		return usageError("%s takes a module by its name, and %q is a file", v.Name, place)
	}
}

// bare reports whether the word that a directory or a file was taken from could be the
// name of a module.
func (a *args) bare() bool {
	return a.place != "" && !strings.ContainsAny(a.place, "/") && !looksLikePath(a.place) && a.place != "dkms.conf"
}

// byName makes a bare word the name of a module for an action that takes no other
// than those, whatever the working directory has of that name.
func (a *args) byName(v *Verb) {
	if !a.bare() || a.module != "" || v.Name == "config" || v.Name == "log" && a.archive != "" || !slices.Contains(v.Options, "--module") {
		return
	}
	a.setModule(a.place)
	a.place, a.sourceDir, a.archive = "", "", ""
}
