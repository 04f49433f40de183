// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"
)

// help returns the help of an action, or that of dkms.
func help(name string) string {
	if v := verbNamed(name); v != nil {
		return verbHelp(v)
	}
	var b strings.Builder
	b.WriteString("Usage: dkms <action> [options]\n\nDynamic Kernel Module Support: builds and installs kernel modules for every kernel.\n\nActions:\n")
	for _, v := range verbTable {
		fmt.Fprintf(&b, "  %-16s %s\n", v.Name, v.Help)
	}
	b.WriteString("\nCommon options:\n")
	writeOptions(&b, append([]string{"--module", "-v", "--kernelver", "--arch", "--all", "--force", "--dry-run", "--json"}, commonOptions...))
	b.WriteString(`
A module may be named <name>/<version> anywhere in place of -m <name> -v <version>.
'dkms <action> --help' tells the options and exit codes of an action; dkms(8) tells all.

Examples:
  dkms status
  dkms install dm-remap/1.0.0 -k 6.12.117+deb12-amd64
  dkms remove dm-remap/1.0.0 --all
`)
	return b.String()
}

func verbHelp(v *Verb) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: dkms %s %s\n\n%s.\n\nOptions:\n", v.Name, v.Usage, sentence(v.Help))
	writeOptions(&b, append(slices.Clone(v.Options), commonOptions...))
	if v.More != nil {
		b.WriteString(v.More())
	}
	b.WriteString("\nExit codes:\n")
	for _, row := range v.exitRows() {
		number := fmt.Sprint(row.Code)
		if row.Code < 0 {
			number = "n"
		}
		fmt.Fprintf(&b, "  %3s  %s\n", number, row.Words)
	}
	return b.String()
}

// exitRows lists the exit codes of an action: those typical of it and those
// that any may end with.
func (v *Verb) exitRows() []ExitRow {
	rows := []ExitRow{{Code: codeOK, Words: "done, or nothing to do"}, {Code: codeUsage, Words: "the command line can't be understood"}}
	for _, r := range exitTable {
		if slices.Contains(v.Codes, r.Reason) {
			rows = append(rows, r)
		}
	}
	return rows
}

func writeOptions(b *strings.Builder, names []string) {
	for _, o := range optionTable {
		if !slices.Contains(names, o.Name()) {
			continue
		}
		left := o.Long
		if o.Short != "" {
			left = strings.TrimPrefix(o.Short+", "+o.Long, ", ")
			left = strings.TrimSuffix(left, ", ")
		}
		if o.Arg != "" {
			left += " <" + o.Arg + ">"
		}
		fmt.Fprintf(b, "  %-32s %s\n", left, o.Help)
	}
}
