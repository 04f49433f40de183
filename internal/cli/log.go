// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"dkms-go/internal/action"
	"dkms-go/internal/diagnose"
	"dkms-go/internal/report"
)

// LogSchema names the form of `log --json`.
const LogSchema = "dkms-log/1"

type logDocument struct {
	Schema    string              `json:"schema"`
	Module    string              `json:"module,omitempty"`
	Version   string              `json:"version,omitempty"`
	Kernel    string              `json:"kernel,omitempty"`
	Arch      string              `json:"arch,omitempty"`
	Path      string              `json:"path"`
	When      string              `json:"when"`
	Failed    bool                `json:"failed"`
	Diagnosis *diagnose.Diagnosis `json:"diagnosis,omitempty"`
}

// logVerb shows the log of the last build on standard output, and on standard error
// which one it is and why the build failed.
func logVerb(ctx context.Context, c *command) error {
	l, err := chosenLog(ctx, c)
	if err != nil {
		return err
	}
	if c.args.has("--json") {
		doc := logDocument{
			LogSchema, l.Key.Module, l.Key.Version, l.Key.Kernel, l.Key.Arch, l.Path,
			l.When.UTC().Format(time.RFC3339), l.Failed, nil,
		}
		if l.Failed {
			doc.Diagnosis = &l.Diagnosis
		}
		return c.printJSON(doc)
	}
	if c.args.has("--diagnosis") {
		_, err := io.WriteString(c.advice.people(c.io.Out), logHeading(l)+logSummary(l))
		return err
	}
	people := c.advice.people(c.io.Err)
	io.WriteString(people, logHeading(l))
	if _, err := report.Shown(c.io.Out).Write(l.Text); err != nil {
		return fmt.Errorf("writing the log: %w", err)
	}
	io.WriteString(people, logSummary(l))
	return nil
}

func chosenLog(ctx context.Context, c *command) (action.BuildLog, error) {
	switch {
	case c.args.archive != "":
		return c.engine.LogFile(ctx, c.args.archive)
	case c.args.missing != "":
		return c.engine.LogFile(ctx, c.args.missing)
	}
	return c.engine.Logs(ctx, c.filters())
}

// logHeading tells which log it is.
func logHeading(l action.BuildLog) string {
	var b strings.Builder
	b.WriteString("# " + l.Path)
	if l.Key.Module != "" {
		fmt.Fprintf(&b, ": %s for kernel %s (%s), %s", l.Key.ID, l.Key.Kernel, l.Key.Arch, l.When.Format("2006-01-02 15:04:05"))
	}
	b.WriteString("\n")
	if l.Others > 0 {
		fmt.Fprintf(&b, "# The newest of %d; <module>/<version> and -k choose another.\n", l.Others+1)
	}
	return b.String()
}

// logSummary is the diagnosis for people.
func logSummary(l action.BuildLog) string {
	if !l.Failed {
		return "# The build succeeded.\n"
	}
	var b strings.Builder
	d := l.Diagnosis
	word := "First error"
	if d.Guess {
		word = "Said last"
	}
	if d.Error != "" {
		fmt.Fprintf(&b, "%s (line %d): %s\n", word, d.LogLine, d.Error)
	}
	if d.Used != "" {
		fmt.Fprintf(&b, "Used at: %s\n", d.Used)
	}
	fmt.Fprintf(&b, "Cause: %s (%s)\n", d.What, d.Class)
	for _, step := range d.Next {
		b.WriteString(action.NextLine(step) + "\n")
	}
	return b.String()
}
