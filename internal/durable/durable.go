// SPDX-License-Identifier: Apache-2.0

// Package durable changes single files in such a way that a power cut leaves the
// old content or the new one. What several files hold together is switched by
// state.Change.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Replace gives the file path a new content: written beside it, synced, renamed
// to it, and the directory synced. The name aside is hidden and doesn't end as
// path does, so that nothing that reads all files of a kind takes it for one.
// mode is given when the file is made, less the umask: file systems without
// permissions, such as vfat, refuse to change them. After an error path is as
// before.
func Replace(path string, data []byte, mode fs.FileMode) error {
	return ReplaceParts(path, [][]byte{data}, mode)
}

// ReplaceParts is Replace for a content in parts.
func ReplaceParts(path string, parts [][]byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	aside := filepath.Join(dir, fmt.Sprintf(".%s.%016x.dkms-new", filepath.Base(path), rand.Uint64()))
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	for _, data := range parts {
		if err == nil {
			_, err = f.Write(data)
		}
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(aside))
	}
	return Sync(dir)
}

// Create makes the file path with a content, whole: it is written beside it, synced,
// given its name, and the directory synced. Where there is something of that name the
// error wraps fs.ErrExist and nothing has changed. mode is as for Replace.
func Create(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	aside := filepath.Join(dir, fmt.Sprintf(".%s.%016x.dkms-new", filepath.Base(path), rand.Uint64()))
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // not every file system can (rename(2))
			if err = os.Link(aside, path); err == nil {
				err = os.Remove(aside)
			}
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(aside))
	}
	return Sync(dir)
}

// Copy copies a file's content and permissions, less the umask, and syncs the copy. What
// is at to is overwritten; after an error it is of no use.
func Copy(from, to string) error {
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
	return errors.Join(err, out.Sync(), out.Close())
}

// SyncAll does as Sync for each path, at the same time: a journalling file
// system then writes its journal once for many of them.
func SyncAll(paths []string) error {
	const most = 16
	errs := make([]error, len(paths))
	turns := make(chan struct{}, most)
	var all sync.WaitGroup
	for i, path := range paths {
		turns <- struct{}{}
		all.Go(func() {
			errs[i] = Sync(path)
			<-turns
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Sync waits until a file's content, or a directory's entries, are on the disk
// (fsync(2)).
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}
