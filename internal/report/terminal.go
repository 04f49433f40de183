// SPDX-License-Identifier: Apache-2.0

package report

import (
	"io"
	"syscall"

	"golang.org/x/term"
)

// The size of a terminal that doesn't tell it, in characters.
const (
	usualColumns = 80
	usualRows    = 24
)

// TerminalSize returns what tells the size of the terminal that w is, or nil if
// w isn't one.
func TerminalSize(w io.Writer) func() (columns, rows int) {
	if b, ok := w.(*boardWriter); ok {
		w = b.w
	}
	f, ok := w.(syscall.Conn)
	if !ok {
		return nil
	}
	// Not by Fd, which would change the blocking mode of the file.
	conn, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	is := false
	err = conn.Control(func(fd uintptr) { is = term.IsTerminal(int(fd)) })
	if err != nil || !is {
		return nil
	}
	return func() (columns, rows int) {
		err := conn.Control(func(fd uintptr) { columns, rows, _ = term.GetSize(int(fd)) })
		if err != nil || columns <= 0 || rows <= 0 {
			return usualColumns, usualRows
		}
		return columns, rows
	}
}
