// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/conf"
	"dkms-go/internal/install"
	"dkms-go/internal/ko"
	"dkms-go/internal/mok"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// State is how a module stands.
type State string

// The states of dkms(8).
const (
	StateAdded     State = "added"
	StateBuilt     State = "built"
	StateInstalled State = "installed"
	StateBroken    State = "broken"
)

// Standing is one row of a status: a module, and a kernel where it is built.
type Standing struct {
	Key   state.Key
	State State
	// Originals says that objects of the kernel are kept for it, Missing
	// that an object of the result is gone, Differs that an installed object
	// is not the one of the result.
	Originals, Missing, Differs bool
	// Lacks is the directory of the result, if it has lost an object that is
	// installed as it was: what is missing then is missing in the DKMS tree.
	Lacks string
	// SourceLost says that fsck has put something in the place of the module's source;
	// it is told where Record is.
	SourceLost bool
	// Stale names what has changed under the result since it was built.
	Stale []string
	// Damage says why what is in the place of the record is of no use; without a
	// record the conf tells what the result should have. It is "" if all is well.
	Damage string
	// Record tells of the build; it is zero for results of other programs.
	Record state.Record
}

// Filter limits a status; its fields are shell patterns, empty matches all.
type Filter struct{ Module, Version, Kernel, Arch string }

// Status lists how modules stand, in the order of the tree. A module that is
// not built for the kernels asked for is listed as added. Nothing is executed:
// confs are read, not run, and never for results that recorded their objects.
func (e *Engine) Status(ctx context.Context, f Filter) []Standing {
	return slices.Collect(e.Standings(ctx, f, true))
}

// Standings is Status row by row; records says whether the rows have their Record,
// which for most rows is the only reason to read a file.
func (e *Engine) Standings(ctx context.Context, f Filter, records bool) iter.Seq[Standing] {
	e.forgetStamps()
	glance := state.Glance{Tree: e.tree}
	return func(yield func(Standing) bool) {
		var rows []Standing
		for _, id := range e.modules(f.Module, f.Version) {
			again := false
			glance.At(func() {
				if again {
					e.forgetStamps()
				}
				rows, again = rows[:0], true
				e.standings(ctx, id, f, func(s Standing) bool {
					if records {
						s.SourceLost = e.standIn(id)
						if s.Key.Kernel != "" {
							s.Record, _ = e.tree.Record(s.Key)
						}
					}
					rows = append(rows, s)
					return true
				})
			})
			for _, s := range rows {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// standings yields the rows of one module.
func (e *Engine) standings(ctx context.Context, id state.ID, f Filter, yield func(Standing) bool) bool {
	switch e.tree.Condition(id) {
	case state.Broken:
		return yield(Standing{Key: state.Key{ID: id}, State: StateBroken})
	case state.Added:
		originals, any := e.stampOf(e.tree.OriginalsOf(id.Module)).IsDir(), false
		for _, k := range e.results(id, f.Kernel, f.Arch) {
			s := Standing{Key: k, State: StateInstalled}
			if !e.sound(k, false) {
				if !e.tree.Built(k) {
					continue
				}
				s = e.standing(ctx, k)
			}
			if any = true; originals {
				fi, err := os.Stat(e.tree.Originals(k))
				s.Originals = err == nil && fi.IsDir()
			}
			if !yield(s) {
				return false
			}
		}
		return any || yield(Standing{Key: state.Key{ID: id}, State: StateAdded})
	}
	return true
}

// standing looks at one result.
func (e *Engine) standing(ctx context.Context, k state.Key) Standing {
	s := Standing{Key: k, State: StateBuilt, Stale: e.stale(k, plan.Target{Kernel: k.Kernel, Arch: k.Arch})}
	if e.tree.Installed(k) {
		s.State = StateInstalled
	}
	record, err := e.tree.Record(k)
	s.Damage = damage(err)
	job := install.Job{Key: k, Tree: e.tree, Paths: e.Paths, Dir: e.installDir}
	for _, o := range e.expected(ctx, k, record) {
		from, ok := install.Find(e.tree.Objects(k), o.Name)
		if !ok {
			s.Missing = true
			if s.State == StateInstalled && job.Survivor(o) != "" {
				s.Lacks = e.tree.Objects(k)
			}
			break
		}
		if s.State == StateInstalled {
			if to := job.Located(o.Name, o.Location); to == "" || !install.Same(from, to) {
				s.Differs = true
				break
			}
		}
	}
	if s.State == StateInstalled && !s.Missing && !s.Differs && len(s.Stale) == 0 {
		e.rememberSound(k)
	}
	return s
}

// damage words the error of a record that is damaged, "" for others.
func damage(err error) string {
	var bad *state.BadRecord
	if errors.As(err, &bad) {
		return bad.Error()
	}
	return ""
}

// expected are the objects that a result should have: those recorded, or
// without a record those of the conf, which is read and not run.
func (e *Engine) expected(ctx context.Context, k state.Key, r state.Record) []state.ObjectEntry {
	if r.Format != 0 {
		return r.Objects
	}
	t := plan.Target{Kernel: k.Kernel, Arch: k.Arch}
	m, err := e.load(ctx, k.ID, t, conf.NoExec, &bytes.Buffer{})
	if err != nil {
		e.Explain(e.Err, confFailure(err))
		return e.present(k)
	}
	facts := e.kernelFacts(t)
	var list []state.ObjectEntry
	for i, o := range m.Objects {
		if m.ObjectApplies(i, facts).OK {
			list = append(list, state.ObjectEntry{Index: i, Name: o.Dest, Location: o.DestDir})
		}
	}
	return list
}

// present are the objects that a result has, and those that were installed of it: what
// it should have can't be told.
func (e *Engine) present(k state.Key) []state.ObjectEntry {
	var list []state.ObjectEntry
	tree := e.Paths.KernelTree(k.Kernel)
	files, _ := os.ReadDir(e.tree.Objects(k))
	for _, f := range files {
		if name, _, ok := ko.SplitName(f.Name()); ok {
			list = append(list, state.ObjectEntry{Name: name, Location: "/updates/dkms"})
		}
	}
	for _, p := range install.ReadPlaced(e.tree, tree, k) {
		name, _, _ := ko.SplitName(filepath.Base(p.Path))
		o := state.ObjectEntry{Name: name, Location: strings.TrimPrefix(filepath.Dir(p.Path), tree)}
		if i := slices.IndexFunc(list, func(x state.ObjectEntry) bool { return x.Name == name }); i >= 0 {
			list[i] = o
		} else {
			list = append(list, o)
		}
	}
	return list
}

// Listing is one module of `dkms list`.
type Listing struct {
	ID     state.ID
	Source string
	Broken bool
	// Built and Installed are the kernels, release and arch.
	Built, Installed []plan.Target
}

// List lists the modules of the tree with the kernels that each is built and
// installed for, of those kernels that match one of the patterns; none match
// all.
func (e *Engine) List(f Filter, kernels []string) []Listing {
	if len(kernels) == 0 {
		kernels = []string{""}
	}
	var list []Listing
	glance := state.Glance{Tree: e.tree}
	for _, id := range e.tree.Modules(f.Module, f.Version) {
		var l Listing
		c := state.Absent
		glance.At(func() { c, l = e.listing(id, kernels, f.Arch) })
		if c != state.Hidden && c != state.Absent {
			list = append(list, l)
		}
	}
	return list
}

// listing reads one row of List.
func (e *Engine) listing(id state.ID, kernels []string, arch string) (state.Condition, Listing) {
	c := e.tree.Condition(id)
	l := Listing{ID: id, Broken: c == state.Broken}
	l.Source, _ = os.Readlink(e.tree.SourceLink(id))
	var keys []state.Key
	for _, kernel := range kernels {
		keys = append(keys, e.tree.Results(id, kernel, arch)...)
	}
	for _, k := range slices.Compact(keys) {
		t := plan.Target{Kernel: k.Kernel, Arch: k.Arch}
		if e.tree.Installed(k) {
			l.Installed = append(l.Installed, t)
		} else {
			l.Built = append(l.Built, t)
		}
	}
	return c, l
}

// Config evaluates the conf of a module for a target.
func (e *Engine) Config(ctx context.Context, sel Selection, t plan.Target) (*conf.Module, conf.Verdict, error) {
	id, file := sel.ID, e.Conf
	if id.Module == "" && sel.SourceDir != "" {
		file = filepath.Join(sel.SourceDir, "dkms.conf")
	} else if err := requireID(id, "config"); err != nil {
		return nil, conf.Verdict{}, err
	}
	if file == "" && e.tree.Condition(id) == state.Absent && !readable(filepath.Join(e.tree.Source(id), "dkms.conf")) {
		return nil, conf.Verdict{}, e.requireAdded(id)
	}
	var m *conf.Module
	var err error
	if file != "" {
		m, err = e.loadFile(ctx, id, t, file, conf.Auto, e.Err)
	} else {
		m, err = e.load(ctx, id, t, conf.Auto, e.Err)
	}
	if err = strict(m, err); err != nil {
		return nil, conf.Verdict{}, confFailure(err)
	}
	remarks(e.Err, m)
	return m, m.Applies(e.kernelFacts(t)), nil
}

// MakeKey makes the module signing key of this machine if there is none.
func (e *Engine) MakeKey(ctx context.Context) error {
	fw, err := e.framework(ctx, "", e.Err)
	if err != nil {
		return fail(BadConf, err)
	}
	release, _, err := e.Running()
	if err != nil {
		return fail(Internal, err)
	}
	k := e.kernel(plan.Target{Kernel: release})
	if err = os.MkdirAll(e.Paths.MOKDir, 0o755); err == nil { // the tree may not be there yet
		err = mok.GenerateMOK(ctx, e.signingRequest(k, fw), func(line string) { fmt.Fprintln(e.Out, line) })
	}
	if err != nil {
		return fail(KeyFailed, fmt.Errorf("there is no usable signing key: %w", err))
	}
	return nil
}
