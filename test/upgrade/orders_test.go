// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// plain needs the headers only.
func plain(version string) module { return module{name: "plain", version: version} }

// symtoy takes the address of a symbol out of System.map in its PRE_BUILD, as
// backup drivers do; without, its address is 0.
var symtoy = module{
	name: "symtoy", version: "1.0", conf: `PRE_BUILD="conf.sh ${kernelver}"`,
	code: `#include "symtoy.h"
#if KFREE_ADDR
static const char made[] __attribute__((used)) = "symtoy: complete";
#else
static const char made[] __attribute__((used)) = "symtoy: incomplete";
#endif`,
	files: map[string]string{"conf.sh": `#!/bin/sh
address=$(sed -n 's/ T kfree$//p' "/boot/System.map-$1" 2>/dev/null)
echo "#define KFREE_ADDR 0x${address:-0}UL" >symtoy.h
`},
}

// orders lets a kernel's image and headers come in every order: the end is the
// same, and every module was built once.
func orders(t *testing.T, base *lab.Root) {
	k := lab.AptKernels(t).Cloud
	image := repack(t, "linux-image-"+k, func(dir string) {
		// The distribution's own is a placeholder; others' isn't.
		write(t, filepath.Join(dir, "boot/System.map-"+k), "ffffffff81000000 T _text\nffffffff812c3d40 T kfree\n", 0o644)
	})
	mods := over(t, base)
	out := mods.install(0, plain("1.0").pack(t), symtoy.pack(t))
	wants(t, out.Stderr+out.Stdout, "no kernel with headers is installed")
	mods.Freeze()
	headers := "linux-headers-" + k
	cases := []struct {
		name string
		do   func(t *testing.T, r root)
	}{
		{"image then headers", func(t *testing.T, r root) {
			args := []string{"DEBIAN_FRONTEND=noninteractive", "dpkg", "--unpack", r.AddDeb(image)}
			for line := range strings.Lines(r.MustApt("-s", "install", headers).Stdout) {
				if words := strings.Fields(line); len(words) > 1 && words[0] == "Inst" {
					found, _ := filepath.Glob(r.Path("var/cache/apt/archives", words[1]+"_*.deb"))
					args = append(args, strings.TrimPrefix(found[0], r.Dir))
				}
			}
			r.MustRun("env", args...)
			r.MustRun("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--configure", "linux-image-"+k)
			r.MustRun("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--configure", "--pending")
		}},
		{"headers then image", func(t *testing.T, r root) {
			out := r.install(0, headers)
			t.Logf("the headers come first:\n%s", hookLines(out))
			wants(t, out.Stdout+out.Stderr, "waiting: image")
			r.wantStatus("plain/1.0: added", "symtoy/1.0: added")
			if n := r.builds("plain", k) + r.builds("symtoy", k); n != 0 {
				t.Errorf("%d builds before the image is there", n)
			}
			t.Logf("then the image:\n%s", hookLines(r.install(0, image)))
		}},
		{"both at once", func(_ *testing.T, r root) { r.install(0, image, headers) }},
		{"headers later", func(t *testing.T, r root) {
			out := r.install(0, image)
			wants(t, out.Stdout+out.Stderr, "waiting: headers", "apt-get install "+headers)
			r.wantStatus("plain/1.0: added", "symtoy/1.0: added")
			res := r.Run("dkms", "ready", "-k", k, "--templatekernel", k)
			if res.Code != 0 {
				t.Errorf("a kernel that needs nothing is not ready:\n%s", res.Stdout)
			}
			r.install(0, headers)
		}},
	}
	objects := map[string]string{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := over(t, mods.Root)
			c.do(t, r)
			r.configured()
			r.initrd(k)
			r.wantStatus(row("plain/1.0", k, "installed"), row("symtoy/1.0", k, "installed"))
			r.verified()
			for _, name := range []string{"plain", "symtoy"} {
				if n := r.builds(name, k); n != 1 {
					t.Errorf("%s: %d builds, want 1", name, n)
				}
				sum := r.object(k, name)
				if first, known := objects[name]; known && sum != first || sum == "" {
					t.Errorf("%s: the object is %q, in another order %q", name, sum, first)
				}
				objects[name] = sum
			}
			data, err := os.ReadFile(r.Path("usr/lib/modules", k, "updates/dkms/symtoy.ko"))
			if err != nil || !bytes.Contains(data, []byte("symtoy: complete")) {
				t.Errorf("symtoy was built without the map: %v", err)
			}
		})
	}
}

// hookLines are the lines of apt's output that dkms's hooks wrote.
func hookLines(res lab.Result) string {
	var lines []string
	in := false
	for _, line := range strings.Split(res.Stdout+res.Stderr, "\n") {
		in = (in || strings.HasPrefix(line, "/etc/kernel/")) && !strings.HasPrefix(line, "Setting up ")
		if in || strings.HasPrefix(line, "dkms: ") {
			lines = append(lines, line)
		}
	}
	return fmt.Sprint(strings.Join(lines, "\n"))
}
