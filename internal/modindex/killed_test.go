// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// childVariable makes the test binary change an object and update the index of
// the tree that it names, until it is killed; or once if it is told the object.
const childVariable = "MODINDEX_CHILD"

func TestMain(m *testing.M) {
	base := os.Getenv(childVariable)
	if base == "" {
		os.Exit(m.Run())
	}
	b := &bench{base: base, release: "6.1.0-test", path: os.Getenv("PATH"), cache: filepath.Join(base, "cache"), config: filepath.Join(base, "depmod.d")}
	b.tree = filepath.Join(base, "lib", "modules", b.release)
	name := "changed.ko"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	for {
		if err := b.changeAndUpdate(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if len(os.Args) > 1 {
			os.Exit(0)
		}
	}
}

func (b *bench) changeAndUpdate(name string) error {
	path := filepath.Join(b.tree, "updates", name)
	text := fake{modinfo: []string{fmt.Sprint("alias=a", rand.IntN(1000))}}.bytes()
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	_, err := Update(context.Background(), b.request())
	return err
}

// child starts a process that updates the index.
func (b *bench) child(args ...string) *exec.Cmd {
	b.tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.tb.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), childVariable+"="+b.base)
	cmd.Stderr = os.Stderr
	return cmd
}

// fakeKernel is a small one: most of an update is writing then.
func fakeKernel(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, "6.1.0-test")
	for i := range 30 {
		b.write(fmt.Sprintf("kernel/d%d/m%d.ko", i%7, i), fake{exports: []string{fmt.Sprint("s", i)}, needs: []string{fmt.Sprint("s", i+1)}, modinfo: []string{fmt.Sprint("alias=pci:v", i, "*")}}.bytes())
	}
	b.write("updates/changed.ko", fake{modinfo: []string{"alias=a"}}.bytes())
	return b
}

// finish updates the index once more and holds it against depmod's.
func (b *bench) finish(what string) {
	b.tb.Helper()
	if _, err := Update(b.tb.Context(), b.request()); err != nil {
		b.tb.Fatal(err)
	}
	ours := b.index()
	if text, err := b.depmod(); err != nil {
		b.tb.Fatalf("%v\n%s", err, text)
	}
	b.same(what, b.index(), ours)
}

// A kill at any moment leaves each file of the index as it was or as it is to
// be, and the next update makes the right one and clears away what is left over.
func TestKilled(t *testing.T) {
	b := fakeKernel(t)
	if _, err := b.compare(); err != nil {
		t.Fatal(err)
	}
	ends := map[string]string{} // how each file of this kernel ends
	for name, data := range b.index() {
		ends[name] = data[max(0, len(data)-1):]
	}
	inTheMiddle := 0
	for range 40 {
		cmd := b.child()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+rand.IntN(40)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		for name, data := range b.index() {
			if isAside(name) {
				inTheMiddle++
			} else if len(data) > 0 && !strings.HasSuffix(name, ".bin") && !strings.HasSuffix(data, ends[name]) {
				t.Fatalf("%s is cut short", name)
			}
		}
		b.finish("after a kill")
	}
	t.Logf("%d files were left half done", inTheMiddle)
}

// Several processes that change objects of one kernel and update its index end
// with the right one.
func TestSeveralProcesses(t *testing.T) {
	b := fakeKernel(t)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			if err := b.child(fmt.Sprintf("new%d.ko", i)).Run(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	b.finish("after all")
}

// The largest and the smallest objects are handed out first, each once.
func TestQueue(t *testing.T) {
	sizes := []uint64{5, 1, 9, 7, 3}
	records := make([]record, len(sizes))
	for i, size := range sizes {
		records[i].object = &object{id: identity{size: size}}
	}
	q := newQueue([]int{0, 1, 2, 3, 4}, records)
	for _, step := range []struct {
		largest bool
		size    uint64
	}{{true, 9}, {false, 1}, {false, 3}, {true, 7}, {true, 5}} {
		i, ok := q.next(step.largest)
		if !ok || sizes[i] != step.size {
			t.Errorf("got the object of %d bytes, want %d", sizes[i], step.size)
		}
	}
	if _, ok := q.next(true); ok {
		t.Error("an object is handed out twice")
	}
}
