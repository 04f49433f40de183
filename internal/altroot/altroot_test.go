// SPDX-License-Identifier: Apache-2.0

package altroot_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dkms-go/internal/altroot"
	"dkms-go/internal/run"
)

const helper = "altroot-test-helper"

// TestMain is also the program that runs inside the root.
func TestMain(m *testing.M) {
	if os.Args[0] == helper {
		os.Exit(inside(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// inside does one thing per argument and writes what it sees.
func inside(args []string) int {
	code := 0
	for _, arg := range args {
		verb, what, _ := strings.Cut(arg, "=")
		switch verb {
		case "list":
			entries, err := os.ReadDir(what)
			if err != nil {
				fmt.Println(err)
			}
			for _, e := range entries {
				fmt.Println(filepath.Join(what, e.Name()))
			}
		case "cat":
			text, err := os.ReadFile(what)
			fmt.Printf("%s:%s:%v\n", what, strings.TrimSpace(string(text)), err)
		case "write":
			fmt.Printf("write %s: %v\n", what, os.WriteFile(what, []byte("x\n"), 0o644))
		case "sh":
			err := run.Cmd{Shell: what, Stdout: os.Stdout, Stderr: os.Stdout}.Run(context.Background())
			fmt.Printf("sh %s: %v\n", what, err)
		case "env":
			dir, ok := altroot.Active(os.Environ())
			fmt.Println("active", dir, ok, os.Getenv("TMPDIR"))
		case "pwd":
			dir, err := os.Getwd()
			fmt.Println("pwd", dir, err)
		case "again":
			_, err := altroot.Exec(context.Background(), what, []string{helper}, os.Environ(), run.Stdio{})
			fmt.Println("again:", err)
		case "private":
			err := run.Private(run.View{Binds: []run.Bind{{Source: "/var", Target: "/usr/src"}}}, func() error {
				_, err := os.Stat("/usr/src/lib")
				return err
			})
			fmt.Println("private:", err)
		case "wait":
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			fmt.Println("waiting")
			<-ctx.Done()
			fmt.Println("told to end")
			return 5
		case "exit":
			fmt.Sscan(what, &code)
		}
	}
	return code
}

// root makes a directory tree; names that end in a slash are directories.
func root(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		var err error
		switch target, link := strings.CutPrefix(text, "->"); {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			os.MkdirAll(filepath.Dir(path), 0o755)
			err = os.Symlink(target, path)
		default:
			os.MkdirAll(filepath.Dir(path), 0o755)
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// exec runs the helper in dir and returns what it wrote.
func exec(t *testing.T, dir string, args ...string) (string, int) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir()) // other tests use the common one
	var out bytes.Buffer
	argv := append([]string{helper}, args...)
	code, err := altroot.Exec(t.Context(), dir, argv, os.Environ(), run.Stdio{Out: &out, Err: &out})
	if err != nil {
		t.Fatalf("Exec: %v\n%s", err, out.String())
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "dkms-root-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	return out.String(), code
}

func wants(t *testing.T, out string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+out, "\n"+line) {
			t.Errorf("no line %q", line)
		}
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
}

func TestRootWithTools(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := root(t, t.TempDir(), map[string]string{
		"bin":           "->usr/bin",
		"lib":           "->/usr/lib",
		"usr/bin/dash":  "",
		"usr/bin/sh":    "->/usr/bin/dash",
		"usr/bin/make":  "",
		"etc/hostname":  "inner\n",
		"usr/lib/thing": "",
	})
	out, code := exec(t, dir, "env", "pwd", "list=/", "list=/usr/bin", "cat=/etc/hostname", "cat=/proc/self/comm",
		"write=/usr/src/new", "write=/dev/null", "again=/", "private", "exit=7")
	if code != 7 {
		t.Errorf("code %d, want 7", code)
	}
	wants(t, out, "active "+dir+" true \n", "pwd / <nil>", "/usr/bin/dash", "/etc/hostname:inner:<nil>",
		"/proc/self/comm:exe:<nil>", "write /usr/src/new: <nil>", "write /dev/null: <nil>", "again: ", "private: <nil>")
	if strings.Contains(out, "/usr/bin/gcc") {
		t.Error("the tools of the outer root are there")
	}
	for _, name := range []string{"var/lib/dkms", "usr/src/new", "usr/lib/modules", "proc", "dev", "sys", "tmp"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "proc")); err != nil || len(entries) > 0 {
		t.Errorf("mounts seen outside: %v %v", entries, err)
	}
}

func TestMergedRoot(t *testing.T) {
	layouts := map[string]struct {
		files   map[string]string
		modules string
	}{
		"lib is a link": {map[string]string{"lib": "->usr/lib", "usr/lib/modules/6.1/x": ""}, "usr/lib/modules"},
		"lib is a dir":  {map[string]string{"lib/modules/6.1/x": ""}, "lib/modules"},
		"no lib":        {map[string]string{"usr/lib/modules/6.1/x": ""}, "usr/lib/modules"},
		"sbin is bin, lib64 is lib": {map[string]string{
			"lib": "->usr/lib", "usr/sbin": "->bin", "usr/bin/own": "", "usr/lib64": "->lib", "usr/lib/modules/6.1/x": "",
		}, "usr/lib/modules"},
	}
	common := map[string]string{
		"usr/src/m-1/dkms.conf":     "conf\n",
		"usr/lib/os-release":        "ID=inner\n",
		"etc/os-release":            "->../usr/lib/os-release",
		"etc/dkms/framework.conf":   "inner\n",
		"etc/alternatives/cc":       "->/nowhere",
		"usr/bin/gcc":               "broken\n",
		"usr/share/dkms/inner":      "",
		"boot/System.map-6.1":       "map\n",
		"opt/thing":                 "opt\n",
		"srv":                       "->opt",
		"topfile":                   "top\n",
		"usr/lib/linux-kbuild-6.1/": "",
	}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			dir := root(t, filepath.Join(t.TempDir(), "a:b,c d"), common)
			root(t, dir, layout.files)
			out, code := exec(t, dir, "list=/", "list=/lib/modules", "list=/usr/lib/modules/6.1", "cat=/usr/src/m-1/dkms.conf",
				"cat=/etc/os-release", "cat=/etc/dkms/framework.conf", "cat=/boot/System.map-6.1", "cat=/srv/thing", "cat=/topfile",
				"list=/usr/share/dkms", "list=/etc/modprobe.d", "list=/usr/lib/linux-kbuild-6.1", "list=/tmp",
				"write=/var/lib/dkms/v", "write=/usr/src/s", "write=/lib/modules/m", "write=/etc/dkms/e", "write=/tmp/t",
				"write=/etc/no", "write=/usr/lib/no", "write=/no", "private",
				"sh=echo 'int main(void){return 0;}' > /tmp/a.c && cc -c -o /tmp/a.o /tmp/a.c && make --version >/dev/null && ls /tmp")
			if code != 0 {
				t.Errorf("code %d", code)
			}
			wants(t, out, "/lib/modules/6.1", "/usr/lib/modules/6.1/x", "/usr/src/m-1/dkms.conf:conf:", "/etc/os-release:ID=inner:",
				"/etc/dkms/framework.conf:inner:", "/boot/System.map-6.1:map:", "/srv/thing:opt:", "/topfile:top:", "/usr/share/dkms/inner",
				"write /var/lib/dkms/v: <nil>", "write /usr/src/s: <nil>", "write /lib/modules/m: <nil>", "write /etc/dkms/e: <nil>",
				"write /tmp/t: <nil>", "write /etc/no: open", "write /usr/lib/no: open", "write /no: open", "private: <nil>",
				"a.c\na.o\nt\nsh echo")
			for _, outer := range []string{"\n/etc/modprobe.d/", "no such file"} {
				if strings.Contains(out, outer) {
					t.Errorf("output has %q:\n%s", outer, out)
				}
			}
			for _, name := range []string{"var/lib/dkms/v", "usr/src/s", layout.modules + "/m", "etc/dkms/e"} {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A directory with nothing in it becomes a root; settings of this machine
// don't show through.
func TestMergedRootEmpty(t *testing.T) {
	dir := t.TempDir()
	out, _ := exec(t, dir, "list=/etc/dkms", "list=/usr/src", "list=/lib/modules", "write=/etc/dkms/x", "write=/usr/src/x", "sh=uname >/dev/null")
	wants(t, out, "write /etc/dkms/x: open", "write /usr/src/x: <nil>", "sh uname >/dev/null: <nil>")
	if n := strings.Count(out, "\n"); n != 3 {
		t.Errorf("more to see than there should be:\n%s", out)
	}
}

func TestExecCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &cancelOn{text: "waiting", cancel: cancel}
	code, err := altroot.Exec(ctx, t.TempDir(), []string{helper, "wait"}, os.Environ(), run.Stdio{Out: out})
	if err == nil || code != 5 || !strings.Contains(out.String(), "told to end") {
		t.Errorf("code %d, err %v, output %q", code, err, out.String())
	}
}

// cancelOn cancels when text is written to it.
type cancelOn struct {
	bytes.Buffer
	text   string
	cancel func()
}

func (c *cancelOn) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(c.text)) {
		defer c.cancel()
	}
	return c.Buffer.Write(p)
}

func TestExecErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, dir string
		environ   []string
		want      string
	}{
		{"missing", filepath.Join(dir, "no"), nil, "no such file"},
		{"file", file, nil, "not a directory"},
		{"root", "/", nil, "is the root already"},
		{"inside", dir, []string{"DKMS_ROOT_ACTIVE=/x"}, "already inside root /x"},
	} {
		_, err := altroot.Exec(t.Context(), tc.dir, []string{helper}, tc.environ, run.Stdio{})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("directory changed: %v", entries)
	}
}
