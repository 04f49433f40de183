// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Visible writes what a terminal would act on, and what it can't show, as escapes:
// control characters but the newline and the tab (ECMA-48), bytes that are no
// UTF-8, and the characters that turn the direction of text (Unicode UAX #9), which
// hide what a line says. All else stays as it is. It is for text of files that
// others can write.
func Visible(s string) string {
	if !strings.ContainsFunc(s, acts) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1, r < 0x100 && acts(r):
			for _, c := range []byte(s[:n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		case acts(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// acts reports whether a character is one that Visible writes as an escape.
func acts(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Bidi_Control, r))
}

// Shown returns a writer to w that makes text of files that others can write
// harmless for a terminal, if w is one: a pipe or a file gets each byte as it is.
func Shown(w io.Writer) io.Writer {
	if TerminalSize(w) == nil {
		return w
	}
	return visibleWriter{w}
}

type visibleWriter struct{ w io.Writer }

func (v visibleWriter) Write(text []byte) (int, error) {
	if _, err := io.WriteString(v.w, Visible(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}
