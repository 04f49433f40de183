// SPDX-License-Identifier: Apache-2.0

package action

import (
	"slices"
	"testing"

	"dkms-go/internal/plan"
)

// Where there is weak-modules(8) it would be told of the objects, and isn't.
func TestOutlookWeakModules(t *testing.T) {
	m := newMachine(t)
	m.put("os-release", "ID=rhel\n")
	m.set.Paths.WeakModules = m.root + "/weak-modules"
	m.put("weak-modules", "#!/bin/sh\ntouch "+m.root+"/told\n", 0o755)
	id := m.source("one/1")
	o, err := m.engine().Outlook(t.Context(), "install", id, []plan.Target{k1})
	if err != nil || len(o.Modules) != 1 {
		t.Fatal(err, o)
	}
	if !slices.ContainsFunc(o.Modules[0].Facts, func(f Fact) bool { return f.About == "weak-modules" }) || m.has("told") {
		t.Errorf("%+v, told: %v", o.Modules[0].Facts, m.has("told"))
	}
}
