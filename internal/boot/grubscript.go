// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds of a script; grub-mkconfig stays far below them.
const (
	maxWord  = 64 << 10
	maxWords = 4096
	maxDepth = 32
	maxFiles = 64
)

// piece is a part of a word: literal text, or the name of a variable.
type piece struct {
	text     []byte
	variable bool
}

// word is one word of a GRUB script.
type word struct {
	pieces []piece
	quoted bool // some of it is in quotes, so it counts even when empty
}

// literal returns the text of a word that is neither quoted nor has variables:
// only such a word is a keyword.
func (w word) literal() string {
	if w.quoted || len(w.pieces) != 1 || w.pieces[0].variable {
		return ""
	}
	return string(w.pieces[0].text)
}

// scanner cuts a GRUB script into words (GRUB manual, "Shell-like scripting").
type scanner struct {
	text string
	pos  int
}

var errUnterminated = errors.New("the file ends inside quotes")

// separators skips blanks, ends of lines, semicolons and comments.
func (s *scanner) separators() {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == ';' || c == '\n' || c == '\r':
			s.pos++
		case s.blank():
		case c == '#':
			s.comment()
		default:
			return
		}
	}
}

// blank skips one blank, or a line that goes on in the next.
func (s *scanner) blank() bool {
	switch {
	case s.text[s.pos] == ' ' || s.text[s.pos] == '\t':
		s.pos++
	case strings.HasPrefix(s.text[s.pos:], "\\\n"):
		s.pos += 2
	default:
		return false
	}
	return true
}

func (s *scanner) comment() {
	if i := strings.IndexByte(s.text[s.pos:], '\n'); i >= 0 {
		s.pos += i
		return
	}
	s.pos = len(s.text)
}

// word returns the next word of the command, or false at the command's end.
func (s *scanner) word() (word, bool, error) {
	for s.pos < len(s.text) && s.blank() {
	}
	if s.pos < len(s.text) && s.text[s.pos] == '#' {
		s.comment()
	}
	if s.pos >= len(s.text) || strings.IndexByte(";\n\r", s.text[s.pos]) >= 0 {
		return word{}, false, nil
	}
	var w word
	for s.pos < len(s.text) && strings.IndexByte(" \t;\n\r", s.text[s.pos]) < 0 {
		if err := s.part(&w); err != nil {
			return word{}, false, err
		}
		if len(w.pieces) > maxWords {
			return word{}, false, errors.New("a word has too many parts")
		}
	}
	return w, true, nil
}

// part adds one character, quoted text or variable to w.
func (s *scanner) part(w *word) error {
	switch c := s.text[s.pos]; c {
	case '\'':
		end := strings.IndexByte(s.text[s.pos+1:], '\'')
		if end < 0 || end > maxWord {
			return errUnterminated
		}
		w.quoted = true
		w.add(s.text[s.pos+1 : s.pos+1+end])
		s.pos += end + 2
	case '"':
		w.quoted = true
		s.pos++
		return s.double(w)
	case '$':
		s.variable(w)
	case '\\':
		if s.pos+1 < len(s.text) {
			w.quoted = true
			if s.text[s.pos+1] != '\n' {
				w.add(s.text[s.pos+1 : s.pos+2])
			}
		}
		s.pos = min(s.pos+2, len(s.text))
	default:
		w.add(s.text[s.pos : s.pos+1])
		s.pos++
	}
	return nil
}

// double reads up to the closing double quote. A backslash there quotes only
// $, ", \ and the end of a line.
func (s *scanner) double(w *word) error {
	for s.pos < len(s.text) {
		if len(w.pieces) > maxWords {
			return errors.New("a word has too many parts")
		}
		switch c := s.text[s.pos]; {
		case c == '"':
			s.pos++
			return nil
		case c == '$':
			s.variable(w)
		case c == '\\' && s.pos+1 < len(s.text) && strings.IndexByte("$\"\\\n", s.text[s.pos+1]) >= 0:
			if s.text[s.pos+1] != '\n' {
				w.add(s.text[s.pos+1 : s.pos+2])
			}
			s.pos += 2
		default:
			w.add(s.text[s.pos : s.pos+1])
			s.pos++
		}
	}
	return errUnterminated
}

// variable reads $name, ${name}, $1, $? and the like.
func (s *scanner) variable(w *word) {
	rest := s.text[s.pos+1:]
	name, skip := "", 0
	switch {
	case strings.HasPrefix(rest, "{"):
		if end := strings.IndexByte(rest, '}'); end > 0 && end < 256 {
			name, skip = rest[1:end], end+1
		}
	case rest != "" && strings.IndexByte("?@#*0123456789", rest[0]) >= 0:
		name, skip = rest[:1], 1
	default:
		for skip < len(rest) && isName(rest[skip]) {
			skip++
		}
		name = rest[:skip]
	}
	s.pos += 1 + skip
	if name == "" {
		w.add("$")
		return
	}
	w.pieces = append(w.pieces, piece{[]byte(name), true})
}

func isName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// add appends text to the last piece, or a new one.
func (w *word) add(text string) {
	if n := len(w.pieces); n > 0 && !w.pieces[n-1].variable {
		w.pieces[n-1].text = append(w.pieces[n-1].text, text...)
		return
	}
	w.pieces = append(w.pieces, piece{[]byte(text), false})
}

// command returns the words up to the end of the command or up to a word
// that is a bare "{", which is consumed: brace is true then.
func (s *scanner) command() (words []word, brace bool, err error) {
	for {
		w, ok, err := s.word()
		if err != nil || !ok {
			return words, false, err
		}
		if w.literal() == "{" {
			return words, true, nil
		}
		if words = append(words, w); len(words) > maxWords {
			return nil, false, fmt.Errorf("a command has more than %d words", maxWords)
		}
	}
}
