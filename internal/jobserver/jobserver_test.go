// SPDX-License-Identifier: Apache-2.0

package jobserver

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
	"sync/atomic"
	"testing"
	"time"

	"dkms-go/internal/run"
	"dkms-go/test/lab"
)

// makefile runs eight jobs in a make of its own below the first. Each job
// writes "+" when it starts and "-" when it ends.
const makefile = `
all: ; +$(MAKE) --no-print-directory jobs
jobs: 1 2 3 4 5 6 7 8
1 2 3 4 5 6 7 8: ; @printf + >> $(LOG); sleep 0.03; printf -- - >> $(LOG)
hang: h1 h2 h3 h4
h1 h2 h3 h4: ; @echo started; sleep 600
`

func newServer(t *testing.T, tokens int) *Server {
	t.Helper()
	return newServerAt(t, tokens, "")
}

func newServerAt(t *testing.T, tokens int, proc string) *Server {
	t.Helper()
	s, err := New(tokens, proc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// makeCmd returns a make with the jobserver.
func makeCmd(t *testing.T, s *Server, target, log string) run.Cmd {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(makefile), 0o644); err != nil {
		t.Fatal(err)
	}
	flags, files := s.Env(true)
	return run.Cmd{
		Argv: []string{"make", "LOG=" + log, target}, Dir: dir,
		Env: append(os.Environ(), "MAKEFLAGS="+flags), ExtraFiles: files,
		Grace: 50 * time.Millisecond,
	}
}

// most returns how many jobs a log shows at the same time.
func most(t *testing.T, log string) (jobs, atOnce int) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	now := 0
	for _, c := range text {
		if c == '+' {
			now++
			jobs++
		} else {
			now--
		}
		atOnce = max(atOnce, now)
	}
	return jobs, atOnce
}

// Three makes of eight jobs each never run more jobs than there are tokens,
// and use more than one: of the make that inherits the pipe, and of one that opens
// it by its name.
func TestMakesShareTokens(t *testing.T) {
	named := filepath.Join(lab.Path(t, "trixie"), "bin", "make")
	version, err := exec.Command(named, "--version").Output()
	if err != nil || !CanName(string(version)) {
		t.Fatalf("%s: %v", version, err)
	}
	for _, tokens := range []int{1, 2, 5} {
		t.Run(fmt.Sprint("pipe/", tokens), func(t *testing.T) { testMakes(t, newServerAt(t, tokens, ""), "make", tokens) })
		t.Run(fmt.Sprint("fifo/", tokens), func(t *testing.T) { testMakes(t, newServerAt(t, tokens, "/proc"), named, tokens) })
	}
}

func testMakes(t *testing.T, s *Server, program string, tokens int) {
	log := filepath.Join(t.TempDir(), "log")
	var wg sync.WaitGroup
	for range 3 {
		cmd := makeCmd(t, s, "all", log)
		cmd.Argv[0] = program
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		wg.Go(func() {
			release, err := s.Acquire(t.Context(), 1)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if err := cmd.Run(t.Context()); err != nil || strings.Contains(out.String(), "warning") {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
	wg.Wait()
	jobs, atOnce := most(t, log)
	if jobs != 24 || atOnce > tokens || tokens > 1 && atOnce == 1 {
		t.Errorf("%d jobs, %d at once, with %d tokens", jobs, atOnce, tokens)
	}
	if got := s.queued(); got != tokens {
		t.Errorf("%d tokens afterwards, want %d", got, tokens)
	}
}

// Tokens that a killed make had are back when no make runs.
func TestKilledMake(t *testing.T) {
	s := newServer(t, 4)
	release, err := s.Acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := makeCmd(t, s, "hang", "none")
	// The shell gets the SIGTERM, make only the SIGKILL.
	cmd.Shell, cmd.Argv = "trap '' TERM; make hang", nil
	started := &counter{want: 4, reached: cancel}
	cmd.Stdout = started
	if err := cmd.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got := s.queued(); got == 3 {
		t.Fatal("no token was lost: this test tests nothing")
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if got := s.queued(); got != 4 {
		t.Errorf("%d tokens, want 4", got)
	}
}

// counter calls a function at a number of lines.
type counter struct {
	lines, want int
	reached     func()
}

func (c *counter) Write(p []byte) (int, error) {
	c.lines += bytes.Count(p, []byte("\n"))
	if c.lines >= c.want {
		c.reached()
	}
	return len(p), nil
}

func TestAcquireWaits(t *testing.T) {
	s := newServer(t, 1)
	release, err := s.Acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	reason := errors.New("reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	results := make(chan error)
	for range 3 {
		go func() {
			_, err := s.Acquire(ctx, 1)
			results <- err
		}()
	}
	cancel(reason)
	for range 3 {
		if err := <-results; !errors.Is(err, reason) {
			t.Errorf("cancelled: %v", err)
		}
	}
	go func() {
		release, err := s.Acquire(t.Context(), 1)
		if err == nil {
			err = release()
		}
		results <- err
	}()
	for range 2 { // the second gives nothing back
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-results; err != nil {
		t.Error(err)
	}
	if got := s.queued(); got != 1 {
		t.Errorf("%d tokens, want 1", got)
	}
}

// Those that want all tokens get them one after another, and one that gives up
// gives back what it had.
func TestAcquireSeveral(t *testing.T) {
	s := newServer(t, 3)
	var wg sync.WaitGroup
	var holding atomic.Int32
	for range 20 {
		wg.Go(func() {
			release, err := s.Acquire(t.Context(), 7)
			if err != nil || holding.Add(1) != 1 {
				t.Errorf("%v, or another has tokens too", err)
			}
			holding.Add(-1)
			release()
		})
	}
	wg.Wait()
	one, err := s.Acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := s.Acquire(ctx, 3)
		ended <- err
	}()
	for s.queued() > 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || s.queued() != 2 {
		t.Errorf("%v, %d tokens", err, s.queued())
	}
	if err := one(); err != nil || s.queued() != 3 {
		t.Errorf("%v, %d tokens", err, s.queued())
	}
}

func TestCanName(t *testing.T) {
	for version, want := range map[string]bool{
		"GNU Make 4.3\nBuilt for x86_64-pc-linux-gnu": false, "GNU Make 4.4.1\nBuilt for": true, "GNU Make 4.10": true,
		"GNU Make 5.0": true, "GNU Make 3.82": false, "": false, "bmake": false,
	} {
		if got := CanName(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

func TestNewErrors(t *testing.T) {
	for _, tokens := range []int{-1, 0, maxTokens + 1} {
		if _, err := New(tokens, ""); err == nil {
			t.Errorf("New(%d) succeeded", tokens)
		}
	}
	t.Setenv("TMPDIR", "/no/such")
	if _, err := New(1, ""); err == nil {
		t.Error("no error without a directory for temporary files")
	}
}

func TestCloseRemoves(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := New(1, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := s.Acquire(t.Context(), 1); err == nil {
		t.Error("token from a closed server")
	}
}
