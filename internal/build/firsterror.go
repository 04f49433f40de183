// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bufio"
	"bytes"
	"regexp"
	"strings"
	"sync"
	"unicode"
)

// causeTable finds the line of a make.log that tells why a build failed, the
// surest kind first: compiler, modpost, commands that aren't there, make. It is
// made when it is first needed, since most runs build nothing.
var causeTable = sync.OnceValue(func() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`^[^ :][^:]*:\d+:(\d+:)? (fatal )?error: `),
		regexp.MustCompile(`^(<command-line>|cc1|[^ ]*ld|[^ ]*gcc[^ ]*|clang[^ ]*): .*\berror: `),
		regexp.MustCompile(`^ERROR: modpost: `),
		regexp.MustCompile(`(: command not found|: not found|: No such file or directory)$`),
		regexp.MustCompile(`No space left on device|File size limit exceeded|Cannot allocate memory|fork: .*Resource temporarily unavailable`),
		regexp.MustCompile(`\*\*\* .*Stop\.$`),
		regexp.MustCompile(`^make(\[\d+\])?: \*\*\* `),
	}
})

// FirstError returns the line of a build log that tells best why the last
// command in it failed, or "". Warnings and notes, such as the harmless one
// about BTF and vmlinux, are never returned, and neither is what earlier
// commands said: the probes of a configure script fail as a rule.
func FirstError(log []byte) string {
	table := causeTable()
	found := make([]string, len(table))
	lines := bufio.NewScanner(bytes.NewReader(ending(log)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r ")
		if strings.HasPrefix(line, "# command: ") {
			clear(found)
			continue
		}
		if len(line) < len("error: ") {
			continue
		}
		for i, p := range table {
			if found[i] == "" && p.MatchString(line) {
				found[i] = line
			}
		}
	}
	for _, line := range found {
		if line != "" {
			return printable(line)
		}
	}
	return ""
}

// maxSearched bounds how much of a log's end is searched, in bytes.
const maxSearched = 4 << 20

func ending(log []byte) []byte { return log[max(0, len(log)-maxSearched):] }

// LastWords returns the last line that the last command of a build log wrote,
// or "".
func LastWords(log []byte) string {
	last := ""
	lines := bufio.NewScanner(bytes.NewReader(ending(log)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "# command: "):
			last = ""
		case strings.HasPrefix(line, "# exit code: "), strings.HasPrefix(line, "# elapsed time: "), line == ruler, line == "":
		default:
			last = line
		}
	}
	return printable(last)
}

// explain reads the cause of a failure out of the build's log.
func (w *work) explain(f *Failure) {
	if w.log == nil {
		return
	}
	text, err := w.log.text()
	if err != nil {
		return
	}
	f.Cause = FirstError(text)
	if w.Confine != nil && f.Replay != "" {
		f.Refused = refusals(text)
	}
	if f.Cause == "" && f.Replay != "" {
		f.LastWords = LastWords(text)
	}
}

// maxShown bounds what is shown of one line of a log, in bytes.
const maxShown = 500

// printable returns a line of the module's as it can be shown: without the
// characters that a terminal would obey, and not longer than maxShown.
func printable(line string) string {
	cut := len(line) > maxShown
	if cut {
		line = line[:maxShown]
	}
	line = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(line, ""))
	if cut {
		line += "..."
	}
	return line
}
