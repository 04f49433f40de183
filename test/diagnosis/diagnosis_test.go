// SPDX-License-Identifier: Apache-2.0

// Package diagnosis_test holds what dkms says of real logs of failed builds against
// what a person has written of them after reading each: its class, and the line that
// tells why.
//
// testdata/logs has the logs, NAME.KERNEL.log, some of them compressed; KERNEL is
// the lab's old, new or cloud kernel, or rt, the older one's with PREEMPT_RT. They
// were made by TestRegenerate from the modules in testdata/modules.txt and from the
// packages of the lab. testdata/table.txt has, for each log, what is right.
package diagnosis_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/diagnose"
	"dkms-go/test/lab"
)

// The least shares that must be right, and how many logs there are at least.
const (
	leastClass = 0.95
	leastLine  = 0.90
	leastLogs  = 40
)

// verdict is what a person says of a log.
type verdict struct {
	log   string
	class string
	// place is FILE:LINE, FILE without the directory of the build; "-" if the line
	// names none.
	place string
	line  string
}

func readTable(t *testing.T) []verdict {
	data, err := os.ReadFile(filepath.Join("testdata", "table.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var list []verdict
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		if len(fields) != 4 {
			t.Fatalf("the table has %q", line)
		}
		list = append(list, verdict{fields[0], fields[1], fields[2], fields[3]})
	}
	return list
}

// said is what dkms says.
type said struct {
	Failed    bool
	Diagnosis diagnose.Diagnosis
}

// place is the place as the table has it.
func (s said) place(build string) string {
	d := s.Diagnosis
	if d.File == "" {
		return "-"
	}
	return fmt.Sprintf("%s:%d", strings.TrimPrefix(d.File, build), d.Line)
}

// TestDiagnosis has dkms tell of each log, in a root with the headers of the lab's
// kernels and the modules' sources, why the build failed.
func TestDiagnosis(t *testing.T) {
	table := readTable(t)
	if len(table) < leastLogs {
		t.Errorf("%d logs, want at least %d", len(table), leastLogs)
	}
	root := lab.AllScratch(t)
	root.AddRT()
	root.AddBinary()
	sources(t, root)
	// Its predecessor tells nothing more than the older kernel does.
	lab.MustExec(t, "bash", "-c", `rm -rf "$1"/usr/lib/modules/*-55-amd64`, "rm", root.Dir)
	var class, line, place, harmless int
	for _, v := range table {
		log := readLog(t, v.log)
		build, text := header(log)
		if !slices.Contains(text, strings.TrimSpace(v.line)) {
			t.Errorf("%s: the table's line isn't in the log: %q", v.log, v.line)
		}
		s := ask(t, root, v.log, log)
		d := s.Diagnosis
		if string(d.Class) == v.class {
			class++
		} else {
			t.Logf("%s: the class is %s, said is %s: %s", v.log, v.class, d.Class, d.What)
		}
		if strings.TrimSpace(d.Error) == diagnose.Printable(strings.TrimSpace(v.line)) {
			line++
		} else {
			t.Logf("%s: the line is\n\t%q, said is\n\t%q", v.log, v.line, d.Error)
		}
		if s.place(build) == v.place {
			place++
		} else {
			t.Logf("%s: the place is %s, said is %s", v.log, v.place, s.place(build))
		}
		if diagnose.Harmless(d.Error) || !s.Failed || len(d.Next) == 0 {
			harmless++
			t.Errorf("%s: named is %q", v.log, d.Error)
		}
	}
	n := len(table)
	t.Logf("%d logs: the class of %d is right (%.1f %%), the line of %d (%.1f %%), its file and line number of %d (%.1f %%); harmless lines named: %d",
		n, class, share(class, n), line, share(line, n), place, share(place, n), harmless)
	if share(class, n) < 100*leastClass || share(line, n) < 100*leastLine || share(place, n) < 100*leastLine {
		t.Errorf("want the class of %.0f %% and the line of %.0f %%", 100*leastClass, 100*leastLine)
	}
}

func share(part, of int) float64 { return 100 * float64(part) / float64(max(of, 1)) }

// sources puts the sources of the modules into the root.
func sources(t *testing.T, root *lab.Root) {
	m := &machine{T: t, root: root}
	for _, c := range readCases(t) {
		m.source(c)
	}
	for _, p := range lab.Packages(t) {
		if corpusTrials[p.Name] != nil {
			root.AddPackage(p.Name)
		}
	}
}

func ask(t *testing.T, root *lab.Root, name string, log []byte) said {
	if err := os.WriteFile(root.Path("root", name), log, 0o644); err != nil {
		t.Fatal(err)
	}
	r := root.Run("dkms", "log", "/root/"+name, "--json")
	var s said
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil || r.Code != 0 {
		t.Fatalf("%s: %v\n%s%s", name, err, r.Stdout, r.Stderr)
	}
	lab.CheckJSON(t, r.Stdout)
	return s
}

func readLog(t *testing.T, name string) []byte {
	path := filepath.Join("testdata", "logs", name)
	data, err := os.ReadFile(path)
	if err == nil {
		return data
	}
	packed, err := os.ReadFile(path + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return data
}

// header returns the build directory that a log is of, and the log's lines.
func header(log []byte) (build string, lines []string) {
	lines = strings.Split(string(log), "\n")
	_, rest, _ := strings.Cut(lines[0], "make.log for ")
	module, _, _ := strings.Cut(rest, " ")
	for i, l := range lines {
		if why, ok := strings.CutPrefix(l, diagnose.FailedMark); ok {
			_, lines[i], _ = strings.Cut(why, ": ")
		}
		lines[i] = strings.Trim(lines[i], "\r \t")
	}
	return "/var/lib/dkms/" + module + "/build/", lines
}

// TestEachLogIsInTheTable holds the logs and the table together.
func TestEachLogIsInTheTable(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "logs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names, listed []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".gz"))
	}
	known := diagnose.Classes()
	for _, v := range readTable(t) {
		listed = append(listed, v.log)
		if !slices.Contains(known, diagnose.Class(v.class)) {
			t.Errorf("%s: there is no class %q", v.log, v.class)
		}
	}
	slices.Sort(listed)
	slices.Sort(names)
	if !slices.Equal(names, listed) {
		t.Errorf("logs: %q\ntable: %q", names, listed)
	}
}
