// SPDX-License-Identifier: Apache-2.0

package web

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// changes tells those who watch the pages that there is something new. The zero value
// is ready.
type changes struct {
	mu     sync.Mutex
	next   chan struct{} // closed by the next change; nil while nobody waits
	closed bool
}

// wait returns what is closed by the next change, or nil once there will be none.
func (c *changes) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.next
}

// notify wakes all that wait.
func (c *changes) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

// close wakes all that wait, for the last time.
func (c *changes) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.notify()
}

// Watchers are told of changes at most every calm, and get a line every beat, by which
// proxies and they themselves know that the connection lives.
const (
	calm = time.Second
	beat = 25 * time.Second
)

// events tells a page that there is something new, as server-sent events (HTML
// standard, section 9.2).
func (s *Server) events(w http.ResponseWriter, r *http.Request, who caller) {
	if !who.operator {
		s.fail(w, r, refuse(http.StatusForbidden, "the pages are for operators"))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	text := ": hello\n\n"
	for {
		changed := s.changes.wait()
		if _, err := io.WriteString(w, text); err != nil || out.Flush() != nil || changed == nil {
			return
		}
		select {
		case <-changed:
			text = "data: changed\n\n"
		case <-time.After(beat):
			text = ": still here\n\n"
		case <-r.Context().Done():
			return
		}
		select {
		case <-time.After(calm):
		case <-r.Context().Done():
			return
		}
	}
}

// Close ends the answers that have no end by themselves.
func (s *Server) Close() { s.changes.close() }
