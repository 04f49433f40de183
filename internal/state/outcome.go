// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dkms-go/internal/durable"
	"dkms-go/internal/untrusted"
)

// OutcomeFormat is the version of the format of an Outcome.
const OutcomeFormat = 1

// What an Outcome tells.
const (
	OutcomeFailed  = "failed"
	OutcomeWaiting = "waiting"
)

// What a module may wait for: a package, or, where a hook has given up waiting for
// its turn, the next hook.
const (
	WaitingHeaders = "headers"
	WaitingImage   = "image"
	WaitingLock    = "lock"
)

// Outcome tells why the last attempt to make a module for a kernel left nothing
// new: it failed, or waits for a package. It is kept until the module is
// installed for that kernel, or goes. What was installed before stays
// installed; upstream neither writes nor reads it.
type Outcome struct {
	Format  int    `json:"format"`
	Module  string `json:"module"`
	Version string `json:"version"`
	Kernel  string `json:"kernel"`
	Arch    string `json:"arch"`
	// State is OutcomeFailed or OutcomeWaiting.
	State string `json:"state"`
	// Waiting is what a waiting module waits for: WaitingHeaders, WaitingImage or
	// WaitingLock.
	Waiting string `json:"waiting,omitempty"`
	// Required tells what the failure means to a package manager.
	Required bool      `json:"required"`
	When     time.Time `json:"when"`
	// Code is the exit code that the failure has by itself, Reason its word.
	Code   int    `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Error is the first error, one line; Hints are what to do next.
	Error string   `json:"error"`
	Hints []string `json:"hints,omitempty"`
	// Class is the kind of failure (diagnose.Class), File and Line the place that
	// the error names.
	Class string `json:"class,omitempty"`
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`
	// Inputs is the digest of what the attempt was made from. With the same
	// inputs it would end the same way.
	Inputs string `json:"inputs,omitempty"`
}

// Key returns the result that the outcome is about.
func (o Outcome) Key() Key { return Key{ID{o.Module, o.Version}, o.Kernel, o.Arch} }

// outcomes is the name of the directory of all outcomes.
const outcomes = ".outcome"

func (t Tree) outcomePath(k Key) string {
	return filepath.Join(t.Dir, outcomes, k.Module, k.Version, k.Kernel, k.Arch+".json")
}

// KeepOutcome keeps o in the place of an earlier outcome for its key. Its time
// is to the second. One that waits for the lock is kept by a process without it, and
// only if there is none yet: the holder of the lock knows better.
func (t Tree) KeepOutcome(o Outcome) error {
	o.Format, o.When = OutcomeFormat, o.When.UTC().Truncate(time.Second)
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("keeping the outcome of %s: %w", o.Key(), err)
	}
	path := t.outcomePath(o.Key())
	put, tmp := os.Rename, stagedName(path)
	if o.Waiting == WaitingLock {
		put, tmp = linkNew, stagedName(fmt.Sprintf("%s.%d", path, os.Getpid()))
	}
	err = inDir(filepath.Dir(tmp), func() error { return write(tmp, append(text, '\n'), 0o644) })
	if err == nil {
		err = durable.Sync(tmp)
	}
	if err == nil {
		err = put(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("keeping the outcome of %s: %w", o.Key(), err)
	}
	return nil
}

// linkNew gives a file another name unless that is taken.
func linkNew(tmp, path string) error {
	err := os.Link(tmp, path)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(tmp))
}

// maxOutcome bounds what is read of an outcome, in bytes.
const maxOutcome = 1 << 20

// Outcome returns the kept outcome for k. One that can't be read is none: it is
// only a memory.
func (t Tree) Outcome(k Key) (Outcome, bool) {
	var o Outcome
	text, err := untrusted.ReadFile(t.outcomePath(k), maxOutcome)
	if err != nil || json.Unmarshal(text, &o) != nil {
		return Outcome{}, false
	}
	return o, o.Format == OutcomeFormat && o.Key() == k
}

// ForgetOutcome makes a change forget the outcome for k.
func (t Tree) ForgetOutcome(c *Change, k Key) { c.Remove(t.outcomePath(k)) }

// DropOutcome forgets the outcome for k.
func (t Tree) DropOutcome(k Key) error {
	path := t.outcomePath(k)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the outcome of %s: %w", k, err)
	}
	prune(filepath.Dir(path), t.Dir)
	return nil
}

// Outcomes returns the kept outcomes whose module, version and kernel match
// shell patterns, sorted by key; an empty pattern matches all.
func (t Tree) Outcomes(id ID, kernel string) []Outcome {
	dir := filepath.Join(t.Dir, outcomes)
	var list []Outcome
	for _, m := range subdirs(dir, orAny(id.Module)) {
		for _, v := range subdirs(filepath.Join(dir, m), orAny(id.Version)) {
			for _, k := range subdirs(filepath.Join(dir, m, v), orAny(kernel)) {
				list = append(list, t.outcomesFor(ID{m, v}, k)...)
			}
		}
	}
	return list
}

func (t Tree) outcomesFor(id ID, kernel string) []Outcome {
	files, _ := os.ReadDir(filepath.Join(t.OutcomesDir(id), kernel))
	var list []Outcome
	for _, f := range files {
		arch, ok := strings.CutSuffix(f.Name(), ".json")
		if o, known := t.Outcome(Key{id, kernel, arch}); ok && known {
			list = append(list, o)
		}
	}
	return list
}

// OutcomesDir returns the directory with the outcomes of a module.
func (t Tree) OutcomesDir(id ID) string { return filepath.Join(t.Dir, outcomes, id.Module, id.Version) }

// keptSources is the name of the directory of all kept sources.
const keptSources = ".source"

// KeptSource returns where the source of a module is kept whose package is being
// upgraded: the package takes its own files away, and what was built from them
// must stay a sound module until its successor works.
func (t Tree) KeptSource(id ID) string {
	return filepath.Join(t.Dir, keptSources, id.Module, id.Version)
}

// Retired reports whether a module only stays until its successor works: its
// source is the kept one.
func (t Tree) Retired(id ID) bool {
	to, err := os.Readlink(t.SourceLink(id))
	return err == nil && to == t.KeptSource(id)
}

// prebuilts is the name of the directory of what stands for the sources of modules that
// came prebuilt.
const prebuilts = ".prebuilt"

// PrebuiltSource returns the directory that stands for the source of a module that came
// prebuilt, without source: its dkms.conf, the scripts that this names, and
// PrebuiltFacts.
func (t Tree) PrebuiltSource(id ID) string {
	return filepath.Join(t.Dir, prebuilts, id.Module, id.Version)
}

// PrebuiltFacts is the name of the file, in PrebuiltSource, with the digest of the source
// that the module was built from elsewhere.
const PrebuiltFacts = "prebuilt.json"

// OnlyPrebuilt reports whether a module came prebuilt and has no source here.
func (t Tree) OnlyPrebuilt(id ID) bool {
	to, err := os.Readlink(t.SourceLink(id))
	return err == nil && to == t.PrebuiltSource(id)
}
