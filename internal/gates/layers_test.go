// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layerTable has the packages below internal in order: each may import only
// what stands before it. ARCHITECTURE.md shows the same table.
func layerTable() [][]string {
	return [][]string{
		{"host", "run", "capacity", "jobserver", "report", "vercmp", "nearmiss", "distro", "altroot", "untrusted", "aside", "copytree", "durable", "memo", "finding", "journald", "fleet", "dsse"},
		{"conf", "kernel", "headers", "ko", "abi", "fingerprint", "state", "cache", "mok", "trust"},
		{"plan", "verify", "doctor", "lint", "draft", "diagnose"},
		{"hook", "modindex", "build", "install", "bundle", "pack", "initramfs", "autoload", "boot", "prebuilt", "prebuilt/dir", "prebuilt/web", "prebuilt/oci"},
		{"action"},
		{"hub/store", "hub/pki", "hub/ledger", "hub/vouch", "hub/web", "hub/data"},
		{"cli", "hubcli"},
	}
}

// TestLayers holds the imports of the program against the table.
func TestLayers(t *testing.T) {
	order := slices.Concat(layerTable()...)
	for _, s := range program(t) {
		pkg, inside := strings.CutPrefix(s.dir(), "internal"+string(filepath.Separator))
		if s.dir() == filepath.Join("internal", "gates") {
			continue
		}
		place := slices.Index(order, pkg)
		if inside && place < 0 {
			t.Errorf("%s: the package is not in the table of layers", s.path)
			continue
		}
		for _, spec := range s.ast.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			own, ok := strings.CutPrefix(path, module+"/")
			if !ok {
				continue
			}
			dep, ok := strings.CutPrefix(own, "internal/")
			switch at := slices.Index(order, dep); {
			case !ok, dep == "gates":
				t.Errorf("%s imports %s, which is for tests", s.at(spec), path)
			case !inside && dep != "cli" && dep != "hubcli":
				t.Errorf("%s: a command imports %s; all it needs is its face", s.at(spec), path)
			case inside && at >= place:
				t.Errorf("%s: %s may not import %s, which stands behind it in the table of layers", s.at(spec), pkg, dep)
			case inside && (dep == "build" || dep == "install") && pkg != "action":
				t.Errorf("%s: only action may import %s", s.at(spec), dep)
			}
		}
	}
}

// TestArchitectureNamesEveryPackage keeps the page and the table together.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	page := read(t, "ARCHITECTURE.md")
	for _, pkg := range slices.Concat(layerTable()...) {
		if !strings.Contains(page, "`"+pkg+"`") {
			t.Errorf("ARCHITECTURE.md doesn't name the package %s", pkg)
		}
		if matches, _ := filepath.Glob(filepath.Join(top(t), "internal", pkg, "*.go")); len(matches) == 0 {
			t.Errorf("the table of layers has %s, which doesn't exist", pkg)
		}
	}
}
