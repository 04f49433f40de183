// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dkms-go/internal/conf"
	"dkms-go/internal/copytree"
	"dkms-go/internal/hook"
	"dkms-go/internal/install"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// Selection is the module that a verb works on, by name or by where it is.
type Selection struct {
	ID state.ID
	// SourceDir has a dkms.conf, Archive is a tarball; both are used only
	// when no module is named.
	SourceDir, Archive string
}

// Add registers a module. Before: its source is in the source tree, or sel
// names a directory or an archive to bring it from. After: the module is
// added, and POST_ADD has run; its failure is the verb's, but the module stays.
func (e *Engine) Add(ctx context.Context, sel Selection, t plan.Target) error {
	if err := e.requireWritable(); err != nil {
		return err
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	id, err := e.resolve(ctx, sel, t, "add")
	if err != nil {
		return err
	}
	if e.DryRun {
		fmt.Fprintf(e.Out, "  1 add       %s\n", id)
		e.record(Result{Action: plan.Add.String(), Key: state.Key{ID: id}, Ending: Planned})
		return nil
	}
	if e.Force && sel.ID.Module == "" && e.tree.Condition(id) == state.Added && e.arrived != id {
		fmt.Fprintf(e.Out, "Module %s was added before, its source is now that of %s%s\n", id, sel.SourceDir, sel.Archive)
		return nil
	}
	return e.addNow(ctx, id, t, true)
}

// resolve returns the module of a selection, bringing its source into the
// source tree if it comes from elsewhere.
func (e *Engine) resolve(ctx context.Context, sel Selection, t plan.Target, verb string) (state.ID, error) {
	id := sel.ID
	if id == (state.ID{}) && sel.Archive != "" {
		return e.unpack(ctx, sel.Archive, t)
	}
	if id == (state.ID{}) && sel.SourceDir != "" {
		return e.importSource(ctx, sel.SourceDir, t, verb != "add")
	}
	return id, requireID(id, verb)
}

// requireSource fails for modules without a source in the source tree.
func (e *Engine) requireSource(id state.ID) error {
	source := e.tree.Source(id)
	if fi, err := os.Stat(source); err != nil || !fi.IsDir() {
		return failf(NoSourceDir, "the source of %s is missing: there is no directory %s", id, source)
	}
	return nil
}

// addStep adds a module whose source is in the source tree. strictHook makes a
// failing POST_ADD the step's failure.
func (e *Engine) addStep(ctx context.Context, id state.ID, t plan.Target, out, errw io.Writer, strictHook bool) error {
	if e.RPMSafeUpgrade {
		if err := e.writeRPMLock(id); err != nil {
			return err
		}
	}
	if e.tree.Condition(id) == state.Added && e.arrived != id && !e.standIn(id) && !e.tree.OnlyPrebuilt(id) {
		return failf(AlreadyAdded, "%s is in the DKMS tree already", id).
			hint("To add it anew: dkms remove %s --all, then add it again.", id)
	}
	if err := e.requireSource(id); err != nil {
		return err
	}
	source := e.tree.Source(id)
	file := e.Conf
	if file == "" {
		file = filepath.Join(source, "dkms.conf")
	}
	m, err := e.loadFile(ctx, id, t, file, conf.Auto, errw)
	if err = strict(m, err); err != nil {
		return confFailure(err)
	}
	remarks(errw, m)
	if m.Name != id.Module || m.Version != id.Version {
		fmt.Fprintf(errw, "Warning: %s is for %s/%s, and is added as %s\n", file, m.Name, m.Version, id)
	}
	fmt.Fprintf(out, "Creating symlink %s -> %s\n", e.tree.SourceLink(id), source)
	if e.arrived != id {
		if err := e.register(id, source); err != nil {
			return fail(Internal, err)
		}
	}
	e.arrived = state.ID{}
	s := hook.Script{Name: "post_add", Directive: m.PostAdd, Module: id.Module, Root: e.tree.SourceLink(id)}
	err = install.Script(ctx, s, e.Paths, e.baseEnv(), out, errw)
	if err == nil {
		return nil
	}
	f := failf(HookFailed, "the post_add script of %s failed: %w", id, err).hint("The module stays added.")
	f.Status = run.Code(err)
	if !strictHook {
		fmt.Fprintf(errw, "Warning: %v\n", f.Err)
		return nil
	}
	return f
}

// register makes the link and the empty build directory of a module.
func (e *Engine) register(id state.ID, source string) error {
	return e.change(func(c *state.Change) error { return e.registration(c, id, source) })
}

// registration makes a change register a module. Where a loaded archive without
// source left a directory in the place of the link, the link replaces it.
func (e *Engine) registration(c *state.Change, id state.ID, source string) error {
	if !readable(e.tree.Build(id)) {
		tmp, err := c.Stage(e.tree.Build(id))
		if err == nil {
			err = os.Mkdir(tmp, 0o755)
		}
		if err != nil {
			return fmt.Errorf("adding %s: %w", id, err)
		}
	}
	link := e.tree.SourceLink(id)
	if fi, err := os.Lstat(link); err == nil && fi.IsDir() {
		c.Remove(link)
	}
	c.Link(source, link)
	e.dropStandIns(c, id, source)
	return nil
}

// dropStandIns makes a change remove what stood for a module's source until now: one that
// fsck has made, or what came with a prebuilt.
func (e *Engine) dropStandIns(c *state.Change, id state.ID, source string) {
	for _, dir := range []string{e.tree.KeptSource(id), e.tree.PrebuiltSource(id)} {
		if dir != source {
			c.Remove(dir)
			c.Prune(filepath.Dir(dir), e.tree.Dir)
		}
	}
}

// importSource copies a source directory into the source tree. A directory
// there is replaced as a whole; nothing has changed on any error. again allows
// a module that is added already from the same source.
func (e *Engine) importSource(ctx context.Context, dir string, t plan.Target, again bool) (state.ID, error) {
	from, err := filepath.EvalSymlinks(dir)
	if err == nil {
		from, err = filepath.Abs(from)
	}
	if err == nil {
		_, err = os.Stat(filepath.Join(from, "dkms.conf"))
	}
	if err != nil {
		return state.ID{}, failf(NotSourceTree, "the directory %s has no dkms.conf", dir)
	}
	if err := e.RequireRoot(); err != nil {
		return state.ID{}, err
	}
	id, err := e.identify(ctx, filepath.Join(from, "dkms.conf"), t)
	if err != nil {
		return id, err
	}
	if e.ownSource(id, from) {
		return id, nil
	}
	if e.tree.Condition(id) == state.Added && !e.Force {
		if again && copytree.Equal(from, e.tree.Source(id)) {
			return id, nil
		}
		return state.ID{}, failf(AlreadyAdded, "%s is in the DKMS tree already", id).hint("Nothing was copied. With --force its source is replaced by %s.", from)
	}
	return id, e.replaceSource(id, from)
}

// identify returns the module that a dkms.conf outside the trees describes.
func (e *Engine) identify(ctx context.Context, file string, t plan.Target) (state.ID, error) {
	m, err := e.loadFile(ctx, state.ID{}, t, file, conf.Auto, e.Err)
	if err = strict(m, err); err != nil {
		return state.ID{}, confFailure(err)
	}
	return state.ID{Module: m.Name, Version: m.Version}, nil
}

// ownSource reports whether a directory is already the module's source.
func (e *Engine) ownSource(id state.ID, from string) bool {
	for _, own := range []string{e.tree.Source(id), e.tree.SourceLink(id), e.tree.Build(id)} {
		if real, err := filepath.EvalSymlinks(own); err == nil && real == from {
			return true
		}
	}
	return false
}

// replaceSource puts a copy of from in the place of a module's source. Without
// --force files that are there and not in from stay.
func (e *Engine) replaceSource(id state.ID, from string) error {
	if e.DryRun {
		e.Conf = filepath.Join(from, "dkms.conf") // nothing is copied
		return nil
	}
	dest := e.tree.Source(id)
	if e.Force {
		fmt.Fprintf(e.Out, "Forcing install of %s\n", id)
	}
	c, err := e.tree.Begin()
	if err != nil {
		return fail(NotWritable, err)
	}
	defer c.Abort()
	tmp, err := c.Stage(dest)
	if err != nil {
		return fail(NotWritable, err)
	}
	if !e.Force {
		err = copytree.Copy(dest, tmp)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = copytree.Copy(from, tmp)
	}
	if err == nil {
		err = c.Commit()
	}
	if err != nil {
		return fail(NotWritable, fmt.Errorf("copying the source of %s to %s: %w", id, dest, err))
	}
	return nil
}

// baseEnv is the environment of hooks outside builds and installs.
func (e *Engine) baseEnv() []string {
	return append(run.BaseEnv(e.Environ), state.LockEnv+"="+e.tree.Dir)
}
