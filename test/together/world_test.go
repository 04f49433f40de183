// SPDX-License-Identifier: Apache-2.0

// Package together runs many dkms at once on one tree: commands by hand, hooks of
// package managers, and readers.
package together

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

const arch = "x86_64"

// kernels are those of the world; they aren't real ones.
var kernels = []string{"6.1.0-7-amd64", "6.12.3-1-amd64"}

// kbuild stands in for a kernel's makefile: every C file becomes an object.
const kbuild = `objects := $(patsubst %.c,%.ko,$(wildcard $(M)/*.c))
all: $(objects)
%.ko: %.c
	$(CC) -c -DRELEASE='"$(notdir $(abspath $(dir $(CURDIR))))"' -o $@ $<
`

const source = `static const char v[] __attribute__((section(".modinfo"), used)) = "vermagic=" RELEASE " SMP mod_unload";
static const char n[] __attribute__((section(".modinfo"), used)) = "license=GPL";
static const char w[] __attribute__((section(".modinfo"), used)) = "version=" VERSION;
int a = 1;
`

// modules of the world, name/version, with lines for their confs. steady is only ever
// installed again, so it always stands as installed; wrong never compiles;
// the build of slow waits for a file.
const (
	steady = "steady/1.0"
	wrong  = "wrong/1.0"
	slow   = "slow/1.0"
	base   = "base/1.0"
	upper  = "upper/1.0"
)

var modules = map[string]string{
	steady: "", wrong: "", slow: "MAKE=\"while [ ! -e " + goFile + " ]; do sleep 0.1; done; make -C ${kernel_source_dir} M=${dkms_tree}/slow/1.0/build\"\n", base: "", upper: "BUILD_DEPENDS=base\n",
	"plain/1.0": "", "two/1.0": "", "two/2.0": "",
	"script/1.0": "POST_INSTALL=script.sh\nPOST_REMOVE=script.sh\n",
}

// goFile lets the build of slow go on.
const goFile = "/srv/go"

// world is a root with two kernels that aren't real ones, and tiny modules.
type world struct {
	t    *testing.T
	root *lab.Root
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t, lab.Scratch(t)}
	w.root.AddBinary()
	// The real kernels would take their time.
	lab.MustExec(t, "mount", "-t", "tmpfs", "modules", w.root.Path("usr", "lib", "modules"))
	for _, k := range kernels {
		tree := filepath.Join("usr", "lib", "modules", k)
		w.put(filepath.Join(tree, "build", "Makefile"), kbuild)
		w.put(filepath.Join(tree, "build", ".config"), "CONFIG_X=y\n")
		w.put(filepath.Join(tree, "build", "include", "x.h"), "")
		w.put(filepath.Join(tree, "modules.order"), "")
		w.put(filepath.Join(tree, "modules.builtin"), "")
		w.put(filepath.Join("boot", "vmlinuz-"+k), "image")
		w.root.MustRun("depmod", k)
	}
	for name, conf := range modules {
		module, version, _ := strings.Cut(name, "/")
		dir := filepath.Join("usr", "src", module+"-"+version)
		w.put(filepath.Join(dir, "dkms.conf"), fmt.Sprintf("PACKAGE_NAME=%s\nPACKAGE_VERSION=%s\nBUILT_MODULE_NAME=%s\nDEST_MODULE_LOCATION=/extra\nAUTOINSTALL=yes\n%s",
			module, version, module, conf))
		code := "#define VERSION \"" + version + "\"\n" + source
		if name == wrong {
			code = "#error no\n"
		}
		w.put(filepath.Join(dir, module+".c"), code)
		w.put(filepath.Join(dir, "script.sh"), "#!/bin/sh\nexec dkms status >/dev/null\n")
	}
	w.put("etc/dkms/framework.conf.d/together.conf", "parallel_jobs=1\n")
	for _, id := range []string{steady, base, upper, "plain/1.0", "two/1.0", "script/1.0"} {
		w.root.MustRun("dkms", "add", id)
	}
	for _, k := range kernels {
		w.root.MustRun("dkms", "autoinstall", "-k", k)
	}
	return w
}

func (w *world) put(path, text string) {
	w.t.Helper()
	path = w.root.Path(path)
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		w.t.Fatal(err)
	}
}

// tree returns the path of something in the DKMS tree.
func (w *world) tree(elem ...string) string {
	return w.root.Path(append([]string{"var", "lib", "dkms"}, elem...)...)
}

// consistent fails the test unless the tree, the kernels' objects and the module
// indexes agree, and nothing is left of any command.
func (w *world) consistent() {
	w.t.Helper()
	filepath.WalkDir(w.tree(), func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err != nil {
			w.t.Error(err)
		} else if strings.HasPrefix(name, ".") && slices.ContainsFunc([]string{".lock", ".journal", ".probe", ".build-", ".index-due"}, func(p string) bool { return strings.HasPrefix(name, p) }) || strings.HasSuffix(name, ".dkms-new") {
			w.t.Errorf("%s is left", path)
		}
		return nil
	})
	res := w.root.Run("dkms", "status")
	if bad := badLines(res.Stdout); res.Code != 0 || len(bad) > 0 || strings.Contains(res.Stderr, "Error!") {
		w.t.Errorf("status in the end, exit code %d:\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	for _, k := range kernels {
		w.objects(k, res.Stdout)
		w.index(k)
	}
	if res := w.root.Run("dkms", "verify"); res.Code != 0 {
		w.t.Errorf("verify in the end: exit code %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
}

// objects holds the objects in a kernel's tree against the status: each installed
// module's is there as it was built, and no other.
func (w *world) objects(kernel, status string) {
	w.t.Helper()
	var want []string
	for line := range strings.Lines(status) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), ", ")
		if rest != kernel+", "+arch+": installed" {
			continue
		}
		module, _, _ := strings.Cut(id, "/")
		want = append(want, module+".ko")
		built, err := os.ReadFile(w.tree(id, kernel, arch, "module", module+".ko"))
		if err != nil {
			w.t.Error(err)
		}
		placed, err := os.ReadFile(w.root.Path("usr", "lib", "modules", kernel, "updates", "dkms", module+".ko"))
		if err != nil || string(placed) != string(built) {
			w.t.Errorf("%s for %s isn't installed as it was built: %v", id, kernel, err)
		}
	}
	found, err := filepath.Glob(w.root.Path("usr", "lib", "modules", kernel, "*", "*", "*.ko*"))
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for _, path := range found {
		got = append(got, filepath.Base(path))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Errorf("kernel %s has the objects %q, by the status %q", kernel, got, want)
	}
}

// index holds a kernel's module index against what depmod makes of a copy.
func (w *world) index(kernel string) {
	w.t.Helper()
	tree, fresh := w.root.Path("usr", "lib", "modules", kernel), w.root.Path("tmp", "fresh", "lib", "modules", kernel)
	lab.MustExec(w.t, "mkdir", "-p", filepath.Dir(fresh))
	lab.MustExec(w.t, "cp", "-a", tree, fresh)
	w.root.MustRun("depmod", "-b", "/tmp/fresh", kernel)
	files, err := filepath.Glob(filepath.Join(fresh, "modules.*"))
	if err != nil || len(files) < 5 {
		w.t.Fatalf("depmod has made %q: %v", files, err)
	}
	for _, file := range files {
		want, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(tree, filepath.Base(file)))
		if err != nil || string(got) != string(want) {
			w.t.Errorf("%s of %s isn't what depmod makes: %v", filepath.Base(file), kernel, err)
		}
	}
	if err := os.RemoveAll(w.root.Path("tmp", "fresh")); err != nil {
		w.t.Fatal(err)
	}
}
