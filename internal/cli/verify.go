// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/action"
	"dkms-go/internal/trust"
)

// VerifySchema names the form of `verify --json`.
const VerifySchema = "dkms-verify/1"

type verifyDocument struct {
	Schema  string       `json:"schema"`
	Objects []verifyItem `json:"objects"`
}

type verifyItem struct {
	Module     string        `json:"module"`
	Version    string        `json:"version"`
	Kernel     string        `json:"kernel"`
	Arch       string        `json:"arch"`
	Installed  bool          `json:"installed"`
	Name       string        `json:"name"`
	Path       string        `json:"path"`
	OK         bool          `json:"ok"`
	Vermagic   string        `json:"vermagic,omitempty"`
	SrcVersion string        `json:"srcversion,omitempty"`
	Signer     string        `json:"signer,omitempty"`
	SignerKey  string        `json:"signer_key,omitempty"`
	Subject    string        `json:"signer_subject,omitempty"`
	Trusted    string        `json:"trusted,omitempty"`
	TrustedWhy string        `json:"trusted_why,omitempty"`
	Unsigned   string        `json:"unsigned,omitempty"`
	Against    []string      `json:"against"`
	Unchecked  []string      `json:"unchecked"`
	Problems   []problemItem `json:"problems"`
}

type problemItem struct {
	Code   string `json:"code"`
	Refuse bool   `json:"refuse"`
	Text   string `json:"text"`
}

// verify prints a line for each object: whether its kernel would load it.
func verify(ctx context.Context, c *command) error {
	var all []action.Verdict
	var worst error
	kernels := c.args.kernels
	if len(kernels) == 0 {
		kernels = []string{""}
	}
	for i, k := range kernels {
		f := action.Filter{Module: c.args.module, Version: c.args.version, Kernel: k}
		if len(c.args.arches) > 0 {
			f.Arch = c.args.arches[min(i, len(c.args.arches)-1)]
		}
		list, err := c.engine.Verify(ctx, f)
		all = append(all, list...)
		if worst == nil {
			worst = err
		}
	}
	c.engine.TellUnread(c.filters()...)
	if c.args.has("--json") {
		doc := verifyDocument{VerifySchema, []verifyItem{}}
		for _, v := range all {
			doc.Objects = append(doc.Objects, verifyJSON(v))
		}
		if err := c.printJSON(doc); err != nil {
			return err
		}
		return worst
	}
	out := c.advice.people(c.io.Out)
	for _, v := range all {
		if _, err := fmt.Fprintln(out, verifyLine(v)); err != nil {
			return fmt.Errorf("writing the list: %w", err)
		}
	}
	return worst
}

// verifyLine is one object on one line.
func verifyLine(v action.Verdict) string {
	var notes []string
	for _, p := range v.Problems {
		if p.Refuse {
			notes = append(notes, p.Text)
		}
	}
	word := "ok"
	if len(notes) > 0 {
		word = "refused"
	}
	for _, p := range v.Problems {
		if !p.Refuse {
			notes = append(notes, "warning: "+p.Text)
		}
	}
	notes = append(notes, v.Unchecked...)
	if word == "ok" {
		against := "nothing known of the kernel but its release"
		if len(v.Against) > 0 {
			against = strings.Join(v.Against, ", ")
		}
		notes = slices.Insert(notes, 0, "held against "+against)
		notes = append(notes, signerNote(v)...)
	}
	return fmt.Sprintf("%s, %s, %s: %s: %s (%s)", v.Key.ID, v.Key.Kernel, v.Key.Arch, v.Name, word, strings.Join(notes, "; "))
}

// signerNote tells who has signed an object, and what its kernel thinks of it.
func signerNote(v action.Verdict) []string {
	if v.Signature == nil {
		if v.Unsigned != "" {
			return []string{"not signed: " + v.Unsigned}
		}
		return nil
	}
	text := fmt.Sprintf("signed by %s, key %s", v.Signer, v.Signature.KeyID)
	if word := trustWord(v.Trust.Answer); v.Trust.Why != "" {
		text += ": " + word + ", " + v.Trust.Why
	}
	return []string{text}
}

// trustWord is how verify names an answer.
func trustWord(a trust.Answer) string {
	return map[trust.Answer]string{trust.Yes: "trusted", trust.No: "not trusted", trust.Unknown: "can't tell"}[a]
}

func verifyJSON(v action.Verdict) verifyItem {
	item := verifyItem{
		Module: v.Key.Module, Version: v.Key.Version, Kernel: v.Key.Kernel, Arch: v.Key.Arch, Installed: v.Installed,
		Name: v.Name, Path: v.Path, OK: !v.Refused(), Vermagic: strings.TrimSpace(v.Vermagic), SrcVersion: v.SrcVersion, Signer: v.Signer,
		Against: list0(v.Against), Unchecked: list0(v.Unchecked), Problems: []problemItem{},
	}
	if v.Signature != nil {
		item.SignerKey, item.Subject = v.Signature.KeyID, v.Subject
	}
	if v.Trust.Why != "" {
		item.Trusted, item.TrustedWhy = v.Trust.Answer.String(), v.Trust.Why
	}
	item.Unsigned = v.Unsigned
	for _, p := range v.Problems {
		item.Problems = append(item.Problems, problemItem{string(p.Code), p.Refuse, p.Text})
	}
	return item
}
