// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// metrics holds the last stdout against the text format of Prometheus and its
// conventions, as promtool check metrics does.
func (m *machine) metrics(ts *testscript.TestScript, _ bool, _ []string) {
	problems, err := promlint.New(strings.NewReader(m.stdout)).Lint()
	ts.Check(err)
	for _, p := range problems {
		ts.Logf("%s: %s", p.Metric, p.Text)
	}
	if len(problems) > 0 {
		ts.Fatalf("not good metrics")
	}
}

// listen opens the socket at which the journal listens on a machine, in the root. It
// is bound by its directory: the paths of roots are too long for a socket.
func (m *machine) listen(ts *testscript.TestScript, _ bool, _ []string) {
	path := m.path("/run/systemd/journal")
	ts.Check(os.MkdirAll(path, 0o755))
	dir, err := os.Open(path)
	ts.Check(err)
	defer dir.Close()
	name := fmt.Sprintf("/proc/self/fd/%d/socket", dir.Fd())
	m.journal, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	ts.Check(err)
	ts.Check(m.journal.SetReadBuffer(1 << 20))
	ts.Defer(func() { m.journal.Close() })
}

// next reads an entry; it is nil if there is none. dkms has ended, so that all it
// has sent is there.
func (m *machine) next(ts *testscript.TestScript) map[string]string {
	conn, err := m.journal.SyscallConn()
	ts.Check(err)
	buf, n := make([]byte, 1<<18), 0
	var rerr error
	ts.Check(conn.Read(func(fd uintptr) bool {
		n, _, rerr = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
		return true
	}))
	if errors.Is(rerr, unix.EAGAIN) {
		return nil
	}
	ts.Check(rerr)
	fields := map[string]string{}
	for rest := buf[:n]; len(rest) > 0; {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			ts.Fatalf("an entry is cut: %q", buf[:n])
		}
		name, value, short := strings.Cut(string(line), "=")
		if rest = after; !short { // the length, the value, a newline
			size := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+size]), rest[8+size+1:]
		}
		fields[name] = value
	}
	return fields
}

// entry compares fields of the next entry.
func (m *machine) entry(ts *testscript.TestScript, _ bool, args []string) {
	fields := m.next(ts)
	if fields == nil {
		ts.Fatalf("the journal was told nothing more")
	}
	for _, want := range args {
		name, value, _ := strings.Cut(want, "=")
		if got := fields[name]; got != value {
			ts.Fatalf("%s is %q, want %q, in %q", name, got, value, fields)
		}
	}
}

func (m *machine) noentry(ts *testscript.TestScript, _ bool, _ []string) {
	if fields := m.next(ts); fields != nil {
		ts.Fatalf("the journal was told %q", fields)
	}
}
