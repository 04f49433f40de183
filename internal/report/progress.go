// SPDX-License-Identifier: Apache-2.0

package report

import (
	"io"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
)

// dotInterval is the time between two dots.
const dotInterval = 3 * time.Second

// Dots writes a dot to w every three seconds until stop is called; after stop
// has returned nothing more is written. It does so on a terminal only:
// elsewhere nothing is written. Stop may be called more than once.
func Dots(w io.Writer, isTerminal bool) (stop func()) {
	if !isTerminal {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(dotInterval)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				_, _ = io.WriteString(w, ".") // progress only: w's other users see the error
			}
		}
	}()
	once := sync.OnceFunc(func() { close(quit) })
	return func() {
		once()
		<-done
	}
}

// IsTerminal tells whether w is a file that is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(syscall.Conn)
	if !ok {
		return false
	}
	// Not by Fd, which would change the blocking mode of the file.
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	terminal := false
	err = conn.Control(func(fd uintptr) { terminal = term.IsTerminal(int(fd)) })
	return err == nil && terminal
}
