// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// How commands of modules are confined: as well as the machine can, not at all, or
// not without namespaces of their own.
const (
	ConfineOn      = "on"
	ConfineOff     = "off"
	ConfineRequire = "require"
	// ConfineNetwork is for a module that needs the network.
	ConfineNetwork = "network"
)

// The limits of confined builds where framework.conf sets none: seconds, processes
// at once, bytes of a file, and bytes that a build leaves free on the disk.
const (
	DefaultBuildTime      = 2 * 60 * 60
	DefaultBuildProcesses = 4096
	DefaultBuildFile      = 4 << 30
	DefaultBuildReserve   = 64 << 20
	// WholeMemory is for as much memory as the machine has.
	WholeMemory = -1
)

// confine reads the word of framework.conf.
func confine(word string) string {
	switch word := strings.ToLower(word); word {
	case ConfineOff, ConfineRequire:
		return word
	}
	return ConfineOn
}

// limit reads a number as ParseSize does.
func limit(v Vars, name string, byDefault int64) int64 {
	if n, ok := ParseSize(v.Get(name)); ok {
		return n
	}
	return byDefault
}

// varConfine is the directive that only the administrator's files have an effect
// by: a module can't let itself out.
const varConfine = "CONFINE"

// exception reads from the administrator's files for a module how it is confined
// differently. They are evaluated without its dkms.conf, which could set a trap.
func (l *Loader) exception(ctx context.Context, m *Module, files []confFile) {
	files = slices.DeleteFunc(slices.Clone(files), func(f confFile) bool { return !strings.Contains(f.text, varConfine) })
	if len(files) == 0 {
		return
	}
	e := l.newEvaluation([]string{varConfine}, files)
	e.forced = nil
	out, err := l.evaluate(ctx, e, NoExec)
	if err != nil {
		return
	}
	switch word := strings.ToLower(out.vars.Get(varConfine)); word {
	case "", ConfineOn, ConfineOff, ConfineNetwork:
		m.Confine = word
	default:
		m.Warnings = append(m.Warnings, fmt.Sprintf("CONFINE is %q, it must be on, off or network; taken as on", word))
	}
}
