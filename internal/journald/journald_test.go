// SPDX-License-Identifier: Apache-2.0

package journald

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestSend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fields := []Field{{"MESSAGE", "built"}, {"EMPTY", ""}, {"LINES", "a\nb"}, {"LONG", strings.Repeat("ä", maxValue)}, {"PRIORITY", "6"}}
	if err := Send(path, fields); err == nil {
		t.Error("no error without a socket")
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := Send(path, fields); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n, err := l.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	want := "MESSAGE=built\nLINES\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\nLONG=" + strings.Repeat("ä", maxValue/2) + "\nPRIORITY=6\n"
	if string(buf[:n]) != want {
		t.Errorf("got %q", buf[:n])
	}
	l.Close()
	if err := Send(path, fields); err == nil {
		t.Error("no error where nobody listens")
	}
}
