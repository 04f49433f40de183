// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// screen is a terminal that knows what a board uses.
type screen struct {
	t     *testing.T
	mu    sync.Mutex
	lines []string // the last is the cursor's
}

var control = regexp.MustCompile(`^\x1b\[(\d*)([AJ])`)

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for text := string(p); text != ""; {
		last := len(s.lines) - 1
		if m := control.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			n, _ := strconv.Atoi(m[1])
			if m[2] == "A" {
				if s.lines[last] != "" || n > last {
					s.t.Errorf("%d up from %q", n, s.lines)
				}
				s.lines = s.lines[:last-n+1]
				s.lines[last-n] = "" // what is below is wiped next
			}
			continue
		}
		switch c := text[0]; c {
		case '\n':
			s.lines = append(s.lines, "")
		case '\r':
			s.lines[last] = ""
		default:
			s.lines[last] += string(c)
		}
		text = text[1:]
	}
	return len(p), nil
}

func (s *screen) want(text string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Join(s.lines, "\n"); got != text {
		s.t.Errorf("the screen has\n%s\nwant\n%s", got, text)
	}
}

func TestBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{t: t, lines: []string{""}}
		b := NewBoard(s, func() (int, int) { return 30, 8 })
		out, errw := b.Writer(s), b.Writer(s)
		a := b.Start("a/1 for 6.1.0", "waiting")
		a.Stage("make")
		io.WriteString(out, "Building...")
		s.want("  a/1 for 6.1.0: make, 0 s\n")
		time.Sleep(3500 * time.Millisecond)
		s.want("  a/1 for 6.1.0: make, 3 s\n")
		io.WriteString(errw, "Warning\n")
		io.WriteString(out, " done.\nmore")
		s.want("Warning\nBuilding... done.\n  a/1 for 6.1.0: make, 3 s\n")
		c := b.Start("a-module-with-a-long\x1bname/1 for 6.1.0", "make")
		s.want("Warning\nBuilding... done.\n  a/1 for 6.1.0: make, 3 s\n  a-module-with-a-long?name/1\n")
		a.End()
		a.End()
		c.End()
		s.want("Warning\nBuilding... done.\n")
		b.Start("left", "make")
		b.Close()
		s.want("Warning\nBuilding... done.\nmore")
	})
}

// TestBoardIsLow: the lines leave half of the terminal to the text.
func TestBoardIsLow(t *testing.T) {
	s := &screen{t: t, lines: []string{""}}
	b := NewBoard(s, func() (int, int) { return 80, 6 })
	for i := range 10 {
		b.Start(fmt.Sprint("m", i), "make")
	}
	s.want("  m0: make, 0 s\n  m1: make, 0 s\n  and 8 more\n")
	b.Close()
	s.want("")
}

// TestNoBoard: without one nothing is shown, and nothing breaks.
func TestNoBoard(t *testing.T) {
	var b *Board
	l := b.Start("m", "make")
	l.Stage("x")
	l.End()
	b.Close()
}
