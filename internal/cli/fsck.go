// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"dkms-go/internal/finding"
)

// FsckSchema names the form of `fsck --json`.
const FsckSchema = "dkms-fsck/1"

type fsckDocument struct {
	Schema   string            `json:"schema"`
	Findings []finding.Finding `json:"findings"`
	Repaired []finding.Finding `json:"repaired"`
	Aside    string            `json:"aside,omitempty"`
}

// fsck prints what is not in order, and what was repaired.
func fsck(ctx context.Context, c *command) error {
	if len(c.args.rest) > 0 {
		return usageError("fsck looks at everything and takes no %q", strings.Join(c.args.rest, " "))
	}
	r, err := c.engine.Fsck(ctx, c.args.has("--repair"))
	if err != nil && r.Left == nil && r.Repaired == nil {
		return err // nothing was found out
	}
	if c.args.has("--json") {
		return errors.Join(c.printJSON(fsckDocument{FsckSchema, findings0(r.Left), findings0(r.Repaired), r.Aside}), err)
	}
	var b strings.Builder
	for _, f := range r.Repaired {
		fmt.Fprintf(&b, "repaired: %s: %s\n", f.Where, f.What)
		for _, n := range f.Next {
			fmt.Fprintf(&b, "    next: %s\n", n)
		}
	}
	if r.Aside != "" {
		fmt.Fprintf(&b, "What was moved aside is in %s.\n", r.Aside)
	}
	if werr := finding.Write(&b, r.Left); werr != nil {
		return werr
	}
	if len(r.Left) == 0 {
		fmt.Fprintf(&b, "The DKMS tree and what is installed are in order.\n")
	}
	if _, werr := io.WriteString(c.advice.people(c.io.Out), b.String()); werr != nil {
		return fmt.Errorf("writing the findings: %w", werr)
	}
	return err
}

// findings0 makes a list that JSON shows as [] if it is empty.
func findings0(list []finding.Finding) []finding.Finding {
	if list == nil {
		return []finding.Finding{}
	}
	return list
}
