// SPDX-License-Identifier: Apache-2.0

package state

import (
	"os"
	"reflect"
	"testing"
	"time"
)

func TestOutcomes(t *testing.T) {
	tree := Tree{Dir: t.TempDir()}
	k := Key{ID{"m", "1"}, "6.1", "x"}
	if _, ok := tree.Outcome(k); ok {
		t.Error("an outcome before any was kept")
	}
	o := Outcome{
		Module: "m", Version: "1", Kernel: "6.1", Arch: "x", State: OutcomeFailed, Required: true,
		When: time.Unix(1e9, 5).UTC(), Code: 10, Error: "a.c:1: error", Hints: []string{"look"}, Inputs: "d",
	}
	for _, v := range []string{"1", "2"} {
		o.Version = v
		if err := tree.KeepOutcome(o); err != nil {
			t.Fatal(err)
		}
	}
	o.Version, o.Format, o.When = "1", OutcomeFormat, time.Unix(1e9, 0).UTC()
	if got, ok := tree.Outcome(k); !ok || !reflect.DeepEqual(got, o) {
		t.Errorf("Outcome = %+v, %v, want %+v", got, ok, o)
	}
	if n := len(tree.Outcomes(ID{}, "")); n != 2 {
		t.Errorf("%d outcomes, want 2", n)
	}
	if list := tree.Outcomes(ID{"m", "1"}, "6.*"); len(list) != 1 || list[0].Key() != k {
		t.Errorf("Outcomes of m/1: %+v", list)
	}
	if list := tree.Outcomes(ID{"m", ""}, "6.2"); len(list) != 0 {
		t.Errorf("Outcomes for another kernel: %+v", list)
	}
	if err := tree.DropOutcome(k); err != nil {
		t.Fatal(err)
	}
	k.Version = "2"
	if err := tree.DropOutcome(k); err != nil {
		t.Fatal(err)
	}
	if err := tree.DropOutcome(k); err != nil {
		t.Errorf("dropping what isn't there: %v", err)
	}
	if left, _ := os.ReadDir(tree.Dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestDamagedOutcomeIsNone(t *testing.T) {
	tree := Tree{Dir: t.TempDir()}
	k := Key{ID{"m", "1"}, "6.1", "x"}
	for _, text := range []string{"", "{", `{"format":99,"module":"m","version":"1","kernel":"6.1","arch":"x"}`, `{"format":1,"module":"n"}`} {
		put(t, tree.outcomePath(k), text)
		if o, ok := tree.Outcome(k); ok {
			t.Errorf("%q gives %+v", text, o)
		}
		if len(tree.Outcomes(ID{}, "")) != 0 {
			t.Errorf("%q is listed", text)
		}
	}
}

func TestRetired(t *testing.T) {
	tree := Tree{Dir: t.TempDir()}
	id := ID{"m", "1"}
	put(t, tree.KeptSource(id)+"/dkms.conf", "")
	link(t, t.TempDir(), tree.SourceLink(id))
	if tree.Retired(id) {
		t.Error("a module with its own source is retired")
	}
	os.Remove(tree.SourceLink(id))
	link(t, tree.KeptSource(id), tree.SourceLink(id))
	if !tree.Retired(id) || tree.Condition(id) != Added {
		t.Errorf("retired %v, condition %v", tree.Retired(id), tree.Condition(id))
	}
	if ids := tree.Modules("", ""); len(ids) != 1 {
		t.Errorf("modules: %v", ids)
	}
}
