// SPDX-License-Identifier: Apache-2.0

package diagnosis_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"dkms-go/test/lab"
)

// corpusTrials are the packages of the lab that don't build for a kernel.
var corpusTrials = map[string][]string{
	"adv-17v35x-dkms": {"new"}, "apfs-dkms": {"new"}, "ddcci-dkms": {"new"}, "digimend-dkms": {"new"},
	"dm-writeboost-dkms": {"new"}, "evdi-dkms": {"new"}, "falcosecurity-scap-dkms": {"new"},
	"gost-crypto-dkms": {"new"}, "jool-dkms": {"new"}, "librem-ec-acpi-dkms": {"old", "new"},
	"lttng-modules-dkms": {"old", "new", "rt"}, "openvpn-dco-dkms": {"new"}, "tp-smapi-dkms": {"new"},
	"vpoll-dkms": {"new"}, "xtables-addons-dkms": {"new"},
}

// TestRegenerate makes testdata/logs anew: it builds, in a root of its own with the
// headers of four kernels, the modules of testdata/modules.txt and the packages of
// the lab that don't build. DKMS_DIAGNOSIS_CASES names those to build, separated by
// blanks; by default all. The table of what is wrong is not touched: a person reads
// the new logs, and writes it.
func TestRegenerate(t *testing.T) {
	if os.Getenv("DKMS_DIAGNOSIS") != "regenerate" {
		t.Log("the logs stay as they are; make diagnosis-logs makes them anew")
		return
	}
	m := newMachine(t)
	only := strings.Fields(os.Getenv("DKMS_DIAGNOSIS_CASES"))
	for _, c := range readCases(t) {
		if len(only) == 0 || slices.Contains(only, c.name) {
			m.play(c)
		}
	}
	for _, p := range lab.Packages(t) {
		if kernels := corpusTrials[p.Name]; kernels != nil && (len(only) == 0 || slices.Contains(only, p.Name)) {
			m.root.AddPackage(p.Name)
			for _, k := range kernels {
				m.build(strings.TrimSuffix(p.Name, "-dkms"), p.Module+"/"+p.Version, k, "")
			}
		}
	}
}

// machine is the root that modules are built in.
type machine struct {
	*testing.T
	root    *lab.Root
	kernels map[string]string
}

func newMachine(t *testing.T) *machine {
	older, newer := lab.Kernels(t)
	root := lab.AllScratch(t)
	m := &machine{t, root, map[string]string{"old": older, "new": newer, "cloud": lab.CloudKernel(t), "rt": root.AddRT()}}
	m.root.AddBinary()
	if clang := os.Getenv("DKMS_DIAGNOSIS_CLANG"); clang != "" { // a directory with the unpacked packages of LLVM
		lab.MustExec(t, "cp", "-a", filepath.Join(clang, "usr")+"/.", m.root.Path("usr"))
		lab.MustExec(t, "ln", "-sf", "../lib/llvm-14/bin/clang", m.root.Path("usr", "bin", "clang"))
	}
	return m
}

// trial is a module of testdata/modules.txt.
type trial struct {
	name      string
	kernels   []string
	framework string
	setup     []string
	undo      []string
	run       string
	files     []txtar.File
}

func readCases(t *testing.T) []*trial {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "modules.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var list []*trial
	for _, f := range archive.Files {
		name, file, _ := strings.Cut(f.Name, "/")
		if len(list) == 0 || list[len(list)-1].name != name {
			list = append(list, &trial{name: name, kernels: []string{"new"}})
		}
		c := list[len(list)-1]
		if file != "case" {
			c.files = append(c.files, txtar.File{Name: file, Data: f.Data})
			continue
		}
		for line := range strings.Lines(string(f.Data)) {
			word, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch rest = strings.TrimSpace(rest); word {
			case "kernels":
				c.kernels = strings.Fields(rest)
			case "framework":
				c.framework += rest + "\n"
			case "setup":
				c.setup = append(c.setup, rest)
			case "undo":
				c.undo = append(c.undo, rest)
			case "run":
				c.run = rest
			default:
				t.Fatalf("%s: %q", c.name, line)
			}
		}
	}
	return list
}

func (m *machine) write(data []byte, elem ...string) {
	path := m.root.Path(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		m.Fatal(err)
	}
}

// source puts the source of a module into the root.
func (m *machine) source(c *trial) {
	source := filepath.Join("usr/src", c.name+"-1.0")
	m.write(fmt.Appendf(nil, "PACKAGE_NAME=%s\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME[0]=%[1]s\nDEST_MODULE_LOCATION[0]=/extra\nMAKE=\"make -C $kernel_source_dir M=$dkms_tree/%[1]s/1.0/build\"\n", c.name), source, "dkms.conf")
	m.write(fmt.Appendf(nil, "obj-m := %s.o\n", c.name), source, "Makefile")
	for _, f := range c.files {
		m.write(f.Data, source, f.Name)
	}
}

func (m *machine) play(c *trial) {
	m.source(c)
	m.write([]byte("result_cache=off\n"+c.framework), "etc/dkms/framework.conf")
	for _, k := range c.kernels {
		for _, line := range c.setup {
			m.shell(line, c.name+"/1.0", k)
		}
		m.build(c.name, c.name+"/1.0", k, c.run)
		for _, line := range c.undo {
			m.shell(line, c.name+"/1.0", k)
		}
	}
}

func (m *machine) shell(line, module, kernel string) lab.Result {
	return m.root.Run("sh", "-c", "M="+module+" K="+m.kernels[kernel]+"\n"+line)
}

// build builds a module that must fail and keeps its log.
func (m *machine) build(name, module, kernel, line string) {
	if line == "" {
		line = "dkms build $M -k $K"
	}
	r := m.shell(line, module, kernel)
	if r.Code == 0 {
		m.Errorf("%s for %s: it builds", name, kernel)
		return
	}
	m.Logf("%s for %s: exit code %d\n%s", name, kernel, r.Code, r.Stderr)
	log, err := os.ReadFile(m.root.Path("var/lib/dkms/.log", module, m.kernels[kernel], "x86_64/make.log"))
	if err != nil {
		m.Errorf("%s for %s: %v", name, kernel, err)
		return
	}
	path := filepath.Join("testdata", "logs", name+"."+kernel+".log")
	os.Remove(path)
	os.Remove(path + ".gz")
	if len(log) > 6<<10 {
		path, log = path+".gz", squeezed(m.T, log)
	}
	if err := os.WriteFile(path, log, 0o644); err != nil {
		m.Fatal(err)
	}
}

func squeezed(t *testing.T, data []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
