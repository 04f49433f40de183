// SPDX-License-Identifier: Apache-2.0

// Package finding has the form in which dkms says what is not in order: doctor,
// fsck and lint speak in it.
package finding

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Severity says how bad a finding is.
type Severity int

// The severities, the mildest first.
const (
	// Note needs nothing to be done.
	Note Severity = iota
	// Warning is something that will fail, or has failed, if something else happens.
	Warning
	// Error is something that doesn't work as it is.
	Error
)

func (s Severity) String() string { return [...]string{"note", "warning", "error"}[s] }

// MarshalText gives the word that JSON has.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one thing that is not in order. Its texts are for people, a
// sentence each without the full stop.
type Finding struct {
	// Check is the name of the check that found it: a word that stays the same
	// between versions.
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	// Where is what it is about: a file, "file:line", a module, a kernel; or "".
	Where string `json:"where,omitempty"`
	// What is wrong, Why it is so or why it matters.
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
	// Next are the steps that mend it: commands to type start with "$ ".
	Next []string `json:"next,omitempty"`
}

// Worst returns the worst severity of a list, and false if it is empty.
func Worst(list []Finding) (Severity, bool) {
	worst, any := Note, false
	for _, f := range list {
		worst, any = max(worst, f.Severity), true
	}
	return worst, any
}

// Sort puts the worst first, and leaves the order of equals.
func Sort(list []Finding) {
	slices.SortStableFunc(list, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
}

// Write prints findings for people:
//
//	error: <where>: <what>
//	    <why>
//	    next: <step>
func Write(w io.Writer, list []Finding) error {
	var b strings.Builder
	for _, f := range list {
		b.WriteString(f.Severity.String() + ": ")
		if f.Where != "" {
			b.WriteString(f.Where + ": ")
		}
		b.WriteString(f.What + "\n")
		if f.Why != "" {
			b.WriteString("    " + f.Why + "\n")
		}
		for _, n := range f.Next {
			b.WriteString("    next: " + n + "\n")
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the findings: %w", err)
	}
	return nil
}
