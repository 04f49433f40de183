// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"dkms-go/internal/action"
	"dkms-go/internal/durable"
	"dkms-go/internal/state"
)

// Metric is one metric that `dkms metrics` prints. All are gauges: what dkms tells is
// how things stand.
type Metric struct{ Name, Help string }

// metricTable is in the order in which they are printed.
var metricTable = []Metric{
	{"dkms_info", "The version of dkms, as a label; the value is 1."},
	{"dkms_modules", "Lines of dkms status by state: modules, and for built and installed ones their kernels."},
	{"dkms_module_state", "How a module stands; the value is 1."},
	{"dkms_module_stale", "Whether a result's kernel, compiler, source or settings have changed since it was built."},
	{"dkms_module_damaged", "Whether an object of a result is missing, or an installed one isn't the one that was built."},
	{"dkms_module_source_lost", "A module whose source is lost, so that nothing can be built of it; the value is 1."},
	{"dkms_module_built_timestamp_seconds", "When a result was built, in seconds since 1970."},
	{"dkms_module_build_duration_seconds", "How long the build of a result took."},
	{"dkms_module_failed", "A module whose last build or installation for a kernel has failed; the value is 1."},
	{"dkms_module_waiting", "A module that waits for something before it is built for a kernel; the value is 1."},
	{"dkms_required_module_ready", "Whether a kernel has a module whose FAILURE_POLICY is required: installed, complete and not stale."},
	{"dkms_boot_kernel_ready", "Whether the kernel that boots next has all required modules, and all of the running kernel."},
	{"dkms_last_build_timestamp_seconds", "When the newest result was built, in seconds since 1970."},
	{"dkms_cache_results", "How many results the cache keeps."},
	{"dkms_cache_results_bytes", "Size of the results in the cache."},
	{"dkms_cache_results_limit_bytes", "The most that the results in the cache may have; 0 if none are kept."},
	{"dkms_cache_other_bytes", "Size of all else in the directory of the cache."},
}

// MetricTable returns the table.
func MetricTable() []Metric { return metricTable }

// samples are the lines of each metric, in order.
type samples map[string][]string

// add takes a value with labels: name, value, name, value.
func (s samples) add(metric string, value float64, labels ...string) {
	var b strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		before := ","
		if i == 0 {
			before = "{"
		}
		fmt.Fprintf(&b, `%s%s="%s"`, before, labels[i], escapeLabel(labels[i+1]))
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	s[metric] = append(s[metric], metric+b.String()+" "+strconv.FormatFloat(value, 'f', -1, 64))
}

// escapeLabel writes a label's value as the text format wants it
// (prometheus.io/docs/instrumenting/exposition_formats).
func escapeLabel(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(strings.ToValidUTF8(s, "\ufffd"))
}

func (s samples) write(w io.Writer) error {
	var b strings.Builder
	for _, m := range metricTable {
		if len(s[m.Name]) == 0 {
			continue
		}
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n%s\n", m.Name, m.Help, m.Name, strings.Join(s[m.Name], "\n"))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the metrics: %w", err)
	}
	return nil
}

// metricsVerb prints the metrics, or replaces a file with them.
func metricsVerb(ctx context.Context, c *command) error {
	if len(c.args.rest) > 0 {
		return usageError("metrics is about all modules and takes no %q", strings.Join(c.args.rest, " "))
	}
	if c.args.has("--output") && c.args.output == "" {
		return usageError("--output needs a file")
	}
	m, err := c.engine.Metrics(ctx)
	c.engine.TellUnread(action.Filter{})
	if err != nil {
		return err
	}
	s := samplesOf(m)
	if c.args.output == "" {
		return s.write(c.io.Out)
	}
	var b strings.Builder
	if err := s.write(&b); err != nil {
		return err
	}
	const mode = 0o644 // another user collects them
	if err := durable.Replace(c.args.output, []byte(b.String()), mode); err != nil {
		return &action.Failure{Reason: action.NotWritable, Err: fmt.Errorf("writing %s: %w", c.args.output, err)}
	}
	return nil
}

func samplesOf(m action.Metrics) samples {
	s := samples{}
	s.add("dkms_info", 1, "version", m.Version)
	count := map[action.State]int{}
	for _, row := range m.Modules {
		count[row.State]++
		s.addModule(row)
	}
	for _, st := range []action.State{action.StateAdded, action.StateBuilt, action.StateInstalled, action.StateBroken} {
		s.add("dkms_modules", float64(count[st]), "state", string(st))
	}
	for _, o := range m.Outcomes {
		labels := keyLabels(o.Key())
		required := strconv.FormatBool(o.Required)
		if o.State == state.OutcomeFailed {
			s.add("dkms_module_failed", 1, append(labels, "reason", o.Reason, "class", o.Class, "required", required)...)
		} else {
			s.add("dkms_module_waiting", 1, append(labels, "waiting", o.Waiting, "required", required)...)
		}
	}
	for _, r := range m.Required {
		s.add("dkms_required_module_ready", truth(r.Ready), "module", r.Module, "kernel", r.Target.Kernel, "arch", r.Target.Arch)
	}
	if m.Boot != nil {
		s.add("dkms_boot_kernel_ready", truth(m.BootReady), "kernel", m.Boot.Kernel, "arch", m.Boot.Arch)
	}
	if last := m.LastBuild(); !last.IsZero() {
		s.add("dkms_last_build_timestamp_seconds", float64(last.Unix()))
	}
	s.add("dkms_cache_results", float64(m.Cache.Entries))
	s.add("dkms_cache_results_bytes", float64(m.Cache.Bytes))
	s.add("dkms_cache_results_limit_bytes", float64(m.Cache.Bound))
	s.add("dkms_cache_other_bytes", float64(m.Cache.Other))
	return s
}

func (s samples) addModule(row action.Standing) {
	labels := keyLabels(row.Key)
	s.add("dkms_module_state", 1, append(labels, "state", string(row.State))...)
	if row.SourceLost || row.State == action.StateBroken {
		const name = "dkms_module_source_lost"
		s.add(name, 1, keyLabels(state.Key{ID: row.Key.ID})...)
		s[name] = slices.Compact(s[name]) // the rows of a module follow each other
	}
	if row.Key.Kernel == "" {
		return
	}
	s.add("dkms_module_stale", truth(len(row.Stale) > 0), labels...)
	s.add("dkms_module_damaged", truth(row.Missing || row.Differs), labels...)
	if row.Record.Format != 0 {
		s.add("dkms_module_built_timestamp_seconds", float64(row.Record.Built.Unix()), labels...)
		s.add("dkms_module_build_duration_seconds", row.Record.Seconds, labels...)
	}
}

func keyLabels(k state.Key) []string {
	list := []string{"module", k.Module, "version", k.Version}
	if k.Kernel != "" {
		list = append(list, "kernel", k.Kernel, "arch", k.Arch)
	}
	return list[:len(list):len(list)]
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
