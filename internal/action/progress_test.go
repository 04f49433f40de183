// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// terminal opens a pseudo terminal (pty(7)) and returns its two ends.
func terminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// shownBy returns all that a terminal is sent while f runs.
func shownBy(t *testing.T, f func(tty *os.File)) string {
	screen, tty := terminal(t)
	all := make(chan string)
	go func() {
		var b bytes.Buffer
		io.Copy(&b, screen) // ends by EIO once the last user of tty has closed it
		all <- strings.ReplaceAll(b.String(), "\r\n", "\n")
	}()
	f(tty)
	tty.Close()
	return <-all
}

func TestTerminalShowsBuilds(t *testing.T) {
	for _, tc := range []struct {
		name   string
		set    func(s *Settings)
		hooked bool
		board  bool
	}{
		{name: "terminal", board: true},
		{name: "dumb", set: func(s *Settings) { s.Environ = append(s.Environ, "TERM=dumb") }},
		{name: "hook", hooked: true},
		{name: "serial", set: func(s *Settings) { s.Tokens = 1 }, board: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t)
			a, b := m.source("a/1"), m.source("b/1")
			for _, sel := range []Selection{{ID: a}, {ID: b}} {
				m.must(m.engine().Add(context.Background(), sel, k1))
			}
			m.set.Tokens = 2
			if tc.set != nil {
				tc.set(&m.set)
			}
			text := shownBy(t, func(tty *os.File) {
				m.set.Out, m.set.Err = tty, tty
				e := m.engine()
				e.hooked = tc.hooked
				m.must(e.Autoinstall(context.Background(), []plan.Target{k1}, state.ID{}))
			})
			for _, word := range []string{"a/1 for 6.1.0: make, ", "\x1b[", "Module", "Seconds", "a/1     6.1.0   installed"} {
				if strings.Contains(text, word) != tc.board {
					t.Errorf("%q is shown: %v\n%q", word, !tc.board, text)
				}
			}
			for _, line := range []string{"Building module(s)... done.\n", "Autoinstall on 6.1.0 succeeded for module(s) a b.\n"} {
				if !strings.Contains(text, line) {
					t.Errorf("%q is not shown\n%q", line, text)
				}
			}
		})
	}
}
