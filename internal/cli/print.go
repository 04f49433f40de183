// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"dkms-go/internal/action"
	"dkms-go/internal/conf"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// status prints how modules stand: upstream's lines, or JSON, each row as soon as
// it is known.
func status(ctx context.Context, c *command) error {
	filters := c.filters()
	out := bufio.NewWriterSize(c.io.Out, outSize)
	if c.args.has("--json") {
		return statusJSON(ctx, c, filters, out)
	}
	var outcomes []state.Outcome
	for _, f := range filters {
		for row := range c.engine.Standings(ctx, f, c.args.has("--verbose")) {
			if err := c.statusRow(out, row); err != nil {
				return fmt.Errorf("writing the list: %w", err)
			}
		}
		outcomes = append(outcomes, c.engine.Outcomes(f)...)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	action.Report(c.advice.people(c.io.Err), outcomes)
	c.engine.TellUnread(filters...)
	return nil
}

// outSize is how much of a list is written at once, in bytes.
const outSize = 16 << 10

// filters are what the command line asks for, one per kernel.
func (c *command) filters() []action.Filter {
	kernels := c.args.kernels
	if len(kernels) == 0 {
		kernels = []string{""}
	}
	var list []action.Filter
	for i, k := range kernels {
		f := action.Filter{Module: c.args.module, Version: c.args.version, Kernel: k}
		switch arches := c.args.arches; {
		case len(arches) == 1:
			f.Arch = arches[0]
		case i < len(arches):
			f.Arch = arches[i]
		}
		list = append(list, f)
	}
	return list
}

// statusRow prints one row, and what is to be said of a broken module in its place.
func (c *command) statusRow(out *bufio.Writer, row action.Standing) error {
	statusLine(out, row)
	if origin := originOf(row.Record); c.args.has("--verbose") && origin != "" {
		out.WriteString("\n  " + origin)
	}
	if row.State != action.StateBroken && row.Damage == "" && row.Lacks == "" {
		return out.WriteByte('\n') // has the error of any write before
	}
	out.WriteByte('\n')
	if err := out.Flush(); err != nil {
		return err
	}
	if row.State != action.StateBroken {
		c.tellDamage(row)
		return nil
	}
	c.advice.explain(c.io.Err, &action.Failure{
		Reason: action.BrokenModule,
		Err:    fmt.Errorf("%s has lost its source directory, or the link to it", row.Key.ID),
		Hint:   []string{"Put the source back, or add the module again if only the link is gone."},
	})
	return nil
}

// tellDamage warns of a record that is of no use, and of a result that has lost what is
// installed.
func (c *command) tellDamage(row action.Standing) {
	if row.Damage != "" {
		fmt.Fprintf(c.advice.people(c.io.Err), "Warning: %s: dkms fsck --repair moves it aside\n", row.Damage)
	}
	if row.Lacks != "" {
		fmt.Fprintf(c.advice.people(c.io.Err), "Warning: %s lacks an object of %s; what is installed is intact: dkms fsck --repair puts it back from there\n", row.Lacks, row.Key)
	}
}

// statusLine writes upstream's line, which many programs read.
func statusLine(out *bufio.Writer, s action.Standing) {
	write := func(words ...string) {
		for _, w := range words {
			out.WriteString(w)
		}
	}
	if s.State == action.StateAdded || s.State == action.StateBroken {
		write(s.Key.Module, "/", s.Key.Version, ": ", string(s.State))
		return
	}
	write(s.Key.Module, "/", s.Key.Version, ", ", s.Key.Kernel, ", ", s.Key.Arch, ": ", string(s.State))
	if s.Originals {
		write(" (Original modules exist)")
	}
	switch {
	case s.Missing:
		write(" (Built modules are missing in the kernel modules folder)")
	case s.Differs:
		write(" (Differences between built and installed modules)")
	}
	if len(s.Stale) > 0 {
		write(" (Stale: changed since it was built: ", strings.Join(s.Stale, ", "), ")")
	}
}

// originOf tells where a result came from, and which sources of prebuilts were asked
// before; "" for one without a record.
func originOf(r state.Record) string {
	if r.Origin == "" {
		return ""
	}
	text := "origin: " + r.Origin
	if p := r.Prebuilt; p != nil {
		text += ", from " + p.Source + ", signed by " + p.TrustedBy
	}
	for _, t := range r.Tried {
		text += "\n  asked before: " + t.Source + ": " + t.Outcome
	}
	return text
}

// StatusSchema names the form of `status --json`. Fields may be added to it;
// any other change makes a new number. See docs/json.md.
const StatusSchema = "dkms-status/1"

type statusItem struct {
	Module    string              `json:"module"`
	Version   string              `json:"version"`
	State     action.State        `json:"state"`
	Kernel    string              `json:"kernel,omitempty"`
	Arch      string              `json:"arch,omitempty"`
	Stale     []string            `json:"stale,omitempty"`
	Originals bool                `json:"original_modules_exist,omitempty"`
	Missing   bool                `json:"built_modules_missing,omitempty"`
	Differs   bool                `json:"built_and_installed_differ,omitempty"`
	Lacks     string              `json:"lost_from,omitempty"`
	Lost      bool                `json:"source_lost,omitempty"`
	Origin    string              `json:"origin,omitempty"`
	Prebuilt  *state.Prebuilt     `json:"prebuilt,omitempty"`
	Tried     []state.Tried       `json:"tried,omitempty"`
	Built     string              `json:"built_at,omitempty"`
	Signed    *bool               `json:"signed,omitempty"`
	Unsigned  string              `json:"unsigned,omitempty"`
	Objects   []state.ObjectEntry `json:"objects,omitempty"`
}

// statusJSON prints the document
//
//	{"schema": ..., "modules": [...], "outcomes": [...]}
//
// in which outcomes are what failed or waits.
func statusJSON(ctx context.Context, c *command, filters []action.Filter, out *bufio.Writer) error {
	fmt.Fprintf(out, "{\n  \"schema\": %q,\n  \"modules\": ", StatusSchema)
	modules, outcomes := jsonList{w: out, advice: c.advice}, jsonList{w: out, advice: c.advice}
	for _, f := range filters {
		for row := range c.engine.Standings(ctx, f, true) {
			c.tellDamage(row)
			if err := modules.add(itemOf(row)); err != nil {
				return err
			}
		}
	}
	modules.end()
	c.engine.TellUnread(filters...)
	fmt.Fprint(out, ",\n  \"outcomes\": ")
	for _, f := range filters {
		for _, o := range c.engine.Outcomes(f) {
			if err := outcomes.add(o); err != nil {
				return err
			}
		}
	}
	outcomes.end()
	fmt.Fprint(out, "\n}\n")
	if err := out.Flush(); err != nil { // has the error of any write before
		return fmt.Errorf("writing the list: %w", err)
	}
	return nil
}

// jsonList writes a list in a field of the outermost object, item by item.
type jsonList struct {
	w      *bufio.Writer
	advice advice
	begun  bool
}

func (l *jsonList) add(item any) error {
	text, err := l.advice.indented(item, "    ")
	if err != nil {
		return err
	}
	before := ",\n    "
	if !l.begun {
		before = "[\n    "
	}
	l.begun = true
	l.w.WriteString(before)
	_, err = l.w.Write(text)
	return err
}

func (l *jsonList) end() {
	if l.begun {
		l.w.WriteString("\n  ]")
	} else {
		l.w.WriteString("[]")
	}
}

func itemOf(s action.Standing) statusItem {
	item := statusItem{
		Module: s.Key.Module, Version: s.Key.Version, State: s.State, Kernel: s.Key.Kernel, Arch: s.Key.Arch,
		Stale: s.Stale, Originals: s.Originals, Missing: s.Missing, Differs: s.Differs, Lacks: s.Lacks, Lost: s.SourceLost,
	}
	if s.Record.Format != 0 {
		item.Origin, item.Signed, item.Objects = s.Record.Origin, &s.Record.Signed, s.Record.Objects
		item.Unsigned, item.Prebuilt, item.Tried = s.Record.Unsigned, s.Record.Prebuilt, s.Record.Tried
		item.Built = s.Record.Built.Format("2006-01-02T15:04:05Z07:00")
	}
	return item
}

// ListSchema names the form of `list --json`.
const ListSchema = "dkms-list/1"

type listDocument struct {
	Schema  string     `json:"schema"`
	Modules []listItem `json:"modules"`
}

type listItem struct {
	Module    string   `json:"module"`
	Version   string   `json:"version"`
	Source    string   `json:"source"`
	Broken    bool     `json:"broken,omitempty"`
	Built     []string `json:"built"`
	Installed []string `json:"installed"`
}

// list prints one line a module.
func list(_ context.Context, c *command) error {
	f := action.Filter{Module: c.args.module, Version: c.args.version}
	rows := c.engine.List(f, c.args.kernels)
	c.engine.TellUnread(f)
	if c.args.has("--json") {
		items := []listItem{}
		for _, r := range rows {
			items = append(items, listItem{r.ID.Module, r.ID.Version, r.Source, r.Broken, kernelNames(r.Built), kernelNames(r.Installed)})
		}
		return c.printJSON(listDocument{ListSchema, items})
	}
	for _, r := range rows {
		var parts []string
		if r.Broken {
			parts = append(parts, "broken, its source is missing")
		}
		if len(r.Installed) > 0 {
			parts = append(parts, "installed for "+strings.Join(kernelNames(r.Installed), " "))
		}
		if len(r.Built) > 0 {
			parts = append(parts, "built for "+strings.Join(kernelNames(r.Built), " "))
		}
		if len(parts) == 0 {
			parts = []string{"added"}
		}
		if _, err := fmt.Fprintf(c.advice.people(c.io.Out), "%s  %s\n", r.ID, strings.Join(parts, "; ")); err != nil {
			return fmt.Errorf("writing the list: %w", err)
		}
	}
	return nil
}

func kernelNames(targets []plan.Target) []string {
	names := []string{}
	for _, t := range targets {
		names = append(names, t.Kernel+"/"+t.Arch)
	}
	return names
}

// ConfigSchema names the form of `config --json`.
const ConfigSchema = "dkms-config/1"

// config prints the evaluated dkms.conf: each directive with its value as a
// shell would read it back, then what follows for the kernel.
func config(ctx context.Context, c *command) error {
	t := c.targets[0]
	m, verdict, err := c.engine.Config(ctx, c.selection(), t)
	if err != nil {
		return err
	}
	if c.args.has("--json") {
		return c.printJSON(configDocument(m, verdict, t))
	}
	fmt.Fprintf(c.io.Out, "# %s for kernel %s (%s)\n", m.File, t.Kernel, t.Arch)
	for _, name := range slices.Sorted(maps.Keys(m.Vars)) {
		values := m.Vars[name]
		for _, i := range values.Sorted() {
			key := name
			if len(values) > 1 || i > 0 || indexed(name) {
				key = fmt.Sprintf("%s[%d]", name, i)
			}
			fmt.Fprintf(c.io.Out, "%s=%s\n", key, shellQuote(values[i]))
		}
	}
	if verdict.OK {
		_, err = fmt.Fprintf(c.io.Out, "# applies to kernel %s (%s)\n", t.Kernel, t.Arch)
	} else {
		_, err = fmt.Fprintf(c.advice.people(c.io.Out), "# does not apply to kernel %s (%s): %s\n", t.Kernel, t.Arch, verdict.Reason)
	}
	return err
}

// indexed tells the directives that are given once per object.
func indexed(name string) bool {
	switch name {
	case "BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_NAME", "DEST_MODULE_LOCATION", "STRIP":
		return true
	}
	return false
}

type configDoc struct {
	Schema     string                       `json:"schema"`
	File       string                       `json:"file"`
	Module     string                       `json:"module"`
	Version    string                       `json:"version"`
	Kernel     string                       `json:"kernel"`
	Arch       string                       `json:"arch"`
	Directives map[string]map[string]string `json:"directives"`
	Make       string                       `json:"make"`
	Patches    []string                     `json:"patches"`
	Depends    []string                     `json:"build_depends"`
	Auto       bool                         `json:"autoinstall"`
	Applies    bool                         `json:"applies"`
	Reason     string                       `json:"reason"`
	Deprecated []string                     `json:"deprecated"`
}

func configDocument(m *conf.Module, v conf.Verdict, t plan.Target) configDoc {
	values := map[string]map[string]string{}
	for name, array := range m.Vars {
		values[name] = map[string]string{}
		for i, s := range array {
			values[name][fmt.Sprint(i)] = s
		}
	}
	return configDoc{
		Schema: ConfigSchema, File: m.File, Module: m.Name, Version: m.Version, Kernel: t.Kernel, Arch: t.Arch,
		Directives: values, Make: m.Make, Patches: list0(m.Patches), Depends: list0(m.BuildDepends), Auto: m.Autoinstall,
		Applies: v.OK, Reason: v.Reason, Deprecated: list0(m.Deprecated),
	}
}

// list0 makes an empty list of none, for JSON.
func list0(s []string) []string { return append([]string{}, s...) }

func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+=:,@%") == "" {
		return s
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		var b strings.Builder // as bash(1) reads $'...', so that a terminal doesn't act on it
		for _, c := range []byte(s) {
			switch {
			case c == '\'' || c == '\\':
				b.WriteString("\\" + string(c))
			case c == '\n':
				b.WriteString("\\n")
			case c == '\t':
				b.WriteString("\\t")
			case c < ' ' || c >= 0x7f:
				fmt.Fprintf(&b, "\\x%02x", c)
			default:
				b.WriteByte(c)
			}
		}
		return "$'" + b.String() + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
