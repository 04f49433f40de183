// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"dkms-go/internal/fleet"
)

// HubSchema names the form of `hub status --json`.
const HubSchema = "dkms-hub/1"

type hubDocument struct {
	Schema string `json:"schema"`
	URL    string `json:"url"`
	Name   string `json:"name"`
	Pinned bool   `json:"pinned"`
}

// hubVerb enrols the host at a hub, reports to it, or tells of it.
func hubVerb(ctx context.Context, c *command) error {
	words := c.args.rest
	word := ""
	if len(words) > 0 {
		word, words = words[0], words[1:]
	}
	switch {
	case word == "enrol" || word == "enroll":
		if len(words) != 2 {
			return usageError("hub enrol needs the address of the hub and a code")
		}
		return c.engine.Enrol(ctx, fleet.Membership{URL: words[0], Name: c.args.name}, words[1], absolute(c.args.ca))
	case len(words) > 0 || word != "report" && word != "status":
		return usageError("hub takes enrol, report or status, not %q%s", word, didYouMean(word, []string{"enrol", "report", "status"}))
	case word == "report":
		return c.engine.Report(ctx)
	}
	m, err := c.engine.Membership()
	if err != nil {
		return err
	}
	if c.args.has("--json") {
		return c.printJSON(hubDocument{HubSchema, m.URL, m.Name, m.Authority != ""})
	}
	pinned := "by an authority that the machine trusts"
	if m.Authority != "" {
		pinned = "by the authority that is pinned"
	}
	_, err = fmt.Fprintf(c.io.Out, "This host is %s at %s, which is known %s.\n", m.Name, m.URL, pinned)
	return err
}
