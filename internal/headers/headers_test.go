// SPDX-License-Identifier: Apache-2.0

package headers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes the headers of a kernel as Debian lays them out: those of the build,
// and of the source beside them.
func tree(t testing.TB, files map[string]string) Tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Tree{Release: "k", Dirs: []string{filepath.Join(dir, "build"), filepath.Join(dir, "common"), filepath.Join(dir, "none")}}
}

const device = `/* struct device { not this } */
#ifndef _DEVICE_H
#define _DEVICE_H
struct other { int xmit; };
struct device {
	int id;		/* no state here */
#ifdef CONFIG_OF
	struct node *of_node;
#else
	int no_node;
#endif
	union { int a; int nested; };
};
extern int device_add(struct device *dev);
#define to_device(x, y) \
	container_of(x, struct device, y)
typedef unsigned int dev_mode_t;
typedef struct {
	int v;
} dev_state_t;
enum dev_kind {
	DEV_FIRST = 1,
	DEV_LAST,
};
struct ops {
	int (*probe)(struct device *dev);
	void (*remove)(struct device *dev);
};
static inline struct device *
get_device(struct device *dev)
{
	return device_add(dev) ? dev : 0;
}
#if IS_ENABLED(CONFIG_PM)
int device_pm(struct device *dev,
	      int state);
#endif
#endif
`

func TestSearch(t *testing.T) {
	k := tree(t, map[string]string{
		"build/include/generated/autoconf.h":        "#define CONFIG_OF 1\n",
		"build/arch/x86/include/generated/asm/x.h":  "int asm_x(void);\n",
		"build/Module.symvers":                      "0x1\tdevice_add\tvmlinux\tEXPORT_SYMBOL_GPL\t\n",
		"common/include/linux/device.h":             device,
		"common/arch/x86/include/uapi/asm/unused.h": "",
		"common/arch/arm/include/asm/arm.h":         "int arm_only(void);\n",
	})
	for _, tc := range []struct {
		Query
		file, declaration, guards string // file "" if it isn't there
	}{
		{Query{Name, "device_add", ""}, "linux/device.h", "extern int device_add(struct device *dev);", ""},
		{Query{Name, "to_device", ""}, "linux/device.h", "#define to_device(x, y) container_of(x, struct device, y)", ""},
		{Query{Name, "dev_mode_t", ""}, "linux/device.h", "typedef unsigned int dev_mode_t;", ""},
		{Query{Name, "dev_state_t", ""}, "linux/device.h", "} dev_state_t;", ""},
		{Query{Name, "DEV_LAST", ""}, "linux/device.h", "DEV_LAST,", ""},
		{Query{Name, "dev_kind", ""}, "linux/device.h", "enum dev_kind {", ""},
		{Query{Name, "device", ""}, "linux/device.h", "struct device {", ""},
		{Query{Name, "get_device", ""}, "linux/device.h", "get_device(struct device *dev) {", ""},
		{Query{Name, "device_pm", ""}, "linux/device.h", "int device_pm(struct device *dev, int state);", "IS_ENABLED(CONFIG_PM)"},
		{Query{Name, "asm_x", ""}, "generated/asm/x.h", "int asm_x(void);", ""},
		{Query{Name, "arm_only", ""}, "", "", ""},
		{Query{Name, "dev", ""}, "", "", ""},
		{Query{Member, "id", "device"}, "linux/device.h", "int id;", ""},
		{Query{Member, "nested", "device"}, "linux/device.h", "union {", ""},
		{Query{Member, "of_node", "device"}, "linux/device.h", "struct node *of_node;", "defined(CONFIG_OF)"},
		{Query{Member, "no_node", "device"}, "linux/device.h", "int no_node;", "!(defined(CONFIG_OF))"},
		{Query{Member, "state", "device"}, "", "", ""},
		{Query{Member, "xmit", "device"}, "", "", ""},
		{Query{Callback, "remove", ""}, "linux/device.h", "void (*remove)(struct device *dev);", ""},
		{Query{File, "linux/device.h", ""}, "linux/device.h", "", ""},
		{Query{File, "asm/unused.h", ""}, "asm/unused.h", "", ""},
		{Query{File, "linux/gone.h", ""}, "", "", ""},
		{Query{Export, "device_add", ""}, "vmlinux", "EXPORT_SYMBOL_GPL ", ""},
		{Query{Export, "device_pm", ""}, "", "", ""},
	} {
		found := Search(t.Context(), tc.Query, []Tree{k, {Release: "none", Dirs: []string{"/nowhere"}}})
		if len(found) != 1 {
			t.Fatalf("%+v: %d kernels", tc.Query, len(found))
		}
		f := found[0]
		if f.There() != (tc.file != "") || f.There() && (f.File != tc.file || !strings.HasPrefix(f.Declaration, strings.TrimSuffix(tc.declaration, ";"))) {
			t.Errorf("%+v: %+v", tc.Query, f.Found)
		}
		if f.There() && tc.guards != "" && (len(f.Guards) != 1 || strings.Join(f.Guards[0], "; ") != tc.guards) {
			t.Errorf("%+v: under %q", tc.Query, f.Guards)
		}
		if tc.Kind == Member && !f.Owner {
			t.Errorf("%+v: the structure isn't found", tc.Query)
		}
		if tc.Name == "device_pm" && tc.Kind == Export && !f.Declared {
			t.Errorf("%+v: the declaration isn't found", tc.Query)
		}
	}
}

// A call of a macro at the beginning of a line declares nothing.
func TestSource(t *testing.T) {
	dir := t.TempDir()
	text := "MODULE_SUPPORTED_DEVICE(\"x\");\nstatic int mine(int a)\n{\n}\n#if LINUX_VERSION_CODE < 1\nint old(void);\n#endif\n"
	if err := os.WriteFile(filepath.Join(dir, "m.c"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][3]bool{"MODULE_SUPPORTED_DEVICE": {}, "mine": {true, true, true}, "old": {true, false, false}} {
		f := Source(t.Context(), Query{Name, name, ""}, dir)
		if f.There() != want[0] || f.Defined != want[1] || f.Free != want[2] {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// Headers of any form end the search, and what is found is text of theirs.
func FuzzText(f *testing.F) {
	f.Add(device, "device_add", "device")
	f.Add("struct s {\n#else\n#endif\nint x;\n", "x", "s")
	f.Fuzz(func(t *testing.T, text, name, of string) {
		for kind := Name; kind <= Callback; kind++ {
			q := Query{kind, name, of}
			if !q.Valid() {
				continue
			}
			s := newSearch(q)
			s.text(text, "a.h")
			if s.found.Line > strings.Count(text, "\n")+1 || len(s.found.Declaration) > 2*maxDeclaration {
				t.Errorf("%+v", s.found)
			}
		}
	})
}
