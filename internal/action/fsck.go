// SPDX-License-Identifier: Apache-2.0

package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dkms-go/internal/finding"
	"dkms-go/internal/host"
	"dkms-go/internal/install"
	"dkms-go/internal/state"
)

// The kinds of inconsistencies that take more than the tree to see.
const (
	fsckConf   state.Kind = "conf"   // a dkms.conf that can't be read
	fsckObject state.Kind = "object" // an object in a kernel's tree without result
	fsckKernel state.Kind = "kernel" // what is left for a kernel that is gone
)

// FsckCheck describes one kind of inconsistency.
type FsckCheck struct {
	Name     state.Kind
	Severity finding.Severity
	// Why it matters and Repair, what fsck --repair does, are half sentences.
	Why, Repair string
}

// FsckChecks lists what fsck looks for, in the order in which it is repaired.
func FsckChecks() []FsckCheck {
	return []FsckCheck{
		{state.StaleLock, finding.Warning, "a dkms was killed, or something else has made it", "takes it away"},
		{state.JournalWrong, finding.Error, "no dkms can change anything: it would have to finish that change first", "moves it aside, with all that was prepared for it"},
		{state.Unfinished, finding.Warning, "a dkms was killed in the middle of its work", "finishes the change or undoes it, as the next command that writes would"},
		{state.WrongOwner, finding.Warning, "who may write there decides what root builds and the kernel loads", "gives it the owner of the tree and takes away the rights of others to write"},
		{state.Foreign, finding.Warning, "dkms passes over it, or takes it for a module", "moves it aside"},
		{state.RecordWrong, finding.Warning, "dkms can't tell any more what the result was built from", "moves it aside; the result counts like one of upstream's dkms, which has none"},
		{state.SourceGone, finding.Error, "the module can be neither built nor removed", "finds the source again, or lets what is installed stay until it is back, or moves the registration aside"},
		{fsckConf, finding.Error, "the module can't be built", "lets what is installed stay until dkms.conf is in order, or moves the registration aside"},
		{fsckKernel, finding.Warning, "the kernel's package was removed, and dkms was not told", "finishes the removal"},
		{state.LinkWrong, finding.Error, "dkms takes the module for installed", "makes a result of the objects that are installed, or takes the link away"},
		{state.ResultWrong, finding.Error, "what is installed can't be installed again or compared", "takes the objects from the kernel's tree, or gives the result up"},
		{install.Installed, finding.Error, "the kernel loads something else than was built, or nothing", "installs the object of the result again; what was there is moved aside"},
		{fsckObject, finding.Warning, "the kernel loads it, and dkms would neither update nor remove it", "makes a result of it for the module that it is of; what the kernel would not load is moved aside"},
		{state.OriginalOff, finding.Warning, "uninstalling the module can't give the kernel its own object back, or did not", "puts the original back where its place is empty; what is left is moved aside"},
		{state.Unread, finding.Note, "it was not looked at", "leaves it"},
	}
}

// Fsck is what a check of the tree has come to.
type Fsck struct {
	// Left is what is not in order, Repaired what was not.
	Left, Repaired []finding.Finding
	// Aside is the directory with what was moved aside, "" if nothing was.
	Aside string
}

// trouble is one inconsistency with its cure.
type trouble struct {
	state.Inconsistency
	// next are steps for people, where there is no mend, or after it.
	next []string
	// note says that it is no more than worth knowing; why takes the place of that
	// of the check, for what is a warning only.
	note bool
	why  string
	// will is what the repair does here, in place of what the check says of it.
	will string
	// mend repairs it in one change; nil if people must. lost is the directory for
	// what is moved aside. Troubles with the same group are repaired by one mend.
	mend  func(lost string) error
	group string
}

// Fsck looks for what doesn't agree in the tree and in what is installed, and
// repairs it if that is asked for and it is no dry run. Without repair nothing is
// changed, and what may not be read is told of. The error is that of the worst
// finding that is left.
func (e *Engine) Fsck(ctx context.Context, repair bool) (Fsck, error) {
	var out Fsck
	if err := e.requireTree(); err != nil {
		return out, err
	}
	found, err := e.look(ctx)
	if err != nil {
		return out, err
	}
	left := found
	if repair && !e.DryRun && slices.ContainsFunc(found, func(t trouble) bool { return !t.note }) {
		lost := e.tree.LostFound(time.Now())
		if found, left, err = e.mend(ctx, found, lost); err != nil {
			return out, err
		}
		if _, err := os.Lstat(lost); err == nil {
			out.Aside = lost
		}
	}
	for _, t := range found {
		if !slices.ContainsFunc(left, t.same) {
			f := t.finding()
			f.Next = t.next
			out.Repaired = append(out.Repaired, f)
		}
	}
	for _, t := range left {
		f := t.finding()
		if f.Next = t.next; t.mend != nil {
			f.Next = []string{"$ dkms fsck --repair"}
		}
		out.Left = append(out.Left, f)
	}
	finding.Sort(out.Left)
	return out, worstFinding(out.Left)
}

// requireTree fails for a directory that is no DKMS tree, of which everything would
// be foreign. The machine's own is one whatever is in it.
func (e *Engine) requireTree() error {
	if e.tree.Dir == host.Default().DKMSTree {
		return nil
	}
	is, err := e.tree.Looks()
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil // told of as what can't be read
	case err != nil:
		return fail(NotAdded, fmt.Errorf("looking at the DKMS tree: %w", err), "Name the DKMS tree with --dkmstree.")
	case !is:
		return failf(NotAdded, "the directory %s is no DKMS tree: nothing in it was made by dkms", e.tree.Dir).hint("Name the DKMS tree with --dkmstree.")
	}
	return nil
}

// worstFinding is the failure that a list of findings comes to.
func worstFinding(list []finding.Finding) error {
	switch worst, _ := finding.Worst(list); worst {
	case finding.Error:
		return &Failure{Reason: FoundError, Err: errors.New("there are errors"), Said: true}
	case finding.Warning:
		return &Failure{Reason: FoundWarning, Err: errors.New("there are warnings"), Said: true}
	}
	return nil
}

func (t trouble) same(other trouble) bool {
	return t.Kind == other.Kind && t.Path == other.Path && t.note == other.note
}

func (t trouble) finding() finding.Finding {
	f := finding.Finding{Check: string(t.Kind), Where: t.Path, What: t.What}
	for _, c := range FsckChecks() {
		if c.Name == t.Kind {
			f.Severity, f.Why = c.Severity, c.Why
			if t.why != "" {
				f.Severity, f.Why = finding.Warning, t.why
			}
			if t.mend != nil {
				f.Why += "; --repair " + cmp.Or(t.will, c.Repair)
			}
		}
	}
	if t.note {
		f.Severity, f.Why = finding.Note, ""
	}
	if n := len(t.Below); n > 0 {
		f.What += fmt.Sprintf("; so are %d more below it", n)
	}
	return f
}

// look finds all trouble while no writer is at work.
func (e *Engine) look(ctx context.Context) ([]trouble, error) {
	const most = 5 // a tree that is written to all the time is told of as it is
	held, _ := e.environment(state.LockEnv)
	for i := range most {
		done, err := e.tree.Watch(ctx, held, e.turn())
		var busy *state.Busy
		if errors.As(err, &busy) {
			return nil, fail(Busy, fmt.Errorf("gave up waiting for another dkms: %w", err))
		} else if err != nil {
			return nil, fail(Internal, err)
		}
		before := e.tree.Settled()
		found := e.troubles(ctx)
		for _, i := range e.tree.LockLeft() {
			found = append(found, e.lockTrouble(i))
		}
		for _, kernel := range e.tree.KernelsDue() {
			i := state.Inconsistency{Kind: state.Unfinished, Path: e.tree.IndexDue(kernel), What: "the module index of kernel " + kernel + " was not brought up to date"}
			found = append(found, trouble{Inconsistency: i, mend: func(string) error { return nil }, group: "index " + kernel})
		}
		done()
		if ctx.Err() != nil {
			return nil, fail(Interrupted, context.Cause(ctx))
		}
		if !before || e.tree.Settled() || i == most-1 {
			return found, nil
		}
	}
	return nil, nil
}

func (e *Engine) lockTrouble(i state.Inconsistency) trouble {
	if i.Kind == state.Unread {
		return trouble{Inconsistency: i, note: true}
	}
	return trouble{Inconsistency: i, mend: func(string) error { return nil }, group: string(state.StaleLock)}
}

// mend repairs what it can, pass by pass: with a source back its conf can be read,
// and so on. It returns all that was found and what is left.
func (e *Engine) mend(ctx context.Context, found []trouble, lost string) (all, left []trouble, err error) {
	const passes = 6
	if err := e.requireWritable(); err != nil {
		return found, nil, err
	}
	if err := e.tree.ClearLock(lost); err != nil {
		return found, nil, fail(NotWritable, err)
	}
	unlock, err := e.lockBy(func(held string, w *state.Wait) (func(), error) {
		return e.tree.LockSettingAside(ctx, held, w, lost)
	})
	if err != nil {
		return found, nil, err
	}
	defer unlock()
	defer func(out io.Writer) { e.Out = out }(e.Out)
	e.Out = io.Discard // what indexes say is of no interest here
	all = found
	failed := map[string]error{}
	for range passes {
		left = e.troubles(ctx)
		for _, t := range left {
			if !slices.ContainsFunc(all, t.same) {
				all = append(all, t)
			}
		}
		tried, err := e.pass(ctx, left, lost, failed)
		if err != nil {
			return all, nil, err
		}
		if !tried {
			break
		}
	}
	if err := e.serveIndexes(ctx); err != nil {
		return all, nil, err
	}
	left = e.troubles(ctx)
	for i, t := range left {
		if err := failed[t.group]; err != nil && t.mend != nil {
			left[i].mend, left[i].next = nil, []string{"it could not be repaired: " + err.Error()}
		}
	}
	return all, left, nil
}

// pass repairs what can be repaired, each group once, in the order of FsckChecks. A
// group that has failed is not tried again, and keeps no other from being repaired.
// tried says that there was something to repair; the error is that of an end.
func (e *Engine) pass(ctx context.Context, list []trouble, lost string, failed map[string]error) (tried bool, err error) {
	done := map[string]bool{}
	for _, c := range FsckChecks() {
		for _, t := range list {
			if t.Kind != c.Name || t.mend == nil || done[t.group] || failed[t.group] != nil {
				continue
			}
			if ctx.Err() != nil {
				return tried, fail(Interrupted, context.Cause(ctx))
			}
			done[t.group], tried = true, true
			err := t.mend(lost)
			if errors.Is(err, state.ErrStuck) {
				return tried, fail(NotWritable, fmt.Errorf("repairing %s: %w", t.Path, err))
			}
			if err != nil {
				failed[t.group] = err
			}
		}
	}
	if tried {
		e.forgetStamps()
	}
	return tried, nil
}

// owner is to whom the tree must belong: the machine's own is root's.
func (e *Engine) owner() (state.Owner, error) {
	if e.Paths.DKMSTree == host.Default().DKMSTree {
		return state.Owner{}, nil
	}
	o, err := state.OwnerOf(e.tree.Dir)
	if errors.Is(err, os.ErrNotExist) { // whose objects may be installed nevertheless
		return state.Owner{UID: os.Geteuid(), GID: os.Getegid()}, nil
	}
	return o, err
}

// treeTroubles are those that the tree alone shows.
func (e *Engine) treeTroubles(list []state.Inconsistency, o state.Owner) []trouble {
	var out []trouble
	for _, i := range list {
		t := trouble{Inconsistency: i, group: string(i.Kind) + " " + i.Path}
		switch i.Kind {
		case state.Unread:
			t.note, t.next = true, []string{"run dkms fsck as root"}
		case state.Unfinished, state.JournalWrong:
			t.mend = func(string) error { return nil } // who takes the lock has done it
		case state.Foreign, state.RecordWrong, state.WrongOwner:
			t.mend = func(lost string) error {
				return e.change(func(c *state.Change) error {
					_, err := e.tree.Mend(c, i, lost, o)
					return err
				})
			}
			if i.Kind == state.RecordWrong {
				t.next = []string{"$ dkms build " + i.Key.ID.String() + " -k " + i.Key.Kernel + " --force"}
			}
		case state.OriginalOff:
			t.mend = func(lost string) error { return e.mendOriginal(i, lost) }
			if filepath.Ext(i.Path) == ".origin" {
				t.next = []string{"install the package of kernel " + i.Key.Kernel + " again once the module was removed: it has the original"}
			}
		}
		out = append(out, t)
	}
	return out
}

// mendOriginal gives up a note without original, or gives a kernel back what no
// module takes the place of.
func (e *Engine) mendOriginal(i state.Inconsistency, lost string) error {
	if filepath.Ext(i.Path) != ".origin" {
		return e.fsckJob(i.Key).GiveBack(lost)
	}
	return e.change(func(c *state.Change) error {
		err := c.Aside(e.tree, i.Path, lost)
		c.Prune(filepath.Dir(i.Path), e.tree.Dir)
		return err
	})
}
