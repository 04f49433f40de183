// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/state"
)

// AutoloadSchema names the form of `autoload status --json`.
const AutoloadSchema = "dkms-autoload/1"

type autoloadDocument struct {
	Schema  string   `json:"schema"`
	Module  string   `json:"module"`
	On      bool     `json:"on"`
	Objects []string `json:"objects"`
}

// autoloadVerb switches the loading of a module at boot on or off, or tells.
func autoloadVerb(ctx context.Context, c *command) error {
	asJSON := c.args.has("--json") || slices.Contains(c.args.rest, "--json")
	words := slices.DeleteFunc(slices.Clone(c.args.rest), func(w string) bool { return w == "--json" })
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
		if asJSON {
			return c.printJSON(autoloadDocument{AutoloadSchema, module, on, list0(objects)})
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
