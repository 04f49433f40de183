// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/action"
	"dkms-go/internal/durable"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// MatrixSchema names the form of `matrix --json`.
const MatrixSchema = "dkms-matrix/1"

type matrixDocument struct {
	Schema  string      `json:"schema"`
	Kernels []string    `json:"kernels"`
	OK      bool        `json:"ok"`
	Builds  []triedItem `json:"builds"`
}

// table is what came of modules for kernels: the rows are modules, the columns
// kernels.
type table struct {
	targets []plan.Target
	ids     []state.ID
	tried   map[state.Key]action.Tried
}

func newTable(targets []plan.Target, list []action.Tried) table {
	t := table{targets: targets, tried: map[state.Key]action.Tried{}}
	for _, tried := range list {
		t.tried[tried.Key] = tried
		if !slices.Contains(t.ids, tried.Key.ID) {
			t.ids = append(t.ids, tried.Key.ID)
		}
	}
	return t
}

// matrix builds modules for several kernels, and shows what came of it.
func matrix(ctx context.Context, c *command) error {
	dirs, err := c.matrixDirs()
	if err != nil {
		return err
	}
	page := c.args.html != ""
	if c.args.set["--html"] && !page {
		return usageError("--html needs a file")
	}
	return c.tryAside(ctx, c.matrixKernels(), c.engine.PrepareMatrix, func(a *action.Aside) error {
		bare := c.args.has("--json") || c.args.has("--markdown")
		list, err := c.engine.Matrix(ctx, a, dirs, bare)
		if f := (*action.Failure)(nil); errors.As(err, &f) && !f.Said {
			return err
		}
		if page {
			if werr := writePage(c.args.html, a.Targets, list); werr != nil {
				return werr
			}
		}
		var text string
		switch t := newTable(a.Targets, list); {
		case c.args.has("--json"):
			return errors.Join(c.printJSON(matrixDocument{MatrixSchema, releasesOf(a.Targets), err == nil, triedItems(list)}), err)
		case c.args.has("--markdown"):
			text = t.markdown()
		default:
			text = t.text()
		}
		if _, werr := io.WriteString(c.advice.people(c.io.Out), text); werr != nil {
			return fmt.Errorf("writing the table: %w", werr)
		}
		return err
	})
}

// matrixDirs are the directories of modules' sources.
func (c *command) matrixDirs() ([]string, error) {
	var dirs []string
	for _, dir := range c.args.rest {
		if filepath.Base(dir) == "dkms.conf" && isFile(dir) {
			dir = filepath.Dir(dir)
		}
		if !isFile(filepath.Join(dir, "dkms.conf")) {
			return nil, &action.Failure{
				Reason: action.NotSourceTree, Err: fmt.Errorf("the directory %s has no dkms.conf", dir),
				Hint: []string{"Name the directory of a module's source: dkms matrix <directory>"},
			}
		}
		dirs = append(dirs, dir)
	}
	if len(dirs) == 0 {
		return nil, usageError("matrix needs the directory of a module's source: dkms matrix <directory> --kernels <kernel>,<kernel>")
	}
	return dirs, nil
}

// matrixKernels are the kernels of the columns: without a choice all that have headers
// here.
func (c *command) matrixKernels() action.KernelChoice {
	choice := c.kernelChoice()
	for word := range strings.SplitSeq(c.args.kernelList, ",") {
		switch {
		case word == "":
		case word == "installed":
			choice.Installed = true
		case word == "all-headers":
			choice.WithHeaders = true
		case isPackages(word) || looksLikePath(word):
			choice.Packages = append(choice.Packages, word)
		default:
			choice.Releases = append(choice.Releases, word)
		}
	}
	if len(choice.Releases)+len(choice.Packages) == 0 && !choice.Installed {
		choice.WithHeaders = true
	}
	return choice
}

// lineWidth is what a line of the table may have.
const lineWidth = 80

// cell is what stands in the table.
func cell(t action.Tried) string {
	switch {
	case t.Outcome == action.Builds:
		return fmt.Sprintf("ok %.1f s", t.Took.Seconds())
	case t.Outcome == action.Fails && t.Failure.Reason == action.NoHeaders:
		return "no headers"
	case t.Outcome == action.Fails && t.Took > 0:
		return fmt.Sprintf("FAILS %.1f s", t.Took.Seconds())
	case t.Outcome == action.Fails:
		return "FAILS"
	}
	return string(t.Outcome)
}

// text is the table for people. Kernels whose names leave no room are numbered, and
// columns that don't fit make a table of their own.
func (t table) text() string {
	var b strings.Builder
	first := len("Module")
	for _, id := range t.ids {
		first = max(first, len(id.String()))
	}
	names, width := t.columns(first)
	if names[0] == "1" {
		b.WriteString("Kernels\n")
		for i, target := range t.targets {
			fmt.Fprintf(&b, "  %2d  %s\n", i+1, target.Kernel)
		}
		b.WriteByte('\n')
	}
	fit := max((lineWidth-first)/(width+2), 1)
	targets := t.targets
	for len(names) > 0 {
		n := min(fit, len(names))
		line := fmt.Sprintf("%-*s", first, "Module")
		for _, name := range names[:n] {
			line += fmt.Sprintf("  %-*s", width, name)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		for _, id := range t.ids {
			line := fmt.Sprintf("%-*s", first, id)
			for _, target := range targets[:n] {
				line += fmt.Sprintf("  %-*s", width, cell(t.tried[target.Key(id)]))
			}
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
		if names, targets = names[n:], targets[n:]; len(names) > 0 {
			b.WriteByte('\n')
		}
	}
	b.WriteString(t.reasons("\n%s for %s\n", "    %s\n"))
	return b.String()
}

// columns names the columns, and returns how wide they are.
func (t table) columns(first int) (names []string, width int) {
	for _, tried := range t.tried {
		width = max(width, len(cell(tried)))
	}
	all := first
	for _, target := range t.targets {
		names = append(names, target.Kernel)
		width = max(width, len(target.Kernel))
	}
	if all += len(names) * (width + 2); all <= lineWidth || len(names) == 1 {
		return names, width
	}
	width = len("FAILS 100.0 s")
	for i := range names {
		names[i] = fmt.Sprint(i + 1)
	}
	return names, width
}

// reasons tells why builds failed, each reason of a module once; head takes the
// module and the kernels, body a line.
func (t table) reasons(head, body string) string {
	var b strings.Builder
	for _, id := range t.ids {
		var order []string
		kernels := map[string][]string{}
		failure := map[string]*action.Failure{}
		for _, target := range t.targets {
			tried := t.tried[target.Key(id)]
			if tried.Failure == nil {
				continue
			}
			text := triedError(tried.Failure)
			if tried.Failure.Soft() {
				text = "Excluded: " + strings.Replace(shortReason(tried), target.Kernel, "the kernel", 1)
			}
			if kernels[text] == nil {
				order = append(order, text)
			}
			kernels[text], failure[text] = append(kernels[text], target.Kernel), tried.Failure
		}
		for _, text := range order {
			fmt.Fprintf(&b, head, id, strings.Join(kernels[text], ", "))
			fmt.Fprintf(&b, body, text)
			f := failure[text]
			if f.Soft() {
				continue
			}
			if d := f.Diagnosis; d != nil && d.What != "" {
				fmt.Fprintf(&b, body, fmt.Sprintf("Cause: %s (%s)", d.What, d.Class))
			}
			for _, step := range triedNext(f) {
				fmt.Fprintf(&b, body, strings.TrimSpace(action.NextLine(step)))
			}
		}
	}
	return b.String()
}

// markdown is the table in GitHub's form.
func (t table) markdown() string {
	var b strings.Builder
	b.WriteString("| Module |")
	for _, target := range t.targets {
		fmt.Fprintf(&b, " %s |", marked(target.Kernel))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(t.targets)) + "\n")
	for _, id := range t.ids {
		fmt.Fprintf(&b, "| %s |", marked(id.String()))
		for _, target := range t.targets {
			text := cell(t.tried[target.Key(id)])
			if strings.HasPrefix(text, "FAILS") {
				text = "**" + text + "**"
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteByte('\n')
	}
	for line := range strings.Lines(t.reasons("\n%s for %s:\n\n", "- %s\n")) {
		b.WriteString(marked(line))
	}
	return b.String()
}

// marked keeps a text from being read as Markdown or HTML.
func marked(s string) string {
	list, rest, ok := strings.Cut(s, "- ")
	if !ok || list != "" {
		list, rest = "", s
	} else {
		list = "- "
	}
	return list + strings.NewReplacer(`\`, `\\`, "|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "<", "&lt;", "&", "&amp;", "[", `\[`, "#", `\#`).Replace(rest)
}

// writePage writes the page, in the place of what has that name.
func writePage(path string, targets []plan.Target, list []action.Tried) error {
	var b bytes.Buffer
	if err := newTable(targets, list).page(&b); err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	if err := durable.Replace(path, b.Bytes(), 0o644); err != nil {
		return &action.Failure{Reason: action.NotWritable, Err: fmt.Errorf("writing the page: %w", err)}
	}
	return nil
}
