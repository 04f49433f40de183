// SPDX-License-Identifier: Apache-2.0

package cli

import "context"

func lintVerb(ctx context.Context, c *command) error { return nil }
