// SPDX-License-Identifier: Apache-2.0

package capacity

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
)

// Disk is the file system that a directory is on.
type Disk struct {
	// Free is in bytes, for ordinary users too. Files is how many more files it
	// takes, -1 where there is no such bound.
	Free, Files int64
	// ReadOnly and NoExec are how it is mounted, Mount is where, "" if unknown.
	ReadOnly, NoExec bool
	Mount            string
}

// DiskOf returns the file system of a directory, or of the nearest one above it
// that exists (statfs(2)).
func DiskOf(p host.Paths, dir string) (Disk, error) {
	for {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Disk{}, fmt.Errorf("looking at the file system of %s: %w", dir, &os.PathError{Op: "statfs", Path: dir, Err: err})
	}
	d := Disk{Free: int64(st.Bavail) * int64(st.Bsize), Files: -1, ReadOnly: st.Flags&unix.ST_RDONLY != 0, NoExec: st.Flags&unix.ST_NOEXEC != 0}
	if st.Blocks == 0 { // in memory, without a bound (ramfs)
		d.Free = math.MaxInt64
	}
	if st.Files > 0 { // Btrfs and others make them as needed
		d.Files = int64(st.Ffree)
	}
	d.Mount = mountOf(read(filepath.Join(p.Proc, "self", "mountinfo")), dir)
	return d, nil
}

// mountOf returns the mount point that a directory is below, by mountinfo
// (proc_pid_mountinfo(5)): the fifth field, in which blanks and some other
// characters are octal. Of several the longest counts, and of equals the last.
func mountOf(mountinfo, dir string) string {
	best := ""
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		if len(at) >= len(best) && (dir == at || strings.HasPrefix(dir, strings.TrimSuffix(at, "/")+"/")) {
			best = at
		}
	}
	return best
}
