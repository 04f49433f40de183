// SPDX-License-Identifier: Apache-2.0

package build

import (
	"strings"
	"testing"
)

func TestNoted(t *testing.T) {
	inside := []string{"/var/lib/dkms/m/1/build/", "/usr/src/linux-headers-6.1/", "/usr/src/linux-", "/usr/lib/"}
	for text, want := range map[string]string{
		"source_/var/lib/dkms/m/1/build/m.o := /var/lib/dkms/m/1/build/m.c\n\ndeps_/var/lib/dkms/m/1/build/m.o := \\\n  $(wildcard include/config/X) \\\n  include/linux/kconfig.h \\\n  /usr/src/linux-headers-6.1-common/include/a.h \\\n": "",
		"savedcmd_m.o := gcc -I/opt/x -c m.c\n\ndeps_m.o := \\\n  /usr/lib/gcc/x/stdarg.h \\\n  /opt/common/v.h \\\n":                                                                                                                        "/opt/common/v.h",
		"deps_m.o := \\\n  /var/lib/dkms/m/1/build/../../../../../etc/x.h \\\n":                                                                                                                                                              "/var/lib/dkms/m/1/build/../../../../../etc/x.h",
		"deps_m.o := \\\n  /var/lib/dkms/m/1/build2/x.h\n\nx := /etc/a\n":                                                                                                                                                                    "/var/lib/dkms/m/1/build2/x.h",
		"cmd_m.ko := ld /opt/x\n": "",
	} {
		if got := noted(text, inside); got != want {
			t.Errorf("%q in\n%s\nwant %q", got, text, want)
		}
	}
}

func TestReadByMake(t *testing.T) {
	for text, want := range map[string]string{
		"ccflags-y += -DVAL=$(shell cat /etc/vendor.cfg)\n":                              "/etc/vendor.cfg",
		"X := $(wildcard /opt/x/*.c)\n":                                                  "/opt/x/",
		"-include ../common.mk\n":                                                        "../common.mk",
		"X := `cat ~/x`\n":                                                               "~/x",
		"KDIR ?= /lib/modules/$(shell uname -r)/build\nobj-m := a.o\n":                   "",
		"all:\n\tmake -C $(KDIR) M=$(shell pwd) modules\ninclude $(src)/b.mk\n":          "",
		"make -C ${kernel_source_dir} M=${dkms_tree}/m/1/build KVER=$(uname -r) modules": "",
		"X := $(shell grep -c a $(src)/file.h)\n":                                        "",
	} {
		if got := readByMake(text); got != want {
			t.Errorf("%q in %q, want %q", got, text, want)
		}
	}
}

// FuzzOutside reads makefiles and kbuild's notes: what is told lies in the text.
func FuzzOutside(f *testing.F) {
	f.Add("deps_a.o := \\\n  /usr/include/x.h \\\n  b.h \\\n", "/usr/include")
	f.Add("include /etc/x\nX := $(shell cat ../y `cat ~/z`)\n", "/")
	f.Fuzz(func(t *testing.T, text, inside string) {
		for _, path := range []string{noted(text, []string{inside}), readByMake(text)} {
			if !strings.Contains(text, path) {
				t.Errorf("%q of %q", path, text)
			}
		}
	})
}
