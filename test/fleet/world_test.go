// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

const arch = "x86_64"

// machine is a root with dkms.
type machine struct {
	*lab.Root
	t *testing.T
}

// builder makes a machine that can build, with the module tiny/1.0 and a key.
func builder(t *testing.T) machine {
	t.Helper()
	m := machine{lab.Scratch(t), t}
	m.few()
	m.AddBinary()
	m.module("1.0", "")
	m.write("etc/dkms/framework.conf.d/sign.conf", "try_sign_modules=false\n")
	m.ok("key", "generate", "--bundle", "/root/key")
	return m
}

// target makes a machine that has the kernels, and neither compiler, make, headers nor
// sources.
func target(t *testing.T) machine {
	t.Helper()
	m := machine{lab.Scratch(t), t}
	m.few()
	m.MustRun("sh", "-c", "rm -rf /usr/src/* /lib/modules/*/build /lib/modules/*/source /usr/bin/*gcc* /usr/bin/cc /usr/bin/c89* /usr/bin/c99* /usr/bin/make /usr/bin/*-ld* /usr/bin/as /usr/bin/ld*")
	m.AddBinary()
	return m
}

// few keeps most of the newer kernel's 4,000 objects away: the module index of all of
// them is most of what a first installation costs.
func (m machine) few() {
	m.t.Helper()
	_, k := lab.Kernels(m.t)
	m.MustRun("sh", "-c", `cd /lib/modules/"$0"/kernel && for d in drivers/*; do [ "$d" = drivers/net ] || rm -rf "$d"; done && rm -rf sound fs net && cd .. && depmod "$0"`, k)
}

// module writes the source of tiny; more is put behind its conf.
func (m machine) module(version, more string) {
	m.t.Helper()
	dir := "usr/src/tiny-" + version + "/"
	m.write(dir+"dkms.conf", "PACKAGE_NAME=tiny\nPACKAGE_VERSION="+version+"\nBUILT_MODULE_NAME=tiny\nDEST_MODULE_LOCATION=/kernel/extra\nAUTOINSTALL=yes\n"+more)
	m.write(dir+"Makefile", "obj-m := tiny.o\n")
	m.write(dir+"tiny.c", `#include <linux/module.h>
static int __init start(void) { pr_info("tiny\n"); return 0; }
static void __exit end(void) { }
module_init(start);
module_exit(end);
MODULE_LICENSE("GPL");
MODULE_VERSION("`+version+`");
`)
}

func (m machine) write(name, text string) {
	m.t.Helper()
	m.writeMode(name, []byte(text), 0o644)
}

func (m machine) writeMode(name string, text []byte, mode fs.FileMode) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.Path(name)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.Path(name), text, mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) read(name string) []byte {
	m.t.Helper()
	data, err := os.ReadFile(m.Path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

// ok runs dkms, which must succeed, and returns what it says.
func (m machine) ok(args ...string) string {
	m.t.Helper()
	return m.ends(0, args...)
}

// ends runs dkms, which must end with that code, and returns all that it says.
func (m machine) ends(code int, args ...string) string {
	m.t.Helper()
	r := m.Run("dkms", args...)
	if r.Code != code {
		m.t.Fatalf("dkms %q ended with %d, not %d\n%s%s", args, r.Code, code, r.Stdout, r.Stderr)
	}
	return r.Stdout + r.Stderr
}

// says fails unless a text has all words.
func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

// sum returns a digest of all that dkms may change on a machine: names, modes and
// contents; of kernels' own many files sizes and times.
func (m machine) sum() string {
	m.t.Helper()
	h := sha256.New()
	for _, dir := range []string{"var/lib/dkms", "usr/src", "usr/lib/modules", "etc", "boot", "tmp", "root"} {
		err := filepath.WalkDir(m.Path(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // what isn't there has no digest
			}
			fi, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprintln(h, path, fi.Mode())
			if dir == "boot" || dir == "usr/lib/modules" && !strings.Contains(path, "/updates/") {
				fmt.Fprintln(h, fi.Size(), fi.ModTime().UnixNano())
				return nil
			}
			if fi.Mode().IsRegular() {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				h.Write(data)
			}
			return nil
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// give copies a file from one machine to another, to the same path.
func (m machine) give(to machine, name string) {
	m.t.Helper()
	to.writeMode(name, m.read(name), 0o644)
}
