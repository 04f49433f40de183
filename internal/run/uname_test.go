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
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dkms-go/internal/run"
)

// target is what the commands of these tests are told.
func target() *run.Uname {
	return &run.Uname{Release: "6.1.0-99-test", Version: "#1 SMP Test 6.1.999-1 (2026-01-01)", Compiler: "gcc-77 (Test) 77.1.0"}
}

// seen runs shell text where commands are told u, and returns its output.
func seen(u *run.Uname, text string) (string, error) {
	var out []byte
	var unable error
	err := run.Private(run.View{Uname: u, Unable: func(err error) { unable = err }}, func() (err error) {
		out, err = run.Cmd{Shell: text}.Output(context.Background())
		return err
	})
	return strings.TrimSuffix(string(out), "\n"), errors.Join(err, unable)
}

// All ways to ask give the same answer; what isn't told stays as it is.
func TestUname(t *testing.T) {
	real := func(flag string) string {
		out, err := exec.Command("uname", flag).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	u := target()
	asked := map[string]string{
		"uname -r":                            u.Release,
		"uname -v":                            u.Version,
		"uname -m":                            real("-m"),
		"uname -n":                            real("-n"),
		"uname -s":                            "Linux",
		"uname -a":                            strings.Join([]string{"Linux", real("-n"), u.Release, u.Version, real("-m"), real("-o")}, " "),
		"sh -c 'sh -c \"uname -r\"'":          u.Release,
		"perl -MPOSIX -e 'print((uname)[2])'": u.Release,
		"printf 'all:\n\t@echo $(shell uname -r)\n' | make -s -f -": u.Release,
		"cat /proc/sys/kernel/osrelease":                            u.Release,
		"cat /proc/sys/kernel/version":                              u.Version,
		"sed 's/(.*@[^)]*)/(B)/' /proc/version":                     "Linux version " + u.Release + " (B) (" + u.Compiler + ") " + u.Version,
		// Where there is no Python it isn't asked.
		"python3 -c 'import os; print(os.uname().release)' || [ $? = 127 ] && echo " + u.Release: "",
	}
	for text, want := range asked {
		got, err := seen(u, text)
		if err != nil || got != want && (want != "" || strings.Trim(got, u.Release+"\n") != "") {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
	if got, err := seen(&run.Uname{Machine: "z80"}, "uname -r; uname -m; cat /proc/sys/kernel/osrelease"); err != nil || got != real("-r")+"\nz80\n"+real("-r") {
		t.Errorf("only the machine told: %q, %v", got, err)
	}
	if got, err := seen(&run.Uname{Release: strings.Repeat("x", 90)}, "uname -r"); err != nil || got != strings.Repeat("x", 64) {
		t.Errorf("a long release: %q, %v", got, err)
	}
	if got, err := seen(&run.Uname{Release: real("-r")}, "uname -a; grep Seccomp_filters /proc/self/status"); err != nil || got != real("-a")+"\nSeccomp_filters:\t0" {
		t.Errorf("the running kernel told: %q, %v", got, err)
	}
	if got := real("-r"); got == u.Release {
		t.Errorf("outside: %q", got)
	}
}

// Commands of several functions at a time are told what is theirs, and many
// calls at once are all answered.
func TestUnameParallel(t *testing.T) {
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			u := &run.Uname{Release: fmt.Sprintf("6.%d.0", i)}
			got, err := seen(u, "for i in $(seq 50); do uname -r & done; wait")
			if want := strings.TrimSuffix(strings.Repeat(u.Release+"\n", 50), "\n"); err != nil || got != want {
				t.Errorf("%s: %q, %v", u.Release, got, err)
			}
		})
	}
	all.Wait()
}

// A function inside another has its own view; a dkms inside another's build
// stays with that build's.
func TestUnameNested(t *testing.T) {
	err := run.Private(run.View{Uname: target()}, func() error {
		got, err := seen(&run.Uname{Release: "inner"}, "uname -r")
		if err != nil || got != "inner" {
			t.Errorf("inner function: %q, %v", got, err)
		}
		out, err := run.Cmd{Argv: []string{unamer, "inner"}, Path: "/proc/self/exe"}.Output(t.Context())
		if want := target().Release + "\nunable: answering uname(2) for commands: installing a system call filter: device or resource busy\n"; err != nil || string(out) != want {
			t.Errorf("inner process: %q, %v", out, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// unamer names a process that runs `uname -r` where it is to see its first
// argument, and says whether it could.
const unamer = "run-test-unamer"

func unameMain() {
	err := run.Private(run.View{
		Uname:  &run.Uname{Release: os.Args[1]},
		Unable: func(err error) { fmt.Println("unable:", err) },
	}, func() error {
		return run.Cmd{Shell: "uname -r", Stdout: os.Stdout}.Run(context.Background())
	})
	if err != nil {
		fmt.Println(err)
	}
	os.Exit(0)
}

// Everybody may be told: no rights are needed, nor a second processor. Without
// /proc commands run untold.
func TestUnameAnybody(t *testing.T) {
	bare := t.TempDir() // a root with the programs, and without /proc
	var binds []run.Bind
	for _, dir := range []string{"bin", "dev", "lib", "lib64", "usr"} {
		if _, err := os.Stat("/" + dir); err != nil {
			continue
		}
		if err := os.Mkdir(filepath.Join(bare, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		binds = append(binds, run.Bind{Source: "/" + dir, Target: filepath.Join(bare, dir)})
	}
	running, err := seen(nil, "uname -r")
	if err != nil {
		t.Fatal(err)
	}
	running += "\n"
	data, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(filepath.Join(bare, "exe"), data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*exec.Cmd){
		"root":          func(*exec.Cmd) {},
		"one processor": func(c *exec.Cmd) { c.Env = append(os.Environ(), "GOMAXPROCS=1") },
		"nobody":        func(c *exec.Cmd) { c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534} },
		"no proc":       func(c *exec.Cmd) { c.Path, c.Dir, c.SysProcAttr.Chroot = "/exe", "/", bare },
		"nobody, no proc": func(c *exec.Cmd) {
			c.Path, c.Dir, c.SysProcAttr.Chroot = "/exe", "/", bare
			c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		},
	} {
		err := run.Private(run.View{Binds: binds}, func() error {
			cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{unamer, "6.1.0-99-test"}, SysProcAttr: &syscall.SysProcAttr{}}
			change(cmd)
			out, err := cmd.CombinedOutput()
			want := "6.1.0-99-test\n"
			if cmd.SysProcAttr.Chroot != "" {
				want = running + "unable: answering uname(2) for commands: open /proc/thread-self/syscall: no such file or directory\n"
			}
			if err != nil || string(out) != want {
				t.Errorf("%s: %q, %v", name, out, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A process that is killed in its call, or that calls with a wrong address,
// harms nobody.
func TestUnameKilled(t *testing.T) {
	got, err := seen(target(), `for i in $(seq 50); do
	{ exec perl -MPOSIX -e 'uname() while 1'; } & pid=$!
	uname -r >/dev/null; kill -9 $pid; done 2>/dev/null
for i in $(seq 50); do uname -r; done | uniq -c | sed 's/ *//'`)
	if want := "50 " + target().Release; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	got, err = seen(target(), fmt.Sprintf("perl -e 'print syscall(%d, 8), \" \", $!{EFAULT} > 0'", syscall.SYS_UNAME))
	if err != nil || got != "-1 1" {
		t.Errorf("wrong address: %q, %v", got, err)
	}
}

// The function itself is never kept waiting, whatever it does: Go code asks
// for uname(2) by itself, in ways that stop the other goroutines.
func TestUnameOwn(t *testing.T) {
	var real syscall.Utsname
	if err := syscall.Uname(&real); err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 20 {
		err := run.Private(run.View{Uname: target(), Unable: func(err error) { t.Error(err) }}, func() error {
			var own syscall.Utsname
			err := syscall.Uname(&own)
			if own != real {
				t.Errorf("the function sees %v", own.Release)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// Files and goroutines go with the last process, and commands never get the
// listener.
func TestUnameLeavesNothing(t *testing.T) {
	count := func() (n int) {
		links, _ := filepath.Glob("/proc/self/fd/*")
		for _, link := range links {
			if to, _ := os.Readlink(link); strings.Contains(to, "seccomp") {
				n++
			}
		}
		return n
	}
	before, temps := runtime.NumGoroutine(), func() int {
		left, _ := filepath.Glob(filepath.Join(os.TempDir(), "dkms-uname-*"))
		return len(left)
	}
	wantTemps := temps()
	for range 20 {
		got, err := seen(target(), "ls -l /proc/self/fd | grep -c seccomp; uname -r")
		if err != nil || got != "0\n"+target().Release {
			t.Fatalf("%q, %v", got, err)
		}
	}
	for range 500 {
		if count() == 0 && runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := count(); n != 0 || runtime.NumGoroutine() > before {
		var stacks bytes.Buffer
		buf := make([]byte, 1<<16)
		stacks.Write(buf[:runtime.Stack(buf, true)])
		t.Errorf("%d listeners, %d goroutines instead of %d:\n%s", n, runtime.NumGoroutine(), before, &stacks)
	}
	if n := temps(); n > wantTemps {
		t.Errorf("%d temporary files are left", n)
	}
}

// A process that outlives the function is answered as before.
func TestUnameOutlived(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seen(target(), "(read go <"+fifo+"; uname -r >"+dir+"/out; mv "+dir+"/out "+dir+"/done) >/dev/null 2>&1 &"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fifo, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if text, err := os.ReadFile(dir + "/done"); err == nil {
			if string(text) != target().Release+"\n" {
				t.Errorf("%q", text)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("no answer")
}
