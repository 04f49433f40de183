// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"fmt"
	"strings"
	"testing"

	"dkms-go/internal/doctor"
)

// TestDoctorChecks holds the table of docs/doctor.md against the checks.
func TestDoctorChecks(t *testing.T) {
	var rows strings.Builder
	for _, c := range doctor.Checks() {
		fmt.Fprintf(&rows, "| `%s` | %s |\n", c.Name, c.About)
	}
	table := section(read(t, "docs/doctor.md"), "## What it looks at")
	if !strings.Contains(table, "|---|---|\n"+rows.String()+"\n") {
		t.Errorf("docs/doctor.md has not the table\n%s", rows.String())
	}
}
