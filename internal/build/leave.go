// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dkms-go/internal/untrusted"
)

// confinedGrace is what a confined command that is stopped gets to clean up: one
// that fills the disk goes on meanwhile, and its directory is made anew.
const confinedGrace = 200 * time.Millisecond

// leave makes harmless what a failed build leaves: nobody becomes another user by
// its files. Of one that filled the disk only make.log stays, so that there is
// room for whatever is to be done about it.
func (w *work) leave(failure error) error {
	if failure == nil || w.inside == nil || w.Confine == nil {
		return nil
	}
	var over *overLimit
	if errors.As(failure, &over) && over.setting == diskSetting {
		entries, err := os.ReadDir(w.dir)
		for _, e := range entries {
			if e.Name() != logName {
				err = errors.Join(err, untrusted.RemoveAll(filepath.Join(w.dir, e.Name())))
			}
		}
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return dropRights(w.inside, 0)
}

// deepest is how far down dropRights looks; what is below gets closed to others.
const deepest = 64

const setID = fs.ModeSetuid | fs.ModeSetgid

// dropRights takes the set-user-ID and set-group-ID bits from the files in a
// directory (inode(7)).
func dropRights(dir *untrusted.Dir, depth int) error {
	root := dir.Root()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		info, err := root.Lstat(name)
		switch {
		case err != nil:
		case info.Mode().IsRegular() && info.Mode()&setID != 0:
			err = root.Chmod(name, info.Mode()&^setID)
		case info.IsDir() && depth == deepest:
			err = errors.Join(root.Lchown(name, 0, 0), root.Chmod(name, 0o700))
		case info.IsDir():
			err = dropBelow(dir, name, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func dropBelow(dir *untrusted.Dir, name string, depth int) error {
	sub, err := dir.Sub(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return dropRights(sub, depth)
}
