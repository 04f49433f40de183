// SPDX-License-Identifier: Apache-2.0

package host

import (
	"path/filepath"
	"reflect"
	"testing"
)

// Every place of a machine has a default, and it is absolute.
func TestDefault(t *testing.T) {
	v := reflect.ValueOf(Default())
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			if !filepath.IsAbs(f.String()) || filepath.Clean(f.String()) != f.String() {
				t.Errorf("%s is %q", name, f)
			}
		case reflect.Slice:
			if f.Len() == 0 {
				t.Errorf("%s is empty", name)
			}
		default:
			t.Errorf("%s has a kind that isn't looked at", name)
		}
	}
}

func TestJoined(t *testing.T) {
	p := Default()
	for got, want := range map[string]string{
		p.KernelTree("6.1"): "/lib/modules/6.1",
		p.SystemMap("6.1"):  "/boot/System.map-6.1",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
