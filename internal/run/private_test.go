// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dkms-go/internal/run"
)

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Private functions at the same time see different files at one path, by
// themselves and through their commands; nobody else sees either.
func TestPrivateParallel(t *testing.T) {
	dir := t.TempDir()
	place := filepath.Join(dir, "place")
	mustWrite(t, place+"/name", "outer")
	names := []string{"a", "b", "c"}
	var inside, checked, all sync.WaitGroup
	inside.Add(len(names))
	checked.Add(1)
	for _, name := range names {
		source := filepath.Join(dir, name)
		mustWrite(t, source+"/name", name)
		all.Go(func() {
			err := run.Private(run.View{Binds: []run.Bind{{Source: source, Target: place}}}, func() error {
				inside.Done()
				checked.Wait()
				runtime.Gosched()
				text, err := os.ReadFile(place + "/name")
				if err != nil || string(text) != name {
					t.Errorf("in %s: read %q, %v", name, text, err)
				}
				out, err := run.Cmd{Shell: "cat name; echo -n from-$(cat name) > made", Dir: place}.Output(t.Context())
				if err != nil || string(out) != name {
					t.Errorf("in %s: command read %q, %v", name, out, err)
				}
				return nil
			})
			if err != nil {
				t.Errorf("in %s: %v", name, err)
			}
		})
	}
	inside.Wait()
	out, err := run.Cmd{Shell: "cat name", Dir: place}.Output(t.Context())
	if err != nil || string(out) != "outer" {
		t.Errorf("outside: %q, %v", out, err)
	}
	checked.Done()
	all.Wait()
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name, "made"))
		if err != nil || string(text) != "from-"+name {
			t.Errorf("made in %s: %q, %v", name, text, err)
		}
	}
	if _, err := os.Stat(place + "/made"); err == nil {
		t.Error("made outside")
	}
}

// Working directory and umask stay those of the thread.
func TestPrivateThread(t *testing.T) {
	dir := t.TempDir()
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	mask := syscall.Umask(0o022)
	defer syscall.Umask(mask)
	err = run.Private(run.View{}, func() error {
		syscall.Umask(0o077)
		if err := syscall.Chdir(dir); err != nil {
			return err
		}
		done := make(chan struct{})
		go func() { // on another thread
			defer close(done)
			if wd, err := syscall.Getwd(); err != nil || wd != before {
				t.Errorf("working directory elsewhere: %s, %v", wd, err)
			}
			if got := syscall.Umask(0o022); got != 0o022 {
				t.Errorf("umask elsewhere: %o", got)
			}
		}()
		<-done
		out, err := run.Cmd{Shell: "pwd; umask"}.Output(t.Context())
		if err == nil && string(out) != dir+"\n0077\n" {
			t.Errorf("in the command: %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// The thread that the process is known by isn't touched, and none that was
// touched is used again.
func TestPrivateLeavesNoThread(t *testing.T) {
	if !run.CanPrivate() {
		t.Fatal("tests must run where mount namespaces may be made")
	}
	outer, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		err := run.Private(run.View{}, func() error {
			inner, err := os.Readlink("/proc/thread-self/ns/mnt")
			if inner == outer {
				t.Error("same namespace")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// Threads end a moment after their functions.
	for range 1000 {
		if err = noThreadBut(outer); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(err)
}

// noThreadBut fails if a thread has another mount namespace than outer.
func noThreadBut(outer string) error {
	links, err := filepath.Glob("/proc/self/task/*/ns/mnt")
	if err != nil || len(links) == 0 {
		return fmt.Errorf("%v, %w", links, err)
	}
	for _, link := range links {
		// A thread on its way out has no namespace any more.
		if now, err := os.Readlink(link); err == nil && now != outer && !strings.HasPrefix(now, "mnt:[0") {
			return fmt.Errorf("%s is %s, not %s", link, now, outer)
		}
	}
	return nil
}

func TestPrivateErrors(t *testing.T) {
	reason := errors.New("reason")
	if err := run.Private(run.View{}, func() error { return reason }); err != reason {
		t.Errorf("error of the function: %v", err)
	}
	err := run.Private(run.View{Binds: []run.Bind{{Source: "/no/such", Target: t.TempDir()}}}, func() error {
		t.Error("called")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "binding /no/such to ") {
		t.Errorf("missing source: %v", err)
	}
	if err := run.Private(run.View{}, func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error when the function doesn't return")
	}
}
