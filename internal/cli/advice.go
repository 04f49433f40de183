// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	"dkms-go/internal/report"
)

// advice makes the commands that dkms tells people to type mean what this command
// line was about: the same root, the same trees and the same architecture. The texts
// themselves, of which some are kept for later, know nothing of that; they are
// completed here, where they are printed.
type advice struct {
	// options stand behind "dkms" of each command; arch is that of -k, if one was
	// given; root is the other root directory, "" for the machine's own.
	options, arch, root string
	command             *regexp.Regexp
}

// adviceFor is that of a command line.
func adviceFor(a *args) advice {
	var words []string
	for _, o := range []struct{ name, value string }{
		{"--root", a.root}, {"--dkmstree", a.dkmsTree}, {"--sourcetree", a.sourceTree}, {"--installtree", a.insTree},
	} {
		if o.value != "" {
			words = append(words, o.name, shellQuote(o.value))
		}
	}
	d := advice{options: strings.Join(words, " ")}
	if a.root != "" {
		d.root = shellQuote(a.root)
	}
	if len(a.arches) == 1 && a.arches[0] != "" {
		d.arch = shellQuote(a.arches[0])
	}
	if d.options == "" && d.arch == "" {
		return d
	}
	var verbs []string
	for _, v := range verbTable {
		verbs = append(verbs, v.Name)
	}
	d.command = regexp.MustCompile("(^|[ `'\"$])dkms (" + strings.Join(verbs, "|") + ")\\b")
	return d
}

// foreignCommand matches the begin of a command that isn't one of dkms: in a list of next
// steps, behind what a hint begins with, or the package manager's on a line of its own.
const foreignCommand = `((?:^|\n|"|next: )[ ]*\$ |Install (?:it|them) with: )([a-z])|(?:^|\n|")[ ]{4,6}(?:apt-get|dnf|yum|zypper|pacman|apk|emerge) `

// complete completes the commands in a text. Those that aren't of dkms are to be run
// in the other root.
func (d advice) complete(text string) string {
	return d.completeAs(text, func(s string) string { return s })
}

// completeAs is complete for a text in which what is added is to be written by as.
func (d advice) completeAs(text string, as func(string) string) string {
	if d.command == nil || !strings.Contains(text, "dkms ") && d.root == "" {
		return text
	}
	if d.root != "" {
		text = regexp.MustCompile(foreignCommand).ReplaceAllStringFunc(text, func(s string) string {
			at := strings.LastIndex(strings.TrimRight(s, " "), " ") + 1 // of the command's name
			return s[:at] + as("chroot "+d.root+" ") + s[at:]
		})
		text = regexp.MustCompile(regexp.QuoteMeta(as("chroot "+d.root+" "))+`(dkms|sudo|su|export) `).ReplaceAllString(text, "$1 ")
	}
	var b strings.Builder
	found := d.command.FindAllStringSubmatchIndex(text, -1)
	for i, at := range found {
		end := len(text)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		rest := text[at[1]:end]
		if i == 0 {
			b.WriteString(text[:at[0]])
		}
		b.WriteString(text[at[0]:at[4]]) // up to the verb
		if options := d.optionsFor(rest); options != "" {
			b.WriteString(as(options) + " ")
		}
		b.WriteString(text[at[4]:at[5]] + rest)
	}
	if len(found) == 0 {
		return text
	}
	return b.String()
}

// optionsFor are those of a command, of which rest is what stands behind its verb.
func (d advice) optionsFor(rest string) string {
	if i := strings.IndexAny(rest, "\n`;)"); i >= 0 {
		rest = rest[:i]
	}
	_, kernel, ok := strings.Cut(rest, " -k ")
	if kernel, _, _ = strings.Cut(kernel, " "); !ok || d.arch == "" || strings.Contains(kernel, "/") {
		return d.options
	}
	return strings.TrimPrefix(d.options+" -a "+d.arch, " ")
}

// people returns a writer to w for texts that people read: commands are completed,
// nothing acts on a terminal, and long lines are wrapped there.
func (d advice) people(w io.Writer) io.Writer { return &advised{report.Wrapped(w), d} }

type advised struct {
	w io.Writer
	advice
}

func (a *advised) Write(text []byte) (int, error) {
	if _, err := io.WriteString(a.w, a.complete(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// json returns a document as JSON, with the commands in it completed.
func (d advice) json(v any) ([]byte, error) { return d.indented(v, "") }

// indented is json for a document that is part of another, whose lines begin with a
// prefix.
func (d advice) indented(v any, prefix string) ([]byte, error) {
	text, err := json.MarshalIndent(v, prefix, "  ")
	if err != nil {
		return nil, fmt.Errorf("printing JSON: %w", err)
	}
	return []byte(d.completeAs(string(text), func(s string) string {
		quoted, _ := json.Marshal(s) // a string: it can't fail
		return string(quoted[1 : len(quoted)-1])
	})), nil
}

// printJSON prints a document.
func (c *command) printJSON(v any) error { return c.printJSONTo(c.io.Out, v) }

func (c *command) printJSONTo(w io.Writer, v any) error {
	text, err := c.advice.json(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
