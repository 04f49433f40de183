// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"dkms-go/internal/state"
)

// autoloadVerb switches the loading of a module at boot on or off, or tells.
func autoloadVerb(ctx context.Context, c *command) error {
	words := c.args.rest
	if len(words) != 2 {
		return usageError("autoload needs on, off or status, and a module")
	}
	module, version, _ := strings.Cut(words[1], "/")
	id := state.ID{Module: module, Version: version}
	switch words[0] {
	case "on", "off":
		return c.engine.Autoload(ctx, id, words[0] == "on")
	case "status":
		objects, on, err := c.engine.AutoloadState(id)
		if err != nil {
			return err
		}
		if !on {
			_, err = fmt.Fprintf(c.io.Out, "%s: off\n", module)
			return err
		}
		_, err = fmt.Fprintf(c.io.Out, "%s: on, %s\n", module, strings.Join(objects, " "))
		return err
	}
	return usageError("autoload takes on, off or status, not %q", words[0])
}
