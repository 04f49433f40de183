// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"dkms-go/internal/action"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// ExplainSchema names the form of `explain --json`.
const ExplainSchema = "dkms-explain/1"

type explainDocument struct {
	Schema  string          `json:"schema"`
	Verb    string          `json:"verb"`
	OK      bool            `json:"ok"`
	Steps   []explainStep   `json:"steps"`
	Modules []explainModule `json:"modules"`
}

type explainStep struct {
	N       int    `json:"n"`
	Do      string `json:"do"`
	Module  string `json:"module,omitempty"`
	Version string `json:"version,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	Arch    string `json:"arch,omitempty"`
	Why     string `json:"why,omitempty"`
	After   []int  `json:"after,omitempty"`
}

type explainModule struct {
	Module  string        `json:"module"`
	Version string        `json:"version"`
	Kernel  string        `json:"kernel"`
	Arch    string        `json:"arch"`
	Would   []string      `json:"would"`
	Note    string        `json:"note,omitempty"`
	Facts   []explainFact `json:"facts"`
	Error   string        `json:"error,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Code    int           `json:"code,omitempty"`
	Next    []string      `json:"next,omitempty"`
}

type explainFact struct {
	About string     `json:"about"`
	Wants string     `json:"wants,omitempty"`
	Has   string     `json:"has"`
	Fits  action.Fit `json:"fits,omitempty"`
}

// explainVerb tells what another action would do, and why.
func explainVerb(ctx context.Context, c *command) error {
	verb, id, err := c.explainWords()
	if err != nil {
		return err
	}
	targets, err := c.engine.Targets(c.args.kernels, c.args.arches, true)
	if err != nil {
		return err
	}
	o, err := c.engine.Outlook(ctx, verb, id, targets)
	if f := (*action.Failure)(nil); errors.As(err, &f) && !f.Said {
		return err // nothing was looked at
	}
	if c.args.has("--json") {
		return errors.Join(c.printJSON(explainJSON(verb, o, err == nil)), err)
	}
	if werr := writeOutlook(c.advice.people(c.io.Out), o, c.args.has("--verbose")); werr != nil {
		return werr
	}
	return err
}

// explainable are the actions that explain knows.
func explainable() []string { return []string{"build", "install", "autoinstall"} }

// explainWords returns the action and the module that are asked about.
func (c *command) explainWords() (verb string, id state.ID, err error) {
	words, id := c.args.rest, c.id()
	if len(words) == 0 || !slices.Contains(explainable(), words[0]) {
		return "", id, usageError("explain needs one of the actions %s", strings.Join(explainable(), ", "))
	}
	verb, words = words[0], words[1:]
	if len(words) > 0 && looksLikePath(words[0]) {
		return "", id, usageError("explain takes a module by name, and %q is a path: add it first", words[0])
	}
	if len(words) > 0 && id.Module == "" {
		id.Module, id.Version, _ = strings.Cut(words[0], "/")
		words = words[1:]
	}
	switch {
	case len(words) > 0:
		return "", id, usageError("don't know what to do with %q", words[0])
	case id.Module == "" && verb != "autoinstall":
		return "", id, usageError("explain %[1]s needs a module: dkms explain %[1]s <module>/<version>", verb)
	case verb == "autoinstall" && len(c.args.kernels) > 1:
		return "", id, &usage{codeOneKernel, "autoinstall works on one kernel at a time"}
	}
	return verb, id, nil
}

// writeOutlook prints for each module and kernel what would become of it, with the
// facts: those that speak against it are marked. With more also the plan.
func writeOutlook(w io.Writer, o action.Outlook, more bool) error {
	var b strings.Builder
	for i, p := range o.Modules {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s for kernel %s (%s): %s\n", p.Key.ID, p.Key.Kernel, p.Key.Arch, outlookLine(p))
		if p.Failure != nil {
			for _, h := range p.Failure.Hint {
				fmt.Fprintf(&b, "  %s\n", h)
			}
		}
		wide := len("BUILD_DEPENDS")
		for _, f := range p.Facts {
			wide = max(wide, len(f.About))
		}
		for _, f := range p.Facts {
			mark := map[action.Fit]string{action.Fits: "ok", action.Misfits: "NO", action.Tells: "  "}[f.Fits]
			text := f.Has
			if f.Wants != "" {
				text = fmt.Sprintf("wants %s, has %s", f.Wants, f.Has)
			}
			fmt.Fprintf(&b, "  %s %-*s  %s\n", mark, wide, f.About, text)
		}
	}
	if len(o.Modules) == 0 {
		b.WriteString("There are no modules in the DKMS tree.\n")
	}
	if more && len(o.Plan.Steps) > 0 {
		fmt.Fprintf(&b, "\nThe plan:\n%s", &o.Plan)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the explanation: %w", err)
	}
	return nil
}

// outlookLine says in one line what would become of a module.
func outlookLine(p action.Prospect) string {
	done := wouldBe(p)
	switch {
	case p.Failure != nil && p.Failure.Soft():
		return "excluded: " + p.Failure.Error()
	case p.Failure != nil:
		return "would fail: " + p.Failure.Error()
	case len(done) == 0 && p.Note != "":
		return "nothing to do: " + p.Note
	case len(done) == 0:
		return "nothing to do"
	}
	why := ""
	for _, s := range p.Steps {
		if s.Kind == plan.Build || s.Kind == plan.Install {
			why = " (" + s.Why + ")"
			break
		}
	}
	return "would be " + enumerate(done) + why
}

// wouldBe are the words for what is done with a module.
func wouldBe(p action.Prospect) []string {
	words := map[plan.Kind]string{plan.Add: "added", plan.Build: "built", plan.Install: "installed"}
	var list []string
	for _, s := range p.Steps {
		if word := words[s.Kind]; word != "" && !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list
}

// enumerate joins words as people do.
func enumerate(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

func explainJSON(verb string, o action.Outlook, ok bool) explainDocument {
	doc := explainDocument{Schema: ExplainSchema, Verb: verb, OK: ok, Steps: []explainStep{}, Modules: []explainModule{}}
	for _, s := range o.Plan.Steps {
		doc.Steps = append(doc.Steps, explainStep{s.N, s.Kind.String(), s.Key.Module, s.Key.Version, s.Key.Kernel, s.Key.Arch, s.Why, append(slices.Clone(s.After), s.Behind...)})
	}
	for _, p := range o.Modules {
		m := explainModule{Module: p.Key.Module, Version: p.Key.Version, Kernel: p.Key.Kernel, Arch: p.Key.Arch, Would: list0(wouldBe(p)), Note: p.Note, Facts: []explainFact{}}
		for _, f := range p.Facts {
			m.Facts = append(m.Facts, explainFact(f))
		}
		if f := p.Failure; f != nil {
			m.Would = []string{}
			m.Error, m.Reason, m.Code, m.Next = f.Error(), f.Reason.String(), code(f), f.Hint
		}
		doc.Modules = append(doc.Modules, m)
	}
	return doc
}
