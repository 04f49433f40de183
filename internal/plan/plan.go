// SPDX-License-Identifier: Apache-2.0

// Package plan decides what is to be done before anything is done.
//
// Compute functions (Build, Install, Autoinstall, Uninstall …) take what was
// asked for and the facts, and return a Plan: ordered steps with reasons. They
// touch nothing, so a plan can be printed (--dry-run) and tested as a value.
// Execute runs a plan, independent steps side by side; it is the only place
// with goroutines over jobs and knows nothing of what a step does.
package plan

import (
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/state"
)

// Kind is what a step does.
type Kind int

// The kinds of steps. Note only prints a line (what needn't be done);
// Refresh brings the kernel's module index up to date.
const (
	Note Kind = iota
	Add
	Prepare
	Build
	Install
	Uninstall
	Unbuild
	Forget
	Refresh
	Refuse
)

var kindNames = [...]string{"note", "add", "prepare", "build", "install", "uninstall", "unbuild", "forget", "refresh", "refuse"}

func (k Kind) String() string { return kindNames[k] }

// MarshalText writes the kind's name, for --dry-run --json.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Reason is why a step refuses its module, or why nothing needs doing.
type Reason int

// The reasons. Those above Excluded are not failures.
const (
	Needed Reason = iota
	AlreadyBuilt
	AlreadyInstalled
	NotInstalled
	NotBuilt
	Excluded
	BadConf
	NoConf
	NoSource
	NoHeaders
	MissingDepends
	BrokenModule
	NoSourceDir
)

// Target is one kernel that a verb works on.
type Target struct{ Kernel, Arch string }

func (t Target) String() string { return fmt.Sprintf("kernel %s (%s)", t.Kernel, t.Arch) }

// Key names the result of module id for the target.
func (t Target) Key(id state.ID) state.Key { return state.Key{ID: id, Kernel: t.Kernel, Arch: t.Arch} }

// Step is one thing to do, for one module and one kernel.
type Step struct {
	// N is the step's place in the plan, from 1.
	N    int       `json:"n"`
	Kind Kind      `json:"do"`
	Key  state.Key `json:"key"`
	// Why tells people why the step is there.
	Why string `json:"why,omitempty"`
	// Reason and Detail tell a Note or Refuse step apart from others.
	Reason Reason   `json:"-"`
	Detail []string `json:"detail,omitempty"`
	// After are the steps that must have succeeded before this one.
	After []int `json:"after,omitempty"`
	// Behind are the steps that must have ended before this one, however.
	Behind []int `json:"behind,omitempty"`
	// Group is the block of output that the step writes to; blocks are
	// printed in order, whatever the order of work.
	Group int `json:"group"`
	// Heading is printed when the step starts.
	Heading string `json:"-"`
	// Replace marks a build that replaces a result, or an install over the
	// same version; Blank asks for an empty line at the end.
	Replace bool `json:"replace,omitempty"`
	Blank   bool `json:"-"`
	// Cost is how long the step is expected to take, in seconds of one CPU; it
	// decides what is begun first, and nothing else.
	Cost float64 `json:"-"`
	// Missing are dependencies that --force lets the build go without.
	Missing []string `json:"missing,omitempty"`
}

// Plan is what will be done, in order.
type Plan struct {
	Steps  []Step `json:"steps"`
	Groups int    `json:"-"`
}

// Counts tells how many steps of a kind the plan has.
func (p *Plan) Counts(k Kind) int {
	n := 0
	for _, s := range p.Steps {
		if s.Kind == k {
			n++
		}
	}
	return n
}

// String lists the steps, a line each.
func (p *Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%3d %-9s", s.N, s.Kind)
		if s.Key.Module != "" {
			fmt.Fprintf(&b, " %s", s.Key.ID)
		}
		if s.Key.Kernel != "" && s.Key.Arch != "" {
			fmt.Fprintf(&b, " for kernel %s (%s)", s.Key.Kernel, s.Key.Arch)
		} else if s.Key.Kernel != "" {
			fmt.Fprintf(&b, " for kernel %s", s.Key.Kernel)
		}
		if s.Why != "" {
			fmt.Fprintf(&b, ": %s", s.Why)
		}
		if before := append(slices.Clone(s.After), s.Behind...); len(before) > 0 {
			fmt.Fprintf(&b, " [after %s]", numbers(before))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func numbers(ns []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ns), " ", ", "), "[]")
}

// group opens a new block of output.
func (p *Plan) group() int {
	p.Groups++
	return p.Groups - 1
}

// add appends a step and returns its number.
func (p *Plan) add(s Step) int {
	s.N = len(p.Steps) + 1
	p.Steps = append(p.Steps, s)
	return s.N
}
