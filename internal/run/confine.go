// SPDX-License-Identifier: Apache-2.0

package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
)

// Confinement is what a command, and all that it starts, may do: read what anybody
// may read, and write below Writable and into a /tmp of its own. It has no input,
// no terminal and no network, gains no privileges by set-user-ID programs, and
// nothing of it is left when it has ended.
//
// Three walls stand behind each other. Namespaces (namespaces(7)): process numbers,
// mounts, IPC and network of its own, with a root directory that is read-only.
// Landlock (landlock(7)), which forbids the same writes. A filter of system calls
// (seccomp(2)). If this process is root the command runs as a user of its own
// besides, without capabilities. It can't let others become that user, nor the one
// who called dkms: set-user-ID bits are refused. Where namespaces aren't allowed, as in most
// containers, the others remain, see Namespaces.
type Confinement struct {
	// UID is whom the command runs as, user and group, if this process is root.
	UID int
	// Writable are directories below which it may write. They must belong to UID.
	Writable []string
	// Readable are directories that it must be able to reach, also where one
	// above them is closed to UID, or is private.
	Readable []string
	// Network lets it have that of the machine.
	Network bool
	// Uname is what the files of proc(5) say; uname(2) itself is a matter of
	// Private.
	Uname  *Uname
	Limits Limits
}

// Limits bound what a confined command uses; 0 is no limit.
type Limits struct {
	Processes int   // of all together
	FileSize  int64 // of each file, in bytes
	Memory    int64 // of each process, in bytes
	Scratch   int64 // of all temporary files, in bytes
}

// users are numbers that nobody else has (systemd's UIDS-GIDS.md lists who uses
// which): many, and some that there are also where a container has 65536.
func users() [2]struct{ first, count int } {
	return [...]struct{ first, count int }{{1_900_000_000, 1 << 27}, {60706, 478}}
}

// NewUser draws the number of the user that the commands of one build run as: none
// can do anything to another's files, nobody knows it beforehand, and a limit of
// processes counts its own. In a user namespace without such numbers it is the
// one that stands for nobody (user_namespaces(7)).
func NewUser() int {
	for _, u := range users() {
		uid := u.first + rand.IntN(u.count)
		if mapped(filepath.Join(host.Default().Proc, "self", "uid_map"), uid) {
			return uid
		}
	}
	return overflowUID
}

const overflowUID = 65534

// mapped tells whether a user namespace has a user (user_namespaces(7)); true if
// that isn't known.
func mapped(file string, uid int) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(text)) {
		var first, outside, count int
		if _, err := fmt.Sscan(line, &first, &outside, &count); err == nil && uid >= first && uid-first < count {
			return true
		}
	}
	return false
}

// confinedName is the program's name in the process that confines itself.
const confinedName = "dkms-confined"

// order is what that process is told, as JSON.
type order struct {
	Confinement
	// Root is an empty directory, where the root of the command is put together;
	// "" without namespaces.
	Root string
	// Scratch is the directory for temporary files without namespaces.
	Scratch string
	// The command; without Path it is only tried whether one could be confined.
	Path string
	Argv []string
	Dir  string
	Env  []string
	// Files is how many descriptors the command has from 3 on.
	Files int
}

const confinedSpaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC

// Namespaces tells why a confined command can have no namespaces here; nil if it
// can. It tries, once, which takes some 20 ms.
func Namespaces() error { return tryNamespaces() }

var tryNamespaces = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "dkms-root-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	c := &Confinement{UID: NewUser()}
	cmd := &exec.Cmd{Path: selfExe(), SysProcAttr: &syscall.SysProcAttr{}}
	o := order{Confinement: *c, Root: dir}
	c.unshare(cmd.SysProcAttr)
	files, err := o.attach(cmd)
	if err != nil {
		return err
	}
	err = cmd.Run()
	if failure := files.failure(); failure != nil {
		err = failure
	}
	return err
})

func selfExe() string { return filepath.Join(host.Default().Proc, "self", "exe") }

// unshare makes a command's process the first one of namespaces. A user who isn't
// root needs a user namespace for that, in which he stays who he is.
func (c *Confinement) unshare(attr *syscall.SysProcAttr) {
	attr.Cloneflags = confinedSpaces
	if !c.Network {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		// Who isn't root there either keeps no others through execve(2).
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT}
	}
	attr.Pdeathsig = syscall.SIGKILL // with the first process all others end
}

// confined is what a confined command leaves to its parent.
type confined struct {
	order, report *os.File // the ends of pipes that the parent holds
	dir           string   // to be removed
	theirs        []*os.File
}

// confine turns a command that is to be confined into one that confines itself and
// then starts it.
func (cmdline Cmd) confine(cmd *exec.Cmd) (*confined, error) {
	c := cmdline.Confine
	if c == nil {
		return nil, nil
	}
	o := order{Confinement: *c, Path: cmd.Path, Argv: cmd.Args, Dir: cmd.Dir, Files: len(cmd.ExtraFiles)}
	dir, err := os.MkdirTemp("", "dkms-root-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotConfined, err)
	}
	home := host.ConfinedPlaces().Scratch[0]
	if Namespaces() == nil {
		o.Root = dir
		c.unshare(cmd.SysProcAttr)
	} else {
		o.Scratch, home = dir, dir
		if os.Geteuid() == 0 {
			err = os.Chown(dir, c.UID, c.UID)
		}
	}
	// What is another user's can't be the home, nor hold temporary files.
	o.Env = append(without(cmd.Env, "HOME", "TMPDIR", "TMP", "TEMP", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), "HOME="+home)
	if o.Scratch != "" {
		o.Env = append(o.Env, "TMPDIR="+home)
	}
	files, e := o.attach(cmd)
	if err = errors.Join(err, e); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("%w: %w", ErrNotConfined, err)
	}
	files.dir = dir
	if _, open := cmd.Stdin.(*os.File); open {
		cmd.Stdin = nil
	}
	cmd.Path, cmd.Dir = selfExe(), ""
	return files, nil
}

// attach gives a command the order to read, and a pipe to report a failure by.
func (o *order) attach(cmd *exec.Cmd) (*confined, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	report, theirs, err := os.Pipe()
	if err != nil {
		r.Close()
		w.Close()
		return nil, err
	}
	files := &confined{order: w, report: report, theirs: []*os.File{r, theirs}}
	n := len(cmd.ExtraFiles)
	cmd.ExtraFiles = append(cmd.ExtraFiles[:n:n], r, theirs)
	cmd.Args = []string{confinedName, strconv.Itoa(3 + n), strconv.Itoa(4 + n)}
	go func() { // its reader may come late, or never
		w.Write(text)
		w.Close()
	}()
	return files, nil
}

// started closes what is the command's.
func (f *confined) started() {
	if f == nil {
		return
	}
	for _, file := range f.theirs {
		file.Close()
	}
}

// failure returns, once the command has ended, why it wasn't started, and clears
// up.
func (f *confined) failure() error {
	if f == nil {
		return nil
	}
	f.started()
	defer f.report.Close()
	text, _ := io.ReadAll(io.LimitReader(f.report, maxStderr))
	if f.dir != "" {
		os.RemoveAll(f.dir)
	}
	if len(text) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrNotConfined, text)
}

// ErrNotConfined is the error of a command that wasn't started, since it could not
// be confined: a fault of this machine.
var ErrNotConfined = errors.New("the command can't be confined")

// readOrder reads the order from the descriptor that args name first; report is
// the second.
func readOrder(args []string) (o order, report *os.File, err error) {
	var fds [2]int
	if len(args) != len(fds) {
		return o, nil, errors.New("this program is started by dkms only")
	}
	for i, arg := range args {
		if fds[i], err = strconv.Atoi(arg); err != nil {
			return o, nil, err
		}
	}
	report = os.NewFile(uintptr(fds[1]), "report")
	unix.CloseOnExec(fds[1])
	f := os.NewFile(uintptr(fds[0]), "order")
	defer f.Close()
	text, err := io.ReadAll(f)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	return o, report, err
}
