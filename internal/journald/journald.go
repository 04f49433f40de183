// SPDX-License-Identifier: Apache-2.0

// Package journald sends entries with fields to systemd's journal, by its native
// protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram per entry.
package journald

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"time"
)

// Priority is how urgent an entry is, as in syslog(3).
type Priority int

// The priorities.
const (
	Error   Priority = 3
	Warning Priority = 4
	Info    Priority = 6
)

// Field is one field of an entry. Its name has capital letters, digits and
// underscores, and begins with a letter.
type Field struct{ Name, Value string }

// The bounds of a value, in bytes, and of waiting for the journal. With them an
// entry of some twenty fields fits a datagram, so that none need be passed on as a
// file.
const (
	maxValue = 4 << 10
	patience = time.Second
)

// Send sends one entry to the socket at path. Fields without a value are left out,
// long values are cut. A socket that isn't there, or that nobody listens at, is an
// error, as is one that takes nothing for a second.
func Send(path string, fields []Field) error {
	conn, err := net.DialTimeout("unixgram", path, patience)
	if err != nil {
		return fmt.Errorf("reaching the journal: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	if _, err := conn.Write(datagram(fields)); err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	return nil
}

// datagram is an entry as it is sent: NAME=value lines; a value of several lines has
// its length, 64 bits little-endian, between the name's line and itself.
func datagram(fields []Field) []byte {
	var b []byte
	for _, f := range fields {
		value := f.Value
		if len(value) > maxValue {
			value = strings.ToValidUTF8(value[:maxValue], "")
		}
		switch {
		case value == "":
			continue
		case strings.Contains(value, "\n"):
			b = append(b, f.Name...)
			b = binary.LittleEndian.AppendUint64(append(b, '\n'), uint64(len(value)))
		default:
			b = append(append(b, f.Name...), '=')
		}
		b = append(append(b, value...), '\n')
	}
	return b
}
