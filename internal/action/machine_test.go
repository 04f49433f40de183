// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/conf"
	"dkms-go/internal/host"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// kbuild stands for a kernel's build system.
const kbuild = `
all:
	@for c in $(M)/*.c; do gcc -c -DRELEASE='"$(KERNELRELEASE)"' -o $${c%.c}.ko $$c || exit 1; done
`

const source = `static const char v[] __attribute__((section(".modinfo"), used)) = "vermagic=" RELEASE " SMP mod_unload";
static const char n[] __attribute__((section(".modinfo"), used)) = "license=GPL";
int a = 1;
`

var (
	k1 = plan.Target{Kernel: "6.1.0", Arch: "x86_64"}
	k2 = plan.Target{Kernel: "6.2.0", Arch: "x86_64"}
)

// machine is a machine in a directory, with two kernels.
type machine struct {
	t         testing.TB
	root      string
	set       Settings
	out, errw bytes.Buffer
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir()}
	r := m.root
	m.set = Settings{
		Paths: host.Paths{
			DKMSTree: r + "/tree", SourceTree: r + "/src", InstallTree: r + "/lib/modules", ConfDir: r + "/etc",
			Temp: r + "/tmp", Boot: r + "/boot", ForceDir: r + "/force", OSRelease: []string{r + "/os-release"},
			MOKDir: r + "/mok", Proc: "/proc", SysDevices: r + "/sys",
		},
		Framework: conf.Framework{TmpLocation: r + "/tmp"},
		Environ:   os.Environ(), Version: "dkms-test", Jobs: "2", Tokens: 2, Out: &m.out, Err: &m.errw,
		Explain: func(w io.Writer, f *Failure) { fmt.Fprintf(w, "Error! %v\n", f) },
		Code:    func(f *Failure) int { return int(f.Reason) },
		Running: func() (string, string, error) { return k1.Kernel, k1.Arch, nil },
	}
	m.put("os-release", "ID=debian\n")
	m.put("etc/framework.conf", "try_sign_modules=false\n")
	m.put("tmp/x", "")
	for _, k := range []string{k1.Kernel, k2.Kernel} {
		m.put("lib/modules/"+k+"/build/Makefile", kbuild)
		m.put("lib/modules/"+k+"/build/include/x", "")
		m.put("lib/modules/"+k+"/build/.config", "CONFIG_X=y\n")
		m.put("lib/modules/"+k+"/modules.dep", "stale\n")
	}
	return m
}

func (m *machine) put(name, text string, mode ...fs.FileMode) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), append(mode, 0o644)[0]); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

func (m *machine) has(name string) bool {
	_, err := os.Lstat(filepath.Join(m.root, name))
	return err == nil
}

// source puts the source of a module into the source tree, with lines for its
// conf.
func (m *machine) source(name string, lines ...string) state.ID {
	m.t.Helper()
	module, version, _ := strings.Cut(name, "/")
	dir := "src/" + module + "-" + version + "/"
	m.put(dir+module+".c", source)
	m.put(dir+"dkms.conf", fmt.Sprintf("PACKAGE_NAME=%s\nPACKAGE_VERSION=%s\nBUILT_MODULE_NAME=%s\nDEST_MODULE_LOCATION=/extra\nAUTOINSTALL=yes\n%s\n",
		module, version, module, strings.Join(lines, "\n")))
	return state.ID{Module: module, Version: version}
}

// engine returns a new one, as each run of the program has, and forgets what
// was said so far.
func (m *machine) engine() *Engine {
	m.t.Helper()
	m.out.Reset()
	m.errw.Reset()
	e, err := New(m.set)
	if err != nil {
		m.t.Fatal(err)
	}
	return e
}

func (m *machine) said() string { return "stdout:\n" + m.out.String() + "stderr:\n" + m.errw.String() }

// must fails the test for an error of a verb.
func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.said())
	}
	m.tidy()
}

// reason fails the test unless a verb ended with a failure of this kind.
func (m *machine) reason(err error, want Reason) *Failure {
	m.t.Helper()
	var f *Failure
	if !errors.As(err, &f) || f.Reason != want {
		m.t.Fatalf("error %v, want reason %d\n%s", err, want, m.said())
	}
	m.tidy()
	return f
}

// tidy checks that no verb leaves what it made for itself.
func (m *machine) tidy() {
	m.t.Helper()
	filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		base := filepath.Base(path)
		if strings.HasSuffix(base, ".dkms-new") || base == ".journal" || base == ".lock" || strings.HasPrefix(base, ".probe") || strings.HasPrefix(base, ".build-") {
			m.t.Errorf("%s is left", path)
		}
		return nil
	})
	if left, _ := os.ReadDir(m.root + "/tmp"); len(left) > 1 {
		m.t.Errorf("temporary files are left: %v", left)
	}
}

// status lists the standing of all modules as words.
func (m *machine) status() string {
	m.t.Helper()
	var rows []string
	for _, s := range m.engine().Status(context.Background(), Filter{}) {
		row := s.Key.ID.String() + " " + string(s.State)
		if s.Key.Kernel != "" {
			row = s.Key.ID.String() + "@" + s.Key.Kernel + " " + string(s.State)
		}
		if s.Originals {
			row += " originals"
		}
		if s.Missing {
			row += " missing"
		}
		if s.Differs {
			row += " differs"
		}
		rows = append(rows, row)
	}
	return strings.Join(rows, ", ")
}

func (m *machine) wantStatus(want string) {
	m.t.Helper()
	if got := m.status(); got != want {
		m.t.Errorf("status %q, want %q", got, want)
	}
}

func (m *machine) install(id state.ID, targets ...plan.Target) error {
	m.t.Helper()
	return m.engine().Install(context.Background(), Selection{ID: id}, targets)
}

// files lists what is below a directory, with the content of each file, for
// comparing before and after.
func (m *machine) files(dir string) string {
	m.t.Helper()
	var b strings.Builder
	top := filepath.Join(m.root, dir)
	filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		text, _ := os.ReadFile(path)
		to, _ := os.Readlink(path)
		fmt.Fprintf(&b, "%s %v %s %x\n", strings.TrimPrefix(path, top), d.Type(), to, text)
		return nil
	})
	return b.String()
}

// unchanged runs a verb that must change nothing on disk.
func (m *machine) unchanged(verb func() error) error {
	m.t.Helper()
	before := m.files("")
	err := verb()
	if after := m.files(""); after != before {
		m.t.Errorf("something has changed:\n%s", lineDiff(before, after))
	}
	return err
}

func lineDiff(a, b string) string {
	in := map[string]int{}
	for _, l := range strings.Split(a, "\n") {
		in[l]--
	}
	for _, l := range strings.Split(b, "\n") {
		in[l]++
	}
	var out []string
	for l, n := range in {
		if n != 0 {
			out = append(out, fmt.Sprintf("%+d %.200s", n, l))
		}
	}
	return strings.Join(out, "\n")
}

// tool puts a program before all others.
func (m *machine) tool(name, script string) {
	m.t.Helper()
	m.put("bin/"+name, "#!/bin/sh\n"+script+"\n", 0o755)
	m.set.Environ = append(os.Environ(), "PATH="+m.root+"/bin:"+os.Getenv("PATH"))
}

// tools checks that what these tests run is there, once, with a plain message.
func TestTools(t *testing.T) {
	for _, name := range []string{"gcc", "make", "depmod", "strip", "bash", "patch"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Error(err)
		}
	}
}
