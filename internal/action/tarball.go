// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/bundle"
	"dkms-go/internal/conf"
	"dkms-go/internal/copytree"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// PackOptions say what MakeTarball packs and where to.
type PackOptions struct {
	Archive                string
	SourceOnly, BinaryOnly bool
	AllKernels             bool
}

// MakeTarball packs a module's source and its results for the targets into an
// archive that LoadTarball takes.
func (e *Engine) MakeTarball(ctx context.Context, id state.ID, targets []plan.Target, o PackOptions) error {
	if err := requireID(id, "mktarball"); err != nil {
		return err
	}
	if err := e.requireSound(id); err != nil {
		return err
	}
	if err := e.requireAdded(id); err != nil {
		return err
	}
	if o.AllKernels {
		targets = e.allTargets(id)
	}
	c, err := e.contents(ctx, id, targets, o)
	if err != nil {
		return err
	}
	path := e.archivePath(c, o.Archive)
	fmt.Fprintf(e.Out, "\nTarball location: %s\n", path)
	if e.DryRun {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(NoPlace, err)
	}
	if err := probe(filepath.Dir(path)); err != nil {
		return fail(NoPlace, err)
	}
	if err := bundle.Write(path, c); err != nil {
		return fail(ArchiveFailed, err)
	}
	return nil
}

// contents says what goes into an archive; every target must have a result.
func (e *Engine) contents(ctx context.Context, id state.ID, targets []plan.Target, o PackOptions) (bundle.Contents, error) {
	c := bundle.Contents{Module: id.Module, Version: id.Version, SourceDir: e.tree.SourceLink(id), ConfFile: e.Conf}
	switch {
	case o.SourceOnly:
		c.Kind = bundle.SourceOnly
	case o.BinaryOnly:
		c.Kind = bundle.BinariesOnly
	}
	for _, t := range targets {
		if _, err := e.load(ctx, id, t, conf.Auto, e.Err); err != nil {
			return c, confFailure(err)
		}
		if o.SourceOnly {
			break
		}
		key := t.Key(id)
		if !e.tree.Built(key) {
			return c, failf(NotBuilt, "%s is not built for %s", id, t).hint("Build it first: dkms build %s -k %s/%s", id, t.Kernel, t.Arch)
		}
		fmt.Fprintf(e.Out, "Marking modules for %s (%s) for archiving...\n", t.Kernel, t.Arch)
		c.Results = append(c.Results, bundle.Result{Kernel: t.Kernel, Arch: t.Arch, Dir: e.tree.Result(key)})
	}
	return c, nil
}

// archivePath is where an archive goes: a name without a directory goes to the
// module's own tarball directory.
func (e *Engine) archivePath(c bundle.Contents, archive string) string {
	if strings.Contains(archive, "/") {
		return archive
	}
	if archive == "" {
		archive = bundle.ListName(c)
	}
	return filepath.Join(e.tree.Version(state.ID{Module: c.Module, Version: c.Version}), "tarball", archive)
}

// probe reports why files can't be made in dir.
func probe(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("writing to %s: %w", dir, err)
	}
	return nil
}

// LoadTarball adds the module of an archive, with the results that it brings.
func (e *Engine) LoadTarball(ctx context.Context, archive string, t plan.Target) error {
	if e.Force {
		if err := e.RequireRoot(); err != nil {
			return err
		}
	}
	if strings.HasSuffix(archive, ".rpm") {
		return e.installRPM(ctx, archive, []plan.Target{t})
	}
	if err := e.requireWritable(); err != nil {
		return err
	}
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	id, err := e.unpack(ctx, archive, t)
	if err != nil {
		return err
	}
	if e.DryRun || e.tree.Condition(id) == state.Added && e.arrived != id {
		return nil
	}
	return e.addNow(ctx, id, t, true)
}

// unpack brings the source and the results of an archive into the trees. A
// module that comes with results has then arrived; one of a source alone is left
// to be added. On an error nothing has changed.
func (e *Engine) unpack(ctx context.Context, archive string, t plan.Target) (state.ID, error) {
	if archive == "" || !readable(archive) {
		return state.ID{}, failf(NoArchive, "there is no archive %q", archive)
	}
	dir, err := os.MkdirTemp(e.Framework.TmpLocation, "dkms.")
	if err != nil {
		return state.ID{}, fail(NotWritable, err)
	}
	defer os.RemoveAll(dir)
	a, err := bundle.Extract(archive, filepath.Join(dir, "archive"))
	switch {
	case errors.Is(err, bundle.ErrNoConf):
		return state.ID{}, fail(NoConfInArchive, fmt.Errorf("the file %s is no module archive: %w", archive, err))
	case err != nil:
		return state.ID{}, fail(BadArchive, err)
	}
	for _, link := range a.Dropped {
		fmt.Fprintf(e.Err, "Warning: %s: leaving out the link %s, it leads out of the source\n", archive, link)
	}
	if a.Kind == bundle.Generic {
		return e.importSource(ctx, filepath.Dir(a.ConfFile), t, false)
	}
	id, err := e.identify(ctx, a.ConfFile, t)
	if err != nil {
		return id, err
	}
	if e.tree.Condition(id) == state.Added && !e.Force {
		return id, failf(AlreadyLoaded, "%s is in the DKMS tree already", id).hint("--force replaces its source and results by those of %s.", archive)
	}
	fmt.Fprintf(e.Out, "\nLoading tarball for %s\n", id)
	return id, e.unpacked(id, a)
}

// unpacked moves what an archive held into the trees, in one change.
func (e *Engine) unpacked(id state.ID, a *bundle.Archive) error {
	if a.Kind == bundle.BinariesOnly && !readable(e.tree.Source(id)) {
		return failf(NoStub, "the archive has no source of %s and there is none in %s", id, e.tree.Source(id)).
			hint("Put the source there first, or load an archive that has it.")
	}
	if e.DryRun {
		return nil
	}
	c, err := e.tree.Begin()
	if err != nil {
		return fail(NotWritable, err)
	}
	defer c.Abort()
	if a.SourceDir != "" {
		if err := stageTree(c, a.SourceDir, e.tree.Source(id)); err != nil {
			return fail(NotWritable, err)
		}
	}
	for _, r := range a.Results {
		key := state.Key{ID: id, Kernel: r.Kernel, Arch: r.Arch}
		if readable(e.tree.Result(key)) && !e.Force {
			fmt.Fprintf(e.Err, "Warning: there is a result for kernel %s (%s) already, keeping it\n", r.Kernel, r.Arch)
			continue
		}
		fmt.Fprintf(e.Out, "Loading %s...\n", e.tree.Result(key))
		if err := stageTree(c, r.Dir, e.tree.Result(key)); err != nil {
			return fail(NotWritable, err)
		}
	}
	fresh := e.tree.Condition(id) != state.Added
	if fresh {
		err = e.registration(c, id, e.tree.Source(id))
	}
	if err == nil {
		err = c.Commit()
	}
	if err != nil {
		return fail(NotWritable, err)
	}
	if fresh {
		e.arrived = id
	}
	return nil
}

func stageTree(c *state.Change, from, dest string) error {
	tmp, err := c.Stage(dest)
	if err != nil {
		return err
	}
	return copytree.Copy(from, tmp)
}
