// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func example() Report {
	return Report{
		Schema: ReportSchema, Time: time.Unix(1e9, 0).UTC(), Distribution: "debian 12",
		Kernels: []Kernel{{Release: "6.12.117+deb12-amd64", Arch: "x86_64", Identity: strings.Repeat("a", 64), Running: true}},
		Modules: []Module{{Name: "hello", Version: "1.0", Kernel: "6.12.117+deb12-amd64", Arch: "x86_64", State: Ready, Origin: "local"}},
	}
}

func TestReadReport(t *testing.T) {
	cases := map[string]struct {
		change func(*Report)
		want   string
	}{
		"good":             {func(*Report) {}, ""},
		"schema":           {func(r *Report) { r.Schema = "dkms-report/9" }, `"dkms-report/9", not`},
		"module's name":    {func(r *Report) { r.Modules[0].Name = "../x" }, `name "../x" of a module is empty`},
		"state":            {func(r *Report) { r.Modules[0].State = "great" }, `state "great"`},
		"no such kernel":   {func(r *Report) { r.Modules[0].Kernel = "6.6" }, "doesn't have"},
		"identity":         {func(r *Report) { r.Kernels[0].Identity = "A" }, "no SHA-256"},
		"kernel's release": {func(r *Report) { r.Kernels[0].Release = "6 6" }, "release"},
		"key":              {func(r *Report) { r.Modules[0].Key = "1" }, "no SHA-256"},
		"reason":           {func(r *Report) { r.Modules[0].Reason = strings.Repeat("a", 1001) }, "too long"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := example()
			c.change(&r)
			data, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			_, err = ReadReport(data)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := ReadReport([]byte(strings.Repeat(" ", MaxReport+1))); err == nil {
		t.Error("a report that is too long is read")
	}
}

// FuzzReadReport holds that what was read can be written and read again, and has names
// that fit into a path.
func FuzzReadReport(f *testing.F) {
	data, err := json.Marshal(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadReport(data)
		if err != nil {
			return
		}
		for _, m := range r.Modules {
			if strings.ContainsAny(m.Name+m.Version+m.Kernel+m.Arch, "/ \n\x00<>\"'") || m.Name == ".." {
				t.Errorf("module %+v", m)
			}
		}
		again, err := json.Marshal(r)
		if err == nil && len(again) <= MaxReport {
			_, err = ReadReport(again)
		}
		if err != nil {
			t.Error(err)
		}
	})
}
