// SPDX-License-Identifier: Apache-2.0

// Package report puts the output of parallel jobs in order and shows
// progress.
package report

import (
	"io"
	"sync"
)

// Sink is where one job writes.
type Sink struct {
	// Out is for results, Err for diagnostics.
	Out, Err io.Writer
}

// Sequencer makes the output of parallel jobs read as if they had run one
// after another. Each job writes to a Slot; slots are shown in the order of
// their creation. The first open one is shown as it is written, later ones
// are kept in memory until their turn comes.
type Sequencer struct {
	mu      sync.Mutex
	streams [2]stream
	slots   []*Slot // open or not yet shown; slots[0] is live
}

// stream is one of the two destinations.
type stream struct {
	w   io.Writer
	err error
}

// Numbers of the streams.
const (
	outStream = iota
	errStream
)

// NewSequencer returns a sequencer that writes to out and err. Each write of
// the live slot goes on at once, as one write.
func NewSequencer(out, err io.Writer) *Sequencer {
	s := &Sequencer{}
	s.streams[outStream].w = out
	s.streams[errStream].w = err
	return s
}

// Slot returns a new slot, which comes after all the earlier ones. Close must
// be called for it, or the later ones are never shown.
func (s *Sequencer) Slot() *Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := &Slot{seq: s}
	s.slots = append(s.slots, slot)
	return slot
}

// Err returns the first error of writing to out, or else to err. After an
// error (such as EPIPE) nothing more is written to that stream, and the jobs
// aren't told: their work goes on.
func (s *Sequencer) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.streams[outStream].err; err != nil {
		return err
	}
	return s.streams[errStream].err
}

// emit writes to a destination; s.mu is held.
func (s *Sequencer) emit(stream int, p []byte) {
	d := &s.streams[stream]
	if d.err == nil {
		_, d.err = d.w.Write(p)
	}
}

// advance drops closed slots from the front and shows what the new first one
// has kept; s.mu is held.
func (s *Sequencer) advance() {
	for len(s.slots) > 0 && s.slots[0].closed {
		s.slots[0] = nil
		s.slots = s.slots[1:]
		if len(s.slots) == 0 {
			return
		}
		head := s.slots[0]
		for _, c := range head.kept {
			s.emit(c.stream, c.text)
		}
		head.kept = nil
	}
}

// Slot is the output of one job. It is safe for concurrent use.
type Slot struct {
	seq    *Sequencer
	kept   []chunk
	closed bool
}

// chunk is text that waits for its slot's turn.
type chunk struct {
	stream int
	text   []byte
}

// Out returns the writer for results. It never fails.
func (s *Slot) Out() io.Writer { return slotWriter{s, outStream} }

// Err returns the writer for diagnostics. It never fails.
func (s *Slot) Err() io.Writer { return slotWriter{s, errStream} }

// Sink returns both writers.
func (s *Slot) Sink() Sink { return Sink{Out: s.Out(), Err: s.Err()} }

// Close ends the slot; what is written to it later is dropped. A second Close
// does nothing.
func (s *Slot) Close() {
	s.seq.mu.Lock()
	defer s.seq.mu.Unlock()
	s.closed = true
	s.seq.advance()
}

// slotWriter is one stream of a slot; two of the same stream are equal.
type slotWriter struct {
	slot   *Slot
	stream int
}

func (w slotWriter) Write(p []byte) (int, error) {
	s := w.slot
	s.seq.mu.Lock()
	defer s.seq.mu.Unlock()
	switch {
	case s.closed:
	case s.seq.slots[0] == s:
		s.seq.emit(w.stream, p)
	default:
		s.keep(w.stream, p)
	}
	return len(p), nil
}

// keep stores a copy of p, joined to the last chunk if that is of the same
// stream.
func (s *Slot) keep(stream int, p []byte) {
	if n := len(s.kept); n > 0 && s.kept[n-1].stream == stream {
		s.kept[n-1].text = append(s.kept[n-1].text, p...)
		return
	}
	s.kept = append(s.kept, chunk{stream, append([]byte(nil), p...)})
}
