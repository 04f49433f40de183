// SPDX-License-Identifier: Apache-2.0

package finding

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestOrderAndForms(t *testing.T) {
	list := []Finding{
		{Check: "b", Severity: Note, What: "old kernels are left"},
		{Check: "a", Severity: Error, Where: "6.1.0-9", What: "no headers", Why: "nothing can be built", Next: []string{"$ apt install linux-headers-6.1.0-9"}},
	}
	if worst, any := Worst(list); worst != Error || !any {
		t.Errorf("the worst is %v, %v", worst, any)
	}
	if _, any := Worst(nil); any {
		t.Error("an empty list has a worst finding")
	}
	Sort(list)
	var b strings.Builder
	if err := Write(&b, list); err != nil {
		t.Fatal(err)
	}
	want := "error: 6.1.0-9: no headers\n    nothing can be built\n    next: $ apt install linux-headers-6.1.0-9\nnote: old kernels are left\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	text, err := json.Marshal(list[1])
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"check":"b","severity":"note","what":"old kernels are left"}`; string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
}
