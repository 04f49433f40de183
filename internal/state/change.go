// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/durable"
)

// Change is a set of changes to the file system that happens whole or not at
// all. Everything new is prepared beside its place (Stage, StageCopy), all of
// it is synced by Commit, and only then do renames, links and removals, each of them repeatable, put
// it there. They are written to a journal first: a process killed between two
// of them leaves the journal, and the next writer carries out the rest; one
// killed before leaves only prepared files, and the next writer removes them.
//
// A Change belongs to a writer that holds the tree's lock.
type Change struct {
	journal string
	prep    *os.File
	ops     []op
	made    []op // prunes of the directories that Stage made
	done    bool
	// step is called behind each step of a commit; tests die there.
	step func()
}

// op is one step. Place renames Path to Dest if Path still exists; Link makes
// Dest a symbolic link to Path; Remove deletes Dest and what is below it;
// Prune removes Dest and its parents while they are empty, up to but not
// including Path. Aside renames Dest to Path, where nothing is, and Own gives
// Dest the owner "uid:gid" of Path and takes the rights of others to write away;
// what the file system refuses of these two stays as it is. Repeating all steps
// from the first gives the same end: see superseded.
type op struct {
	Do         string
	Path, Dest string
}

const (
	opPlace  = "place"
	opLink   = "link"
	opRemove = "remove"
	opPrune  = "prune"
	opAside  = "aside"
	opOwn    = "own"
)

// ErrStuck says that an error of the disk has stopped an earlier change of this
// run in the middle.
var ErrStuck = errors.New("an earlier one could not be finished; the next run of dkms does that first")

// stuckEnd ends the name of the journal of a change that an error of the disk
// has stopped.
const stuckEnd = ".stuck"

// journalDir is the name of the directory of the changes under way.
const journalDir = ".journal"

// stagedSuffix ends the name of every prepared file, a dot begins it. depmod(8)
// looks at names that end in .ko, .ko.gz, .ko.xz or .ko.zst and so passes over
// these, and no listing of results shows them.
const stagedSuffix = ".dkms-new"

func stagedName(dest string) string {
	return filepath.Join(filepath.Dir(dest), "."+filepath.Base(dest)+stagedSuffix)
}

// Begin starts a change.
func (t Tree) Begin() (*Change, error) {
	dir := filepath.Join(t.Dir, journalDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("starting a change: %w", err)
	}
	if stuck, _ := filepath.Glob(filepath.Join(dir, "*"+stuckEnd)); len(stuck) > 0 {
		return nil, fmt.Errorf("starting a change: %w", ErrStuck)
	}
	f, err := os.CreateTemp(dir, "*.prepare")
	if err != nil {
		return nil, fmt.Errorf("starting a change: %w", err)
	}
	return &Change{journal: strings.TrimSuffix(f.Name(), ".prepare"), prep: f, step: func() {}}, nil
}

// Stage returns a path beside dest at which the caller prepares a file or a
// directory, which Commit then moves to dest, replacing what is there.
// Missing parent directories of dest are made.
func (c *Change) Stage(dest string) (string, error) {
	tmp := stagedName(dest)
	top := existing(filepath.Dir(dest))
	if _, err := fmt.Fprintf(c.prep, "%s\x00%s\n", tmp, top); err != nil {
		return "", fmt.Errorf("preparing %s: %w", dest, err)
	}
	c.made = append(c.made, op{opPrune, top, filepath.Dir(dest)})
	if err := makeDir(filepath.Dir(dest)); err != nil {
		return "", fmt.Errorf("preparing %s: %w", dest, err)
	}
	// Else the next line has an odd error. Another process may have removed the
	// directory; who makes the file sees to that.
	if err := (op{opPlace, tmp, dest}).permitted(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("preparing %s: %w", dest, err)
	}
	if err := os.RemoveAll(tmp); err != nil {
		return "", fmt.Errorf("preparing %s: %w", dest, err)
	}
	c.ops = append(c.ops, op{opPlace, tmp, dest})
	return tmp, nil
}

// existing returns the first of dir and its parents that exists.
func existing(dir string) string {
	for dir != filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// StageFile prepares a file with the given content for dest.
func (c *Change) StageFile(dest string, content []byte, mode fs.FileMode) error {
	tmp, err := c.Stage(dest)
	if err != nil {
		return err
	}
	return inDir(filepath.Dir(tmp), func() error { return write(tmp, content, mode) })
}

// maxTries bounds how often something is tried that others may have undone
// meanwhile: directories that have something of several kernels are removed by
// whoever finds them empty.
const maxTries = 1000

// makeDir makes a directory and its parents. One that others have made and removed
// meanwhile is an error of either kind (os.MkdirAll); a file in its place is another.
func makeDir(dir string) (err error) {
	for range maxTries {
		if err = os.MkdirAll(dir, 0o755); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return err
}

// inDir has a file made in a directory, which it makes if it isn't there. That the
// directory is there afterwards doesn't tell that it was: others make it, too.
func inDir(dir string, make func() error) (err error) {
	for range maxTries {
		if err = make(); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := makeDir(dir); err != nil {
			return err
		}
	}
	return err
}

// StageCopy prepares a copy of the file from, with its mode, for dest.
func (c *Change) StageCopy(from, dest string) error {
	tmp, err := c.Stage(dest)
	if err != nil {
		return err
	}
	if err := inDir(filepath.Dir(tmp), func() error { return copyFile(from, tmp) }); err != nil {
		return fmt.Errorf("copying %s to %s: %w", from, dest, err)
	}
	return nil
}

// Link makes Commit replace path by a symbolic link to target.
func (c *Change) Link(target, path string) { c.ops = append(c.ops, op{opLink, target, path}) }

// Remove makes Commit delete path and everything below it.
func (c *Change) Remove(path string) { c.ops = append(c.ops, op{opRemove, "", path}) }

// Prune makes Commit remove dir and its parents as long as they are empty,
// stopping below top.
func (c *Change) Prune(dir, top string) { c.ops = append(c.ops, op{opPrune, top, dir}) }

// Commit carries the change out. On an error nothing has changed, or, when the
// error struck in the middle, the journal stays and the next writer carries on;
// until then no other change is begun.
func (c *Change) Commit() error {
	defer c.Abort()
	if err := feasible(c.ops); err != nil {
		return err
	}
	text, err := json.Marshal(c.ops)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	pending := c.journal + ".pending"
	err = write(pending, text, 0o600)
	if err == nil {
		err = syncStaged(c.ops, pending)
	}
	c.step()
	journal := c.journal + ".commit"
	if err == nil {
		err = os.Rename(pending, journal)
	}
	if err != nil {
		os.Remove(pending)
		return fmt.Errorf("writing the journal: %w", err)
	}
	c.done = true
	c.step()
	if err = durable.Sync(filepath.Dir(journal)); err != nil {
		err = fmt.Errorf("writing the journal: %w", err)
	} else {
		c.closePrep()
		err = carryOut(journal, c.ops, c.step)
	}
	if err != nil {
		// Nothing may be built on half a change, nor take what it has prepared.
		_ = os.Rename(journal, c.journal+stuckEnd)
	}
	return err
}

// feasible refuses, before anything has changed, steps that could not be
// carried out by anyone: they would stay in the journal for ever.
func feasible(ops []op) error {
	for i, o := range ops {
		if err := o.permitted(); err != nil {
			return fmt.Errorf("changing %s: %w", o.Dest, err)
		}
		directory := false
		if o.Do == opPlace {
			fi, err := os.Lstat(o.Path)
			if err != nil {
				return fmt.Errorf("changing %s: nothing was prepared: %w", o.Dest, err)
			}
			directory = fi.IsDir()
		}
		if (o.Do == opPlace || o.Do == opLink) && !directory && blocked(ops[:i], o.Dest) {
			return fmt.Errorf("changing %s: it is a directory", o.Dest)
		}
	}
	return nil
}

// permitted reports why files can't be made or removed where the step works:
// a file system may be read-only for root too (access(2)).
func (o op) permitted() error {
	if o.Do == opPrune || o.Do == opOwn {
		return nil
	}
	if _, err := os.Lstat(o.Dest); (o.Do == opRemove || o.Do == opAside) && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir := existing(filepath.Dir(o.Dest))
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// blocked reports whether a directory stands at dest that no earlier step
// removes.
func blocked(earlier []op, dest string) bool {
	fi, err := os.Lstat(dest)
	removed := slices.ContainsFunc(earlier, func(o op) bool { return (o.Do == opRemove || o.Do == opAside) && within(dest, o.Dest) })
	return err == nil && fi.IsDir() && !removed
}

// within reports whether path is dir or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// Abort drops a change that was not committed; after Commit it does nothing.
func (c *Change) Abort() {
	if c.done {
		return
	}
	c.done = true
	for _, o := range c.ops {
		if o.Do == opPlace && strings.HasSuffix(o.Path, stagedSuffix) {
			os.RemoveAll(o.Path)
		}
	}
	for _, o := range c.made {
		prune(o.Dest, o.Path)
	}
	c.closePrep()
}

func (c *Change) closePrep() {
	c.prep.Close()
	os.Remove(c.prep.Name())
}

// write makes a file that a later sync makes durable.
func write(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Chmod(mode), f.Close())
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fi.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(fi.Mode().Perm()), out.Close())
}

// syncStaged makes what was prepared durable, and more files.
func syncStaged(ops []op, more ...string) error {
	paths := more
	for _, o := range ops {
		if o.Do != opPlace {
			continue
		}
		err := filepath.WalkDir(o.Path, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type()&fs.ModeSymlink == 0 {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return durable.SyncAll(paths)
}
