// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/test/lab"
)

// The kernels of a machine and its arch.
const (
	k1   = "6.1.0-9-amd64"
	k2   = "6.12.0-1-amd64"
	arch = "x86_64"
)

// The places that dkms changes, each a file system of its own: moving a file
// from one to another takes copying it.
const (
	tree    = "/var/lib/dkms"
	modules = "/usr/lib/modules"
	sources = "/usr/src"
	cached  = "/var/cache/dkms"
)

func places() []string {
	return []string{tree, modules, sources, cached, "/etc/dkms", "/boot", "/tmp"}
}

// below reports whether a path is in one of the places.
func below(path string, places ...string) bool {
	if rest, ok := strings.CutPrefix(path, "/lib/"); ok {
		path = "/usr/lib/" + rest
	}
	for _, p := range places {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

// machine is where the calling goroutine is from newMachine on.
type machine struct {
	*testing.T
	empty picture // with kernels, without modules
}

// fixture is how each machine begins.
var fixture struct {
	sync.Once
	picture
}

// newMachine gives the calling test a machine. From here on all paths, also
// those of commands that it starts itself, are those of the machine. It goes
// with the test's thread.
func newMachine(t *testing.T) *machine {
	t.Helper()
	binary := lab.Binary(t)
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // for good: the thread can't come back
	m := &machine{T: t}
	m.check("unshare", unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	m.check("private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	m.check("tmpfs", unix.Mount("crash", "/mnt", "tmpfs", 0, "mode=755"))
	for _, dir := range []string{"upper", "work", "root"} {
		m.check("making a directory", os.Mkdir("/mnt/"+dir, 0o755))
	}
	m.check("overlay", unix.Mount("crash", "/mnt/root", "overlay", 0, "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work"))
	for _, dir := range []string{"/proc", "/dev", "/sys"} {
		m.check(dir, unix.Mount(dir, "/mnt/root"+dir, "", unix.MS_BIND|unix.MS_REC, ""))
	}
	m.check("new root", os.Chdir("/mnt/root"))
	m.check("new root", unix.PivotRoot(".", "."))
	m.check("old root", unix.Unmount(".", unix.MNT_DETACH))
	m.check("new root", os.Chdir("/"))
	for _, dir := range places() {
		m.check(dir, os.MkdirAll(dir, 0o755))
		m.check(dir, unix.Mount("crash", dir, "tmpfs", 0, "mode=755"))
	}
	m.check("archives", os.MkdirAll("/archives", 0o755))
	m.check("the binary", os.WriteFile("/usr/sbin/dkms", program, 0o755))
	m.check("os-release", os.WriteFile("/etc/os-release", []byte("ID=debian\n"), 0o644))
	fixture.Do(func() {
		m.fill()
		fixture.picture = m.look(true)
		for _, k := range []string{k1, k2} {
			m.check("removing", os.RemoveAll(modules+"/"+k))
		}
	})
	m.restore(fixture.picture)
	m.empty = m.take()
	return m
}

func (m *machine) check(what string, err error) {
	m.Helper()
	if err != nil {
		m.Fatalf("%s: %v", what, err)
	}
}

func (m *machine) put(path, text string) {
	m.Helper()
	m.check("making a directory", os.MkdirAll(filepath.Dir(path), 0o755))
	m.check("writing", os.WriteFile(path, []byte(text), 0o644))
}

// objectSource is an object for a kernel; what it is of a version of a module
// makes it differ from others.
const objectSource = `static const char v[] __attribute__((section(".modinfo"), used)) = "vermagic=%s SMP mod_unload\0license=GPL\0description=%s";
const char padding[9000] = {1};
`

// fill lays out two kernels with headers and objects of their own, among them
// alpha and delta, which modules will take the place of.
func (m *machine) fill() {
	m.Helper()
	m.put("/etc/dkms/framework.conf", "try_sign_modules=false\n")
	for _, k := range []string{k1, k2} {
		dir := modules + "/" + k
		m.put(dir+"/build/.config", "CONFIG_MODULES=y\n")
		m.put(dir+"/build/Makefile", "all:\n")
		m.put(dir+"/build/include/config/kernel.release", k+"\n")
		m.put(dir+"/modules.order", "kernel/drivers/net/alpha.ko\n")
		m.put(dir+"/modules.builtin", "")
		for _, name := range []string{"alpha", "delta", "null"} {
			m.compile(dir+"/kernel/drivers/net/"+name+".ko", k, "the kernel's own "+name)
		}
		for _, name := range []string{"alpha-1.0", "beta-1.0", "alpha-2.0", "beta-2.0", "gamma-1.0", "delta-1.0"} {
			m.compile(dir+"/build/made/"+name+".ko", k, name)
		}
		m.put("/boot/vmlinuz-"+k, "an image\n")
		m.command("depmod", k)
	}
}

func (m *machine) compile(path, kernel, what string) {
	m.Helper()
	m.put("/tmp/x.c", fmt.Sprintf(objectSource, kernel, what))
	m.check("making a directory", os.MkdirAll(filepath.Dir(path), 0o755))
	m.command("gcc", "-c", "-o", path, "/tmp/x.c")
	m.check("removing", os.Remove("/tmp/x.c"))
}

// module puts the source of a module into a directory.
func (m *machine) module(dir, name, version string, objects ...string) {
	m.Helper()
	text := fmt.Sprintf("PACKAGE_NAME=%q\nPACKAGE_VERSION=%q\nAUTOINSTALL=\"yes\"\nMAKE[0]=\"make -f Makefile made=$kernel_source_dir/made\"\nCLEAN=\"true\"\n", name, version)
	rules := "all:\n"
	for i, o := range objects {
		text += fmt.Sprintf("BUILT_MODULE_NAME[%d]=%q\nDEST_MODULE_LOCATION[%d]=\"/extra\"\n", i, o, i)
		rules += fmt.Sprintf("\tcp $(made)/%s-%s.ko %s.ko\n", o, version, o)
	}
	m.put(dir+"/dkms.conf", text)
	m.put(dir+"/Makefile", rules)
}

// command runs a tool, which must succeed.
func (m *machine) command(name string, args ...string) string {
	m.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func environ() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
}

// result is what a run of dkms left.
type result struct {
	code           int
	stdout, stderr string
	steps          []step
	struck         *step
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
}

// dkms runs it untraced.
func (m *machine) dkms(args ...string) result {
	m.Helper()
	var out, errw strings.Builder
	cmd := exec.Command("/usr/sbin/dkms", args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(), &out, &errw
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		m.Fatal(err)
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errw.String()}
}

func (m *machine) must(args ...string) result {
	m.Helper()
	r := m.dkms(args...)
	if r.code != 0 {
		m.Fatalf("dkms %q: %v", args, r)
	}
	return r
}

// struck runs dkms traced with a fault.
func (m *machine) struck(f fault, args ...string) result {
	m.Helper()
	files := []*os.File{nil, nil, nil}
	for i, path := range []string{"/dev/null", "/archives/stdout", "/archives/stderr"} {
		var err error
		if files[i], err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
			m.Fatal(err)
		}
		defer files[i].Close()
	}
	// What a kill leaves in /tmp is the same as one change later, and the root of
	// a confined command is gone with it.
	tr := &tracer{fault: f, counted: func(path string) bool {
		return below(path, places()...) && !strings.HasPrefix(path, "/tmp/dkms-root-") && (f.fails() || !below(path, "/tmp"))
	}}
	m.check("tracing dkms", tr.run(append([]string{"/usr/sbin/dkms"}, args...), environ(), files))
	out, err := os.ReadFile("/archives/stdout")
	m.check("reading the output", err)
	errw, err := os.ReadFile("/archives/stderr")
	m.check("reading the output", err)
	return result{code: tr.code, stdout: string(out), stderr: string(errw), steps: tr.steps, struck: tr.struck}
}

// picture is all that is in the places: for each path what it is.
type picture map[string]entry

type entry struct {
	mode fs.FileMode
	text string // the content of a file, the target of a link
	when time.Time
}

// take returns what is in the places now, but for the kernels' headers.
func (m *machine) take() picture {
	m.Helper()
	return m.look(false)
}

func (m *machine) look(headers bool) picture {
	m.Helper()
	all := picture{}
	for _, dir := range places() {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || path == dir:
				return err
			case isHeaders(path) && !headers:
				return fs.SkipDir
			}
			fi, err := d.Info()
			if err != nil {
				return err
			}
			e := entry{mode: fi.Mode(), when: fi.ModTime()}
			switch {
			case fi.Mode().IsRegular():
				text, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				e.text = string(text)
			case fi.Mode()&fs.ModeSymlink != 0:
				e.text, err = os.Readlink(path)
			}
			all[path] = e
			return err
		})
		m.check("looking at "+dir, err)
	}
	return all
}

// isHeaders reports whether a path is that of a kernel's headers, which nothing
// changes.
func isHeaders(path string) bool {
	return filepath.Base(path) == "build" && filepath.Dir(filepath.Dir(path)) == modules
}

// empties removes a path, but for a kernel's headers.
func (m *machine) empties(path string) error {
	if !isHeaders(filepath.Join(path, "build")) {
		return os.RemoveAll(path)
	}
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		if e.Name() != "build" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(path, e.Name())))
		}
	}
	return err
}

// restore makes the places as they were.
func (m *machine) restore(p picture) {
	m.Helper()
	for _, dir := range places() {
		entries, err := os.ReadDir(dir)
		m.check("emptying", err)
		for _, e := range entries {
			m.check("emptying", m.empties(filepath.Join(dir, e.Name())))
		}
	}
	for _, path := range sorted(p) { // a directory comes before what is in it
		var err error
		switch e := p[path]; {
		case e.mode.IsDir():
			if err = os.Mkdir(path, e.mode.Perm()); errors.Is(err, fs.ErrExist) && filepath.Dir(path) == modules {
				err = nil
			}
		case e.mode&fs.ModeSymlink != 0:
			err = os.Symlink(e.text, path)
		default:
			if err = os.WriteFile(path, []byte(e.text), e.mode.Perm()); err == nil {
				err = os.Chtimes(path, e.when, e.when)
			}
		}
		m.check("restoring", err)
	}
}
