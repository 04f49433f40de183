// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxPattern bounds the length of a regular expression in bytes.
const maxPattern = 4096

// matches reports whether the POSIX extended regular expression is found
// anywhere in s, as bash's =~ does. An expression that is none matches
// nothing.
func matches(pattern, s string) bool {
	if pattern == "" {
		return true
	}
	if len(pattern) > maxPattern {
		return false
	}
	t := translator{src: pattern}
	text := t.alternatives(0)
	if t.bad || t.src != "" {
		return false
	}
	re, err := regexp.Compile("(?s)" + text)
	return err == nil && re.MatchString(s)
}

// translator writes a POSIX extended regular expression (regex(7), with the
// extensions of glibc) in Go's syntax. Groups do not capture: only whether it
// matches is asked.
type translator struct {
	src string // what is left
	bad bool   // the expression is invalid, or cannot be translated
}

// take returns the next rune, which stays as it is in src when more is false.
func (t *translator) take() string {
	_, n := utf8.DecodeRuneInString(t.src)
	c := t.src[:n]
	t.src = t.src[n:]
	return c
}

// eat removes prefix from what is left.
func (t *translator) eat(prefix string) bool {
	rest, ok := strings.CutPrefix(t.src, prefix)
	t.src = rest
	return ok
}

// alternatives translates branches separated by "|" up to the end or, inside
// a group, up to its ")".
func (t *translator) alternatives(depth int) string {
	var b strings.Builder
	for t.src != "" && !t.bad {
		switch {
		case depth > 0 && t.src[0] == ')':
			return b.String()
		case t.eat("|"):
			b.WriteString("|")
		default:
			b.WriteString(t.repeated(depth))
		}
	}
	return b.String()
}

// repeated translates one item with its repetitions.
func (t *translator) repeated(depth int) string {
	anchor := t.src[0] == '^' || t.src[0] == '$'
	item := t.item(depth)
	for t.src != "" && !t.bad && strings.IndexByte("*+?{", t.src[0]) >= 0 {
		if anchor {
			t.bad = true
			return ""
		}
		item = "(?:" + item + ")" + t.repetition()
	}
	return item
}

// repetition translates *, +, ? or {m,n}.
func (t *translator) repetition() string {
	op := t.take()
	if op != "{" {
		return op
	}
	interval, rest, ok := strings.Cut(t.src, "}")
	low, high, comma := strings.Cut(interval, ",")
	if !ok || !digits(low) || !digits(high) || low == "" && !comma {
		t.bad = true
		return ""
	}
	t.src = rest
	if low == "" {
		low = "0"
	}
	if !comma {
		return "{" + low + "}"
	}
	return "{" + low + "," + high + "}"
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// item translates what a repetition can follow.
func (t *translator) item(depth int) string {
	switch c := t.take(); c {
	case "(":
		inner := t.alternatives(depth + 1)
		if !t.eat(")") {
			t.bad = true
		}
		return "(?:" + inner + ")"
	case "[":
		return t.bracket()
	case "*", "+", "?", "{":
		t.bad = true
		return ""
	case ".", "^", "$":
		return c
	case `\`:
		return t.escaped()
	default: // also a ")" that closes nothing
		return regexp.QuoteMeta(c)
	}
}

// escaped translates what follows a backslash: glibc's classes and anchors, a
// back reference (which Go cannot do), or a literal.
func (t *translator) escaped() string {
	if t.src == "" {
		t.bad = true
		return ""
	}
	switch c := t.take(); c {
	case "w":
		return "[[:word:]]"
	case "W":
		return "[^[:word:]]"
	case "s":
		return "[[:space:]]"
	case "S":
		return "[^[:space:]]"
	case "b", "<", ">":
		return `\b`
	case "B":
		return `\B`
	case "`":
		return `\A`
	case "'":
		return `\z`
	case "1", "2", "3", "4", "5", "6", "7", "8", "9":
		t.bad = true
		return ""
	default:
		return regexp.QuoteMeta(c)
	}
}

// bracket translates a bracket expression, in which a backslash is itself.
func (t *translator) bracket() string {
	var b strings.Builder
	b.WriteString("[")
	if t.eat("^") {
		b.WriteString("^")
	}
	for first := true; ; first = false {
		if t.src == "" || t.bad {
			t.bad = true
			return ""
		}
		if !first && t.eat("]") {
			return b.String() + "]"
		}
		if t.eat("[:") {
			class, rest, ok := strings.Cut(t.src, ":]")
			t.bad = !ok || strings.Trim(class, "abcdefghijklmnopqrstuvwxyz") != ""
			t.src = rest
			b.WriteString("[:" + class + ":]")
			continue
		}
		b.WriteString(t.element())
		if len(t.src) > 1 && t.src[0] == '-' && t.src[1] != ']' {
			t.take()
			b.WriteString("-" + t.element())
		}
	}
}

// element translates one end of a range: a character, [.x.] or [=x=].
func (t *translator) element() string {
	for _, kind := range []string{".", "="} {
		if !t.eat("[" + kind) {
			continue
		}
		name, rest, ok := strings.Cut(t.src, kind+"]")
		t.src = rest
		if !ok || utf8.RuneCountInString(name) != 1 {
			t.bad = true
			return ""
		}
		return classLiteral(name)
	}
	return classLiteral(t.take())
}

// classLiteral writes a character for use in a class.
func classLiteral(c string) string {
	if strings.Contains(`\]^-[`, c) {
		return `\` + c
	}
	return c
}
