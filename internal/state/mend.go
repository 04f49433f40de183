// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Mend makes a change repair what is wrong with the tree alone: what has no place
// in it and records that can't be understood go to the directory lost of LostFound,
// and files get their owner. It returns false for what takes more than that.
func (t Tree) Mend(c *Change, i Inconsistency, lost string, o Owner) (bool, error) {
	switch i.Kind {
	case Foreign, RecordWrong:
		if err := c.Aside(t, i.Path, lost); err != nil {
			return false, err
		}
		c.Prune(filepath.Dir(i.Path), t.Dir)
	case WrongOwner:
		c.Own(i.Path, o)
		for _, path := range i.Below {
			c.Own(path, o)
		}
	default:
		return false, nil
	}
	return true, nil
}

// DropLink makes a change remove the active link for the kernel of k.
func (t Tree) DropLink(c *Change, k Key) { c.Remove(t.ActiveLink(k)) }

// ClearLock moves what stands in the place of the lock, and is no file, to the
// directory lost: nobody can take the lock while it is there, so this is the one
// change that is made without it.
func (t Tree) ClearLock(lost string) error {
	path := filepath.Join(t.Dir, lockName)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Mode().IsRegular() {
		return nil
	}
	dest := filepath.Join(lost, path)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(dest), 0o755)
	}
	if err == nil {
		err = os.Rename(path, dest)
	}
	if err != nil {
		return fmt.Errorf("moving %s aside: %w", path, err)
	}
	return nil
}
