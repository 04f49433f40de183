// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// limits bound what one archive may hold.
type limits struct {
	entries   int   // entries and directories made for them
	bytes     int64 // content of all files; a hard link counts as its file
	nameBytes int64 // all names and link targets
}

// Extract unpacks the archive at path into the directory into and says what it
// holds. The compression is told by the content, not the name. into is made
// (mode 0700) if it is not there and must else be empty. On an error into is
// gone, or empty if it was there before.
//
// Refused with an [*EntryError]: absolute names and ".." in names; control
// characters; components over 255 bytes; devices, fifos, and whatever else is
// not a file, a directory or a link; links pointing out of the archive, or out
// of its dkms_source_tree or <kernel>/<arch> directory; symlinks with ".." after
// a name; entries below something that is not a directory; the same name with
// two types; in dkms_main_tree anything but <kernel>/<arch>/ directories with
// proper names. Of entries with the same name and type the last one counts.
// Refused with [ErrTooBig]: over 200,000 entries, 8 GiB of content, or 64 MiB of
// names.
//
// Owners are not applied; setuid, setgid, sticky and world-write bits are
// dropped; the owner can always read, and enter directories. Modification times
// are kept, but for symlinks.
func Extract(path, into string) (*Archive, error) {
	return extract(path, into, limits{entries: 200_000, bytes: 8 << 30, nameBytes: 64 << 20})
}

func extract(archive, into string, max limits) (*Archive, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.IsDir() {
		return nil, fmt.Errorf("reading %q: it is a directory", archive)
	}
	made, err := prepare(into)
	if err != nil {
		return nil, err
	}
	a, err := unpackInto(f, archive, into, max)
	if err != nil {
		return nil, errors.Join(err, clean(into, made))
	}
	return a, nil
}

// prepare makes into, or sees that it is an empty directory.
func prepare(into string) (made bool, err error) {
	err = os.Mkdir(into, 0o700)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	list, err := os.ReadDir(into)
	if err != nil {
		return false, err
	}
	if len(list) > 0 {
		return false, fmt.Errorf("unpacking into %q: it is not empty", into)
	}
	return false, nil
}

// clean takes back what was unpacked.
func clean(into string, made bool) error {
	if made {
		return os.RemoveAll(into)
	}
	list, err := os.ReadDir(into)
	for _, e := range list {
		err = errors.Join(err, os.RemoveAll(into+"/"+e.Name()))
	}
	return err
}

func unpackInto(r io.Reader, archive, into string, max limits) (*Archive, error) {
	root, err := os.OpenRoot(into)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	u := &unpacker{
		archive: archive, root: root, max: max, left: max,
		kinds: make(map[string]entryKind), links: make(map[string]string), dirs: make(map[string]dirMeta),
	}
	if err := u.unpack(r); err != nil {
		var bad *EntryError
		if errors.As(err, &bad) {
			return nil, err
		}
		return nil, fmt.Errorf("unpacking %q: %w", archive, err)
	}
	a, err := u.inspect(into)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", archive, err)
	}
	return a, nil
}

// entryKind is the type of an unpacked entry.
type entryKind byte

const (
	kindDir entryKind = iota + 1
	kindFile
	kindLink
)

// unpacker holds the state of one run of Extract.
type unpacker struct {
	archive string
	root    *os.Root
	max     limits
	left    limits // what may still come
	kinds   map[string]entryKind
	links   map[string]string // targets of symlinks
	dirs    map[string]dirMeta
}

// dirMeta is applied to a directory once all is unpacked.
type dirMeta struct {
	mode  fs.FileMode
	mtime time.Time
}

// entry checks one entry and writes it.
func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	u.left.nameBytes -= int64(len(h.Name) + len(h.Linkname))
	if err := u.spend(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader { // `git archive` has one
		return nil
	}
	bad := func(reason string) error { return &EntryError{u.archive, h.Name, reason} }
	kind := kindOf(h.Typeflag)
	if kind == 0 {
		return bad("neither a file, a directory nor a link")
	}
	parts, reason := splitEntry(h.Name)
	if reason != "" {
		return bad(reason)
	}
	if len(parts) == 0 {
		if kind != kindDir {
			return bad("the root is not a directory")
		}
		return nil
	}
	if reason := badPlace(parts, kind == kindDir); reason != "" {
		return bad(reason)
	}
	name := strings.Join(parts, "/")
	if reason, err := u.parents(name); err != nil {
		return err
	} else if reason != "" {
		return bad(reason)
	}
	if old, ok := u.kinds[name]; ok && old != kind {
		return bad("the name stands twice in the archive, with different types")
	}
	var err error
	switch {
	case kind == kindDir:
		err = u.directory(name, h)
	case kind == kindLink:
		reason, err = u.symlink(name, parts, h.Linkname)
	case h.Typeflag == tar.TypeLink:
		reason, err = u.hardLink(name, h.Linkname)
	default:
		err = u.file(name, h, r)
	}
	if reason != "" {
		return bad(reason)
	}
	u.kinds[name] = kind
	return err
}

// spend counts one entry against the limits.
func (u *unpacker) spend() error {
	u.left.entries--
	switch {
	case u.left.entries < 0:
		return fmt.Errorf("%w: more than %d entries", ErrTooBig, u.max.entries)
	case u.left.nameBytes < 0:
		return fmt.Errorf("%w: more than %d bytes of names", ErrTooBig, u.max.nameBytes)
	}
	return nil
}

// spendBytes counts the content of a file against the limits.
func (u *unpacker) spendBytes(n int64) error {
	if n > u.left.bytes {
		return fmt.Errorf("%w: more than %d bytes of content", ErrTooBig, u.max.bytes)
	}
	u.left.bytes -= n
	return nil
}

// kindOf returns what a tar type becomes, 0 for one that is refused.
func kindOf(flag byte) entryKind {
	switch flag {
	case tar.TypeReg, tar.TypeLink, tar.TypeGNUSparse:
		return kindFile
	case tar.TypeDir:
		return kindDir
	case tar.TypeSymlink:
		return kindLink
	}
	return 0
}

// parents sees that all above name are directories and makes those the archive
// did not list.
func (u *unpacker) parents(name string) (reason string, err error) {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		switch u.kinds[name[:i]] {
		case kindDir:
		case 0:
			if err := u.spend(); err != nil {
				return "", err
			}
			if err := u.root.Mkdir(name[:i], 0o755); err != nil {
				return "", err
			}
			u.kinds[name[:i]] = kindDir
		default:
			return fmt.Sprintf("%q above it is not a directory", name[:i]), nil
		}
	}
	return "", nil
}

func (u *unpacker) directory(name string, h *tar.Header) error {
	u.dirs[name] = dirMeta{fs.FileMode(h.Mode)&0o775 | 0o700, h.ModTime}
	if u.kinds[name] == kindDir {
		return nil
	}
	return u.root.Mkdir(name, 0o700)
}

func (u *unpacker) file(name string, h *tar.Header, r io.Reader) error {
	if err := u.spendBytes(h.Size); err != nil {
		return err
	}
	if err := u.removeOld(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return streamError(err)
	}
	if err := f.Chmod(fs.FileMode(h.Mode)&0o775 | 0o400); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return u.setTime(name, h.ModTime)
}

func (u *unpacker) symlink(name string, parts []string, target string) (reason string, err error) {
	depth := len(parts) - 1 - scopeLen(parts)
	if reason := badTarget(target, depth); reason != "" {
		return reason, nil
	}
	if err := u.removeOld(name); err != nil {
		return "", err
	}
	u.links[name] = target
	return "", u.root.Symlink(target, name)
}

// hardLink makes name another name of a file that came earlier.
func (u *unpacker) hardLink(name, target string) (reason string, err error) {
	parts, reason := splitEntry(target)
	if reason != "" {
		return "as the target of a hard link " + reason, nil
	}
	old := strings.Join(parts, "/")
	if u.kinds[old] != kindFile {
		return fmt.Sprintf("a hard link to %q, which is no file that came earlier", target), nil
	}
	if old == name {
		return "a hard link to itself", nil
	}
	info, err := u.root.Lstat(old)
	if err != nil {
		return "", err
	}
	if err := u.spendBytes(info.Size()); err != nil {
		return "", err
	}
	if err := u.removeOld(name); err != nil {
		return "", err
	}
	return "", u.root.Link(old, name)
}

// removeOld removes an earlier entry of the same name, so that nothing is
// written through it.
func (u *unpacker) removeOld(name string) error {
	if u.kinds[name] == 0 {
		return nil
	}
	return u.root.Remove(name)
}

// setTime sets the modification time. One that the kernel can not hold is left
// as it is.
func (u *unpacker) setTime(name string, t time.Time) error {
	if t.Before(time.Unix(0, 0)) || t.Year() >= 2262 {
		return nil
	}
	return u.root.Chtimes(name, t, t)
}

// finishDirs applies modes and times, children before parents.
func (u *unpacker) finishDirs() error {
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(u.dirs))) {
		d := u.dirs[name]
		if err := u.root.Chmod(name, d.mode); err != nil {
			return err
		}
		if err := u.setTime(name, d.mtime); err != nil {
			return err
		}
	}
	return nil
}
