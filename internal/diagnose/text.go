// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// line is a line of the log, without what terminals obey and with plain quotes.
type line struct {
	no    int // from 1
	text  string
	shown string // as it can be shown
}

// text is what the log says of the command that failed.
type text struct {
	lines []line
	// code is the command's exit code, -1 if the log has none.
	code int
	// stage and why are what dkms itself wrote at the end; verdict is that line.
	stage   Stage
	why     string
	verdict line
}

// The lines that dkms writes itself.
const (
	commandMark = "# command: "
	codeMark    = "# exit code: "
	timeMark    = "# elapsed time: "
	// FailedMark begins the line that tells the stage that failed and why.
	FailedMark = "# failed: "
)

// maxLine bounds what is looked at of a line, in bytes; the rest is cut off.
const maxLine = 16 << 10

// maxLines bounds how many lines of one command are kept: of those that it wrote
// most are compilers' commands, so the first and the last are kept.
const maxLines = 400_000

var colours = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]") })

// open finds the command that failed: the last one with an exit code other than 0,
// else the last one.
func open(log []byte) *text {
	found, current := text{code: -1}, text{code: -1}
	var verdict line
	begun := false
	end := func() {
		if (begun || len(current.lines) > 0) && (current.code > 0 || found.code <= 0) {
			found = current
		}
		current = text{code: -1}
	}
	no, ours := 0, false
	for raw := range bytes.Lines(log) {
		no++
		l := newLine(no, raw)
		switch {
		case no == 1 && strings.HasPrefix(l.text, "DKMS "):
			ours = true
		case no == 2 && ours: // the date
		case strings.HasPrefix(l.text, commandMark):
			end()
			begun = true
		case strings.HasPrefix(l.text, codeMark):
			current.code, _ = strconv.Atoi(strings.TrimPrefix(l.text, codeMark))
		case strings.HasPrefix(l.text, FailedMark):
			verdict = l
		case strings.HasPrefix(l.text, timeMark), strings.Trim(l.text, "- ") == "":
		case len(current.lines) < maxLines:
			current.lines = append(current.lines, l)
		}
	}
	end()
	if verdict.no > 0 {
		stage, why, _ := strings.Cut(strings.TrimPrefix(verdict.text, FailedMark), ": ")
		_, verdict.shown, _ = strings.Cut(strings.TrimPrefix(verdict.shown, FailedMark), ": ")
		found.stage, found.why, found.verdict = Stage(stage), why, verdict
	}
	return &found
}

// plainQuotes makes quotes of all kinds the one that compilers use in the C locale.
var plainQuotes = sync.OnceValue(func() *strings.Replacer {
	return strings.NewReplacer("‘", "'", "’", "'", "`", "'", "“", `"`, "”", `"`)
})

func newLine(no int, raw []byte) line {
	if len(raw) > maxLine {
		raw = raw[:maxLine]
	}
	s := strings.TrimRight(string(raw), "\r\n \t")
	l := line{no: no, text: s, shown: s}
	if strings.IndexByte(s, 0x1b) >= 0 {
		l.text = colours().ReplaceAllString(s, "")
	}
	if !ascii(l.text) || strings.IndexByte(l.text, '`') >= 0 {
		l.text = plainQuotes().Replace(l.text)
	}
	return l
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// maxShown bounds what is shown of one line of a log, in bytes.
const maxShown = 500

// Printable returns a line of the module's as it can be shown: without the
// characters that a terminal would obey, and not longer than 500 bytes.
func Printable(s string) string {
	if strings.IndexByte(s, 0x1b) >= 0 {
		s = colours().ReplaceAllString(s, "")
	}
	cut := len(s) > maxShown
	if cut {
		s = s[:maxShown]
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, ""))
	if cut {
		s += "..."
	}
	return s
}

// harmlessTable matches lines that are in the logs of builds that succeed, and
// those that only repeat that something failed.
var harmlessTable = sync.OnceValue(func() []*regexp.Regexp {
	var list []*regexp.Regexp
	for _, p := range []string{
		`^Skipping BTF generation`,
		`^warning: `, `(?i):\s*warning: `, `^WARNING: `, `: note: `, `: remark: `,
		`^ *(You are using|The kernel was built by|using): `, // the compiler differs
		`^make(\[\d+\])?: (Entering|Leaving) directory`,
		`^make(\[\d+\])?: \*\*\* \[.*\]( Error \d+| [A-Z][a-z].*)?$`,
		`^make(\[\d+\])?: \*\*\* .*Error \d+$`,
		`^make(\[\d+\])?: \*\*\* Waiting for unfinished jobs`,
		`^make(\[\d+\])?: Target '.*' not remade because of errors`,
		`^make(\[\d+\])?: \[.*\] Error \d+ \(ignored\)`,
		`^make(\[\d+\])?: (warning|Nothing to be done|'.*' is up to date)`,
		`^(In file included|                 +|                 +from) `,
		`^\s+from \S+:\d+`,
		`: In function '`, `: At top level:$`, `: Assembler messages:$`,
		`^(cc1|cc1plus): (all|some) warnings being treated as errors$`,
		`^collect2: error: ld returned `, `linker command failed with exit code`,
		`^compilation terminated\.?$`, `^\d+ (errors?|warnings?)( and \d+ (errors?|warnings?))? generated\.$`,
		`^\s*\d* \|( |$)`, `^\s+\|`, `^\s*[\^~|]+\s*$`,
		`^  +(CC|LD|AR|AS|HOSTCC|HOSTLD|MODPOST|BTF|SIGN|INSTALL|CLEAN|GEN|CALL|DESC|HDRINST|STRIP|XZ|ZSTD|DEPMOD|LDS|UPD|CHK|WRAP|CPP)(\s+\[M\])?\s`,
		`^\s*pahole|^libbpf: |^BTF: |^Skipping `,
		`(?i)Symbol version dump .* is missing`, `^\s*Modules may not have dependencies or modversions`, `^\s*You may get many unresolved symbol`,
		`(?i)^checking .*(\.\.\.|: )`, `^(Building module\(s\)|Running the |Applying patch |Cleaning )`,
		`^patching file `, `(?i)^please submit a full bug report`, `(?i)^see <?(file|https?):`, `^\(Patch is indented`,
	} {
		list = append(list, regexp.MustCompile(p))
	}
	return list
})

// Harmless reports whether a line of a log is no reason for a failure: it is in
// logs of builds that succeed as well, or only repeats that something failed.
func Harmless(s string) bool {
	s = newLine(1, []byte(s)).text
	if strings.Trim(s, " -") == "" {
		return true
	}
	if _, _, sort, _, ok := diagnostic(s); ok {
		return sort == "note" || sort == "warning"
	}
	if strings.HasSuffix(s, "] Killed") {
		return false // as make says of a command, which said nothing
	}
	for _, p := range harmlessTable() {
		if p.MatchString(s) {
			return true
		}
	}
	return false
}

// lastWords is the last line that the command wrote and that may be a reason.
func (t *text) lastWords() (line, bool) {
	for i := len(t.lines) - 1; i >= 0; i-- {
		if !Harmless(t.lines[i].text) {
			return t.lines[i], true
		}
	}
	return line{}, false
}
