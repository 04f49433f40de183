// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/conf"
	"dkms-go/internal/finding"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/internal/verify"
)

// installed is a machine on which one/1 is installed for k1.
func installed(t *testing.T) (*machine, state.ID) {
	t.Helper()
	m := newMachine(t)
	m.wholeHeaders()
	id := m.source("one/1")
	m.must(m.engine().Install(t.Context(), Selection{ID: id}, []plan.Target{k1}))
	return m, id
}

// check returns the findings of one check of doctor.
func (m *machine) check(name string, id state.ID) (list []finding.Finding) {
	m.t.Helper()
	d, err := m.engine().Doctor(m.t.Context(), id, k1.Kernel)
	if f := failed(err); err != nil && !f.Said {
		m.t.Fatal(err)
	}
	for _, f := range d.Findings {
		if f.Check == name {
			list = append(list, f)
		}
	}
	return list
}

// A result that has lost its object, of which what is installed is intact, is what is
// told of, and the step that is named cures it.
func TestResultLosesItsObject(t *testing.T) {
	for _, recorded := range []bool{true, false} {
		t.Run(fmt.Sprint(recorded), func(t *testing.T) {
			m, id := installed(t)
			dir := "tree/one/1/6.1.0/x86_64/"
			if err := os.Remove(m.root + "/" + dir + "module/one.ko"); err != nil {
				t.Fatal(err)
			}
			if !recorded {
				m.must(os.Remove(m.root + "/" + dir + "build.json"))
			}
			verdicts, err := m.engine().Verify(t.Context(), Filter{Module: "one"})
			if len(verdicts) != 1 || slices.ContainsFunc(verdicts[0].Problems, func(p verify.Problem) bool { return p.Code == verify.Unreadable }) ||
				!slices.ContainsFunc(verdicts[0].Problems, func(p verify.Problem) bool { return p.Code == verify.Result && !p.Refuse }) {
				t.Errorf("%v %+v", err, verdicts)
			}
			told := append(m.check("tree", id), m.check("objects", id)...)
			for _, f := range told {
				if !slices.Equal(f.Next, []string{"$ dkms fsck --repair"}) || strings.Contains(fmt.Sprint(f), "lib/modules") && !strings.Contains(f.What, "intact") {
					t.Errorf("%+v", f)
				}
			}
			if len(told) != 1 {
				t.Errorf("%d findings: %+v", len(told), told)
			}
			s := m.engine().Status(t.Context(), Filter{Module: "one"})
			if len(s) != 1 || !s[0].Missing || s[0].Lacks != m.root+"/"+dir+"module" {
				t.Errorf("%+v", s)
			}
			if out, err := m.engine().Fsck(t.Context(), true); err != nil {
				t.Error(err, out)
			}
			verdicts, err = m.engine().Verify(t.Context(), Filter{Module: "one"})
			if err != nil || len(verdicts) != 1 || slices.ContainsFunc(verdicts[0].Problems, func(p verify.Problem) bool { return p.Code == verify.Result }) {
				t.Errorf("%v %+v", err, verdicts)
			}
			if told := append(m.check("tree", id), m.check("objects", id)...); len(told) > 0 {
				t.Errorf("%+v", told)
			}
		})
	}
}

// All that judge an installed module whose dkms.conf is broken name the file, the line
// and the syntax error.
func TestBrokenConfOfAnInstalledModule(t *testing.T) {
	for _, recorded := range []bool{true, false} {
		m, id := installed(t)
		m.put("src/one-1/dkms.conf", "# one\nPACKAGE_NAME=\"one\n")
		if !recorded {
			m.must(os.Remove(m.root + "/tree/one/1/6.1.0/x86_64/build.json"))
		}
		names := func(who, text string) {
			t.Helper()
			for _, want := range []string{"dkms.conf", "line 2", "\""} {
				if !strings.Contains(text, want) && !strings.Contains(text, strings.Replace(want+":", "line ", "", 1)) {
					t.Errorf("%s doesn't say %q: %s", who, want, text)
				}
			}
			if strings.Contains(text, "PACKAGE_NAME is missing") {
				t.Errorf("%s has the wrong cause: %s", who, text)
			}
		}
		names("doctor", fmt.Sprint(m.check("conf", id)))
		o, _ := m.engine().Outlook(t.Context(), "install", id, []plan.Target{k1})
		names("explain", fmt.Sprint(o.Modules[0].Facts, o.Modules[0].Note))
		e := m.engine()
		list, err := e.Verify(t.Context(), Filter{Module: "one"})
		names("verify", m.errw.String())
		if err != nil && strings.Contains(err.Error(), "nothing is built") || len(list) != 1 {
			t.Error(err, list)
		}
		out, _ := m.engine().Fsck(t.Context(), false)
		names("fsck", fmt.Sprint(out.Left))
		e, err = m.engine().trying(m.set, true)
		m.must(err)
		tried, err := e.try(t.Context(), []plan.Target{k1}, []state.ID{id}, nil)
		if err != nil || len(tried) != 1 || tried[0].Outcome != Fails {
			t.Fatal(err, tried)
		}
		names("preflight", tried[0].Failure.Error())
	}
}

// What fsck has put in the place of a source that is lost isn't taken for one.
func TestLostSourceIsToldOf(t *testing.T) {
	m, id := installed(t)
	m.must(os.RemoveAll(m.root + "/src/one-1"))
	if out, err := m.engine().Fsck(t.Context(), true); err != nil {
		t.Fatal(err, out)
	}
	all := m.check("source", state.ID{})
	if len(all) != 1 || all[0].Severity != finding.Warning || !strings.Contains(all[0].What, "its source is lost") ||
		!strings.Contains(strings.Join(all[0].Next, " "), m.root+"/src/one-1") || !slices.Contains(all[0].Next, "$ dkms add one/1") {
		t.Errorf("%+v", all)
	}
	if one := m.check("source", id); fmt.Sprint(one) != fmt.Sprint(all) {
		t.Errorf("%+v", one)
	}
	s := m.engine().Status(t.Context(), Filter{})
	if len(s) != 1 || s[0].State != StateInstalled || !s[0].SourceLost {
		t.Errorf("%+v", s)
	}
	m.source("one/1") // the step is done
	m.must(m.engine().Add(t.Context(), Selection{ID: id}, k1))
	if again := m.check("source", id); len(again) > 0 {
		t.Errorf("%+v", again)
	}
}

// A dry run of autoinstall ends as the real one would, as far as it can be known.
func TestDryRunOfAutoinstallFails(t *testing.T) {
	m := newMachine(t)
	for _, c := range []struct{ name, line string }{{"bare/1", ""}, {"needs/1", "BUILD_DEPENDS=bare"}, {"bad/1", ""}} {
		id := m.source(c.name, c.line)
		m.must(m.engine().Add(t.Context(), Selection{ID: id}, k1))
	}
	m.source("bad/1", "AUTOINSTALL=maybe")
	m.must(os.Remove(m.root + "/src/bare-1/bare.c")) // only its dkms.conf is left
	for _, dry := range []bool{true, false} {
		m.set.DryRun = dry
		if err := m.engine().Autoinstall(t.Context(), []plan.Target{k1}, state.ID{}); failed(err).Reason != AutoinstallFailed {
			t.Errorf("dry %v: %v", dry, err)
		}
		none := state.ID{Module: "none", Version: "1"}
		if err := m.engine().Install(t.Context(), Selection{ID: none}, []plan.Target{k1}); failed(err).Reason != NoSourceDir {
			t.Errorf("dry %v: %v", dry, err)
		}
	}
}

// What a failure means to a package manager makes no other object.
func TestPolicyIsNoInput(t *testing.T) {
	m := newMachine(t)
	id := m.source("one/1")
	digest := func(override string) string {
		m.put("etc/one.conf", override)
		e := m.engine()
		c, err := e.load(context.Background(), id, k1, conf.Auto, &m.errw)
		m.must(err)
		return e.objectDigest(c, id)
	}
	plain := digest("")
	if digest("FAILURE_POLICY=required\n") != plain {
		t.Error("FAILURE_POLICY is an input")
	}
	if digest("STRIP=no\n") == plain {
		t.Error("STRIP is none")
	}
}
