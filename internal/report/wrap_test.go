// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"testing"
)

func TestWrap(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"short", "short"},
		{"", ""},
		{"warning: one two three four five six seven eight nine", "warning: one two three four five six\n    seven eight nine"},
		{"    next: a b c d e f g h i j k l m n o p q r s t u v w", "    next: a b c d e f g h i j k l m n o\n        p q r s t u v w"},
		{"  ok headers    /usr/src/linux-headers-6.12 and more text here", "  ok headers    /usr/src/linux-headers-6.12\n                and more text here"},
		{"    /a/path/that/is/longer/than/any/line/may/be/here and", "    /a/path/that/is/longer/than/any/line/may/be/here\n        and"},
		{"größer größer größer größer größer größe", "größer größer größer größer größer größe"},
	} {
		if got := wrap(test.line, 40); got != test.want {
			t.Errorf("%q:\n%q, want\n%q", test.line, got, test.want)
		}
	}
	long := "one two three four five six seven eight nine ten"
	if got := wrap(long, 12); got != long {
		t.Errorf("a narrow terminal: %q", got)
	}
	w := &wrapper{new(bytes.Buffer), func() (int, int) { return 40, 24 }}
	if n, err := w.Write([]byte(long + "\nend\n")); n != len(long)+5 || err != nil {
		t.Error(n, err)
	}
	if got := w.w.(*bytes.Buffer).String(); got != "one two three four five six seven eight\n    nine ten\nend\n" {
		t.Errorf("%q", got)
	}
	plain := new(bytes.Buffer)
	if Wrapped(plain).Write([]byte(long + long + "\n")); plain.String() != long+long+"\n" {
		t.Error("what is no terminal is wrapped")
	}
}
