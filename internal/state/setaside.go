// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/durable"
)

// damagedJournal lists what is in the journal, or in its place, and can be neither
// finished nor undone.
func (t Tree) damagedJournal() []*Damaged {
	dir := filepath.Join(t.Dir, journalDir)
	fi, err := os.Lstat(dir)
	if err != nil {
		return nil
	}
	if !fi.IsDir() {
		return []*Damaged{{dir, errors.New("it is no directory")}}
	}
	var list []*Damaged
	for _, e := range entries(dir) {
		path := filepath.Join(dir, e.Name())
		if !e.Type().IsRegular() {
			list = append(list, &Damaged{path, errors.New("it is no file")})
			continue
		}
		if end := filepath.Ext(path); end != ".commit" && end != stuckEnd {
			continue
		}
		var damaged *Damaged
		if _, err := readOps(path); errors.As(err, &damaged) {
			list = append(list, damaged)
		}
	}
	return list
}

// LockSettingAside is Lock for repairs: what Lock would end with a *Damaged for is
// moved to the directory lost of LostFound first, and with it all that was prepared
// for changes, since nobody can tell any more what of it belongs to the damaged one.
// Other changes whose lists are whole are finished before that.
func (t Tree) LockSettingAside(ctx context.Context, held string, w *Wait, lost string) (unlock func(), err error) {
	return t.lock(ctx, held, w, func() error { return t.setAside(lost) })
}

func (t Tree) setAside(lost string) error {
	damaged := t.damagedJournal()
	if len(damaged) == 0 {
		return nil
	}
	var away []string
	for _, d := range damaged {
		away = append(away, d.Path)
	}
	if err := t.setAsideAll(away, lost); err != nil {
		return err
	}
	dir := filepath.Join(t.Dir, journalDir)
	for _, e := range entries(dir) { // the whole ones need what was prepared for them
		path := filepath.Join(dir, e.Name())
		if end := filepath.Ext(path); end == ".commit" || end == stuckEnd {
			if err := redo(path, func() {}); err != nil {
				return fmt.Errorf("recovering from %s: %w", path, err)
			}
		}
	}
	staged, err := t.staged()
	if err != nil {
		return fmt.Errorf("looking for what was prepared: %w", err)
	}
	return t.setAsideAll(staged, lost)
}

// setAsideAll moves files and directories, of the tree or named by lists of what was
// prepared, to where Change.Aside would.
func (t Tree) setAsideAll(paths []string, lost string) error {
	for _, path := range paths {
		dest := free(filepath.Join(lost, path))
		if err := aside(path, dest); err != nil {
			return fmt.Errorf("moving %s aside: %w", path, err)
		}
		if err := durable.SyncAll([]string{filepath.Dir(dest), filepath.Dir(path)}); err != nil {
			return err
		}
	}
	return nil
}

// staged lists what is prepared below the tree.
func (t Tree) staged() (list []string, err error) {
	err = filepath.WalkDir(t.Dir, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (t.foreign(path) || path == filepath.Join(t.Dir, journalDir)):
			return fs.SkipDir
		case strings.HasPrefix(name, ".") && strings.HasSuffix(name, stagedSuffix):
			if list = append(list, path); d.IsDir() {
				return fs.SkipDir
			}
		}
		return nil
	})
	return list, err
}
