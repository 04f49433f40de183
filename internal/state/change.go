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
	"strings"
)

// Change is a set of changes to the file system that happens whole or not at
// all. Everything new is prepared beside its place (Stage, StageCopy), synced,
// and only then do renames, links and removals, each of them repeatable, put
// it there. They are written to a journal first: a process killed between two
// of them leaves the journal, and the next writer carries out the rest; one
// killed before leaves only prepared files, and the next writer removes them.
//
// A Change belongs to a writer that holds the tree's lock.
type Change struct {
	journal string
	prep    *os.File
	ops     []op
	done    bool
}

// op is one repeatable step. Place renames Path to Dest if Path still exists;
// Link makes Dest a symbolic link to Path; Remove deletes Dest and what is
// below it; Prune removes Dest and its parents while they are empty, up to but
// not including Path.
type op struct {
	Do         string
	Path, Dest string
}

const (
	opPlace  = "place"
	opLink   = "link"
	opRemove = "remove"
	opPrune  = "prune"
)

// stagedSuffix ends the name of every prepared file, a dot begins it. depmod(8)
// looks at names that end in .ko, .ko.gz, .ko.xz or .ko.zst and so passes over
// these, and no listing of results shows them.
const stagedSuffix = ".dkms-new"

func stagedName(dest string) string {
	return filepath.Join(filepath.Dir(dest), "."+filepath.Base(dest)+stagedSuffix)
}

// Begin starts a change.
func (t Tree) Begin() (*Change, error) {
	dir := filepath.Join(t.Dir, ".journal")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("starting a change: %w", err)
	}
	f, err := os.CreateTemp(dir, "*.prepare")
	if err != nil {
		return nil, fmt.Errorf("starting a change: %w", err)
	}
	return &Change{journal: strings.TrimSuffix(f.Name(), ".prepare"), prep: f}, nil
}

// Stage returns a path beside dest at which the caller prepares a file or a
// directory, which Commit then moves to dest, replacing what is there.
// Missing parent directories of dest are made.
func (c *Change) Stage(dest string) (string, error) {
	tmp := stagedName(dest)
	if _, err := fmt.Fprintln(c.prep, tmp); err != nil {
		return "", fmt.Errorf("preparing %s: %w", dest, err)
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return "", fmt.Errorf("preparing %s: %w", dest, err)
	}
	if err := os.RemoveAll(tmp); err != nil {
		return "", fmt.Errorf("preparing %s: %w", dest, err)
	}
	c.ops = append(c.ops, op{opPlace, tmp, dest})
	return tmp, nil
}

// StageFile prepares a file with the given content for dest.
func (c *Change) StageFile(dest string, content []byte, mode fs.FileMode) error {
	tmp, err := c.Stage(dest)
	if err != nil {
		return err
	}
	return writeSynced(tmp, content, mode)
}

// StageCopy prepares a copy of the file from, with its mode, for dest.
func (c *Change) StageCopy(from, dest string) error {
	tmp, err := c.Stage(dest)
	if err != nil {
		return err
	}
	if err := copyFile(from, tmp); err != nil {
		return fmt.Errorf("copying %s to %s: %w", from, dest, err)
	}
	return nil
}

// Place makes Commit rename path to dest, replacing what is there. Both must
// be on one file system.
func (c *Change) Place(path, dest string) { c.ops = append(c.ops, op{opPlace, path, dest}) }

// Link makes Commit replace path by a symbolic link to target.
func (c *Change) Link(target, path string) { c.ops = append(c.ops, op{opLink, target, path}) }

// Remove makes Commit delete path and everything below it.
func (c *Change) Remove(path string) { c.ops = append(c.ops, op{opRemove, "", path}) }

// Prune makes Commit remove dir and its parents as long as they are empty,
// stopping below top.
func (c *Change) Prune(dir, top string) { c.ops = append(c.ops, op{opPrune, top, dir}) }

// Commit carries the change out. On an error nothing has changed, or, when the
// error struck in the middle, the journal stays and the next writer carries on.
func (c *Change) Commit() error {
	defer c.Abort()
	if err := syncStaged(c.ops); err != nil {
		return fmt.Errorf("syncing a change: %w", err)
	}
	text, err := json.Marshal(c.ops)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	pending := c.journal + ".pending"
	if err := writeSynced(pending, text, 0o600); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	journal := c.journal + ".commit"
	if err := os.Rename(pending, journal); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	c.done = true
	if err := syncDir(filepath.Dir(journal)); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	c.closePrep()
	return carryOut(journal, c.ops)
}

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
	c.closePrep()
}

func (c *Change) closePrep() {
	c.prep.Close()
	os.Remove(c.prep.Name())
}

// carryOut performs the steps in the journal and then removes it.
func carryOut(journal string, ops []op) error {
	dirs := map[string]bool{}
	for _, o := range ops {
		if err := o.apply(); err != nil {
			return fmt.Errorf("changing %s: %w", o.Dest, err)
		}
		dirs[filepath.Dir(o.Dest)] = true
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("syncing %s: %w", dir, err)
		}
	}
	return os.Remove(journal)
}

func (o op) apply() error {
	switch o.Do {
	case opPlace:
		return place(o.Path, o.Dest)
	case opLink:
		tmp := stagedName(o.Dest)
		if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(o.Dest), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(o.Path, tmp); err != nil {
			return err
		}
		return os.Rename(tmp, o.Dest)
	case opRemove:
		return os.RemoveAll(o.Dest)
	case opPrune:
		prune(o.Dest, o.Path)
		return nil
	}
	return fmt.Errorf("the journal has an unknown step %q", o.Do)
}

func place(path, dest string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return err
	}
	if fi.IsDir() {
		if err := os.RemoveAll(dest); err != nil {
			return err
		}
	}
	return os.Rename(path, dest)
}

func prune(dir, top string) {
	top = filepath.Clean(top)
	for dir = filepath.Clean(dir); strings.HasPrefix(dir, top+"/"); dir = filepath.Dir(dir) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// recover finishes changes whose journal is complete and removes what others
// had prepared. The caller holds the lock.
func (t Tree) recover() error {
	dir := filepath.Join(t.Dir, ".journal")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(path) {
		case ".commit":
			err = redo(path)
		case ".prepare":
			_, statErr := os.Stat(strings.TrimSuffix(path, ".prepare") + ".commit")
			err = undo(path, statErr == nil)
		default:
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("recovering from %s: %w", path, err)
		}
	}
	return nil
}

func redo(journal string) error {
	text, err := os.ReadFile(journal)
	if err != nil {
		return err
	}
	var ops []op
	if err := json.Unmarshal(text, &ops); err != nil {
		return err
	}
	return carryOut(journal, ops)
}

// undo removes what was prepared for a change that was never committed. For
// one that was, only the list goes: redo needs the prepared files.
func undo(list string, committed bool) error {
	if !committed {
		text, err := os.ReadFile(list)
		if err != nil {
			return err
		}
		for _, path := range strings.Split(string(text), "\n") {
			if strings.HasSuffix(path, stagedSuffix) {
				if err := os.RemoveAll(path); err != nil {
					return err
				}
			}
		}
	}
	return os.Remove(list)
}

func writeSynced(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
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
	return errors.Join(err, out.Chmod(fi.Mode().Perm()), out.Sync(), out.Close())
}

// syncStaged makes prepared directories durable; prepared files were synced
// when they were written.
func syncStaged(ops []op) error {
	for _, o := range ops {
		fi, err := os.Lstat(o.Path)
		if o.Do != opPlace || err != nil || !fi.IsDir() {
			continue
		}
		err = filepath.WalkDir(o.Path, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Type()&fs.ModeSymlink != 0 {
				return err
			}
			return syncDir(path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// syncDir syncs a file or directory to its disk.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
