// SPDX-License-Identifier: Apache-2.0

// Package guides runs the commands that users of module guides type, word for
// word, on modules of the same shape as the guides' own: one with two objects,
// of which one has its source in src/, and one whose PRE_BUILD script probes
// the compiler and looks symbols up in the kernel's System.map.
package guides

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

const object = `#include <linux/module.h>
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0.0");
static int __init start(void) { return 0; }
module_init(start);
`

// remap is a module of two objects, one of them in src/.
var remap = map[string]string{
	"dkms.conf": `PACKAGE_NAME="dm-remap"
PACKAGE_VERSION="1.0.0"
CLEAN="make -C src clean"
MAKE="make KDIR=/lib/modules/${kernelver}/build"
BUILT_MODULE_NAME[0]="dm-remap"
BUILT_MODULE_LOCATION[0]="src/"
DEST_MODULE_LOCATION[0]="/extra"
BUILT_MODULE_NAME[1]="dm-remap-test"
DEST_MODULE_LOCATION[1]="/extra"
AUTOINSTALL="yes"
PATCH_MATCH=""
`,
	"Makefile": `obj-m := dm-remap-test.o src/
all:
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules
`,
	"src/Makefile":    "obj-m := dm-remap.o\nclean:\n\trm -f *.o *.ko\n",
	"src/dm-remap.c":  object,
	"dm-remap-test.c": object,
}

// probing is a module that is configured for the kernel before it is compiled.
var probing = map[string]string{
	"dkms.conf": `PACKAGE_NAME="dattobd"
PACKAGE_VERSION="0.12.0"
PRE_BUILD="genconfig.sh ${kernelver}"
MAKE[0]="make -C ${kernel_source_dir} M=${dkms_tree}/${PACKAGE_NAME}/${PACKAGE_VERSION}/build KVER=${kernelver} modules"
STRIP[0]="no"
CLEAN="make -C ${kernel_source_dir} M=${dkms_tree}/${PACKAGE_NAME}/${PACKAGE_VERSION}/build KVER=${kernelver} clean"
BUILT_MODULE_NAME[0]="dattobd"
DEST_MODULE_LOCATION[0]="/kernel/drivers/block/"
NO_WEAK_MODULES="yes"
AUTOINSTALL="yes"
REMAKE_INITRD="no"
`,
	"genconfig.sh": `#!/bin/bash
# Like configure: what the kernel and its compiler have becomes a header.
set -e
tree=/lib/modules/$1/build
echo "#define KERNEL \"$1\"" > config.h
probe() {
	mkdir -p "probe/$1"
	printf '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nvoid probe(void);\nvoid probe(void) { %s; }\n' "$2" > "probe/$1/probe.c"
	echo 'obj-m := probe.o' > "probe/$1/Makefile"
	if make -C "$tree" M="$PWD/probe/$1" probe.o > /dev/null 2>&1; then
		echo "#define HAVE_$1 1" >> config.h
	fi
}
probe KSTRTOINT 'int i; kstrtoint("1", 10, &i)'
probe NONSENSE 'no_such_function()'
rm -rf probe
for map in "/boot/System.map-$1" "$tree/System.map"; do
	[ -f "$map" ] || continue
	echo "#define SOME_SYMBOL_ADDR 0x$(awk '$3 == "some_symbol" { print $1 }' "$map")" >> config.h
	break
done
`,
	"Makefile": "obj-m := dattobd.o\n",
	"dattobd.c": `#include "config.h"
#ifndef HAVE_KSTRTOINT
#error the compiler was not probed
#endif
#ifdef HAVE_NONSENSE
#error everything compiles
#endif
#define STRING_(x) #x
#define STRING(x) STRING_(x)
#include <linux/module.h>
MODULE_INFO(kernel, KERNEL);
MODULE_INFO(address, STRING(SOME_SYMBOL_ADDR));
` + strings.ReplaceAll(object, "#include <linux/module.h>\n", ""),
}

// root is a scratch root with our dkms and the sources of both modules.
type root struct {
	*lab.Root
	t *testing.T
}

func newRoot(t *testing.T) root {
	t.Helper()
	r := root{lab.Scratch(t), t}
	r.AddBinary()
	r.source("dm-remap-1.0.0", remap)
	r.source("dattobd-0.12.0", probing)
	return r
}

func (r root) source(dir string, files map[string]string) {
	r.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := r.Path("usr/src", dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[name]), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
}

// types runs a command line as typed.
func (r root) types(line string) string {
	r.t.Helper()
	words := strings.Fields(line)
	return r.MustRun(words[0], words[1:]...).Stdout
}

// prints checks what a command line prints, whole.
func (r root) prints(line, want string) {
	r.t.Helper()
	if got := r.types(line); got != want {
		r.t.Errorf("%s\nprints\n%swant\n%s", line, got, want)
	}
}

// quick makes depmod quick on a kernel whose own objects don't matter.
func (r root) quick(kernel string) {
	r.t.Helper()
	if err := os.RemoveAll(r.Path("usr/lib/modules", kernel, "kernel/drivers")); err != nil {
		r.t.Fatal(err)
	}
	r.MustRun("depmod", kernel)
}

func (r root) vermagic(kernel, object string) {
	r.t.Helper()
	path := r.Path("usr/lib/modules", kernel, object)
	if got := lab.MustExec(r.t, "modinfo", "-F", "vermagic", path).Stdout; !strings.HasPrefix(got, kernel+" ") {
		r.t.Errorf("vermagic of %s is %q", path, got)
	}
}

func TestRemapGuide(t *testing.T) {
	_, k := lab.Kernels(t)
	r := newRoot(t)
	r.quick(k)
	on := ", " + k + ", x86_64: "
	r.prints("dkms add -m dm-remap -v 1.0.0", "Creating symlink /var/lib/dkms/dm-remap/1.0.0/source -> /usr/src/dm-remap-1.0.0\n")
	r.prints("dkms status -m dm-remap", "dm-remap/1.0.0: added\n")
	r.prints("dkms list", "dm-remap/1.0.0  added\n")
	config := r.types("dkms config -m dm-remap -v 1.0.0 -k " + k)
	for _, line := range []string{"MAKE='make KDIR=/lib/modules/" + k + "/build'", "BUILT_MODULE_LOCATION[0]=src/", "DEST_MODULE_LOCATION[1]=/extra"} {
		if !strings.Contains("\n"+config, "\n"+line+"\n") {
			t.Errorf("dkms config lacks %s:\n%s", line, config)
		}
	}
	r.types("dkms build -m dm-remap -v 1.0.0 -k " + k)
	r.prints("dkms status -m dm-remap", "dm-remap/1.0.0"+on+"built\n")
	r.types("dkms install -m dm-remap -v 1.0.0 -k " + k)
	r.prints("dkms status -m dm-remap", "dm-remap/1.0.0"+on+"installed\n")
	r.prints("dkms list", "dm-remap/1.0.0  installed for "+k+"/x86_64\n")
	for _, name := range []string{"dm-remap", "dm-remap-test"} {
		r.vermagic(k, "updates/dkms/"+name+".ko.xz")
	}
	dep, err := os.ReadFile(r.Path("usr/lib/modules", k, "modules.dep"))
	if err != nil || !strings.Contains(string(dep), "updates/dkms/dm-remap-test.ko.xz:") {
		t.Errorf("modules.dep lacks the module: %v", err)
	}
	r.json(k)
	r.types("dkms uninstall -m dm-remap -v 1.0.0 -k " + k)
	r.types("dkms autoinstall -m dm-remap -v 1.0.0 -k " + k)
	r.prints("dkms status", "dm-remap/1.0.0"+on+"installed\n")
	r.types("dkms remove -m dm-remap -v 1.0.0 --all")
	r.prints("dkms status", "")
	if _, err := os.Stat(r.Path("usr/lib/modules", k, "updates")); !os.IsNotExist(err) {
		t.Errorf("objects are left: %v", err)
	}
}

// json checks the fields of `dkms status --json` that guides build on.
func (r root) json(k string) {
	r.t.Helper()
	var doc struct {
		Schema  string
		Modules []struct {
			Module, Version, State, Kernel, Arch string
			Objects                              []struct{ Name, File, Vermagic string }
		}
	}
	text := r.types("dkms status --json")
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		r.t.Fatalf("status --json: %v\n%s", err, text)
	}
	if doc.Schema != "dkms-status/1" || len(doc.Modules) != 1 {
		r.t.Fatalf("status --json:\n%s", text)
	}
	m := doc.Modules[0]
	got := fmt.Sprint(m.Module, m.Version, m.State, m.Kernel, m.Arch, len(m.Objects))
	if want := fmt.Sprint("dm-remap", "1.0.0", "installed", k, "x86_64", 2); got != want {
		r.t.Errorf("status --json has %s, want %s", got, want)
	}
	for _, o := range m.Objects {
		if o.File != o.Name+".ko.xz" || !strings.HasPrefix(o.Vermagic, k+" ") {
			r.t.Errorf("status --json has the object %+v", o)
		}
	}
}

func TestProbingGuide(t *testing.T) {
	k, newer := lab.Kernels(t)
	r := newRoot(t)
	r.quick(newer)
	for i, kernel := range []string{k, newer} {
		text := fmt.Sprintf("ffffffff8100000%d T some_symbol\n", i)
		if err := os.WriteFile(r.Path("boot", "System.map-"+kernel), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := r.types("dkms build -m dattobd/0.12.0 -k " + k + " --force")
	if !strings.Contains(out, "Running the pre_build script... done.\n") || !strings.Contains(out, "Building module(s)... done.\n") {
		t.Errorf("the build prints\n%s", out)
	}
	r.types("dkms install -m dattobd -v 0.12.0 -k " + k)
	r.types("dkms install -m dattobd -v 0.12.0 -k " + newer)
	r.prints("dkms status -m dattobd", "dattobd/0.12.0, "+k+", x86_64: installed\ndattobd/0.12.0, "+newer+", x86_64: installed\n")
	for i, kernel := range []string{k, newer} {
		name := "updates/dkms/dattobd.ko"
		if kernel == newer {
			name += ".xz"
		}
		r.vermagic(kernel, name)
		for field, want := range map[string]string{"kernel": kernel, "address": fmt.Sprintf("0xffffffff8100000%d", i)} {
			if got := lab.MustExec(t, "modinfo", "-F", field, r.Path("usr/lib/modules", kernel, name)).Stdout; got != want+"\n" {
				t.Errorf("%s of %s for %s is %q, want %q", field, name, kernel, got, want)
			}
		}
	}
	r.types("dkms remove -m dattobd -v 0.12.0 --all")
	r.prints("dkms status", "")
}

// The output of the build is seen with --verbose, and a kernel may be given by
// its headers.
func TestVerboseAndKernelTree(t *testing.T) {
	k, _ := lab.Kernels(t)
	r := newRoot(t)
	out := r.types("dkms build --verbose -m dm-remap -v 1.0.0 -k /usr/src/linux-headers-" + k)
	for _, want := range []string{"make -j", " KERNELRELEASE=" + k + " ", "CC [M] ", "/dm-remap.o\n", "/dm-remap-test.o\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("build --verbose lacks %q:\n%s", want, out)
		}
	}
	r.prints("dkms status -m dm-remap", "dm-remap/1.0.0, "+k+", x86_64: built\n")
	quiet := r.types("dkms build dattobd/0.12.0 -k /lib/modules/" + k + "/build")
	if strings.Contains(quiet, "CC [M]") {
		t.Errorf("a build that is not verbose shows make's output:\n%s", quiet)
	}
	r.types("dkms install -m dm-remap -v 1.0.0 -k " + k)
	r.vermagic(k, "updates/dkms/dm-remap.ko")
}
