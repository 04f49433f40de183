// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"dkms-go/internal/action"
)

// ReadySchema names the form of `ready --json`.
const ReadySchema = "dkms-ready/1"

type readyDocument struct {
	Schema  string      `json:"schema"`
	Kernel  string      `json:"kernel"`
	Arch    string      `json:"arch"`
	Why     string      `json:"why,omitempty"`
	Ready   bool        `json:"ready"`
	Modules []readyItem `json:"modules"`
}

type readyItem struct {
	Module  string   `json:"module"`
	Version string   `json:"version,omitempty"`
	Needed  string   `json:"needed"`
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
}

// ready tells whether a kernel has its modules: a line for each that it lacks,
// then the verdict.
func ready(ctx context.Context, c *command) error {
	switch {
	case c.args.module != "":
		return usageError("ready is about all modules of a kernel and takes none by name")
	case c.args.has("--templatekernel") && c.args.template == "":
		return usageError("--templatekernel needs a kernel")
	}
	release := ""
	if len(c.args.kernels) > 0 {
		if c.args.has("--next-boot") {
			return usageError("-k and --next-boot contradict each other")
		}
		if release = c.args.kernels[0]; release == "" {
			return &action.Failure{Reason: action.EmptyKernel, Err: errors.New("the kernel that -k gives is empty")}
		}
	}
	r, err := c.engine.Ready(ctx, release, c.args.template)
	if err != nil && r.Ready() {
		return err // nothing was found out
	}
	if c.args.has("--json") {
		return errors.Join(c.printJSON(readyJSON(r)), err)
	}
	for _, m := range r.Modules {
		for _, reason := range m.Reasons {
			name := m.Module
			if m.Version != "" {
				name += "/" + m.Version
			}
			fmt.Fprintf(c.advice.people(c.io.Out), "kernel %s: %s: %s (needed: %s)\n", r.Target.Kernel, name, reason, m.Needed)
		}
	}
	if r.Model != "" && !c.engine.Known(r.Model) {
		fmt.Fprintf(c.io.Err, "Note: the running kernel %s is not installed here, so only required modules count. --templatekernel names another model.\n", r.Model)
	}
	word, why := "ready", ""
	if !r.Ready() {
		word = "not ready"
	}
	if r.Why != "" {
		why = " (" + r.Why + ")"
	}
	if _, err := fmt.Fprintf(c.advice.people(c.io.Out), "kernel %s: %s, needed modules: %d%s\n", r.Target.Kernel, word, len(r.Modules), why); err != nil {
		return fmt.Errorf("writing the verdict: %w", err)
	}
	return err
}

func readyJSON(r action.Readiness) readyDocument {
	doc := readyDocument{Schema: ReadySchema, Kernel: r.Target.Kernel, Arch: r.Target.Arch, Why: r.Why, Ready: r.Ready(), Modules: []readyItem{}}
	for _, m := range r.Modules {
		doc.Modules = append(doc.Modules, readyItem{m.Module, m.Version, m.Needed, len(m.Reasons) == 0, list0(m.Reasons)})
	}
	return doc
}
