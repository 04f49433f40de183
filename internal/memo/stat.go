// SPDX-License-Identifier: Apache-2.0

package memo

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Stamp tells one state of a file from others without reading it: where it is,
// its kind, size and times. The zero Stamp is that of a file that isn't there.
type Stamp struct {
	dev, ino, size uint64
	// mtime and ctime are in nanoseconds since 1970. Nobody but the kernel
	// sets ctime, so that a content put in place with an old mtime shows.
	mtime, ctime int64
	mode         uint32
}

// statx is as statx(2) for a path that has a NUL at its end, without the copy that
// each call would make of it.
func statx(dir int, path []byte, flags int, st *unix.Statx_t) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(&path[0])), uintptr(flags),
		unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(st)), 0)
	return errno
}

// Of returns the stamp of the file that a path leads to, Here that of the path
// itself. What can't be looked at counts as not there. The path may come in parts,
// which are put together as they are.
func (s *Store) Of(parts ...string) Stamp { return s.stamp(unix.AT_FDCWD, parts, 0) }

// Here is Of without following a link.
func (s *Store) Here(parts ...string) Stamp {
	return s.stamp(unix.AT_FDCWD, parts, unix.AT_SYMLINK_NOFOLLOW)
}

// In is Of for a path below dir, which is quicker where there are many: dir is
// looked up once.
func (s *Store) In(dir string, parts ...string) Stamp {
	fd, ok := s.dirs[dir]
	if !ok {
		if len(s.dirs) >= maxDirs {
			s.Close()
		}
		var err error
		if fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			fd = -1
		}
		s.dirs[dir] = fd
	}
	if fd < 0 {
		return Stamp{}
	}
	return s.stamp(fd, parts, 0)
}

// maxDirs bounds the number of directories that are open at a time.
const maxDirs = 128

// Close closes the directories that In has opened: they are found anew.
func (s *Store) Close() {
	for _, fd := range s.dirs {
		unix.Close(fd) // -1 is no file
	}
	clear(s.dirs)
}

func (s *Store) stamp(dir int, parts []string, flags int) Stamp {
	s.path = s.path[:0]
	for _, p := range parts {
		s.path = append(s.path, p...)
	}
	s.path = append(s.path, 0)
	st := &s.st
	if statx(dir, s.path, flags, st) != 0 {
		return Stamp{}
	}
	return Stamp{
		dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino, size: st.Size, mode: uint32(st.Mode),
		mtime: st.Mtime.Sec*1e9 + int64(st.Mtime.Nsec), ctime: st.Ctime.Sec*1e9 + int64(st.Ctime.Nsec),
	}
}

// Exists reports whether there is a file.
func (t Stamp) Exists() bool { return t.mode != 0 }

// IsDir reports whether it is a directory.
func (t Stamp) IsDir() bool { return t.mode&unix.S_IFMT == unix.S_IFDIR }

// settleTime is how old a file's last change must be before its stamp is relied
// on: within the granularity of its times it could change again and keep them.
// The coarsest file system, vfat, counts two seconds.
const settleTime = 3 * time.Second

// settled reports whether a later change of the file will show in its stamp.
// Absence always shows.
func (t Stamp) settled(now time.Time) bool {
	return !t.Exists() || now.UnixNano()-max(t.mtime, t.ctime) > int64(settleTime)
}

// append adds the stamp to b.
func (t Stamp) append(b []byte) []byte {
	for _, v := range [5]uint64{t.dev, t.ino, t.size, uint64(t.mtime), uint64(t.ctime)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, t.mode)
}
