// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/action"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// PreflightSchema names the form of `preflight --json`.
const PreflightSchema = "dkms-preflight/1"

type preflightDocument struct {
	Schema  string      `json:"schema"`
	Kernels []string    `json:"kernels"`
	OK      bool        `json:"ok"`
	Modules []triedItem `json:"modules"`
}

// triedItem is one module and kernel, of preflight and matrix.
type triedItem struct {
	Module   string         `json:"module"`
	Version  string         `json:"version"`
	Kernel   string         `json:"kernel"`
	Arch     string         `json:"arch"`
	Outcome  action.TriedAs `json:"outcome"`
	Required bool           `json:"required"`
	Seconds  float64        `json:"seconds"`
	Cached   bool           `json:"cached"`
	Error    string         `json:"error,omitempty"`
	Class    string         `json:"class,omitempty"`
	File     string         `json:"file,omitempty"`
	Line     int            `json:"line,omitempty"`
	Cause    string         `json:"cause,omitempty"`
	Next     []string       `json:"next,omitempty"`
	Code     int            `json:"code,omitempty"`
	Log      string         `json:"log,omitempty"`
}

// preflight tells of each module of the tree what a hook would make of it for a
// kernel.
func preflight(ctx context.Context, c *command) error {
	choice, only, err := c.preflightWords()
	if err != nil {
		return err
	}
	return c.tryAside(ctx, choice, c.engine.PreparePreflight, func(a *action.Aside) error {
		json := c.args.has("--json")
		list, err := c.engine.Preflight(ctx, a, only, json)
		if f := (*action.Failure)(nil); errors.As(err, &f) && !f.Said {
			return err
		}
		if json {
			doc := preflightDocument{Schema: PreflightSchema, Kernels: releasesOf(a.Targets), OK: err == nil, Modules: triedItems(list)}
			return errors.Join(c.printJSON(doc), err)
		}
		if werr := writePreflight(c.advice.people(c.io.Out), a.Targets, list); werr != nil {
			return werr
		}
		return err
	})
}

// tryAside has try work in a place that prepare makes, in another process where
// something has to stand over the machine's directories.
func (c *command) tryAside(ctx context.Context, choice action.KernelChoice, prepare func(context.Context, action.KernelChoice) (*action.Aside, error),
	try func(*action.Aside) error) (err error) {
	var a *action.Aside
	if c.aside != "" {
		a, err = c.engine.Reenter(c.aside, choice.Arches)
	} else {
		a, err = prepare(ctx, choice)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if !a.NeedsExec() {
		return try(a)
	}
	code, err := a.Exec(ctx, append([]string{"dkms"}, c.words...), c.io.Environ, run.Stdio{In: c.io.In, Out: c.io.Out, Err: c.io.Err})
	switch {
	case ctx.Err() != nil:
		return &action.Failure{Reason: action.Interrupted, Err: context.Cause(ctx), Said: true}
	case err != nil:
		return err
	case code != 0:
		return innerCode(code)
	}
	return nil
}

// preflightWords sorts the words of the command line: a path is one of header
// packages, the first other word a kernel unless -k or packages gave one, and the rest
// are modules.
func (c *command) preflightWords() (action.KernelChoice, []state.ID, error) {
	choice := c.kernelChoice()
	var words []string
	var only []state.ID
	for _, word := range c.args.rest {
		switch {
		case isPackages(word):
			choice.Packages = append(choice.Packages, word)
		case looksLikePath(word):
			return choice, nil, &action.Failure{Reason: action.BadArchive, Err: fmt.Errorf("the file %s is neither a header package nor a directory with such", word)}
		default:
			words = append(words, word)
		}
	}
	for _, word := range words {
		switch {
		case len(choice.Releases) == 0 && (len(choice.Packages) == 0 || isRelease(word)):
			choice.Releases = append(choice.Releases, word)
		default:
			name, version, _ := strings.Cut(word, "/")
			only = append(only, state.ID{Module: name, Version: version})
		}
	}
	if len(choice.Releases)+len(choice.Packages) == 0 {
		return choice, nil, usageError("preflight needs a kernel, or a directory with header packages: dkms preflight <kernel>")
	}
	return choice, only, nil
}

// kernelChoice is what options say of the kernels.
func (c *command) kernelChoice() action.KernelChoice {
	choice := action.KernelChoice{Arches: c.args.arches, Download: c.args.has("--download"), Releases: slices.Clone(c.args.kernels)}
	if c.args.kernelTree != "" {
		choice.Packages = append(choice.Packages, c.args.kernelTree)
	}
	return choice
}

// isPackages reports whether a word names a header package or a directory of such.
func isPackages(word string) bool {
	fi, err := os.Stat(word)
	if err != nil || !fi.IsDir() {
		return err == nil && strings.HasSuffix(word, ".deb")
	}
	debs, _ := filepath.Glob(filepath.Join(word, "*.deb"))
	return looksLikePath(word) || len(debs) > 0
}

func looksLikePath(word string) bool {
	return strings.HasPrefix(word, "/") || strings.HasPrefix(word, "./") || strings.HasPrefix(word, "../") || word == "." || word == ".." || strings.HasSuffix(word, ".deb")
}

// isRelease reports whether a word looks like a kernel's release and not like a
// module: it begins with a digit and has a dot.
func isRelease(word string) bool {
	return word != "" && word[0] >= '0' && word[0] <= '9' && strings.Contains(word, ".") && !strings.Contains(word, "/")
}

func releasesOf(targets []plan.Target) []string {
	list := []string{}
	for _, t := range targets {
		list = append(list, t.Kernel)
	}
	return list
}

func triedItems(list []action.Tried) []triedItem {
	items := []triedItem{}
	for _, t := range list {
		item := triedItem{
			Module: t.Key.Module, Version: t.Key.Version, Kernel: t.Key.Kernel, Arch: t.Key.Arch, Outcome: t.Outcome,
			Required: t.Required, Seconds: math.Round(t.Took.Seconds()*100) / 100, Cached: t.Cached,
		}
		if f := t.Failure; f != nil {
			item.Error, item.Code = triedError(f), code(f)
			item.Next = triedNext(f)
			item.Log = string(t.Log)
			if d := f.Diagnosis; d != nil {
				item.Class, item.File, item.Line, item.Cause = string(d.Class), d.File, d.Line, d.What
			}
		}
		items = append(items, item)
	}
	return items
}

// triedError is the first error of a build, or why there was none.
func triedError(f *action.Failure) string {
	if f.Diagnosis != nil && f.Diagnosis.Error != "" {
		return f.Diagnosis.Error
	}
	return f.Error()
}

// triedNext are the next steps. What the log's place is tells nobody: it goes.
func triedNext(f *action.Failure) []string {
	if f.Diagnosis == nil {
		return f.Hint
	}
	return f.Diagnosis.Next
}

// writePreflight prints a line for each module and kernel, below one that fails why
// and what to do, and last the verdict.
func writePreflight(w io.Writer, targets []plan.Target, list []action.Tried) error {
	var b strings.Builder
	wide := 0
	for _, t := range list {
		wide = max(wide, len(t.Key.ID.String()))
	}
	for i, target := range targets {
		counts := map[action.TriedAs]int{}
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s\n", target)
		for _, t := range list {
			if t.Key.Kernel == target.Kernel && t.Key.Arch == target.Arch {
				counts[t.Outcome]++
				preflightLine(&b, t, wide)
			}
		}
		b.WriteString(preflightVerdict(target, counts))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	return nil
}

func preflightLine(b *strings.Builder, t action.Tried, wide int) {
	words := map[action.TriedAs]string{
		action.Ready: "ready, installed already", action.Builds: "would build", action.Excludes: "excluded", action.Off: "not automatic", action.Fails: "FAILS",
	}
	fmt.Fprintf(b, "  %-*s  %s", wide, t.Key.ID, words[t.Outcome])
	if t.Outcome == action.Fails {
		policy := "optional"
		if t.Required {
			policy = "required"
		}
		b.WriteString(", " + policy)
	}
	switch {
	case t.Cached:
		fmt.Fprintf(b, ", %.1f s, from the cache", t.Took.Seconds())
	case t.Outcome == action.Builds || t.Outcome == action.Fails && t.Took > 0:
		fmt.Fprintf(b, ", %.1f s", t.Took.Seconds())
	}
	if t.Outcome == action.Excludes {
		b.WriteString(": " + shortReason(t))
	}
	b.WriteByte('\n')
	if t.Outcome != action.Fails {
		return
	}
	fmt.Fprintf(b, "    %s\n", triedError(t.Failure))
	if d := t.Failure.Diagnosis; d != nil && d.What != "" {
		fmt.Fprintf(b, "    Cause: %s (%s)\n", d.What, d.Class)
	}
	for _, step := range triedNext(t.Failure) {
		fmt.Fprintf(b, "    %s\n", action.NextLine(step))
	}
}

// shortReason is why a module is excluded, without what the line says already.
func shortReason(t action.Tried) string {
	_, reason, ok := strings.Cut(t.Failure.Error(), "): ")
	if !ok {
		reason = t.Failure.Error()
	}
	return reason
}

func preflightVerdict(t plan.Target, counts map[action.TriedAs]int) string {
	total := 0
	for _, n := range counts {
		total += n
	}
	switch {
	case total == 0:
		return "There are no modules in the DKMS tree.\n"
	case counts[action.Fails] == 0:
		return fmt.Sprintf("Kernel %s: fine, nothing fails\n", t.Kernel)
	}
	return fmt.Sprintf("Kernel %s: %d of %d would fail\n", t.Kernel, counts[action.Fails], total)
}
