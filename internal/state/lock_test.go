// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// emptyTree makes an empty tree and returns it with the directory that it is in.
func emptyTree(t *testing.T) (root string, tree Tree) {
	t.Helper()
	root = t.TempDir()
	tree = Tree{Dir: root + "/tree"}
	if err := os.Mkdir(tree.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return root, tree
}

// child that holds the lock of a tree.
type holding struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

// hold starts a child that takes the lock. The test's end ends it.
func hold(t *testing.T, root string) *holding {
	t.Helper()
	cmd := child(root, "hold", 0)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &holding{cmd, in, bufio.NewReader(out)}
	t.Cleanup(h.end)
	return h
}

// locked waits until the child has the lock.
func (h *holding) locked(t *testing.T) {
	t.Helper()
	if line, err := h.out.ReadString('\n'); line != "locked\n" {
		t.Fatalf("the child says %q: %v", line, err)
	}
}

// end makes the child let go of the lock.
func (h *holding) end() {
	h.in.Close()
	io.Copy(io.Discard, h.out)
	h.cmd.Wait()
}

func TestLockTellsWhoHoldsIt(t *testing.T) {
	root, tree := emptyTree(t)
	h := hold(t, root)
	h.locked(t)
	var told []string
	w := &Wait{Proc: "/proc"}
	w.Tell = func(holder Holder, waited time.Duration) {
		told = append(told, holder.String())
		if waited < toldAfter {
			t.Errorf("told after %s", waited)
		}
		h.in.Close() // now let it go
	}
	w.Over = func(time.Duration) { told = append(told, "over") }
	unlock, err := tree.Lock(context.Background(), "", w)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	want := fmt.Sprintf("state.test -test.run=^TestChild$ (process %d, at work for ", h.cmd.Process.Pid)
	if len(told) != 2 || !strings.HasPrefix(told[0], want) || told[1] != "over" {
		t.Errorf("told %q, want one that begins with %q", told, want)
	}
}

// What a killed writer has left in the file misleads nobody: the kernel tells who
// holds the lock.
func TestLockTellsTheTruth(t *testing.T) {
	self, ok := readProcess("/proc", os.Getpid())
	if !ok {
		t.Fatal("there is nothing in /proc of this process")
	}
	for name, note := range map[string]string{
		"dead":            "process 4194304 (dkms remove x)\nstarted 1\n",
		"number reused":   fmt.Sprintf("process %d (dkms remove x)\nstarted %d\n", os.Getpid(), self.started-1),
		"no time":         fmt.Sprintf("process %d (dkms remove x)\n", os.Getpid()),
		"empty":           "",
		"no number":       "process x\nstarted 1\n",
		"negative number": "process -1 (dkms)\nstarted 1\n",
		"huge":            "process 1 " + strings.Repeat("x", noteSize),
	} {
		t.Run(name, func(t *testing.T) {
			_, tree := emptyTree(t)
			path := tree.Dir + "/" + lockName
			if err := os.WriteFile(path, []byte(note), 0o644); err != nil {
				t.Fatal(err)
			}
			if h := holderOf("/proc", path); h.PID != 0 {
				t.Errorf("nobody holds it, and it is %s", h)
			}
			// Of others than dkms only /proc/locks tells.
			cmd := exec.Command("flock", "--no-fork", path, "sleep", "100")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			for {
				f, err := tryLock(path)
				if err != nil {
					t.Fatal(err)
				}
				if f == nil {
					break
				}
				f.Close()
				time.Sleep(time.Millisecond)
			}
			_, err := tree.Lock(context.Background(), "", &Wait{Proc: "/proc", Limit: time.Millisecond})
			var busy *Busy
			if !errors.As(err, &busy) || busy.Holder.PID != cmd.Process.Pid {
				t.Fatalf("error %v, want one of process %d", err, cmd.Process.Pid)
			}
			if s := busy.Holder.String(); !strings.Contains(s, "sleep 100") && !strings.Contains(s, "flock") {
				t.Errorf("the holder is %s", s)
			}
		})
	}
}

// Without proc the note counts while its process is there.
func TestHolderWithoutProc(t *testing.T) {
	path := t.TempDir() + "/lock"
	for pid, want := range map[int]int{os.Getpid(): os.Getpid(), 4194304: 0} {
		if err := os.WriteFile(path, fmt.Appendf(nil, "process %d (/usr/sbin/dkms add \x1bx)\nstarted 7\n", pid), 0o644); err != nil {
			t.Fatal(err)
		}
		h := holderOf("", path)
		if h.PID != want || want != 0 && !strings.HasPrefix(h.String(), fmt.Sprintf("dkms add ?x (process %d, ", pid)) {
			t.Errorf("process %d: %s", pid, h)
		}
	}
	if h := holderOf("/proc", path+"x"); h.PID != 0 || !strings.Contains(h.String(), "another process") {
		t.Error(h)
	}
}

func TestLockGivesUp(t *testing.T) {
	root, tree := emptyTree(t)
	h := hold(t, root)
	h.locked(t)
	begun := time.Now()
	_, err := tree.Lock(context.Background(), "", &Wait{Proc: "/proc", Limit: 200 * time.Millisecond})
	var busy *Busy
	if !errors.As(err, &busy) || busy.Holder.PID != h.cmd.Process.Pid || time.Since(begun) < 200*time.Millisecond {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
	if !strings.Contains(err.Error(), "TestChild") || !strings.Contains(err.Error(), "waited 0 s for ") {
		t.Error(err)
	}
}

// A process that the holder has started, with whatever environment, works under its
// lock, one of them at a time.
func TestLockBelowTheHolder(t *testing.T) {
	root, tree := emptyTree(t)
	unlock, err := tree.Lock(context.Background(), "", &Wait{Proc: "/proc"})
	if err != nil {
		t.Fatal(err)
	}
	one, other := hold(t, root), hold(t, root)
	first := make(chan *holding)
	for _, h := range []*holding{one, other} {
		go func() {
			h.out.ReadString('\n')
			first <- h
		}()
	}
	h := <-first
	select {
	case <-first:
		t.Error("both siblings have the lock")
	case <-time.After(4 * pollEvery):
	}
	if left, _ := os.ReadDir(tree.Dir); len(left) != 2 || left[1].Name() != lockName+".below" {
		t.Errorf("the tree has %v", left)
	}
	h.end()
	(<-first).end()
	unlock()
	if left, err := os.ReadDir(tree.Dir); err != nil || len(left) > 0 {
		t.Errorf("the tree still has %v", left)
	}
}

// A script that calls itself without end is stopped.
func TestLockIsNotTakenWithoutEnd(t *testing.T) {
	_, tree := emptyTree(t)
	for range maxNesting {
		unlock, err := tree.Lock(context.Background(), "", &Wait{Proc: "/proc"})
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
	}
	if _, err := tree.Lock(context.Background(), "", &Wait{Proc: "/proc"}); err == nil || !strings.Contains(err.Error(), "calls itself") {
		t.Error(err)
	}
}

// The environment of a holder's child may outlive it, as in a daemon that a script
// has left behind: the kernel's word counts.
func TestLockInheritedByName(t *testing.T) {
	root, tree := emptyTree(t)
	h := hold(t, root)
	h.locked(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*pollEvery)
	defer cancel()
	if _, err := tree.Lock(ctx, tree.Dir, &Wait{Proc: "/proc"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the lock of a process that isn't an ancestor: %v", err)
	}
	if unlock, err := tree.Lock(context.Background(), tree.Dir, nil); err != nil { // nobody can tell
		t.Error(err)
	} else {
		unlock()
	}
	h.end()
	unlock, err := tree.Lock(context.Background(), tree.Dir, &Wait{Proc: "/proc"})
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(tree.Dir + "/" + lockName); err != nil || fi.Size() == 0 {
		t.Error("the holder has gone, and no lock was taken:", err)
	}
	unlock()
}

func TestLockGivesUpWithItsContext(t *testing.T) {
	_, tree, c := begin(t)
	c.Abort()
	unlock, err := tree.Lock(context.Background(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := tree.Lock(ctx, "", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if nested, err := tree.Lock(ctx, tree.Dir, nil); err != nil {
		t.Error("a child of the holder has to wait:", err)
	} else {
		nested()
	}
	if _, err := tree.Lock(ctx, "/another/tree", nil); err == nil {
		t.Error("the lock of another tree was taken for this one's")
	}
	unlock()
	unlock, err = tree.Lock(context.Background(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if left, err := os.ReadDir(tree.Dir); err != nil || len(left) > 0 {
		t.Errorf("the tree still has %v", left)
	}
}

func TestLockWithoutTree(t *testing.T) {
	if _, err := (Tree{Dir: t.TempDir() + "/none"}).Lock(context.Background(), "", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestParseStat(t *testing.T) {
	behind := " S 41 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8819273 1 2 3"
	for text, want := range map[string]process{
		"42 (dkms)" + behind:               {41, 8819273},
		"42 (a) S 7 (b)" + behind:          {41, 8819273},
		"42 (\n)" + behind + "\n":          {41, 8819273},
		"42 (x) Z" + behind[2:]:            {},
		"42 (x) X" + behind[2:]:            {},
		"42 (x) S 41":                      {},
		"":                                 {},
		"42 (x) S x" + behind[5:]:          {},
		"42 (x)" + behind[:40] + "x x x x": {},
	} {
		if p, ok := parseStat(text); p != want && ok || ok != (want != process{}) {
			t.Errorf("%q: %v, %v", text, p, ok)
		}
	}
}

func FuzzLockFiles(f *testing.F) {
	for _, text := range []string{
		"process 1 (dkms)\nstarted 5\n", "1: FLOCK  ADVISORY  WRITE 1234 fe:01:56789 0 EOF", "1: -> FLOCK  ADVISORY  WRITE 1 0:1:2 0 EOF",
		"1: OFDLCK ADVISORY  WRITE -1 0:1:2 0 EOF", "1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if pid, _, ok := parseLock(text); ok && (pid <= 0 || strings.Contains(text, "->")) {
			t.Errorf("%q is a lock of %d", text, pid)
		}
		if p, ok := parseStat(text); ok && !strings.Contains(text, fmt.Sprint(p.started)) {
			t.Errorf("%q: %v", text, p)
		}
		h, _ := noted("", text)
		for _, s := range []string{h.String(), shown(text)} {
			if len(s) > commandSize+100 || strings.ContainsAny(s, "\n\x1b\x00") {
				t.Errorf("%q is shown as %q", text, s)
			}
		}
	})
}
