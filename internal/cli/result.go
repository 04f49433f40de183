// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"math"
	"time"

	"dkms-go/internal/action"
	"dkms-go/internal/diagnose"
)

// ResultSchema names the form of what the actions that change something print with
// --json.
const ResultSchema = "dkms-result/1"

type resultDocument struct {
	Schema  string       `json:"schema"`
	Action  string       `json:"action"`
	Code    int          `json:"exit_code"`
	Seconds float64      `json:"seconds"`
	DryRun  bool         `json:"dry_run,omitempty"`
	Failure *failureItem `json:"failure,omitempty"`
	Steps   []stepItem   `json:"steps"`
}

type stepItem struct {
	Action    string              `json:"action"`
	Module    string              `json:"module,omitempty"`
	Version   string              `json:"version,omitempty"`
	Kernel    string              `json:"kernel,omitempty"`
	Arch      string              `json:"arch,omitempty"`
	Outcome   action.Ending       `json:"outcome"`
	Why       string              `json:"why,omitempty"`
	Seconds   float64             `json:"seconds,omitempty"`
	Log       string              `json:"log,omitempty"`
	Failure   *failureItem        `json:"failure,omitempty"`
	Diagnosis *diagnose.Diagnosis `json:"diagnosis,omitempty"`
}

type failureItem struct {
	Reason string   `json:"reason"`
	Code   int      `json:"exit_code"`
	Error  string   `json:"error"`
	Hints  []string `json:"hints,omitempty"`
}

// reported performs an action that changes something and prints what became of its
// steps as JSON. What is for people goes to standard error.
func reported(ctx context.Context, c *command) error {
	begun, out := time.Now(), c.io.Out
	c.io.Out = c.io.Err
	err := settle(ctx, carryOut(ctx, c))
	var u *usage
	if errors.As(err, &u) {
		return err // nothing was begun
	}
	doc := resultDocument{
		Schema: ResultSchema, Action: c.verb.Name, Seconds: rounded(time.Since(begun)),
		DryRun: c.args.has("--dry-run"), Steps: []stepItem{},
	}
	if err != nil {
		doc.Failure = failureOf(asFailure(err))
		doc.Code = doc.Failure.Code
	}
	if c.engine != nil {
		for _, r := range c.engine.Results() {
			doc.Steps = append(doc.Steps, stepOf(r))
		}
	}
	return errors.Join(err, c.printJSONTo(out, doc))
}

func stepOf(r action.Result) stepItem {
	item := stepItem{
		Action: r.Action, Module: r.Key.Module, Version: r.Key.Version, Kernel: r.Key.Kernel, Arch: r.Key.Arch,
		Outcome: r.Ending, Why: r.Why, Seconds: rounded(r.Took), Log: r.Log,
	}
	if r.Failure != nil {
		item.Failure, item.Diagnosis = failureOf(r.Failure), r.Failure.Diagnosis
	}
	return item
}

func failureOf(f *action.Failure) *failureItem {
	return &failureItem{f.Reason.String(), code(f), f.Error(), f.Hints()}
}

// rounded is a duration in seconds, to the millisecond.
func rounded(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
