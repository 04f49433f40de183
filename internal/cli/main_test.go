// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dkms-go/internal/action"
)

// dkms runs a command line on trees of its own.
func dkms(t *testing.T, root, line string) (code int, out, errw string) {
	t.Helper()
	var o, e bytes.Buffer
	words := strings.Fields(line)
	words = append(words, "--dkmstree", root+"/tree", "--sourcetree", root+"/src", "--installtree", root+"/lib/modules")
	code = Main(context.Background(), words, Stdio{Out: &o, Err: &e, Environ: os.Environ(), Version: "1"})
	return code, o.String(), e.String()
}

// world has modules a (added) and b (built), and c without its source.
func world(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, m := range []string{"a", "b"} {
		must(t,
			os.MkdirAll(root+"/src/"+m+"-1", 0o755),
			os.WriteFile(root+"/src/"+m+"-1/dkms.conf", []byte("PACKAGE_NAME="+m+"\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME="+m+"\nDEST_MODULE_LOCATION=/extra\nMAKE=\"make it's\"\n"), 0o644),
			os.MkdirAll(root+"/tree/"+m+"/1", 0o755),
			os.Symlink(root+"/src/"+m+"-1", root+"/tree/"+m+"/1/source"))
	}
	for _, arch := range []string{"x", "y"} {
		must(t, os.MkdirAll(root+"/tree/b/1/6.1/"+arch+"/module", 0o755),
			os.WriteFile(root+"/tree/b/1/6.1/"+arch+"/module/b.ko", nil, 0o644))
	}
	must(t, os.MkdirAll(root+"/tree/c/1", 0o755), os.Symlink("/nowhere", root+"/tree/c/1/source"))
	return root
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestStatus(t *testing.T) {
	root := world(t)
	for line, want := range map[string]string{
		"status":                      "a/1: added\nb/1, 6.1, x: built\nb/1, 6.1, y: built\nc/1: broken\n",
		"status b":                    "b/1, 6.1, x: built\nb/1, 6.1, y: built\n",
		"status -k 6.1 -a y b":        "b/1, 6.1, y: built\n",
		"status -k 6.2 b":             "b/1: added\n",
		"status -k 6.1 -k 6.1 -a x b": "b/1, 6.1, x: built\nb/1, 6.1, x: built\n",
		"status [ab]/1 -a x":          "a/1: added\nb/1, 6.1, x: built\n",
		"status none":                 "",
		"status --all a":              "a/1: added\n",
		"list":                        "a/1  added\nb/1  built for 6.1/x 6.1/y\nc/1  broken, its source is missing\n",
	} {
		code, out, errw := dkms(t, root, line)
		if code != 0 || out != want {
			t.Errorf("%s: code %d, %q, want %q\n%s", line, code, out, want, errw)
		}
		if broken := strings.Contains(errw, "\nError! c/1 "); line == "status" && !broken {
			t.Error(errw)
		}
	}
}

func TestJSON(t *testing.T) {
	root := world(t)
	for line, schema := range map[string]string{
		"status --json": StatusSchema, "status --json none": StatusSchema, "list --json": ListSchema,
		"config --json a/1 -k 6.1 -a x": ConfigSchema, "config --json a/1 -k 6.1 -a x --directive=A=b": ConfigSchema,
	} {
		code, out, errw := dkms(t, root, line)
		var doc map[string]any
		d := json.NewDecoder(strings.NewReader(out))
		if err := d.Decode(&doc); err != nil || code != 0 || d.More() || doc["schema"] != schema {
			t.Errorf("%s: code %d, %v\n%s%s", line, code, err, out, errw)
		}
		if m, ok := doc["modules"]; ok && m == nil {
			t.Errorf("%s: modules is null", line)
		}
	}
}

func TestConfigIsReadBackByAShell(t *testing.T) {
	_, out, errw := dkms(t, world(t), "config a/1 -k 6.1 -a x")
	for _, want := range []string{"BUILT_MODULE_NAME[0]=a\n", "MAKE='make it'\\''s'\n", "# applies to kernel 6.1 (x)\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s%s", want, out, errw)
		}
	}
}

func TestCodes(t *testing.T) {
	root := world(t)
	cases := []struct {
		line string
		code int
		says string // on stderr
	}{
		{"", 0, "No action"}, {"frobnicate", 2, `"frobnicate" is no action`}, {"instal m/1", 2, "did you mean install?"},
		{"build --bogus", 2, `Unknown option "--bogus"`}, {"build install", 4, "one at a time"},
		{"build --all a/1", 5, "--all"}, {"kernel_prerm", 4, "exactly one kernel"}, {"match -k a -k b", 4, "one kernel"},
		{"add a/1 -k 6.1 -a x", 3, "already"}, {"add none/1 -k 6.1 -a x", 2, "none-1"}, {"add a -k 6.1 -a x", 1, "version"},
		{"build c/1 -k 6.1 -a x", 4, "broken"}, {"remove none/1 -k 6.1 -a x", 3, "not in the DKMS tree"},
		{"build a/1 -k 6.1/", 16, "empty"}, {"build a/1 -k .. -a x", 1, "kernel release"}, {"ldtarball none.tar -k 6.1 -a x", 2, "none.tar"},
		{"match -k 6.1 -a x", 1, "templatekernel"}, {"build a/1 -j x -k 6.1 -a x", 2, "number of jobs"},
		{"build a/1 --no-initrd -k 6.1 -a x", 8, "Deprecated feature: --no-initrd"},
	}
	for _, c := range cases {
		code, _, errw := dkms(t, root, c.line)
		if code != c.code || !strings.Contains(errw, c.says) {
			t.Errorf("%q: code %d, want %d\n%s", c.line, code, c.code, errw)
		}
		code, out, errw := dkms(t, root, "-q "+c.line)
		if code != c.code || out+errw != "" {
			t.Errorf("%q quietly: code %d, says %q %q", c.line, code, out, errw)
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	root := t.TempDir()
	if code, out, _ := dkms(t, root, "--version"); code != 0 || out != "dkms-3.4.3+go1\n" {
		t.Error(code, out)
	}
	all := help("")
	for _, v := range Verbs() {
		code, out, errw := dkms(t, root, v.Name+" --help")
		if code != 0 || errw != "" || !strings.HasPrefix(out, "Usage: dkms "+v.Name) || !strings.Contains(out, "Exit codes:") {
			t.Errorf("%s: %d %s%s", v.Name, code, out, errw)
		}
		if !strings.Contains(all, "  "+v.Name+" ") || v.Help == "" {
			t.Errorf("%s isn't in the help", v.Name)
		}
		for _, name := range v.Options {
			if o, _, _, ok := find(name); !ok || o.Name() != name {
				t.Errorf("%s names an option %s", v.Name, name)
			}
			if !strings.Contains(out, name) {
				t.Errorf("the help of %s lacks %s", v.Name, name)
			}
		}
		all += out
	}
	for _, o := range Options() {
		if !o.Old && (!strings.Contains(all, o.Name()) || !strings.Contains(all, o.Help) || o.Help == "") {
			t.Errorf("no help has %s", o.Name())
		}
	}
}

func TestExitTable(t *testing.T) {
	rows := map[action.Reason]int{}
	for _, r := range ExitTable() {
		rows[r.Reason]++
		if r.Words == "" || r.Code == 0 || r.Code > 255 {
			t.Errorf("%+v", r)
		}
	}
	for r := action.Internal; r <= action.Interrupted; r++ {
		if rows[r] != 1 {
			t.Errorf("reason %d has %d rows", r, rows[r])
		}
	}
	if len(rows) != int(action.Interrupted)+1 {
		t.Errorf("%d reasons in the table, %d exist", len(rows), action.Interrupted+1)
	}
	for _, v := range Verbs() {
		for _, r := range v.Codes {
			if !slices.ContainsFunc(ExitTable(), func(row ExitRow) bool { return row.Reason == r }) {
				t.Errorf("%s names reason %d", v.Name, r)
			}
		}
	}
}

func TestCode(t *testing.T) {
	for _, c := range []struct {
		f    *action.Failure
		want int
	}{
		{&action.Failure{Reason: action.MakeFailed, Err: errors.New("x")}, 10},
		{&action.Failure{Reason: action.HookFailed, Err: errors.New("x"), Status: 42}, 42},
		{&action.Failure{Reason: action.HookFailed, Err: errors.New("x")}, 1},
		{&action.Failure{Reason: action.Interrupted, Err: fmt.Errorf("x: %w", Signal{syscall.SIGTERM})}, 143},
		{&action.Failure{Reason: action.MakeFailed, Err: Signal{syscall.SIGINT}}, 130},
		{&action.Failure{Reason: action.Interrupted, Err: context.Canceled}, 1},
	} {
		if got := code(c.f); got != c.want {
			t.Errorf("%v: %d, want %d", c.f, got, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	cases := []struct {
		f    *action.Failure
		want string
	}{
		{&action.Failure{Reason: action.NotAdded, Err: errors.New("module m is odd\n"), Hint: []string{"Do this.", "Or that."}}, "\nError! Module m is odd\nDo this.\nOr that.\n"},
		{&action.Failure{Reason: action.NotAdded, Err: errors.New("m/1 is odd")}, "\nError! m/1 is odd\n"},
		{&action.Failure{Reason: action.Excluded, Err: errors.New("m/1 is not meant for it"), Hint: []string{"So."}}, "Warning: m/1 is not meant for it\nSo.\n"},
		{&action.Failure{Reason: action.Internal, Err: errors.New("")}, "\nError! \n"},
	}
	for _, c := range cases {
		var b bytes.Buffer
		advice{}.explain(&b, c.f)
		if b.String() != c.want {
			t.Errorf("%q, want %q", b.String(), c.want)
		}
	}
}

// A reader that goes away is no error to speak of.
type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestNobodyReadsOn(t *testing.T) {
	root := world(t)
	for _, line := range []string{"status", "list"} {
		var errw bytes.Buffer
		words := append(strings.Fields(line), "--dkmstree", root+"/tree", "--sourcetree", root+"/src")
		if code := Main(context.Background(), words, Stdio{Out: closed{}, Err: &errw, Environ: os.Environ()}); code != 141 || errw.Len() > 0 {
			t.Errorf("%s: %d %s", line, code, &errw)
		}
	}
}
