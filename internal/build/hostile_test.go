// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"os"
	"strings"
	"testing"

	"dkms-go/internal/mok"
	"dkms-go/internal/untrusted"
)

// What the commands of a build leave in its directory leads root nowhere: not
// to files outside, not into a pipe that nobody writes to.
func TestLeftNamesLeadNowhere(t *testing.T) {
	const compile = `gcc -c -DRELEASE='"6.1"' -o a.ko a.c; `
	cases := map[string]struct {
		do    string // with SECRET, a file that only root may read
		stage Stage  // "" for a build that succeeds
		says  string
	}{
		"object link":      {`ln -s SECRET a.ko`, Missing, "leads out"},
		"object pipe":      {`mkfifo a.ko`, Missing, "named pipe"},
		"object directory": {`mkdir a.ko`, Missing, "directory"},
		"object device":    {`ln -s /dev/zero a.ko`, Missing, "leads out"},
		"object node":      {`mknod a.ko c 1 5`, Missing, "device"},
		"object huge":      {`truncate -s 1T a.ko`, Collect, "has 1099511627776 bytes"},
		"object linked":    {compile + `mv a.ko b.ko; ln -s $PWD/b.ko a.ko`, "", ""},
		"symvers link":     {compile + `ln -s SECRET Module.symvers`, Collect, "leads out"},
		"symvers pipe":     {compile + `mkfifo Module.symvers`, Collect, "named pipe"},
		"symvers huge":     {compile + `truncate -s 1T Module.symvers`, Collect, "has 1099511627776 bytes"},
		"log link":         {compile + `rm make.log; ln -s SECRET make.log`, "", ""},
		"log pipe":         {compile + `rm make.log; mkfifo make.log`, "", ""},
		"log directory":    {compile + `rm make.log; mkdir -p make.log/x`, "", ""},
		"log gone":         {compile + `rm make.log; exit 3`, Make, "exit status 3"},
		"log replaced":     {`rm make.log; ln -s SECRET make.log; exit 3`, Make, "exit status 3"},
		"huge notes":       {compile + `truncate -s 1T .a.cmd; truncate -s 1T Makefile; mkfifo x.mk`, "", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			secret := b.root + "/secret"
			put(t, secret, "the secret\n", 0o600)
			b.Conf.Objects[0].Strip = true
			b.Conf.Make = strings.ReplaceAll(c.do, "SECRET", secret)
			b.Keep = func(Product) {}
			if c.stage == "" {
				b.must()
			} else if f := b.fails(c.stage); !strings.Contains(f.Error(), c.says) {
				t.Error(f)
			}
			if got := read(t, secret); got != "the secret\n" {
				t.Errorf("it was written to: %q", got)
			}
			log := read(t, b.Tree.KeptLog(b.Key))
			commands, _, failed := strings.Cut(log, "\n# failed: "+string(c.stage)+": ")
			if strings.Contains(log, "the secret\n") || !strings.Contains(log, "# command: "+b.Conf.Make) || !strings.HasSuffix(commands, ruler+"\n") || failed != (c.stage != "") {
				t.Errorf("the log:\n%s", log)
			}
			if got, err := os.ReadFile(b.result("module/Module.symvers")); err == nil {
				t.Errorf("kept %q", got)
			}
		})
	}
}

// A second name of a file that only others may read is no way to its content.
func TestHardLink(t *testing.T) {
	b := newBench(t)
	put(t, b.root+"/secret", "the secret\n", 0o600)
	if err := os.Chown(b.root+"/secret", 1234, 1234); err != nil {
		t.Fatal(err)
	}
	b.Conf.Make = `gcc -c -DRELEASE='"6.1"' -o a.ko a.c; ln ` + b.root + `/secret Module.symvers`
	if f := b.fails(Collect); !errors.Is(f, untrusted.ErrOutside) {
		t.Error(f)
	}
}

// Tools that change an object by its name get it where nobody else puts names.
func TestToolsWorkApart(t *testing.T) {
	b := newBench(t)
	victim := b.root + "/victim"
	put(t, victim, "victim")
	put(t, b.root+"/tool", "#!/bin/sh\nfor f; do :; done\nln -sf "+victim+" "+b.Tree.Build(b.Key.ID)+"/a.ko\nprintf signed >>\"$f\"\n", 0o755)
	b.Conf.Objects[0].Strip = true
	b.Finish.Clang, b.Finish.Strip = true, b.root+"/tool"
	b.Finish.Sign = &mok.Plan{Hash: "sha512", SignFile: b.root + "/tool"}
	b.must()
	if got := read(t, victim); got != "victim" {
		t.Errorf("written through a link: %q", got[:min(len(got), 50)])
	}
	if got := read(t, b.result("module/a.ko")); !strings.HasSuffix(got, "signedsigned") {
		t.Error("a tool's work is lost")
	}
}

// What a module's source has for the patches directory doesn't take the
// administrator's patches elsewhere.
func TestOverlayStaysInside(t *testing.T) {
	b := newBench(t)
	put(t, b.root+"/elsewhere/file", "")
	put(t, b.root+"/etc/m/patches/a.patch", "")
	if err := os.Symlink(b.root+"/elsewhere", b.src+"/patches"); err != nil {
		t.Fatal(err)
	}
	if err := b.build(); err == nil {
		t.Error("built")
	}
	if _, err := os.Lstat(b.root + "/elsewhere/a.patch"); err == nil {
		t.Error("written through a link")
	}
}

// A command that writes without end is stopped.
func TestTalkative(t *testing.T) {
	b := newBench(t)
	b.Conf.Make = "yes"
	f := b.fails(Make)
	if !strings.Contains(f.Error(), "more than 32 MiB") {
		t.Error(f)
	}
	if size := len(read(t, b.Tree.KeptLog(b.Key))); size < maxLog || size > maxLog+4096 {
		t.Errorf("the log has %d bytes", size)
	}
}
