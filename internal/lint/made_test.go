// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"reflect"
	"strings"
	"testing"
)

func TestObjects(t *testing.T) {
	for _, test := range []struct {
		name  string
		texts map[string]string
		want  []Made
		whole bool
	}{
		{"plain", map[string]string{"Makefile": "obj-m := a.o b.o\n"}, []Made{{Name: "a"}, {Name: "b"}}, true},
		{"variables", map[string]string{"Makefile": "NAME := hello\nobj-m += $(NAME).o\nhello-y := x.o\n"}, []Made{{Name: "hello"}}, true},
		{"unknown variable", map[string]string{"Makefile": "obj-m += $(NAME).o a.o\n"}, []Made{{Name: "a"}}, false},
		{"kbuild has the word", map[string]string{"Makefile": "obj-m := old.o\n", "Kbuild": "obj-m := new.o\n"}, []Made{{Name: "new"}}, true},
		{"option", map[string]string{"Makefile": "obj-$(CONFIG_HELLO) += hello.o\n"}, []Made{{Name: "hello", Config: "CONFIG_HELLO"}}, true},
		{"option of its own", map[string]string{"Makefile": "CONFIG_HELLO ?= m\nobj-$(CONFIG_HELLO) += hello.o\n"}, []Made{{Name: "hello"}}, true},
		{"below", map[string]string{"Makefile": "obj-m := src/\n", "src/Makefile": "obj-m := hello.o\n"}, []Made{{Name: "hello", Dir: "src"}}, true},
		{"object below", map[string]string{"Makefile": "obj-m := src/hello.o\n"}, []Made{{Name: "hello", Dir: "src"}}, true},
		{"only below", map[string]string{"src/Makefile": "obj-m := hello.o\n"}, []Made{{Name: "hello", Dir: "src", Root: "src"}}, true},
		{"by hand", map[string]string{"Makefile": "ifneq ($(KERNELRELEASE),)\nobj-m := a.o\nelse\nobj-m := b.o\nendif\n"}, []Made{{Name: "a"}}, true},
		{"out of the source", map[string]string{"Makefile": "obj-m := ../a.o /b.o c.o\n"}, []Made{{Name: "c"}}, true},
		{"none", map[string]string{"Makefile": "all:\n\tgcc x.c\n", "rules.mk": "obj-m := a.o\n"}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, whole := Objects(test.texts)
			if len(got)+len(test.want) > 0 && !reflect.DeepEqual(got, test.want) || whole != test.whole {
				t.Errorf("%+v, %v; want %+v, %v", got, whole, test.want, test.whole)
			}
		})
	}
}

func TestInfos(t *testing.T) {
	got := Infos(map[string]string{
		"a.c": "#define VER \"1.2\"\nMODULE_VERSION(VER);\n/* MODULE_LICENSE(\"X\"); */\nMODULE_LICENSE(\"GPL\");\nMODULE_AUTHOR(\"A \\\"B\\\"\" \" C\");\n",
		"b.c": "MODULE_LICENSE(\"GPL\"); MODULE_DESCRIPTION(describe(1));\n", "hello.mod.c": "MODULE_LICENSE(\"Y\");\n",
	})
	want := map[string][]string{"VERSION": {"1.2"}, "LICENSE": {"GPL"}, "AUTHOR": {`A "B" C`}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzObjects(f *testing.F) {
	f.Add("obj-m := a.o sub/ x/b.o\n", "obj-$(CONFIG_A) += ../c.o\n")
	f.Add("ifneq ($(KERNELRELEASE),)\nobj-m := $(A).o\nelse\nendif\nA = $(A)\n", "obj-m := ./\n")
	f.Fuzz(func(t *testing.T, top, below string) {
		list, _ := Objects(map[string]string{"Makefile": top, "sub/Kbuild": below})
		for _, m := range list {
			if m.Name == "" || strings.HasPrefix(m.Name, ".") || strings.HasPrefix(m.Dir, "/") || strings.HasPrefix(m.Dir, "..") {
				t.Errorf("%+v", m)
			}
		}
		Infos(map[string]string{"a.c": top, "b.h": below})
	})
}
