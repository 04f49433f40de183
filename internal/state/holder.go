// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"dkms-go/internal/untrusted"
)

// Holder is the process that holds a lock.
type Holder struct {
	// PID is 0 if it can't be told: the holder may be in another pid namespace.
	PID int
	// Command is its command line.
	Command string
	// Since is when it took the lock; zero if unknown.
	Since time.Time
	// certain says that the kernel has confirmed it.
	certain bool
}

// String names the holder with its command line, its process and for how long it
// has been at work.
func (h Holder) String() string {
	if h.PID == 0 {
		return "another process, which can't be told from here"
	}
	text := fmt.Sprintf("process %d", h.PID)
	if h.Command != "" {
		text = fmt.Sprintf("%s (process %d", h.Command, h.PID)
		if age := time.Since(h.Since); !h.Since.IsZero() && age >= 0 {
			text += ", at work for " + seconds(age)
		}
		text += ")"
	}
	return text
}

// seconds writes a duration as people do.
func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }

// What is read of a lock file, and of a command line that is shown, in bytes.
const (
	noteSize    = 16 << 10
	commandSize = 200
)

// holderOf returns who holds the lock on the file at path. What the file says may
// be of a writer that was killed. It counts if that process is there, and was
// started when the note says. Else /proc/locks tells who has taken the lock
// (proc_locks(5)), such as a flock(1).
func holderOf(proc, path string) Holder {
	f, _, err := untrusted.OpenFile(path)
	if err != nil {
		return Holder{} // it has ended just now
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, noteSize))
	if h, ok := noted(proc, string(text)); ok {
		if fi, err := f.Stat(); err == nil {
			h.Since = fi.ModTime()
		}
		return h
	}
	if pid := lockedBy(proc, f); pid != 0 {
		return Holder{PID: pid, Command: commandOf(proc, pid), certain: true}
	}
	return Holder{}
}

// noted reads the note that a writer has left in its lock file, see sign.
func noted(proc, text string) (Holder, bool) {
	first, rest, _ := strings.Cut(text, "\n")
	number, command, _ := strings.Cut(strings.TrimPrefix(first, "process "), " ")
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 0 {
		return Holder{}, false
	}
	started, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(rest, "started ")), 10, 64)
	if p, ok := readProcess(proc, pid); ok {
		command := commandOf(proc, pid)
		return Holder{PID: pid, Command: command, certain: true}, err == nil && p.started == started
	}
	if _, ok := readProcess(proc, os.Getpid()); ok {
		return Holder{}, false // proc works, and has no such process
	}
	if err := unix.Kill(pid, 0); err != nil && err != unix.EPERM {
		return Holder{}, false
	}
	command = strings.TrimSuffix(strings.TrimPrefix(command, "("), ")")
	return Holder{PID: pid, Command: shown(command)}, true
}

// process is what proc_pid_stat(5) tells of a process.
type process struct {
	parent int
	// started is in clock ticks since the machine was booted.
	started uint64
}

// readProcess reads what proc tells of a process; false if it has none, or one
// that has ended.
func readProcess(proc string, pid int) (process, bool) {
	if proc == "" {
		return process{}, false
	}
	text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, false
	}
	return parseStat(string(text))
}

// parseStat parses proc_pid_stat(5). The second field, the name in parentheses, may
// have any character in it.
func parseStat(text string) (process, bool) {
	const state, parent, started = 0, 1, 19 // behind the name
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= started || fields[state] == "Z" || fields[state] == "X" {
		return process{}, false
	}
	ppid, err := strconv.Atoi(fields[parent])
	if err != nil {
		return process{}, false
	}
	ticks, err := strconv.ParseUint(fields[started], 10, 64)
	return process{ppid, ticks}, err == nil
}

// ancestor reports whether pid is this process, or one of those that have started
// it.
func ancestor(proc string, pid int) bool {
	const most = 1000 // the chain may change while it is followed
	at := os.Getpid()
	for range most {
		if at == pid {
			return true
		}
		p, ok := readProcess(proc, at)
		if !ok || p.parent <= 0 {
			return false
		}
		at = p.parent
	}
	return false
}

// commandOf returns the command line of a process for people, "" if it can't be
// read.
func commandOf(proc string, pid int) string {
	f, err := os.Open(filepath.Join(proc, strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, noteSize))
	return shown(strings.TrimRight(strings.ReplaceAll(string(text), "\x00", " "), " "))
}

// shown makes a command line fit for a terminal: without the directory of the
// program, without control characters, and short.
func shown(command string) string {
	program, rest, _ := strings.Cut(command, " ")
	if program != "" {
		command = strings.TrimRight(filepath.Base(program)+" "+rest, " ")
	}
	var b strings.Builder
	for _, r := range command {
		if b.Len() > commandSize {
			b.WriteString("...")
			break
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// lockedBy returns which process has taken the flock(2) on an open file: one of
// those that /proc/locks names for its inode, and that has it open. 0 if it can't
// be told. The device in /proc/locks isn't always the one that stat(2) gives, as on
// Btrfs.
func lockedBy(proc string, f *os.File) int {
	fi, err := f.Stat()
	if err != nil || proc == "" {
		return 0
	}
	locks, err := os.Open(filepath.Join(proc, "locks"))
	if err != nil {
		return 0
	}
	defer locks.Close()
	lines := bufio.NewScanner(locks)
	for lines.Scan() {
		if pid, inode, ok := parseLock(lines.Text()); ok && sameInode(fi, inode) && hasOpen(proc, pid, fi) {
			return pid
		}
	}
	return 0
}

// parseLock parses a line of proc_locks(5), such as
// "1: FLOCK  ADVISORY  WRITE 1234 fe:01:56789 0 EOF", of an flock(2) that is held.
func parseLock(line string) (pid int, inode uint64, ok bool) {
	const number, kind, process, file = 0, 1, 4, 5
	fields := strings.Fields(line)
	if len(fields) <= file || !strings.HasSuffix(fields[number], ":") || fields[kind] != "FLOCK" {
		return 0, 0, false
	}
	pid, err := strconv.Atoi(fields[process])
	if err != nil || pid <= 0 {
		return 0, 0, false
	}
	inode, err = strconv.ParseUint(fields[file][strings.LastIndexByte(fields[file], ':')+1:], 10, 64)
	return pid, inode, err == nil
}

func sameInode(fi os.FileInfo, inode uint64) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Ino == inode
}

// hasOpen reports whether a process has a file open.
func hasOpen(proc string, pid int, fi os.FileInfo) bool {
	dir := filepath.Join(proc, strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if open, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && os.SameFile(open, fi) {
			return true
		}
	}
	return false
}
