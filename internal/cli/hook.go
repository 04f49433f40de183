// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dkms-go/internal/action"
)

// hook runs one of the hooks that packages call.
func hook(ctx context.Context, c *command) error {
	words := c.args.rest
	var names []string
	for _, h := range action.HookNames() {
		names = append(names, h[0])
	}
	if len(words) == 0 {
		return usageError("hook needs a name: %s", strings.Join(names, ", "))
	}
	if !slices.Contains(names, words[0]) {
		return usageError("%q is no hook%s", words[0], didYouMean(words[0], names))
	}
	verbs := map[string][]string{
		"autoinstaller": {"start", "stop", "restart", "force-reload", "status", "reload"},
		"pacman":        {"install", "remove"},
	}[words[0]]
	if verbs != nil && (len(words) < 2 || !slices.Contains(verbs, words[1])) {
		return usageError("hook %s needs one of: %s", words[0], strings.Join(verbs, ", "))
	}
	return c.engine.Hook(ctx, words[0], words[1:], c.io.In)
}

// harmless is action.Harmless for an error that came before a hook could begin, such
// as one in framework.conf, and only for hooks that must end well.
func (c *command) harmless(err error) error {
	if c.verb.Name != "hook" || len(c.args.rest) == 0 || !action.HarmlessHook(c.args.rest[0]) {
		return err
	}
	return action.Harmless(err, func(f *action.Failure) { c.advice.explain(c.io.Err, f) })
}

// hookHelp lists the hooks.
func hookHelp() string {
	var b strings.Builder
	b.WriteString("\nHooks:\n")
	for _, h := range action.HookNames() {
		fmt.Fprintf(&b, "  %-16s %s\n", h[0], h[1])
	}
	return b.String()
}
