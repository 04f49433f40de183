// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"dkms-go/internal/action"
	"dkms-go/internal/ko"
	"dkms-go/internal/trust"
)

// KeySchema names the form of `key status --json`.
const KeySchema = "dkms-key/1"

type keyDocument struct {
	Schema      string    `json:"schema"`
	Key         string    `json:"key"`
	Certificate *keyItem  `json:"certificate,omitempty"`
	Authority   *keyItem  `json:"authority,omitempty"`
	Usable      bool      `json:"usable"`
	Reason      string    `json:"reason,omitempty"`
	Kernel      string    `json:"kernel"`
	Arch        string    `json:"arch"`
	Running     bool      `json:"running"`
	Trusted     string    `json:"trusted"`
	TrustedWhy  string    `json:"trusted_why,omitempty"`
	Enforced    string    `json:"enforced"`
	EnforcedWhy string    `json:"enforced_why"`
	SecureBoot  string    `json:"secure_boot"`
	UEFI        string    `json:"uefi"`
	Lockdown    string    `json:"lockdown,omitempty"`
	SigEnforce  string    `json:"sig_enforce"`
	Enrol       *enrolDoc `json:"enrol,omitempty"`
	Unchecked   []string  `json:"unchecked"`
}

type keyItem struct {
	Path        string    `json:"path"`
	Subject     string    `json:"subject"`
	Serial      string    `json:"serial"`
	KeyID       string    `json:"key_id"`
	Fingerprint string    `json:"sha256"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
}

type enrolDoc struct {
	Needed  bool   `json:"needed"`
	Command string `json:"command,omitempty"`
	Note    string `json:"note"`
}

func keyVerb(ctx context.Context, c *command) error {
	word := strings.Join(c.args.rest, " ")
	if len(c.args.kernels) > 1 {
		return &usage{codeOneKernel, "key works on one kernel at a time"}
	}
	switch word {
	case "status":
		release := ""
		if len(c.args.kernels) > 0 {
			if release = c.args.kernels[0]; release == "" {
				return &action.Failure{Reason: action.EmptyKernel, Err: errors.New("the kernel that -k gives is empty")}
			}
		}
		return keyStatus(ctx, c, release)
	case "generate":
		if c.args.set["--bundle"] {
			return c.engine.MakeBundleKey(c.args.keyFile)
		}
		if err := c.engine.MakeKey(ctx); err != nil {
			return err
		}
		if s, _ := c.engine.KeyStatus(ctx, ""); s.Enrol.Note != "" {
			fmt.Fprintf(c.advice.people(c.io.Out), "To enrol it: %s\n", s.EnrolLine())
		}
		return nil
	case "enrol", "enroll":
		return c.engine.EnrolKey(ctx, c.io.In)
	}
	return usageError("key takes status, generate or enrol, not %q%s", word, didYouMean(word, []string{"status", "generate", "enrol"}))
}

func keyStatus(ctx context.Context, c *command, release string) error {
	s, err := c.engine.KeyStatus(ctx, release)
	if s.Key == "" {
		return err // nothing was found out
	}
	if c.args.has("--json") {
		return errors.Join(c.printJSON(keyJSON(s)), err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "signing key: %s\n", s.Key)
	if s.Unusable != nil {
		fmt.Fprintf(&b, "usable: no (%v)\n", s.Unusable)
	}
	if s.Certificate != nil {
		describe(&b, "certificate", itemFor(s.Path, s.Certificate))
	}
	if s.CA != "" {
		describe(&b, "authority", itemFor(s.CA, s.Authority))
	}
	running := ""
	if s.Running {
		running = " (running)"
	}
	fmt.Fprintf(&b, "kernel: %s%s\n", s.Target.Kernel, running)
	if s.Trusted.Why != "" {
		fmt.Fprintf(&b, "  trusts the key: %s (%s)\n", s.Trusted.Answer, s.Trusted.Why)
	}
	fmt.Fprintf(&b, "  takes trusted signatures only: %s (%s)\n", s.Enforced.Answer, s.Enforced.Why)
	fmt.Fprintf(&b, "Secure Boot: %s\n", onOff(s.Machine.SecureBoot))
	for _, p := range s.Machine.Problems {
		fmt.Fprintf(&b, "not checked: %s\n", p)
	}
	if s.Enrol.Note != "" {
		fmt.Fprintf(&b, "to enrol it: %s\n", s.EnrolLine())
		if s.Enrol.Import {
			fmt.Fprintf(&b, "  %s\n", s.Enrol.Note)
		}
	}
	if _, werr := io.WriteString(c.advice.people(c.io.Out), b.String()); werr != nil {
		return fmt.Errorf("writing the state of the key: %w", werr)
	}
	return err
}

func describe(b *strings.Builder, what string, item *keyItem) {
	if item.Subject == "" {
		fmt.Fprintf(b, "%s: %s (not readable)\n", what, item.Path)
		return
	}
	fmt.Fprintf(b, "%s: %s\n  subject: %s\n  serial (sig_key of modinfo): %s\n  key id: %s\n  sha256: %s\n  valid: %s to %s", what, item.Path, item.Subject, item.Serial, item.KeyID,
		item.Fingerprint, item.NotBefore.Format(time.DateOnly), item.NotAfter.Format(time.DateOnly))
	if time.Now().After(item.NotAfter) {
		b.WriteString(", expired; kernels don't mind")
	}
	b.WriteByte('\n')
}

func itemFor(path string, cert *x509.Certificate) *keyItem {
	if cert == nil {
		return &keyItem{Path: path}
	}
	sum := sha256.Sum256(cert.Raw)
	subject := cert.Subject.String()
	if subject == "" {
		subject = "(empty)"
	}
	return &keyItem{path, subject, ko.HexColons(cert.SerialNumber.Bytes()), trust.KeyID(cert), ko.HexColons(sum[:]), cert.NotBefore.UTC(), cert.NotAfter.UTC()}
}

func onOff(a trust.Answer) string {
	return map[trust.Answer]string{trust.Yes: "on", trust.No: "off"}[a] + map[trust.Answer]string{trust.Unknown: "unknown"}[a]
}

func keyJSON(s action.KeyState) keyDocument {
	doc := keyDocument{
		Schema: KeySchema, Key: s.Key, Usable: s.Unusable == nil, Kernel: s.Target.Kernel, Arch: s.Target.Arch, Running: s.Running,
		Trusted: s.Trusted.Answer.String(), TrustedWhy: s.Trusted.Why, Enforced: s.Enforced.Answer.String(), EnforcedWhy: s.Enforced.Why,
		SecureBoot: s.Machine.SecureBoot.String(), UEFI: s.Machine.UEFI.String(), Lockdown: s.Machine.Lockdown, SigEnforce: s.Machine.SigEnforce.String(),
		Unchecked: list0(s.Machine.Problems),
	}
	if s.Unusable != nil {
		doc.Reason = s.Unusable.Error()
	}
	if s.Certificate != nil {
		doc.Certificate = itemFor(s.Path, s.Certificate)
	}
	if s.Authority != nil {
		doc.Authority = itemFor(s.CA, s.Authority)
	}
	if s.Enrol.Note != "" {
		doc.Enrol = &enrolDoc{Needed: s.Enrol.Import, Note: s.Enrol.Note}
		if s.Enrol.Import {
			doc.Enrol.Command = s.EnrolLine()
		}
	}
	return doc
}
