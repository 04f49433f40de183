// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dkms-go/internal/run"
)

// cage is a confined command's surroundings: own is a directory that it may write
// to, closed one that only root can look into, with a tree that it must be able to
// read.
type cage struct {
	own, closed, tree string
	confinement       *run.Confinement
}

func newCage(t *testing.T) cage {
	t.Helper()
	if err := run.Namespaces(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := cage{own: filepath.Join(dir, "own"), closed: filepath.Join(dir, "closed"), tree: filepath.Join(dir, "closed", "tree")}
	for _, d := range []string{c.own, c.tree} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{c.closed + "/secret": 0o600, c.tree + "/file": 0o644} {
		if err := os.WriteFile(name, []byte("content\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(c.closed, 0o700); err != nil {
		t.Fatal(err)
	}
	uid := run.NewUser()
	if err := os.Chown(c.own, uid, uid); err != nil {
		t.Fatal(err)
	}
	c.confinement = &run.Confinement{UID: uid, Writable: []string{c.own}, Readable: []string{c.tree}}
	return c
}

// run runs shell text and returns all that it says, and its exit code.
func (c cage) run(t *testing.T, text string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	err := run.Cmd{Shell: text, Dir: c.own, Stdout: &out, Stderr: &out, Confine: c.confinement, Timeout: time.Minute}.Run(t.Context())
	if err != nil && run.Code(err) == 1 && !strings.Contains(err.Error(), "exit status") {
		t.Fatal(err)
	}
	return out.String(), run.Code(err)
}

// setUserID makes set-user-ID files by all system calls that can (x86-64's numbers),
// and prints those that came about.
const setUserID = `mkdir s; cd s; touch f; chmod 4755 f 2>/dev/null
perl -e 'use Fcntl; $m = 04755; chmod $m, "f"; open(F, "<f"); chmod $m, *F; sysopen(G, "a", O_CREAT|O_RDWR, $m);
sub try { my $n = shift; @_ = map { my $x = $_; $x } @_; syscall($n, @_) }
try(2, "b", 0101, $m); try(85, "c", $m); try(90, "f", $m); try(133, "d", 0100000|$m, 0); try(257, -100, "e", 0102, $m); try(259, -100, "g", 0100000|$m, 0);
try(268, -100, "f", $m); try(452, -100, "f", $m, 0);
try(437, -100, "h", pack("Q3", 0102, $m, 0), 24);
if (($t = try(257, -100, ".", 020200002, $m)) >= 0) { try(265, -100, "/proc/self/fd/$t", -100, "i", 0x400) }'
find . -perm /4000 | sort | tr -d './\n'; perl -e 'open(F, "<", "f") or print "reading refused\n"'
cd ..; rm -rf s`

func TestConfined(t *testing.T) {
	c := newCage(t)
	uid := strconv.Itoa(c.confinement.UID)
	for name, test := range map[string]struct {
		text, out string
		code      int
	}{
		"user":            {"id -u; id -g; id -G", uid + "\n" + uid + "\n" + uid + "\n", 0},
		"exit code":       {"exit 7", "", 7},
		"signal":          {"kill -9 $$", "", 137},
		"directory":       {"pwd; echo 1 > file; cat file; mkdir a b; touch a/x; mv a/x b/; ln b/x y; ls", c.own + "\n1\na\nb\nfile\ny\n", 0},
		"tree":            {"cat " + c.tree + "/file", "content\n", 0},
		"tree read-only":  {"{ echo > " + c.tree + "/file; } 2>/dev/null", "", 1},
		"secret":          {"cat " + c.closed + "/secret 2>/dev/null", "", 1},
		"system":          {"touch /etc/dkms-test /usr/src/dkms-test /var/lib/dkms-test /root/x 2>/dev/null", "", 1},
		"temporary files": {"echo 1 > /tmp/x && cat /var/tmp/x /dev/shm/x && cd && pwd", "1\n1\n/tmp\n", 0},
		"input":           {"cat; test -t 0 || echo none", "none\n", 0},
		"terminal":        {"{ : < /dev/tty; } 2>/dev/null || echo none", "none\n", 0},
		"devices":         {"echo > /dev/null && head -c 3 /dev/zero | wc -c && ls /dev/sda /dev/vda /dev/mem 2>/dev/null", "3\n", 2},
		"processes":       {"ls -d /proc/[0-9]* | wc -l | grep -q '^[2-5]$' && kill -0 1 2>/dev/null || echo none", "none\n", 0},
		"network":         {"{ : < /dev/tcp/127.0.0.1/22; } 2>&1 | grep -o 'Permission denied' | head -1", "Permission denied\n", 0},
		"privileges":      {"grep -E 'NoNewPrivs|CapEff|CapPrm|CapInh' /proc/self/status | tr -d '\\t\\n'", "CapInh:0000000000000000CapPrm:0000000000000000CapEff:0000000000000000NoNewPrivs:1", 0},
		"set-user-ID":     {setUserID, "", 0},
		"set-group-ID":    {"mkdir -m 2755 shared && stat -c %a shared; rmdir shared", "2755\n", 0},
		"namespace":       {"unshare -Ur true 2>/dev/null", "", 1},
		"root":            {"ls /proc/1/root 2>/dev/null || echo none", "none\n", 0},
		"no environment":  {"echo $HOME $TMPDIR", "/tmp\n", 0},
		"not found":       {"no-such-program 2>/dev/null", "", 127},
	} {
		t.Run(name, func(t *testing.T) {
			if out, code := c.run(t, test.text); out != test.out || code != test.code {
				t.Errorf("said %q, code %d; want %q, %d", out, code, test.out, test.code)
			}
		})
	}
	if text, _ := os.ReadFile(c.tree + "/file"); string(text) != "content\n" {
		t.Errorf("the tree has been written to: %q", text)
	}
	for _, path := range []string{"/etc/dkms-test", "/usr/src/dkms-test", "/var/lib/dkms-test", "/root/x"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s has been written", path)
			os.Remove(path)
		}
	}
}

// What TestConfined sees refused works otherwise.
func TestSetUserID(t *testing.T) {
	out, err := run.Cmd{Shell: setUserID, Dir: t.TempDir()}.Output(t.Context())
	if string(out) != "abcdefghi" || err != nil {
		t.Errorf("made %q, %v", out, err)
	}
}

// A socket by path and one without, which other programs listen at, can't be
// reached.
func TestConfinedLocalSockets(t *testing.T) {
	c := newCage(t)
	dir, err := os.MkdirTemp("/run", "dkms-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	for _, address := range []string{filepath.Join(dir, "socket"), "@dkms-test-" + strconv.Itoa(os.Getpid())} {
		l, err := net.Listen("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if !strings.HasPrefix(address, "@") {
			os.Chmod(address, 0o777)
		}
		text := `perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0) or die; $a = $ARGV[0]; $a =~ s/^@/\0/; connect(S, pack_sockaddr_un($a)) and print "connected"' ` + address
		if out, _ := c.run(t, text); out != "" {
			t.Errorf("%s: %s", address, out)
		}
		if out, err := (run.Cmd{Shell: text}).Output(t.Context()); string(out) != "connected" {
			t.Errorf("%s, not confined: %q, %v", address, out, err)
		}
	}
}

// Nothing of a command is left when it has ended, by itself or by a timeout.
func TestConfinedDaemons(t *testing.T) {
	c := newCage(t)
	mark := "86399." + strconv.Itoa(os.Getpid())
	for _, text := range []string{
		"setsid sh -c 'trap \"\" TERM HUP; sleep " + mark + "' >/dev/null 2>&1 & sleep 0.2",
		"setsid -f sleep " + mark + " >/dev/null 2>&1; trap '' TERM; while :; do sleep " + mark + "; done",
	} {
		cmd := run.Cmd{Shell: text, Dir: c.own, Confine: c.confinement, Timeout: time.Second, Grace: time.Second}
		_ = cmd.Run(t.Context())
		if out, _ := (run.Cmd{Argv: []string{"pgrep", "-f", "sleep " + mark}}).Output(t.Context()); len(out) > 0 {
			t.Errorf("%s: processes are left: %s", text, out)
		}
	}
}

// A command that is to end is asked to first.
func TestConfinedTerm(t *testing.T) {
	c := newCage(t)
	var out bytes.Buffer
	text := "trap 'echo asked; exit 3' TERM; sleep 600 & wait"
	err := run.Cmd{Shell: text, Dir: c.own, Stdout: &out, Confine: c.confinement, Timeout: time.Second, Grace: time.Minute}.Run(t.Context())
	if out.String() != "asked\n" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("said %q, %v", out.String(), err)
	}
}

const confiner = "run-test-confiner"

// confinerMain is the program of another user, or of one that may do less: it runs
// its second argument confined in its first, and says whether there are namespaces.
func confinerMain() {
	var own syscall.Stat_t
	if err := syscall.Stat(os.Args[1], &own); err != nil {
		fmt.Println(err)
	}
	c := &run.Confinement{UID: int(own.Uid), Writable: []string{os.Args[1]}}
	if err := run.Namespaces(); err != nil {
		fmt.Println("without namespaces:", err)
	}
	err := run.Cmd{Shell: os.Args[2], Dir: os.Args[1], Stdout: os.Stdout, Stderr: os.Stderr, Confine: c, Timeout: time.Minute}.Run(context.Background())
	fmt.Println("exit", run.Code(err))
	os.Exit(0)
}

// attempts are what a confined command may do, then what it may not.
const attempts = `echo 1 >file && cat file && ! chmod 4755 file 2>/dev/null && mkdir a b && touch a/x && mv a/x b/ && echo 1 >$HOME/t && cat $HOME/t
for path in /etc/dkms-test /usr/src/dkms-test "$VICTIM/file" /var/tmp/dkms-test-out; do { echo >$path; } 2>/dev/null && echo written: $path; done
{ : </dev/tcp/127.0.0.1/22; } 2>&1 | grep -o 'Permission denied' | head -1
grep -E 'NoNewPrivs|CapEff' /proc/self/status | tr -d '\t'
setsid -f sleep $MARK >/dev/null 2>&1
exit 3`

// An ordinary user's commands are confined in a user namespace, and root's without
// the right to make namespaces by the other walls.
func TestConfinedOtherwise(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		uid  int
		argv []string
		says string
	}{
		"user":               {uid: 65533, says: "1\n1\nwritten: /var/tmp/dkms-test-out\nPermission denied\nCapEff:0000000000000000\nNoNewPrivs:1\nexit 3\n"},
		"without namespaces": {argv: []string{"setpriv", "--bounding-set", "-sys_admin"}, says: "1\n1\nPermission denied\nCapEff:0000000000000000\nNoNewPrivs:1\nexit 3\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "dkms-confined-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			uid := test.uid
			if uid == 0 {
				uid = run.NewUser()
			}
			own, victim := filepath.Join(dir, "own"), filepath.Join(dir, "victim")
			for _, d := range []string{own, victim} {
				err = errors.Join(err, os.Mkdir(d, 0o755), os.Chown(d, uid, uid))
			}
			if err = errors.Join(err, os.Chmod(dir, 0o755), os.Chmod(victim, 0o777)); err != nil {
				t.Fatal(err)
			}
			mark := "86398." + strconv.Itoa(os.Getpid())
			cmd := exec.Command("/proc/self/exe", own, attempts)
			cmd.Args[0] = confiner
			if test.argv != nil {
				cmd = exec.Command(test.argv[0], append(test.argv[1:], "bash", "-c", "exec -a "+confiner+` "$@"`, "-", self, own, attempts)...)
			}
			cmd.Env = append(os.Environ(), "VICTIM="+victim, "MARK="+mark)
			if test.uid != 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
			}
			out, err := cmd.CombinedOutput()
			said := string(out)
			if rest, ok := strings.CutPrefix(said, "without namespaces:"); ok && test.uid == 0 {
				_, said, _ = strings.Cut(rest, "\n")
			}
			if err != nil || said != test.says {
				t.Errorf("%v, said\n%s", err, out)
			}
			if _, err := os.Lstat("/var/tmp/dkms-test-out"); err == nil {
				t.Error("/var/tmp has been written to")
				os.Remove("/var/tmp/dkms-test-out")
			}
			if out, _ := (run.Cmd{Argv: []string{"pgrep", "-f", "sleep " + mark}}).Output(t.Context()); len(out) > 0 {
				t.Errorf("processes are left: %s", out)
			}
		})
	}
}

// Limits hold.
func TestConfinedLimits(t *testing.T) {
	c := newCage(t)
	c.confinement.Limits = run.Limits{Processes: 20, FileSize: 1 << 20, Memory: 256 << 20, Scratch: 1 << 20}
	for name, test := range map[string]struct{ text, out string }{
		"processes": {`perl -e 'while ($n < 40) { last unless defined($p = fork); sleep 2, exit unless $p; $n++ } print $n < 20 ? "few" : $n'`, "few"},
		"file":      {"{ head -c 2M /dev/zero > big; } 2>/dev/null; stat -c %s big", "1048576\n"},
		"memory":    {"perl -e '$x = \"x\" x (1 << 29); print length $x' 2>/dev/null", ""},
		"scratch":   {"for i in 1 2 3 4; do head -c 512K /dev/zero > /tmp/$i; done 2>/dev/null; du -kx /tmp | tail -1 | cut -f 1", "1024\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, code := c.run(t, test.text); out != test.out {
				t.Errorf("said %q, code %d", out, code)
			}
		})
	}
}

// Commands that can't be started say why.
func TestConfinedError(t *testing.T) {
	c := newCage(t)
	err := run.Cmd{Argv: []string{"/no/such/program"}, Confine: c.confinement}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "starting /no/such/program: no such file or directory") {
		t.Error(err)
	}
}
