// SPDX-License-Identifier: Apache-2.0

package draft

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	const makefile = "obj-m := hello.o\n"
	for _, test := range []struct {
		name, want string
		source     Source
	}{
		{"directory, tag", "hello 1.10", Source{Dir: "x-2.0", Texts: map[string]string{"Makefile": makefile}, Tags: []string{"v1.9", "v1.10", "hello-1.8", "latest", "2-bad name"}}},
		{"source", "hello 3", Source{Texts: map[string]string{"Makefile": makefile, "hello.c": "MODULE_VERSION(\"3\");"}, Tags: []string{"v1"}}},
		{"asked for", "you 9", Source{Name: "you", Version: "9", Texts: map[string]string{"Makefile": makefile, "hello.c": "MODULE_VERSION(\"3\");"}}},
		{"made up", "hello 0.1", Source{Texts: map[string]string{"Makefile": makefile}}},
		{"several objects", "driver 0.1", Source{Dir: "driver-v1.2", Texts: map[string]string{"Makefile": "obj-m := a.o b.o\n"}}},
	} {
		d, err := Read(test.source)
		if got := d.Name + " " + d.Version; err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	for _, s := range []Source{{}, {Texts: map[string]string{"Makefile": "all:\n"}}, {Name: "a b", Texts: map[string]string{"Makefile": makefile}}} {
		if d, err := Read(s); err == nil {
			t.Errorf("%+v gave %+v", s, d)
		}
	}
}

func TestMakeLine(t *testing.T) {
	for makefile, want := range map[string]string{
		"Makefile obj-m := a.o":              "",
		"Makefile obj-$(CONFIG_A) := a.o":    "make -C $kernel_source_dir M=$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build CONFIG_A=m modules",
		"drivers/x/Makefile obj-m := a.o":    "make -C $kernel_source_dir M=$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build/drivers/x modules",
		"driv$ers/Makefile obj-m := hello.o": `make -C $kernel_source_dir M=$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build/driv\$ers modules`,
	} {
		file, text, _ := strings.Cut(makefile, " ")
		d, err := Read(Source{Texts: map[string]string{file: text}})
		if got := d.makeLine(); err != nil || got != want {
			t.Errorf("%s: %q, want %q; %v", makefile, got, want, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	f := Describe(map[string]string{
		"a.c": "// SPDX-License-Identifier: GPL-2.0+\nMODULE_DESCRIPTION(\"What it does\");\n", "b.c": "/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */\n", "c.c": "// SPDX-License-Identifier: GPL-2.0+\n",
	})
	if f.License != "GPL-2.0-or-later" || f.Description != "What it does" {
		t.Errorf("%+v", f)
	}
	if f := Describe(map[string]string{"a.c": `MODULE_LICENSE("Dual MIT/GPL");`}); f.License != "GPL-2.0-only OR MIT" {
		t.Errorf("%+v", f)
	}
}

// values has bash read a conf, and returns variables of it, one a line.
func values(t *testing.T, conf string, names ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dkms.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	script := `set -u; cd /; . "$1" || exit; shift; for n; do printf '%s\n' "${!n}"; done`
	cmd := exec.Command("bash", append([]string{"-c", script, "bash", file}, names...)...)
	cmd.Env = []string{"PATH=/nowhere", "kernel_source_dir=k", "dkms_tree=t"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("bash: %v\n%s\n%s", err, stderr.String(), conf)
	}
	return string(out)
}

// FuzzRead has real bash read the conf: it must have what was put in, and no command
// of it may be run.
func FuzzRead(f *testing.F) {
	f.Add("obj-m := a.o\n", `MODULE_DESCRIPTION("$(id) \"x\" `+"`id`"+` \\");`, "Ann <a@b.c>")
	f.Add("obj-$(CONFIG_X) := s$u`b/a.o\n", `MODULE_VERSION("1\n");`, "!$")
	f.Fuzz(func(t *testing.T, makefile, source, maintainer string) {
		if strings.ContainsRune(maintainer, 0) {
			return
		}
		d, err := Read(Source{Dir: "d", Texts: map[string]string{"Makefile": makefile, "a.c": source}})
		if err != nil {
			return
		}
		got := strings.Split(values(t, d.Conf(maintainer+"x"), "PACKAGE_NAME", "PACKAGE_VERSION", "PACKAGE_MAINTAINER"), "\n")
		plain := strings.NewReplacer(`\$`, "$", `\"`, `"`, "\\`", "`", `\\`, `\`).Replace(inQuotes(maintainer + "x"))
		if len(got) < 3 || got[0] != d.Name || got[1] != d.Version || got[2] != plain {
			t.Errorf("bash has %q; put in were %q %q %q", got, d.Name, d.Version, plain)
		}
	})
}

func FuzzTags(f *testing.F) {
	f.Add("# pack-refs with: peeled fully-peeled sorted\n0123 refs/tags/v1.0\n^4567\n89ab refs/heads/main\n")
	f.Fuzz(func(t *testing.T, packed string) {
		tags := Tags(packed)
		for _, tag := range tags {
			if tag == "" || !strings.Contains(packed, "refs/tags/"+tag) {
				t.Errorf("%q is no tag of %q", tag, packed)
			}
		}
		if v := Tagged("hello", tags); v != "" && !slices.ContainsFunc(tags, func(tag string) bool { return strings.HasSuffix(tag, v) }) {
			t.Errorf("%q is of none of %q", v, tags)
		}
	})
}
