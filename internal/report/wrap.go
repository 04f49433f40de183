// SPDX-License-Identifier: Apache-2.0

package report

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Wrapped returns a writer of whole lines to w, for text that people read. What is no
// text is Visible. If w is a terminal, long lines go on in further lines, between
// words, that begin below the text of the first; a pipe or a file gets each line as
// one.
func Wrapped(w io.Writer) io.Writer {
	size := TerminalSize(w)
	if size == nil {
		return visibleWriter{w}
	}
	return &wrapper{w, size}
}

type wrapper struct {
	w    io.Writer
	size func() (columns, rows int)
}

func (w *wrapper) Write(text []byte) (int, error) {
	columns, _ := w.size()
	var b strings.Builder
	for line := range strings.Lines(Visible(string(text))) {
		b.WriteString(wrap(strings.TrimSuffix(line, "\n"), columns))
		b.WriteByte('\n')
	}
	if _, err := io.WriteString(w.w, b.String()); err != nil {
		return 0, err
	}
	return len(text), nil
}

// narrowest is the width below which lines are left to the terminal.
const narrowest = 40

// wrap breaks one line. A word that is longer than a line stays whole.
func wrap(line string, columns int) string {
	if columns < narrowest || utf8.RuneCountInString(line) <= columns {
		return line
	}
	indent := strings.Repeat(" ", hanging(line, columns))
	var done []string
	now := ""
	for _, word := range strings.SplitAfter(line, " ") {
		text := strings.TrimSuffix(word, " ")
		if text != "" && len(now) > len(indent) && utf8.RuneCountInString(now+text) > columns {
			done = append(done, strings.TrimRight(now, " "))
			now = indent
		}
		now += word
	}
	return strings.Join(append(done, now), "\n")
}

// hanging is where the lines begin that continue one: at the last column of a
// table's row, which two spaces set apart, or a little to the right of its text.
func hanging(line string, columns int) int {
	text := strings.TrimLeft(line, " ")
	indent := len(line) - len(text)
	if i := strings.LastIndex(text, "  "); i >= 0 && indent+i+2 <= columns/2 {
		return indent + i + 2
	}
	return indent + 4
}
