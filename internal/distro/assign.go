// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxFile bounds the files of assignments that are read, in bytes.
const maxFile = 1 << 20

// ReadAssignments reads a file of shell-like assignments, NAME=value one a
// line, as os-release(5) defines it. The error wraps fs.ErrNotExist if there
// is no such file.
func ReadAssignments(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("reading %s: more than %d bytes", path, maxFile)
	}
	return parseAssignments(string(data)), nil
}

// parseAssignments reads the lines of text that assign a value; all others,
// comments among them, are passed over. The last assignment of a name counts.
// A leading "export" is allowed.
func parseAssignments(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "export "); ok {
			line = strings.TrimSpace(rest)
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !isName(name) {
			continue
		}
		values[name] = unquote(value)
	}
	return values
}

// isName reports whether s is the name of a shell variable.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// unquote returns the value of one shell word: quotes of both kinds and
// backslashes are resolved (Shell Command Language, 2.2), nothing is expanded,
// and the word ends at the first blank outside of quotes.
func unquote(s string) string {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t' || c == ';'):
			return b.String()
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == '\\' && i+1 < len(s) && escapes(quote, s[i+1]):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// escapes reports whether a backslash before next is an escape within quote,
// which is 0 outside of quotes.
func escapes(quote, next byte) bool {
	switch quote {
	case 0:
		return true
	case '"':
		return strings.IndexByte("$`\"\\", next) >= 0
	default:
		return false
	}
}

// readLine returns the first line of a small file, or "".
func readLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, 256))
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}
