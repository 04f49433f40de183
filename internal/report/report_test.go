// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// tagged writes to one buffer with a tag for the stream.
type tagged struct {
	tag string
	to  *bytes.Buffer
}

func (w tagged) Write(p []byte) (int, error) {
	fmt.Fprintf(w.to, "%s(%s)", w.tag, p)
	return len(p), nil
}

func TestSequencer(t *testing.T) {
	var got bytes.Buffer
	s := NewSequencer(tagged{"o", &got}, tagged{"e", &got})
	expect := func(want string) {
		t.Helper()
		if got.String() != want {
			t.Errorf("got  %s\nwant %s", got.String(), want)
		}
		got.Reset()
	}
	a, b, c := s.Slot(), s.Slot(), s.Slot()
	io.WriteString(a.Out(), "a1")
	expect("o(a1)")
	io.WriteString(c.Err(), "c1")
	io.WriteString(b.Out(), "b1")
	io.WriteString(b.Out(), "b2")
	io.WriteString(b.Err(), "b3")
	io.WriteString(b.Out(), "b4")
	c.Close()
	expect("")
	io.WriteString(a.Err(), "a2")
	expect("e(a2)")
	a.Close()
	expect("o(b1b2)e(b3)o(b4)")
	io.WriteString(a.Out(), "late")
	io.WriteString(b.Sink().Out, "b5")
	expect("o(b5)")
	b.Close()
	b.Close()
	expect("e(c1)")
	d := s.Slot()
	io.WriteString(d.Out(), "d1")
	expect("o(d1)")
	d.Close()
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

// The writer's buffer may be used again, as io.Writer demands.
func TestSlotCopies(t *testing.T) {
	var got bytes.Buffer
	s := NewSequencer(&got, &got)
	a, b := s.Slot(), s.Slot()
	p := []byte("one")
	b.Out().Write(p)
	copy(p, "xxx")
	a.Close()
	b.Close()
	if got.String() != "one" {
		t.Errorf("got %q", got.String())
	}
}

// Any interleaving of jobs reads as if they had run one after another.
func TestSequencerParallel(t *testing.T) {
	var got bytes.Buffer
	s := NewSequencer(&got, &got)
	var want strings.Builder
	var wg sync.WaitGroup
	for job := range 20 {
		slot := s.Slot()
		for line := range 30 {
			fmt.Fprintf(&want, "%d.%d\n", job, line)
		}
		wg.Go(func() {
			defer slot.Close()
			for line := range 30 {
				w := slot.Out()
				if rand.IntN(2) == 0 {
					w = slot.Err()
				}
				fmt.Fprintf(w, "%d.%d\n", job, line)
			}
		})
	}
	wg.Wait()
	if got.String() != want.String() {
		t.Errorf("got\n%s", got.String())
	}
}

// broken fails after some writes.
type broken struct{ left, calls int }

func (b *broken) Write(p []byte) (int, error) {
	b.calls++
	if b.left--; b.left < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

func TestSequencerWriteError(t *testing.T) {
	var errs bytes.Buffer
	out := &broken{left: 1}
	s := NewSequencer(out, &errs)
	slot := s.Slot()
	for range 4 {
		if n, err := io.WriteString(slot.Out(), "text"); n != 4 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	}
	io.WriteString(slot.Err(), "still")
	slot.Close()
	if s.Err() != syscall.EPIPE || out.calls != 2 || errs.String() != "still" {
		t.Errorf("error %v, %d calls, other stream %q", s.Err(), out.calls, errs.String())
	}
}

func TestTerminalSize(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pty.Close()
	for name, tc := range map[string]struct {
		w    io.Writer
		want bool
	}{"pipe": {w, false}, "buffer": {&bytes.Buffer{}, false}, "terminal": {pty, true}, "none": {nil, false}} {
		if got := TerminalSize(tc.w) != nil; got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
