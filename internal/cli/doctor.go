// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"dkms-go/internal/action"
	"dkms-go/internal/finding"
)

// DoctorSchema names the form of `doctor --json`.
const DoctorSchema = "dkms-doctor/1"

type doctorDocument struct {
	Schema   string            `json:"schema"`
	Module   string            `json:"module,omitempty"`
	Version  string            `json:"version,omitempty"`
	Kernel   string            `json:"kernel,omitempty"`
	Arch     string            `json:"arch,omitempty"`
	Findings []finding.Finding `json:"findings"`
}

// doctorVerb prints what keeps modules from working, worst first, then the verdict.
func doctorVerb(ctx context.Context, c *command) error {
	release := ""
	if len(c.args.kernels) > 0 {
		if release = c.args.kernels[0]; release == "" {
			return &action.Failure{Reason: action.EmptyKernel, Err: errors.New("the kernel that -k gives is empty")}
		}
	}
	d, err := c.engine.Doctor(ctx, c.id(), release)
	if err != nil && len(d.Findings) == 0 {
		return err // nothing was looked at
	}
	if c.args.has("--json") {
		doc := doctorDocument{DoctorSchema, c.args.module, c.args.version, d.Target.Kernel, d.Target.Arch, append([]finding.Finding{}, d.Findings...)}
		return errors.Join(c.printJSON(doc), err)
	}
	if err := finding.Write(c.advice.people(c.io.Out), d.Findings); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.io.Out, doctorLine(d)); err != nil {
		return fmt.Errorf("writing the verdict: %w", err)
	}
	return err
}

// doctorLine is the verdict.
func doctorLine(d action.Diagnosis) string {
	at := ""
	if d.Target.Kernel != "" {
		at = "kernel " + d.Target.Kernel + ": "
	}
	if len(d.Findings) == 0 {
		return at + "nothing is amiss"
	}
	count := map[finding.Severity]int{}
	for _, f := range d.Findings {
		count[f.Severity]++
	}
	return fmt.Sprintf("%serrors: %d, warnings: %d, notes: %d", at, count[finding.Error], count[finding.Warning], count[finding.Note])
}
