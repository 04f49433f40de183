// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestHostileText has texts that once ended the program, or kept it for ever, when
// they were only read.
func TestHostileText(t *testing.T) {
	for name, text := range map[string]string{
		"panic in a pipe":          "(( PATCH[0] = 1 )) | true",
		"panic in the background":  "(( PATCH[0] = 1 )) &\nwait",
		"panic in a substitution":  "cat <((( PATCH[0] = 1 )))",
		"panic behind eval":        "eval '(( PATCH[0] = 1 )) | true'",
		"panic behind two evals":   "command eval \"eval '(( PATCH[0] = 1 )) | true'\"",
		"panic in a trap":          "trap '(( PATCH[0] = 1 )) | true' EXIT",
		"panic in the second run":  `MAKE='$( (( PATCH[0] = 1 )) | true )'`,
		"panic with return":        "return 0\n(( PATCH[0] = 1 )) | true",
		"eval of itself":           "f() { eval f; }; f",
		"a function by a variable": "x=f; f() { $x; }; f",
		"command of itself":        "f() { command eval f; }; f",
		"source of itself":         ". $BASH_SOURCE",
		"relative source":          "cd ../headers; . ./dkms.conf",
		"a pipe without an end":    ". $kernel_source_dir/fifo; read x <$kernel_source_dir/fifo; x=$(<$kernel_source_dir/fifo)",
		"a device without an end":  ". /dev/zero; x=$(</dev/zero); mapfile x </dev/zero",
		"name of itself":           "declare -n a=b; declare -n b=a; x=$a; a=1",
		"a trap of itself":         "f() { trap f EXIT; exit; }; f",
		"a huge index":             "PATCH[999999999999]=x; BUILT_MODULE_NAME[2147483647]=y",
		"braces":                   "PATCH=({1..99999999}{1..99999999}); echo {1..999999999}",
	} {
		l, ksd := testLoader(t)
		if err := syscall.Mkfifo(filepath.Join(ksd, "fifo"), 0o644); err != nil {
			t.Fatal(err)
		}
		l.Bash = nil
		file := filepath.Join(ksd, "dkms.conf")
		writeFile(t, file, minimal+text+"\n")
		for _, p := range []Policy{NoExec, Go} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			r := request(ksd, file, testKernels[0])
			r.Policy = p
			_, err := l.Load(ctx, r)
			if ctx.Err() != nil {
				t.Errorf("%s: policy %d: it doesn't end: %v", name, p, err)
			}
			cancel()
		}
	}
	l, ksd := testLoader(t)
	if _, err := l.Load(t.Context(), request(ksd, filepath.Join(ksd, ".."), "k")); err == nil {
		t.Error("a directory is read")
	}
	fifo := filepath.Join(ksd, "fifo")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Load(t.Context(), request(ksd, fifo, "k")); err == nil {
		t.Error("a pipe is read")
	}
}
