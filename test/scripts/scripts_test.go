// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"dkms-go/test/lab"
)

// slots bounds how many scripts run at a time: each compiles modules.
const slots = 2

// peerVariable names the environment variable with the path of another dkms,
// upstream's script, to run the scripts with.
const peerVariable = "DKMS_PEER"

func TestScripts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	samples := readSamples(t)
	base := fewDrivers(t)
	if os.Getenv(peerVariable) == "" {
		warm(t, base, samples)
	}
	base.Freeze()
	limit := make(chan struct{}, slots)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit <- struct{}{}
			t.Cleanup(func() { <-limit })
			runScript(t, lab.AptRootOver(t, base), file, samples)
		})
	}
}

// fewDrivers makes the root that each script begins with. Of the newer kernel's
// drivers it has those of network devices only: the module index of all 4,230
// objects, which every installation brings up to date, took half of the time.
func fewDrivers(t *testing.T) *lab.Root {
	t.Helper()
	root := lab.Scratch(t)
	_, newer := lab.Kernels(t)
	kernel := root.Path("usr/lib/modules", newer, "kernel")
	lab.MustExec(t, "find", kernel, "-mindepth", "1", "-maxdepth", "1", "!", "-name", "drivers", "-exec", "rm", "-r", "{}", "+")
	lab.MustExec(t, "find", kernel+"/drivers", "-mindepth", "1", "-maxdepth", "1", "!", "-name", "net", "-exec", "rm", "-r", "{}", "+")
	lab.MustExec(t, "find", kernel+"/drivers/net", "-mindepth", "1", "-maxdepth", "1", "-type", "d", "-exec", "rm", "-r", "{}", "+")
	root.MustRun("depmod", newer)
	return root
}

// warm leaves results of the samples that most scripts build in the cache, for
// those that use it: which those have that remove cacheOff.
func warm(t *testing.T, root *lab.Root, samples []sample) {
	t.Helper()
	older, newer := lab.Kernels(t)
	m := &machine{root: root.Dir, kernel: older, newer: newer}
	if err := m.prepare("", samples); err != nil {
		t.Fatal(err)
	}
	root.AddBinary()
	root.MustRun("rm", "-f", cacheOff)
	for _, dir := range []string{"src/dgt_basic-1.0", "src/dgt_basic-2.0"} {
		args := m.entering("dkms", []string{"build", dir + "/dkms.conf", "-k", older, "-k", newer})
		lab.MustExec(t, "env", args...)
	}
	for _, dir := range []string{"/src", "/usr/src/dgt_basic-1.0", "/usr/src/dgt_basic-2.0", dkmsTree, "/etc/dkms", "/usr/sbin/dkms"} {
		root.MustRun("rm", "-r", dir)
	}
}

// runScript runs one script in a root of its own.
func runScript(t *testing.T, root *lab.Root, file string, samples []sample) {
	older, newer := lab.Kernels(t)
	m := &machine{root: root.Dir, kernel: older, newer: newer}
	peer := os.Getenv(peerVariable)
	if err := m.prepare(peer, samples); err != nil {
		t.Fatal(err)
	}
	if peer == "" {
		m.schemas = lab.JSONSchemas(t)
		root.AddBinary()
		lab.MustExec(t, "cp", "-a", filepath.Join(lab.Repo(t), "packaging", "tree", "all", "usr", "lib", "dkms"), root.Path("usr", "lib"))
	}
	testscript.RunT(one{t}, testscript.Params{
		Files:               []string{file},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                m.commands(),
		Condition: func(cond string) (bool, error) {
			if cond == "peer" {
				return peer != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Setup: func(env *testscript.Env) error {
			for _, kv := range [][2]string{{"R", root.Dir}, {"K", older}, {"K2", newer}, {"A", arch}, {"T", root.Path(dkmsTree)}} {
				env.Setenv(kv[0], kv[1])
			}
			return nil
		},
	})
}

// one makes a test with a single script of its own: without a test below it,
// which would wait for a place that the tests above hold.
type one struct{ *testing.T }

func (t one) Parallel() {}

func (t one) Run(_ string, f func(testscript.T)) { f(t) }

func (t one) Verbose() bool { return testing.Verbose() }

// cacheOff turns the cache of results off: most scripts tell of builds. The others
// remove it.
const cacheOff = "/etc/dkms/framework.conf.d/00-cache.conf"

// prepare puts the peer, the signing tool's link and the samples into the
// root.
func (m *machine) prepare(peer string, samples []sample) error {
	if peer != "" {
		data, err := os.ReadFile(peer)
		if err != nil {
			return fmt.Errorf("read $%s: %w", peerVariable, err)
		}
		if err := os.WriteFile(m.path("/usr/sbin/dkms"), data, 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/etc/dkms/framework.conf.d", dkmsTree} {
		if err := os.MkdirAll(m.path(dir), 0o755); err != nil {
			return err
		}
	}
	for _, s := range samples {
		if err := s.write(m.path("/src")); err != nil {
			return err
		}
	}
	return os.WriteFile(m.path(cacheOff), []byte("result_cache=off\n"), 0o644)
}

// TestCoverage counts the scenarios of the list that a script carries out, and
// finds scripts that speak of scenarios which are not in it.
func TestCoverage(t *testing.T) {
	list := readScenarios(t)
	covered := map[string]string{}
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".txtar" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			for _, id := range scenarioIDs(line) {
				if _, ok := list[id]; !ok {
					t.Errorf("%s: scenario %q is not in the list", path, id)
				}
				if other, dup := covered[id]; dup {
					t.Errorf("%s: scenario %q is carried out twice, also in %s", path, id, other)
				}
				covered[id] = path
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := 0
	for id, s := range list {
		switch {
		case s.note != "":
			elsewhere++
		case covered[id] == "":
			t.Errorf("no script carries out scenario %s: %s", id, s.what)
		}
	}
	t.Logf("scenarios covered %d of %d; %d not ours", len(covered), len(list), elsewhere)
}

type scenario struct{ code, what, note string }

// readScenarios reads the list of upstream's checks.
func readScenarios(t *testing.T) map[string]scenario {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "scenarios.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]scenario{}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			t.Fatalf("scenarios.tsv: %d fields in %q, want 4", len(f), line)
		}
		if _, dup := list[f[0]]; dup {
			t.Fatalf("scenarios.tsv: %s is there twice", f[0])
		}
		list[f[0]] = scenario{code: f[1], what: f[2], note: f[3]}
	}
	return list
}

// scenarioIDs returns the scenarios that a script's line says it carries out:
// "# scenario basic-496, basic-503: what they establish". Those beyond
// upstream's have ids that begin with "x-" and are not counted.
func scenarioIDs(line string) []string {
	rest, ok := strings.CutPrefix(line, "# scenario ")
	if !ok {
		return nil
	}
	ids, _, _ := strings.Cut(rest, ":")
	var out []string
	for _, id := range strings.Split(ids, ",") {
		if id = strings.TrimSpace(id); !strings.HasPrefix(id, "x-") {
			out = append(out, id)
		}
	}
	return out
}
