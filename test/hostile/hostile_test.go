// SPDX-License-Identifier: Apache-2.0

// Package hostile has modules attack the machine that builds them, one each
// (cases_test.go), and tests that none gets anything: no file written, read or
// changed that isn't the module's, nobody reached, nothing left running; that
// dkms tells of it in one message; and that the module can be removed.
//
// Each case is played (testdata/play.sh) in a root of its own, in namespaces that
// bound what an attack that works could do (testdata/world.sh). A process outside
// of the build, a listener, files of root's and of a user's are the victims.
//
// The same is played with confine=off: there most of the attacks work, which shows
// that the test would see it.
package hostile

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// limitsConf are limits that are met in seconds.
const limitsConf = `build_time_limit=3
build_process_limit=60
build_file_limit=64M
build_memory_limit=512M
build_disk_reserve=100M
mok_signing_key=/hostile/mok.key
mok_certificate=/hostile/mok.pub
result_cache=off
`

// victims are files with one known line each.
var victims = [...]string{"/etc/hostile-victim", "/root/victim", "/home/user/victim", "/usr/src/other-1.0/victim", "/usr/src/other-1.0/dkms.conf.victim"}

// world is the root in which cases are played.
type world struct {
	t      *testing.T
	root   *lab.Root
	kernel string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	_, kernel := lab.Kernels(t)
	w := &world{t, lab.Scratch(t), kernel}
	w.root.AddBinary()
	w.write("/hostile/kernel", kernel, 0o644)
	w.write("/hostile/victims", strings.Join(victims[:], "\n"), 0o644)
	for _, v := range victims {
		w.write(v, "victim\n", 0o644)
	}
	const secret = "s3cr3t-of-root\n"
	for path, mode := range map[string]os.FileMode{"/etc/hostile-secret": 0o600, "/etc/hostile-group": 0o640, "/root/secret": 0o600, "/home/user/secret": 0o600} {
		w.write(path, secret, mode)
	}
	w.write("/etc/shadow", w.read("/etc/shadow")+"hostile:"+secret, 0o640)
	for _, name := range []string{"play.sh", "world.sh", "attack.c"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		w.write("/hostile/"+name, string(text), 0o755)
	}
	w.write("/hostile/good/Makefile", "obj-m := h.o\n", 0o644)
	w.write("/hostile/good/h.c", "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n", 0o644)
	w.root.MustRun("bash", "-ec", `cd /hostile
gcc -O1 -w -static -o attack attack.c
install -m 4755 attack /usr/local/bin/rootme.real
printf '#include <unistd.h>\nint main(void) { setuid(0); return execl("/hostile/attack", "attack", "root", NULL); }\n' >rootme.c
gcc -o /usr/local/bin/rootme rootme.c && chmod 4755 /usr/local/bin/rootme && rm /usr/local/bin/rootme.real
printf '#include <fcntl.h>\n#include <unistd.h>\nint main(int n, char **path) { return geteuid() == getuid() || creat(path[1], 0644) < 0; }\n' >lent.c
gcc -o lent lent.c
openssl req -new -x509 -newkey rsa:2048 -keyout mok.key -outform DER -out mok.pub -nodes -days 9 -subj /CN=hostile/ -addext extendedKeyUsage=codeSigning 2>/dev/null
make -s -C /lib/modules/$(cat kernel)/build M=/hostile/good modules`)
	return w
}

func (w *world) read(path string) string {
	text, _ := os.ReadFile(w.root.Path(path))
	return string(text)
}

func (w *world) write(path, text string, mode os.FileMode) {
	w.t.Helper()
	path = w.root.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		w.t.Fatal(err)
	}
}

// outcome is what came of a case.
type outcome struct {
	code    int
	out     string // all that dkms printed
	success string // what the attack got, "" if nothing
	errors  int    // lines with Error!
	left    string // processes
	rest    string // files after the removal
	remove  int    // exit status of dkms remove
	removal string
	seconds int
}

func (w *world) play(t *testing.T, a attack) outcome {
	t.Helper()
	defer w.restore(t, a)
	dir, source := "/hostile/cases/"+a.name+"/", "/usr/src/"+a.name+"-1.0/"
	module := a.name + "/1.0"
	w.write(dir+"module", module, 0o644)
	command := a.command
	if command == "" {
		command = "dkms build MODULE -k KERNEL"
	}
	w.write(dir+"command", strings.NewReplacer("MODULE", module, "KERNEL", w.kernel).Replace(command), 0o644)
	if a.setup != "" {
		w.write(dir+"setup", a.setup, 0o644)
	}
	if a.terminal {
		w.write(dir+"terminal", "", 0o644)
	}
	w.write(source+"dkms.conf", "PACKAGE_NAME="+a.name+"\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME[0]=h\nDEST_MODULE_LOCATION[0]=/updates/dkms\nMAKE[0]='bash -e ./attack.sh'\n"+a.conf, 0o644)
	w.write(source+"attack.sh", a.do+"\ncp prebuilt h.ko\n", 0o755)
	w.write(source+"prebuilt", w.read("/hostile/good/h.ko"), 0o644)
	w.write(source+"sub/file", "", 0o644)
	for name, text := range a.files {
		w.write(source+name, text, 0o755)
	}
	res := lab.Exec(t, "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--net", "--ipc", "--uts",
		"bash", w.root.Path("/hostile/world.sh"), w.root.Dir, a.name)
	if res.Code != 0 {
		t.Fatalf("playing the case: exit status %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	return w.outcome(a)
}

func (w *world) outcome(a attack) outcome {
	got := func(name string) string { return strings.TrimSpace(w.read("/hostile/out/" + name)) }
	number := func(name string) int {
		n, err := strconv.Atoi(got(name))
		if err != nil {
			w.t.Errorf("%s: %v", name, err)
		}
		return n
	}
	o := outcome{
		code: number("code"), out: got("out") + "\n" + got("err"), left: got("left"),
		rest: got("rest"), remove: number("remove.code"), removal: got("remove"), seconds: number("seconds"),
	}
	o.errors = len(regexp.MustCompile(`(?m)^Error!`).FindAllString(o.out, -1))
	for _, name := range []string{"marks", "changed", "reached", "leaked", "setid"} {
		if text := got(name); text != "" {
			o.success += name + ": " + text + "\n"
		}
	}
	if o.left != "" {
		o.success += "left running: " + o.left + "\n"
	}
	if o.code == 0 && !a.builds {
		o.success += "the module was built\n"
	}
	return o
}

// restore takes back what a case may have changed.
func (w *world) restore(t *testing.T, a attack) {
	for _, v := range victims {
		os.RemoveAll(w.root.Path(v))
		w.write(v, "victim\n", 0o644)
	}
	lab.MustExec(t, "bash", "-c", `cd "$1" && rm -rf usr/src/"$2"-1.0 usr/lib/modules/*/updates && find etc usr/src root home usr/lib/modules boot var/tmp var/cache -name '*hostile-mark*' -delete; cp -p etc/hostile-secret.bak etc/hostile-secret 2>/dev/null; true`, "restore", w.root.Dir, a.name)
}

func TestHostile(t *testing.T) {
	w := newWorld(t)
	t.Run("confined", w.confined)
	t.Run("unconfined", w.unconfined)
}

// confined lets every module attack a machine that confines builds.
func (w *world) confined(t *testing.T) {
	w.write("/etc/dkms/framework.conf", limitsConf, 0o644)
	held, tried := 0, 0
	for i, a := range attacks() {
		if os.Getenv("CI") == "true" && i%3 > 0 { // whose time is short; other ones each time
			continue
		}
		tried++
		t.Run(a.name, func(t *testing.T) {
			o := w.play(t, a)
			if o.success != "" {
				t.Errorf("the attack succeeded:\n%s", o.success)
			} else {
				held++
			}
			switch {
			case a.builds && (o.code != 0 || o.errors > 0):
				t.Errorf("exit status %d; what it does within its bounds is allowed", o.code)
			case !a.builds && o.errors != 1:
				t.Errorf("exit status %d and %d messages of an error", o.code, o.errors)
			case !a.builds && !regexp.MustCompile(a.says).MatchString(o.out):
				t.Errorf("the message doesn't tell of %s", a.says)
			}
			if o.remove != 0 || o.rest != "" {
				t.Errorf("removing the module: exit status %d\n%s\nleft: %s", o.remove, o.removal, o.rest)
			}
			if o.seconds > 45 {
				t.Errorf("it took %d seconds", o.seconds)
			}
			if !a.terminal && strings.Contains(o.out, "\x1b") {
				t.Errorf("dkms printed %q", o.out)
			}
			if t.Failed() || testing.Verbose() {
				t.Logf("exit status %d\n%s", o.code, o.out)
			}
		})
	}
	t.Logf("%d of %d attacks got nothing", held, tried)
}

// unconfined shows that the attacks work where builds aren't confined: that it is
// confinement which is tested.
func (w *world) unconfined(t *testing.T) {
	w.write("/etc/dkms/framework.conf", "confine=off\n"+limitsConf, 0o644)
	tried, succeeded := 0, 0
	for i, a := range attacks() {
		if a.risky || a.inside || os.Getenv("CI") == "true" && i%8 > 0 { // whose time is short
			continue
		}
		tried++
		if o := w.play(t, a); o.success != "" {
			succeeded++
			t.Logf("%s: %s", a.name, o.success)
		} else {
			t.Logf("%s fails unconfined too:\n%s", a.name, o.out)
		}
	}
	t.Logf("%d of %d attacks succeed unconfined", succeeded, tried)
	if succeeded*10 < tried*8 {
		t.Errorf("only %d of %d attacks succeed unconfined: they show little", succeeded, tried)
	}
}
