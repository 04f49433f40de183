// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

func TestRunExit(t *testing.T) {
	for _, tc := range []struct {
		name string
		cmd  run.Cmd
		code int
		text string
	}{
		{"success", run.Cmd{Argv: []string{"true"}}, 0, ""},
		{"code", run.Cmd{Shell: "exit 7"}, 7, "exit 7: exit status 7"},
		{"argv", run.Cmd{Argv: []string{"sh", "-c", "exit 3"}}, 3, "sh -c 'exit 3': exit status 3"},
		{"signal", run.Cmd{Shell: "kill -9 $$"}, 137, "kill -9 $$: ended by signal 9 (killed)"},
		{"abort", run.Cmd{Shell: "kill -ABRT $$"}, 134, "kill -ABRT $$: ended by signal 6 (aborted)"},
		{"no command", run.Cmd{Argv: []string{"no-such-command"}}, 127, `looking up "no-such-command"`},
		{"no file", run.Cmd{Argv: []string{"./no-such-command"}}, 127, "no such file"},
		{"not executable", run.Cmd{Argv: []string{"/etc/passwd"}}, 126, "permission denied"},
		{"shell, no command", run.Cmd{Shell: "no-such-command"}, 127, "exit status 127"},
		{"no dir", run.Cmd{Shell: "true", Dir: "/no/such"}, 127, "no such file"},
		{"empty", run.Cmd{}, 1, "none given"},
		{"both", run.Cmd{Shell: "true", Argv: []string{"true"}}, 1, "both"},
		{"no bash", run.Cmd{Shell: "exit 4", Env: []string{"PATH=" + shDir(t)}}, 4, "exit status 4"},
	} {
		err := tc.cmd.Run(t.Context())
		if got := run.Code(err); got != tc.code {
			t.Errorf("%s: code %d, want %d (%v)", tc.name, got, tc.code, err)
		}
		if err != nil && !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: error %q, want %q", tc.name, err, tc.text)
		}
	}
}

// shDir returns a directory that has sh and nothing else.
func shDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink("/bin/sh", filepath.Join(dir, "sh")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRunStreams(t *testing.T) {
	var both, out, errs bytes.Buffer
	script := "read x; echo out1 $x; echo err1 >&2; echo out2; echo err2 >&2"
	err := run.Cmd{Shell: script, Stdin: strings.NewReader("in\n"), Stdout: &both, Stderr: &both}.Run(t.Context())
	if want := "out1 in\nerr1\nout2\nerr2\n"; err != nil || both.String() != want {
		t.Errorf("one writer: %q, %v", both.String(), err)
	}
	err = run.Cmd{Shell: script, Stdin: strings.NewReader("in\n"), Stdout: &out, Stderr: &errs}.Run(t.Context())
	if err != nil || out.String() != "out1 in\nout2\n" || errs.String() != "err1\nerr2\n" {
		t.Errorf("two writers: %q, %q, %v", out.String(), errs.String(), err)
	}
	got, err := run.Cmd{Shell: "cat; echo end"}.Output(t.Context())
	if err != nil || string(got) != "end\n" {
		t.Errorf("empty input: %q, %v", got, err)
	}
}

func TestRunExtraFiles(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	w.WriteString("hello")
	w.Close()
	got, err := run.Cmd{Shell: "cat <&3", ExtraFiles: []*os.File{r}}.Output(t.Context())
	if err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRunEnv(t *testing.T) {
	t.Setenv("CC", "outer")
	t.Setenv("KEPT", "kept")
	dir := t.TempDir()
	got, err := run.Cmd{Argv: []string{"env"}, Dir: dir}.Output(t.Context())
	text := "\n" + string(got)
	if err != nil || strings.Contains(text, "\nCC=") || !strings.Contains(text, "\nKEPT=kept\n") {
		t.Errorf("default environment: %s%v", text, err)
	}
	got, err = run.Cmd{Argv: []string{"/usr/bin/env"}, Dir: dir, Env: []string{"A=1", "PWD=/x"}}.Output(t.Context())
	if want := "A=1\nPWD=" + dir + "\n"; err != nil || string(got) != want {
		t.Errorf("given environment: %q, %v, want %q", got, err, want)
	}
	t.Chdir(filepath.Dir(dir))
	got, err = run.Cmd{Argv: []string{"/usr/bin/env"}, Dir: filepath.Base(dir), Env: []string{"PWD=/x"}}.Output(t.Context())
	if want := "PWD=" + dir + "\n"; err != nil || string(got) != want {
		t.Errorf("a relative directory: %q, %v, want %q", got, err, want)
	}
}

func TestOutputError(t *testing.T) {
	_, err := run.Cmd{Shell: "echo first >&2; echo the reason >&2; exit 2"}.Output(t.Context())
	var exit *run.ExitError
	if !errors.As(err, &exit) || exit.Code != 2 || !strings.HasSuffix(err.Error(), "exit status 2: the reason") {
		t.Errorf("error %v", err)
	}
	if !strings.HasPrefix(string(exit.Stderr), "first\n") {
		t.Errorf("stderr %q", exit.Stderr)
	}
}

// A prelude is run, and kept out of the error.
func TestPrelude(t *testing.T) {
	err := run.Cmd{Prelude: "a=7\n", Shell: "exit $a"}.Run(t.Context())
	if err == nil || err.Error() != "exit $a: exit status 7" {
		t.Errorf("error %v", err)
	}
}

// A writer that fails doesn't disturb the command, and is reported.
func TestRunWriterFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "done")
	err := run.Cmd{Shell: "seq 1 100000; echo done > " + file, Stdout: failing{}}.Run(t.Context())
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A process in the background that keeps the output open isn't waited for.
func TestRunBackground(t *testing.T) {
	got, err := run.Cmd{Shell: "sleep 600 & echo $!"}.Output(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(got)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the background process is gone: %v", err)
	}
}

// Nor is one that goes on writing for ever.
func TestRunLoudBackground(t *testing.T) {
	got, err := run.Cmd{Shell: "echo $$; { while sleep 0.1 && echo loud; do :; done; } &"}.Output(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid, _, _ := strings.Cut(string(got), "\n")
	if group, err := strconv.Atoi(pid); err != nil || syscall.Kill(-group, syscall.SIGKILL) != nil {
		t.Errorf("the background process is gone: %v", err)
	}
}

// Cancelling ends the whole group, also what ignores SIGTERM.
func TestRunCancel(t *testing.T) {
	for name, script := range map[string]string{
		"plain":    "sleep 600 & echo $!; wait",
		"stubborn": "trap '' TERM; sleep 600 & echo $!; while :; do sleep 600; done",
		"child":    "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 600; done'",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			reason := errors.New("reason")
			out := &onWrite{do: func() { cancel(reason) }}
			err := run.Cmd{Shell: script, Stdout: out, Grace: 200 * time.Millisecond}.Run(ctx)
			if !errors.Is(err, reason) {
				t.Errorf("error %v", err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
			if err != nil {
				t.Fatal(err)
			}
			if !ended(pid) {
				t.Errorf("process %d is left behind", pid)
			}
		})
	}
}

// onWrite calls a function after something was written to it.
type onWrite struct {
	bytes.Buffer
	do func()
}

func (w *onWrite) Write(p []byte) (int, error) {
	defer w.do()
	return w.Buffer.Write(p)
}

// ended tells whether a process ends soon.
func ended(pid int) bool {
	for range 200 {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || bytes.Contains(text, []byte(") Z ")) {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

const parent = "run-test-parent"

// TestMain is also a process that runs a command and is killed.
func TestMain(m *testing.M) {
	if os.Args[0] == parent {
		os.Stdout.WriteString(strconv.Itoa(os.Getpid()) + " ")
		run.Cmd{Shell: "echo $$; exec sleep 600", Stdout: os.Stdout}.Run(context.Background())
	}
	if run.IsConfined(os.Args) {
		os.Exit(run.Confined(os.Args))
	}
	if os.Args[0] == confiner {
		confinerMain()
	}
	if os.Args[0] == unamer {
		unameMain()
	}
	os.Exit(m.Run())
}

// A command doesn't outlive this process, even if that is killed.
func TestRunParentKilled(t *testing.T) {
	var pids [2]int
	out := &onWrite{}
	out.do = func() {
		if n, _ := fmt.Sscanf(out.String(), "%d %d\n", &pids[0], &pids[1]); n == 2 {
			syscall.Kill(pids[0], syscall.SIGKILL)
		}
	}
	err := run.Cmd{Argv: []string{parent}, Path: "/proc/self/exe", Stdout: out}.Run(t.Context())
	if run.Code(err) != 137 {
		t.Fatal(err)
	}
	if pids[1] == 0 || !ended(pids[1]) {
		t.Errorf("process %d is left behind", pids[1])
	}
}

func TestRunTimeout(t *testing.T) {
	err := run.Cmd{Argv: []string{"sleep", "600"}, Timeout: 50 * time.Millisecond}.Run(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "running sleep 600: not finished after 50ms") {
		t.Errorf("error %v", err)
	}
	if run.Code(err) != 143 {
		t.Errorf("code %d, want that of SIGTERM", run.Code(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (run.Cmd{Argv: []string{"true"}}).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "tool"), nil, 0o755)
	os.WriteFile(filepath.Join(dir, "data"), nil, 0o644)
	os.Mkdir(filepath.Join(dir, "dir"), 0o755)
	t.Chdir(dir)
	for _, tc := range []struct{ name, path, want string }{
		{"tool", "PATH=/no:" + dir, dir + "/tool"},
		{"data", "PATH=" + dir, ""},
		{"dir", "PATH=" + dir, ""},
		{"tool", "PATH=:.", ""},
		{"tool", "", ""},
		{"", "PATH=" + dir, ""},
		{"./any", "", "./any"},
	} {
		got, err := run.LookPath(tc.name, []string{"PATH=/other", tc.path})
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("LookPath(%q, %q) = %q, %v", tc.name, tc.path, got, err)
		}
		if err != nil && !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("LookPath(%q): %v", tc.name, err)
		}
	}
}

func TestReplay(t *testing.T) {
	t.Setenv("CC", "outer")
	t.Setenv("SAME", "same")
	same := run.BaseEnv(os.Environ())
	for _, tc := range []struct {
		cmd  run.Cmd
		want string
	}{
		{run.Cmd{Argv: []string{"make", "-C", "/a b", "X=it's", ""}, Dir: "/d"}, `cd /d && env -u CC make -C '/a b' 'X=it'\''s' ''`},
		{run.Cmd{Shell: "make && ls", Env: os.Environ()}, `bash -c 'make && ls'`},
		{run.Cmd{Prelude: "a=b\n", Shell: "ls $a", Env: os.Environ()}, "bash -c 'a=b\nls $a'"},
		{run.Cmd{Argv: []string{"make"}, Env: append(same, "CC=gcc 12", "MAKEFLAGS= -j8 --jobserver-auth=3,4", "A=1")}, `A=1 CC='gcc 12' make`},
	} {
		if got := tc.cmd.Replay(); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

// What Replay returns does the same again in a real shell.
func FuzzReplay(f *testing.F) {
	f.Add("a b", "c'd", "$HOME `x` \\ \"")
	f.Add("", "\n", "*?[~#!;&|<>()")
	f.Fuzz(func(t *testing.T, a, b, value string) {
		if strings.ContainsRune(a+b+value, 0) {
			return
		}
		cmd := run.Cmd{
			Argv: []string{"sh", "-c", `printf '%s|' "$@" "$V"`, "sh", a, b},
			Env:  append(os.Environ(), "V="+value), Dir: t.TempDir(),
		}
		want, err := cmd.Output(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := run.Cmd{Shell: cmd.Replay()}.Output(t.Context())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s\ngave %q, %v, want %q", cmd.Replay(), got, err, want)
		}
	})
}
