// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"dkms-go/internal/plan"
)

// importVerb installs a module from a bundle.
func importVerb(ctx context.Context, c *command) error {
	if len(c.args.rest) != 1 {
		return usageError("import takes one bundle, not %d", len(c.args.rest))
	}
	targets, err := c.named()
	if err != nil {
		return err
	}
	return c.engine.Import(ctx, c.args.rest[0], targets, c.args.trust)
}

// named are the kernels that the command line names, none by default.
func (c *command) named() ([]plan.Target, error) {
	if len(c.args.kernels) == 0 {
		return nil, nil
	}
	return c.engine.Targets(c.args.kernels, c.args.arches, true)
}
