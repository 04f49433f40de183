// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/run"
)

// handOver makes the build directory, but for the log, the property of the user
// that confined commands run as. No command has run in it yet.
func (w *work) handOver() error {
	if w.Confine == nil || os.Geteuid() != 0 {
		return nil
	}
	uid := w.Confine.UID
	return filepath.WalkDir(w.dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != filepath.Join(w.dir, logName) {
			err = os.Lchown(path, uid, uid)
		}
		if err != nil {
			return fmt.Errorf("handing over the build directory: %w", err)
		}
		return nil
	})
}

// overLimit is the error of a command that was stopped because it took too much.
type overLimit struct{ what, setting string }

func (e *overLimit) Error() string {
	return fmt.Sprintf("%s (%s in framework.conf)", e.what, e.setting)
}

// Unwrap tells what else it means that the disk is nearly full.
func (e *overLimit) Unwrap() error {
	if e.setting == diskSetting {
		return unix.ENOSPC
	}
	return nil
}

// guardInterval is how often the free space of the disk is looked at.
const guardInterval = 50 * time.Millisecond

// guard returns a context that ends when less than Reserve bytes, or no inodes, are
// left on the file system of the build directory; stop returns the reason if it did.
func (w *work) guard(ctx context.Context) (guarded context.Context, stop func() error) {
	if w.Reserve == 0 || w.Confine == nil {
		return ctx, func() error { return nil }
	}
	guarded, cancel := context.WithCancelCause(ctx)
	watched := make(chan error, 1)
	dir, err := unix.Open(w.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		watched <- nil
	} else {
		go func() {
			defer unix.Close(dir)
			watched <- w.watch(guarded, dir, cancel)
		}()
	}
	return guarded, func() error {
		cancel(nil)
		return <-watched
	}
}

// diskSetting names the limit of the disk.
const diskSetting = "build_disk_reserve"

// watch calls over once there is too little space, and returns the reason. It
// takes a last look when ctx ends.
func (w *work) watch(ctx context.Context, dir int, over context.CancelCauseFunc) error {
	tick := time.NewTicker(guardInterval)
	defer tick.Stop()
	var first unix.Statfs_t
	if unix.Fstatfs(dir, &first) != nil {
		return nil
	}
	// A disk that is nearly full may be used but for a little of what is left.
	reserve := min(uint64(w.Reserve), first.Bavail*uint64(first.Bsize)/16)
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-tick.C:
		}
		var st unix.Statfs_t
		if unix.Fstatfs(dir, &st) != nil {
			return nil
		}
		full := st.Bavail*uint64(st.Bsize) < reserve
		if full || st.Files > 0 && st.Ffree < min(first.Ffree/16, 1024) {
			err := &overLimit{fmt.Sprintf("it was stopped before it had filled the disk of %s: %v", w.dir, unix.ENOSPC), diskSetting}
			over(err)
			return err
		}
	}
	return nil
}

// stopped returns why a command was stopped, nil if it ended by itself.
func stopped(ctx context.Context, err error) error {
	var over *overLimit
	switch {
	case errors.As(err, &over):
		return over
	case errors.Is(err, errTalkative):
		return errTalkative
	case run.Code(err) == 128+int(unix.SIGXFSZ):
		return &overLimit{"it made a file that is too large", "build_file_limit"}
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return &overLimit{"it took too long and was stopped", "build_time_limit"}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// Refusal is something that a confined command wanted and didn't get.
type Refusal struct {
	// What it was, for people: a path, or "the network".
	What string
	// Network says that a command with the network would have got it.
	Network bool
}

// refusalTable finds what programs say when they are refused something; the first
// group is the path.
var refusalTable = sync.OnceValue(func() []*regexp.Regexp {
	const end = `(?:Read-only file system|Permission denied|Operation not permitted)$`
	return []*regexp.Regexp{
		regexp.MustCompile(`[:'"‘] ?'?(/[^:'"’]+)['"’]?: ` + end),
		regexp.MustCompile(`[ :'"‘](/[^ :'"’]+)['"’]?: ` + end),
		regexp.MustCompile(end[:len(end)-1] + `: ['"‘](/[^'"’]+)['"’]$`),
	}
})

// networkTable finds what programs say without a network.
var networkTable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)network is unreachable|could not resolve host|name resolution|unable to resolve host|name or service not known`)
})

// refusals returns what the last command of a build log was refused, by what it
// says. At most three paths are named.
func refusals(log []byte) (found []Refusal) {
	lines := bufio.NewScanner(bytes.NewReader(log))
	lines.Buffer(nil, 1<<20)
	seen := map[string]bool{}
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r ")
		if strings.HasPrefix(line, "# command: ") {
			found = nil
			clear(seen)
			continue
		}
		r := refusal(line)
		if r.What != "" && !seen[r.What] && len(found) < 3 {
			seen[r.What] = true
			found = append(found, r)
		}
	}
	return found
}

func refusal(line string) Refusal {
	if networkTable().MatchString(line) {
		return Refusal{What: "the network", Network: true}
	}
	for _, p := range refusalTable() {
		if m := p.FindStringSubmatch(line); m != nil {
			return Refusal{What: m[1]}
		}
	}
	return Refusal{}
}
