// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/plan"
)

// wholeHeaders adds what headers of a kernel have, besides what the machine's own need.
func (m *machine) wholeHeaders() {
	m.t.Helper()
	for _, k := range []string{k1.Kernel, k2.Kernel} {
		for _, name := range []string{"include/generated/autoconf.h", "include/config/auto.conf", "scripts/basic/fixdep", "scripts/mod/modpost"} {
			m.put("lib/modules/"+k+"/build/"+name, "")
		}
	}
}

// Headers that aren't complete are judged as doctor does.
func TestOutlookBrokenHeaders(t *testing.T) {
	m := newMachine(t)
	m.wholeHeaders()
	id := m.source("one/1")
	if _, err := m.engine().Outlook(t.Context(), "install", id, []plan.Target{k1}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(m.root + "/lib/modules/6.1.0/build/scripts/mod/modpost"); err != nil {
		t.Fatal(err)
	}
	o, err := m.engine().Outlook(t.Context(), "install", id, []plan.Target{k1})
	if failed(err).Reason != MakeFailed || !strings.Contains(err.Error(), "scripts/mod/modpost") {
		t.Error(err)
	}
	if !slices.ContainsFunc(o.Modules[0].Facts, func(f Fact) bool {
		return f.About == "headers" && f.Fits == Misfits && strings.Contains(f.Has, "modpost")
	}) {
		t.Errorf("%+v", o.Modules[0].Facts)
	}
	if d, err := m.engine().Doctor(t.Context(), id, k1.Kernel); err == nil || !strings.Contains(fmt.Sprint(d.Findings), "they lack") {
		t.Error(err, d)
	}
}

// Where there is weak-modules(8) it would be told of the objects, and isn't.
func TestOutlookWeakModules(t *testing.T) {
	m := newMachine(t)
	m.put("os-release", "ID=rhel\n")
	m.set.Paths.WeakModules = m.root + "/weak-modules"
	m.put("weak-modules", "#!/bin/sh\ntouch "+m.root+"/told\n", 0o755)
	m.wholeHeaders()
	id := m.source("one/1")
	o, err := m.engine().Outlook(t.Context(), "install", id, []plan.Target{k1})
	if err != nil || len(o.Modules) != 1 {
		t.Fatal(err, o)
	}
	if !slices.ContainsFunc(o.Modules[0].Facts, func(f Fact) bool { return f.About == "weak-modules" }) || m.has("told") {
		t.Errorf("%+v, told: %v", o.Modules[0].Facts, m.has("told"))
	}
}
