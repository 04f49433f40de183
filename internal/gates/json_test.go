// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/cli"
)

// TestJSONFields wants every field and schema of what is written as JSON on
// the page that describes it.
func TestJSONFields(t *testing.T) {
	pages := map[string]string{
		"internal/cli/print.go":         "docs/json.md",
		"internal/cli/verify.go":        "docs/json.md",
		"internal/cli/ready.go":         "docs/json.md",
		"internal/cli/preflight.go":     "docs/json.md",
		"internal/cli/matrix.go":        "docs/json.md",
		"internal/cli/doctor.go":        "docs/json.md",
		"internal/cli/fsck.go":          "docs/json.md",
		"internal/cli/lint.go":          "docs/json.md",
		"internal/finding/finding.go":   "docs/json.md",
		"internal/cli/cache.go":         "docs/json.md",
		"internal/cli/key.go":           "docs/json.md",
		"internal/state/outcome.go":     "docs/on-disk.md",
		"internal/state/result.go":      "docs/on-disk.md",
		"internal/kernel/identity.go":   "docs/on-disk.md",
		"internal/cli/log.go":           "docs/json.md",
		"internal/diagnose/diagnose.go": "docs/json.md",
	}
	for file, page := range pages {
		text := read(t, page)
		fields := all("json:\"([a-z_0-9]+)[,\"]", read(t, filepath.FromSlash(file)))
		if len(fields) == 0 {
			t.Errorf("%s has no JSON fields; has it moved?", file)
		}
		for _, f := range fields {
			if !strings.Contains(text, "`"+f+"`") {
				t.Errorf("%s doesn't describe the field %s of %s", page, f, file)
			}
		}
	}
	for _, schema := range []string{cli.StatusSchema, cli.ListSchema, cli.ConfigSchema, cli.VerifySchema, cli.ReadySchema, cli.PreflightSchema, cli.MatrixSchema, cli.DoctorSchema, cli.FsckSchema, cli.LintSchema, cli.LogSchema, cli.CacheSchema, cli.KeySchema} {
		if !strings.Contains(read(t, "docs/json.md"), "## "+schema+"\n") {
			t.Errorf("docs/json.md has no section %s", schema)
		}
	}
}
