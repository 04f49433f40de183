// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Board shows on a terminal what is under way: a line for each job with its stage
// and its seconds, below all that is written through the board's writers. The
// lines are drawn again each second, and gone when nothing is under way. Its
// methods are safe for concurrent use.
type Board struct {
	terminal io.Writer
	size     func() (columns, rows int)
	now      func() time.Time

	mu      sync.Mutex
	lines   []*Line
	shown   int // lines on the terminal
	writers []*boardWriter
	quit    chan struct{}
	done    chan struct{}
}

// Line is a job on a board. A nil Line is one that nobody shows.
type Line struct {
	board        *Board
	label, stage string
	begun        time.Time
}

// NewBoard returns a board on a terminal (ECMA-48 is all that it must know) of
// that size. Close must be called.
func NewBoard(terminal io.Writer, size func() (columns, rows int)) *Board {
	b := &Board{terminal: terminal, size: size, now: time.Now, quit: make(chan struct{}), done: make(chan struct{})}
	go b.tick(time.Second)
	return b
}

func (b *Board) tick(interval time.Duration) {
	defer close(b.done)
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-b.quit:
			return
		case <-t.C:
			b.mu.Lock()
			b.redraw(nil)
			b.mu.Unlock()
		}
	}
}

// Start adds a line. On a nil board it returns nil.
func (b *Board) Start(label, stage string) *Line {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &Line{board: b, label: label, stage: stage, begun: b.now()}
	b.lines = append(b.lines, l)
	b.redraw(nil)
	return l
}

// Stage changes what a line says the job is at.
func (l *Line) Stage(name string) {
	if l == nil {
		return
	}
	l.board.mu.Lock()
	defer l.board.mu.Unlock()
	l.stage = name
	l.board.redraw(nil)
}

// End takes the line away.
func (l *Line) End() {
	if l == nil {
		return
	}
	b := l.board
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.lines {
		if b.lines[i] == l {
			b.lines = append(b.lines[:i], b.lines[i+1:]...)
			break
		}
	}
	b.redraw(nil)
}

// Writer returns a writer to w, a stream that goes to the same terminal. It
// writes whole lines: the beginning of one waits for its end, or for Close.
// Errors of w are kept from the jobs, as a Sequencer does.
func (b *Board) Writer(w io.Writer) io.Writer {
	b.mu.Lock()
	defer b.mu.Unlock()
	bw := &boardWriter{board: b, w: w}
	b.writers = append(b.writers, bw)
	return bw
}

// Close takes all lines away and writes what still waits for the end of its line.
// Writers must not be used afterwards. On a nil board it does nothing.
func (b *Board) Close() {
	if b == nil {
		return
	}
	close(b.quit)
	<-b.done
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = nil
	b.redraw(func() {
		for _, w := range b.writers {
			w.w.Write(w.rest)
			w.rest = nil
		}
	})
}

// redraw wipes the lines, has more written in their place, and draws them anew;
// b.mu is held.
func (b *Board) redraw(more func()) {
	var text bytes.Buffer
	if b.shown > 0 {
		fmt.Fprintf(&text, "\x1b[%dA\r\x1b[J", b.shown) // up; wipe to the end of the screen
	}
	if more != nil {
		b.terminal.Write(text.Bytes())
		text.Reset()
		more()
	}
	columns, rows := b.size()
	b.shown = 0
	for i, l := range b.lines {
		line := fmt.Sprintf("  %s: %s, %d s", l.label, l.stage, int(b.now().Sub(l.begun).Seconds()))
		last := b.shown == max(rows/2, 1)-1 && i < len(b.lines)-1
		if last {
			line = fmt.Sprintf("  and %d more", len(b.lines)-i)
		}
		text.WriteString(clip(line, columns-1) + "\n")
		if b.shown++; last {
			break
		}
	}
	b.terminal.Write(text.Bytes()) // progress only: other users of the terminal see the error
}

// clip cuts text to a number of characters, and leaves out those that would move
// the cursor.
func clip(text string, width int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text))
	return string(runes[:min(len(runes), max(width, 0))])
}

// boardWriter is one stream of the terminal.
type boardWriter struct {
	board *Board
	w     io.Writer
	rest  []byte // of a line that has not ended
}

func (w *boardWriter) Write(p []byte) (int, error) {
	w.board.mu.Lock()
	defer w.board.mu.Unlock()
	w.rest = append(w.rest, p...)
	if end := bytes.LastIndexByte(w.rest, '\n') + 1; end > 0 {
		w.board.redraw(func() { w.w.Write(w.rest[:end]) })
		w.rest = append([]byte(nil), w.rest[end:]...)
	}
	return len(p), nil
}
