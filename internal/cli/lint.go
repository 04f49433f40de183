// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"dkms-go/internal/action"
	"dkms-go/internal/finding"
)

// LintSchema names the form of `lint --json`.
const LintSchema = "dkms-lint/1"

type lintDocument struct {
	Schema    string            `json:"schema"`
	Directory string            `json:"directory"`
	Findings  []finding.Finding `json:"findings"`
}

// lintVerb prints what a module's author should do better.
func lintVerb(ctx context.Context, c *command) error {
	switch len(c.args.rest) {
	case 0:
		return usageError("lint needs the directory of a module's source: dkms lint <directory>")
	case 1:
	default:
		return usageError("lint takes one directory at a time")
	}
	dir := c.args.rest[0]
	if filepath.Base(dir) == "dkms.conf" && isFile(dir) {
		dir = filepath.Dir(dir)
	}
	list, err := c.engine.Lint(ctx, filepath.Clean(dir))
	var f *action.Failure
	if errors.As(err, &f) && !f.Said {
		return err
	}
	if c.args.has("--json") {
		return errors.Join(c.printJSON(lintDocument{LintSchema, dir, findings0(list)}), err)
	}
	if werr := finding.Write(c.advice.people(c.io.Out), list); werr != nil {
		return werr
	}
	if len(list) == 0 {
		if _, werr := fmt.Fprintf(c.io.Out, "%s: nothing to improve\n", dir); werr != nil {
			return fmt.Errorf("writing the findings: %w", werr)
		}
	}
	return err
}
