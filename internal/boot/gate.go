// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dkms-go/internal/durable"
	"dkms-go/internal/host"
)

// Pin makes release the boot default until Unpin, and reports whether anything
// was changed: a second Pin of the same release changes nothing, one of
// another release takes the first one's place, and Unpin still returns what
// was there before the first.
//
// An entry that was chosen for one boot only is left alone.
//
// On disk, with GRUB: the file GRUBGate with a GRUB_DEFAULT, and a grub.cfg
// that was made again by the machine's own command. Where grub.cfg takes its
// default from grubenv and GRUBGate isn't read (Fedora), saved_entry in
// grubenv, with the old value in dkms-gate.saved beside it. With systemd-boot:
// the default in loader.conf, the old line in a comment. Files are prepared
// aside, synced and renamed.
//
// After an error everything is as it was, unless the error says so. There is
// one if the boot loader has no entry for release, if something that goes
// before our setting names another kernel, or if no known boot loader is
// there.
func Pin(ctx context.Context, p host.Paths, release string) (changed bool, err error) {
	if !isRelease(release) {
		return false, fmt.Errorf("holding the boot default: %q is no kernel release", release)
	}
	m, err := open(p)
	if err != nil {
		return false, err
	}
	return m.pin(ctx, release)
}

// Unpin undoes Pin, and reports whether there was anything to undo. A default
// that somebody else has set since, and that ours isn't the answer to any
// more, stays.
func Unpin(ctx context.Context, p host.Paths) (changed bool, err error) {
	m, err := open(p)
	if err != nil {
		return false, err
	}
	return m.unpin(ctx)
}

// Pinned returns the release that Pin holds the boot default at, or "".
func Pinned(p host.Paths) (release string, err error) {
	m, err := open(p)
	if err != nil {
		return "", err
	}
	return m.pinned()
}

// replaceFile gives the file path a new text: made aside with the mode of what
// is there, synced, renamed. A link is followed, so that it stays one.
func replaceFile(path, text string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := durable.Replace(path, []byte(text), mode); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// removeFile removes a file for good.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("taking the boot gate away: %w", err)
	}
	return durable.Sync(filepath.Dir(path))
}
