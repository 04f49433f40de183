// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"dkms-go/internal/build"
)

// head is what precedes the output of the failed command in each test.
const head = `DKMS (3.4.3) make.log for m/1 for kernel k (x86_64)
Sat Nov 21 03:56:56 UTC 2026

Running the pre_build script
# command: cd /build/ && configure
probe.c:1:1: error: unknown type name 'a'
probe: command not found
# exit code: 0
# elapsed time: 00:00:01
----------------------------------------------------------------

Building module(s)
# command: make KERNELRELEASE=k error: x
`

const foot = `
# exit code: 2
# elapsed time: 00:00:01
----------------------------------------------------------------
`

func TestFirstError(t *testing.T) {
	for name, tc := range map[string]struct{ log, want, last string }{ // last is want if empty
		"compiler before make": {"make[1]: *** [Makefile:1: m.o] Error 1\nm.c:830:48: error: no member\nm.c:9:1: error: later\n", "m.c:830:48: error: no member", "m.c:9:1: error: later"},
		"missing header":       {"m.c:6:10: fatal error: asm/unaligned.h: No such file or directory\n", "m.c:6:10: fatal error: asm/unaligned.h: No such file or directory", ""},
		"command line":         {"<command-line>: fatal error: kernel-config.h: No such file or directory\n", "<command-line>: fatal error: kernel-config.h: No such file or directory", ""},
		"modpost":              {"ERROR: modpost: \"f\" [m.ko] undefined!\nmake: *** [x] Error 2\n", "ERROR: modpost: \"f\" [m.ko] undefined!", "make: *** [x] Error 2"},
		"no rule":              {"make: *** No rule to make target 'x'.  Stop.\n", "make: *** No rule to make target 'x'.  Stop.", ""},
		"harmless":             {"Skipping BTF generation for m.ko due to unavailability of vmlinux\nm.c:1:1: warning: unused\n", "", "m.c:1:1: warning: unused"},
		"a script's words":     {"using System.map\nSystem.map file not found\n\n", "", "System.map file not found"},
		"nothing":              {"", "", ""},
	} {
		log := []byte(head + tc.log + foot)
		if got := build.FirstError(log); got != tc.want {
			t.Errorf("%s: first error %q, want %q", name, got, tc.want)
		}
		if tc.last == "" {
			tc.last = tc.want
		}
		if got := build.LastWords(log); got != tc.last {
			t.Errorf("%s: last words %q, want %q", name, got, tc.last)
		}
	}
}

// Whatever is returned is one whole line of the log.
func FuzzFirstError(f *testing.F) {
	f.Add(head + "m.c:1:1: error: x\r\n" + foot)
	f.Add("# command: a\nmake: *** x\n")
	f.Fuzz(func(t *testing.T, log string) {
		for _, got := range []string{build.FirstError([]byte(log)), build.LastWords([]byte(log))} {
			if strings.Contains(got, "\n") || utf8.ValidString(log) && !strings.Contains(log, got) {
				t.Errorf("%q of %q", got, log)
			}
		}
	})
}
