// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"
)

// A terminal isn't told what to do by a module's log.
func TestPrintable(t *testing.T) {
	for line, want := range map[string]string{
		"a.c:1: error: x": "a.c:1: error: x", "\x1b]0;title\x07\x1b[2J": " ]0;title ", "\xff\u202etxt\u0085é": " txt é",
		strings.Repeat("x", 600): strings.Repeat("x", 500) + "...",
	} {
		if got := Printable(line); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
}
