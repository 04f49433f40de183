// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/durable"
	"dkms-go/internal/untrusted"
)

// carryOut performs the steps in the journal, for the first time or again, and
// then removes it.
func carryOut(journal string, ops []op, step func()) error {
	dirs := map[string]bool{}
	for i, o := range ops {
		if superseded(o, ops[i+1:]) {
			continue
		}
		if err := o.apply(); err != nil {
			return fmt.Errorf("changing %s: %w", o.Dest, err)
		}
		dirs[filepath.Dir(o.Dest)] = true
		step()
	}
	for dir := range dirs {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			delete(dirs, dir)
		}
	}
	if err := durable.SyncAll(slices.Collect(maps.Keys(dirs))); err != nil {
		return err
	}
	return os.Remove(journal)
}

// superseded reports whether a later step has put something into the place of
// o already, which o must not take away when it is repeated: there is nothing
// left to put there again.
func superseded(o op, later []op) bool {
	return slices.ContainsFunc(later, func(l op) bool {
		if l.Do != opPlace || !within(l.Dest, o.Dest) {
			return false
		}
		_, err := os.Lstat(l.Path)
		return errors.Is(err, fs.ErrNotExist)
	})
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
		if err := inDir(filepath.Dir(tmp), func() error { return os.Symlink(o.Path, tmp) }); err != nil {
			return err
		}
		return os.Rename(tmp, o.Dest)
	case opRemove:
		return discard(o.Dest)
	case opPrune:
		prune(o.Dest, o.Path)
		return nil
	case opAside:
		return aside(o.Dest, o.Path)
	case opOwn:
		own(o.Dest, o.Path)
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
	if err := makeDir(filepath.Dir(dest)); err != nil {
		return err
	}
	if fi.IsDir() {
		if err := discard(dest); err != nil {
			return err
		}
	}
	return os.Rename(path, dest)
}

// discard removes a file or directory. A directory goes as a whole first, for those
// who read the tree meanwhile.
func discard(path string) error {
	away := stagedName(path + ".gone")
	if err := untrusted.RemoveAll(away); err != nil {
		return err
	}
	if fi, err := os.Lstat(path); err == nil && fi.IsDir() && os.Rename(path, away) == nil {
		return untrusted.RemoveAll(away)
	}
	return untrusted.RemoveAll(path) // also where file systems don't rename directories
}

func prune(dir, top string) {
	top = filepath.Clean(top)
	for dir = filepath.Clean(dir); strings.HasPrefix(dir, top+"/"); dir = filepath.Dir(dir) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// Settled reports whether no writer is at work, nor was killed since the last
// one had the lock. Else what the tree says may be about to change.
func (t Tree) Settled() bool {
	_, err := os.Lstat(filepath.Join(t.Dir, journalDir))
	return errors.Is(err, fs.ErrNotExist)
}

// recover finishes changes whose journal is complete and removes what others
// had prepared, and all else that killed writers leave. The caller holds the
// lock. Every writer makes the directory of the journal, and takes it away at
// its end: one that is there is of a writer that was killed.
func (t Tree) recover(step func()) error {
	dir := filepath.Join(t.Dir, journalDir)
	if err := os.Mkdir(dir, 0o755); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("starting the journal: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading the journal: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(path) {
		case ".commit", stuckEnd:
			err = redo(path, step)
		case ".prepare":
			err = undo(path, committed(strings.TrimSuffix(path, ".prepare")))
		default:
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("recovering from %s: %w", path, err)
		}
	}
	if err := t.sweep(); err != nil {
		return fmt.Errorf("clearing away what a killed dkms left: %w", err)
	}
	return nil
}

// foreign reports whether the content of a directory below the tree isn't ours:
// kept sources and what stands for them, build directories, what fsck has moved aside.
func (t Tree) foreign(dir string) bool {
	rel, err := filepath.Rel(t.Dir, dir)
	return err == nil && (rel == keptSources || rel == prebuilts || rel == lostFound || filepath.Base(rel) == "build" && strings.Count(rel, "/") == 2)
}

// sweep removes what is prepared below the tree without a journal, and the
// directories of builds that were killed. Sources and what a failed build left
// stay.
func (t Tree) sweep() error {
	builds, _ := filepath.Glob(filepath.Join(t.Dir, "*", "*", ownBuildPrefix+"*"))
	for _, own := range builds {
		for _, dir := range []string{filepath.Join(filepath.Dir(own), "build"), own} {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	var kept []string // directories that may be empty
	err := filepath.WalkDir(t.Dir, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && (t.foreign(path) || path == filepath.Join(t.Dir, journalDir)):
			return fs.SkipDir
		case strings.HasPrefix(name, ".") && strings.HasSuffix(name, stagedSuffix):
			if err := os.RemoveAll(path); err != nil || !d.IsDir() {
				return err
			}
			return fs.SkipDir
		case d.IsDir() && (within(path, filepath.Join(t.Dir, outcomes)) || within(path, filepath.Join(t.Dir, keptLogs))):
			kept = append(kept, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(kept) {
		os.Remove(dir) // unless there is something in it
	}
	return err
}

// committed reports whether a change has a journal that redo is for.
func committed(name string) bool {
	for _, end := range []string{".commit", stuckEnd} {
		if _, err := os.Lstat(name + end); err == nil {
			return true
		}
	}
	return false
}

// Damaged says that the list of a change that was interrupted makes no sense, which
// no kill leaves. Nothing was changed.
type Damaged struct {
	Path string
	Err  error
}

func (d *Damaged) Error() string { return fmt.Sprintf("the journal %s is damaged: %v", d.Path, d.Err) }

func (d *Damaged) Unwrap() error { return d.Err }

func redo(journal string, step func()) error {
	ops, err := readOps(journal)
	if err != nil {
		return err
	}
	return carryOut(journal, ops, step)
}

// maxJournal bounds the list of a change, in bytes.
const maxJournal = 64 << 20

// readOps reads the list of a change. The error is a *Damaged, unless it may not, or
// can't, be read: a disk that fails says nothing of the list.
func readOps(journal string) ([]op, error) {
	text, err := untrusted.ReadFile(journal, maxJournal)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EIO) {
		return nil, err
	}
	var ops []op
	if err == nil {
		err = json.Unmarshal(text, &ops)
	}
	if err != nil {
		return nil, &Damaged{journal, err}
	}
	known := []string{opPlace, opLink, opRemove, opPrune, opAside, opOwn}
	for _, o := range ops {
		if !slices.Contains(known, o.Do) || !filepath.IsAbs(o.Dest) {
			return nil, &Damaged{journal, fmt.Errorf("it has the step %q for %q", o.Do, o.Dest)}
		}
	}
	return ops, nil
}

// undo removes what was prepared for a change that was never committed. For
// one that was, only the list goes: redo needs the prepared files.
func undo(list string, committed bool) error {
	if !committed {
		text, err := untrusted.ReadFile(list, maxJournal)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(text), "\n") {
			path, top, whole := strings.Cut(line, "\x00")
			if !whole || !strings.HasSuffix(path, stagedSuffix) {
				continue
			}
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			prune(filepath.Dir(path), top)
		}
	}
	return os.Remove(list)
}
