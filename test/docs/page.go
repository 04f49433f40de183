// SPDX-License-Identifier: Apache-2.0

// Package docs reads the command lines of the documentation. Its test runs those of
// the README, the guides and the pages for people in trouble, in the order in which
// they stand there; that of internal/cli holds all others against the parser.
//
// In a page that is run, a block of text, fenced or indented by four blanks, is one
// of these:
//
//   - a file, if its first line is a comment with nothing but a path:
//     "# /etc/dkms/framework.conf", "// hello/hello.c";
//   - what a command prints, if it is fenced and the fence says "text";
//   - else commands, one a line. A comment "# exits 27" behind one is the exit code
//     that it is to have, others are for the reader.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// Line is a line of a block.
type Line struct {
	Text string // without the indentation of the block
	At   string // "docs/fsck.md:12"
}

// Block is a block of text of a page.
type Block struct {
	// Info is what a fence says of it: "text". Nothing if it is indented.
	Info string
	// Lines are its lines; empty ones at the end are left out.
	Lines []Line
}

// Blocks returns the blocks of a page, which is named by its path in the
// repository: of Markdown (README.md) or scdoc (man/dkms.8.scd).
func Blocks(tb testing.TB, path string) []Block {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(lab.Repo(tb), path))
	if err != nil {
		tb.Fatal(err)
	}
	return blocks(path, string(text))
}

func blocks(path, text string) []Block {
	var all []Block
	var now *Block
	fenced, text4 := false, !strings.HasSuffix(path, ".scd")
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		inner, indented := strings.CutPrefix(line, "    ")
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && fenced:
			fenced, now = false, nil
			continue
		case fence:
			fenced = true
			all = append(all, Block{Info: info})
			now = &all[len(all)-1]
			continue
		case fenced:
			inner = line
		case text4 && indented && now == nil && (i == 0 || lines[i-1] == ""):
			all = append(all, Block{})
			now = &all[len(all)-1]
		case line != "" && !indented:
			now = nil
		}
		if now != nil {
			now.Lines = append(now.Lines, Line{Text: strings.TrimRight(inner, " "), At: path + ":" + strconv.Itoa(i+1)})
		}
	}
	for i, b := range all {
		for n := len(b.Lines); n > 0 && b.Lines[n-1].Text == ""; n-- {
			all[i].Lines = b.Lines[:n-1]
		}
	}
	return all
}

// pathLine matches the first line of a block that is a file.
var pathLine = regexp.MustCompile(`^(#|//) ([\w.~-]*(?:/[\w.+~-]+)+)$`)

// File returns the path and the content of a block that is a file, and else two
// empty strings.
func (b Block) File() (path, content string) {
	if len(b.Lines) == 0 {
		return "", ""
	}
	found := pathLine.FindStringSubmatch(b.Lines[0].Text)
	if found == nil {
		return "", ""
	}
	var text strings.Builder
	for _, line := range b.Lines[1:] {
		text.WriteString(line.Text + "\n")
	}
	return found[2], text.String()
}

// exits matches the exit code that a command is to have.
var exits = regexp.MustCompile(`#.*\bexits (\d+)`)

// Exit returns the exit code that the command of a line is to have.
func (l Line) Exit() int {
	if found := exits.FindStringSubmatch(l.Text); found != nil {
		code, _ := strconv.Atoi(found[1])
		return code
	}
	return 0
}

// comment matches what stands behind a command.
var comment = regexp.MustCompile(`\s+#.*$`)

// Command is the line without its comment.
func (l Line) Command() string { return comment.ReplaceAllString(l.Text, "") }
