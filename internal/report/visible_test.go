// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"io"
	"testing"
)

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain, tab\tand line\n":       "plain, tab\tand line\n",
		"ä 漢 …":                        "ä 漢 …",
		"\x1b[31mred\x1b[0m\r\x07\x00": `\x1b[31mred\x1b[0m\x0d\x07\x00`,
		"\u009b2J":                     `\xc2\x9b2J`,
		"a\xffb\xc3":                   `a\xffb\xc3`,
		"x\u202ey":                     `x\u202ey`,
		"\x7f":                         `\x7f`,
	} {
		if got := Visible(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		var b bytes.Buffer
		if n, err := io.WriteString(Wrapped(&b), in); err != nil || n != len(in) || b.String() != want {
			t.Errorf("%q: wrote %q, %d, %v", in, b.String(), n, err)
		}
	}
	var b bytes.Buffer
	if io.WriteString(Shown(&b), "\x1b"); b.String() != "\x1b" {
		t.Errorf("a pipe gets %q", b.String())
	}
}
