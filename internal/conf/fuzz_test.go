// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/host"
)

// fuzzed is what the fuzz tests of this package share: a directory that other
// users can read, a loader, and the bash that judges.
type fuzzed struct {
	dir  string
	l    *Loader
	bash *bashServer
}

func newFuzzed(f *testing.F) *fuzzed {
	f.Helper()
	dir, err := os.MkdirTemp("", "dkms-fuzz-")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	for _, sub := range []string{"", "cwd", "headers", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"cwd/a.c", "cwd/b.c", "cwd/Makefile"} {
		writeFile(f, filepath.Join(dir, name), "x\n")
	}
	writeFile(f, filepath.Join(dir, "headers/.config"), testConfig)
	p := host.Default()
	p.ConfDir = filepath.Join(dir, "etc")
	env := []string{"PATH=", "HOME=" + dir, "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "VISIBLE=v"}
	z := &fuzzed{dir: dir, l: &Loader{Paths: p, Environ: env, Dir: filepath.Join(dir, "cwd")}}
	z.bash = newBashServer(f, dir, env)
	z.l.Bash = z.bash.run
	return z
}

// addConfs adds the seeds: our own, and those of the lab if it is there.
func addConfs(f *testing.F) {
	for _, path := range corpusConfs(f) {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
}

// compare holds the Go interpreter against bash, for text that Auto leaves to
// the interpreter. No external command is run: text that wants one is passed over.
func (z *fuzzed) compare(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(z.dir, "dkms.conf")
	writeFile(t, file, text)
	e := z.l.newEvaluation(moduleNames(), []confFile{{path: file, text: text}})
	e.shell = z.l.moduleShell(request(filepath.Join(z.dir, "headers"), file, testKernels[0]))
	if differs(e.scripts[0]) != "" {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var shown bounded
	got, err := z.l.evaluateGo(ctx, e, NoExec, &shown)
	if err != nil || got.incomplete || shown.complains() || ctx.Err() != nil || rights(text) {
		return
	}
	want, err := z.l.evaluateBash(t.Context(), e)
	if err != nil {
		if err != errTooLong && !strings.Contains(err.Error(), "stopped before the end") {
			t.Fatal(err)
		}
		return
	}
	if diff := differences(got.vars, want.vars); len(diff) > 0 {
		t.Errorf("%q: the interpreter differs from bash:\n%s\nit said: %s", text, strings.Join(diff, "\n"), shown.data)
	}
}

// rights reports text that may ask for what root may do and bash here may not, or
// what is another with each run.
func rights(text string) bool {
	return slices.ContainsFunc([]string{"-r", "-w", "-x", "-O", "-G", "-N", "UID", "RANDOM", "PPID", "$$", "{$", "/proc", "/dev/", "/root"}, func(s string) bool {
		return strings.Contains(text, s)
	})
}

// FuzzLoad feeds confs to the Go interpreter, which must end without a panic, and
// where it is trusted to stand for bash, must say what bash says.
func FuzzLoad(f *testing.F) {
	addConfs(f)
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 16<<10 {
			return
		}
		z.compare(t, text)
	})
}

// FuzzNoExec reads confs as status does: there is a module or an error, and nothing
// is run or written.
func FuzzNoExec(f *testing.F) {
	addConfs(f)
	l, ksd := testLoader(f)
	l.Bash = nil
	file := filepath.Join(ksd, "dkms.conf")
	f.Fuzz(func(t *testing.T, text string) {
		writeFile(t, file, text)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := request(ksd, file, testKernels[0])
		r.Policy = NoExec
		m, err := l.Load(ctx, r)
		if m == nil && err == nil {
			t.Error("neither module nor error")
		}
		if list, err := os.ReadDir(l.Dir); err != nil || len(list) > 0 {
			t.Errorf("%q wrote to the directory: %v %v", text, list, err)
		}
	})
}

// FuzzFramework holds both ways through framework.conf, the short one and the
// interpreter, against bash.
func FuzzFramework(f *testing.F) {
	for _, text := range []string{
		"# c\ndkms_tree=/a\nsource_tree=\"/b\"\ninstall_tree='/c'\n", "verbose=\"\"\n  symlink_modules=yes \t\n",
		"mok_signing_key='/keys/$kernelver.key'\nmok_certificate=${mok_signing_key%.key}.pub\n", "sign_file=\nIFS=,\nverbose=1",
		"compress_xz_opts=\"--check=crc32 -9\"\nboot_gate=on # x\n", "dkms_tree=/a\r\n", "verbose+=1;unset tmp_location\n",
	} {
		f.Add(text)
	}
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(z.dir, "framework.conf")
		writeFile(t, file, text)
		files := []confFile{{path: file, text: text}}
		e := z.l.newEvaluation(frameworkNames(), files)
		e.shell = map[string]string{"kernelver": "6.1.0"}
		e.values = z.l.frameworkDefaults()
		short, plain := z.l.plainFramework(files)
		var shown bounded
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		got, err := z.l.evaluateGo(ctx, e, NoExec, &shown)
		trusted := err == nil && ctx.Err() == nil && differs(e.scripts[0]) == "" && !got.incomplete && !shown.complains() && !rights(text)
		if !plain && !trusted {
			return
		}
		want, err := z.l.evaluateBash(t.Context(), e)
		if err != nil {
			return
		}
		for _, name := range frameworkNames() {
			w := want.vars[name]
			if trusted && !equalArrays(got.vars[name], w) {
				t.Errorf("%q: %s is %s, bash has %s", text, name, quoteArray(got.vars[name]), quoteArray(w))
			}
			if plain && !equalArrays(short[name], w) {
				t.Errorf("%q: by the short way %s is %s, bash has %s", text, name, quoteArray(short[name]), quoteArray(w))
			}
		}
	})
}

// equalArrays compares two variables, unset and empty being the same.
func equalArrays(a, b Array) bool { return quoteArray(a) == quoteArray(b) }

// FuzzMatches checks that any expression is either translated or refused.
func FuzzMatches(f *testing.F) {
	for _, p := range []string{"^(5|6)\\.[^0-9]{1,2}$", "[]-]", "[[:digit:]", "a{,3}*", "(|)"} {
		f.Add(p, "6.1.0")
	}
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, pattern, s string) {
		got := matches(pattern, s)
		if !isPrintable(pattern) || !isPrintable(s) || len(pattern) > 200 || len(s) > 200 {
			return
		}
		out, err := z.bash.run(t.Context(), Program{Script: "p=" + quote(pattern) + "; [[ " + quote(s) + " =~ $p ]] && echo yes"})
		if err != nil {
			return
		}
		if want := len(out) > 0; got != want {
			t.Errorf("%q =~ %q: %v, bash says %v", s, pattern, got, want)
		}
	})
}

// FuzzUnquote compares the short cut of the second evaluation with the
// interpreter.
func FuzzUnquote(f *testing.F) {
	for _, s := range []string{`a\.b`, `x$|y$)`, `\\\$a`, `a\`, "$ 1", `"`} {
		f.Add(s)
	}
	l, _ := testLoader(f)
	f.Fuzz(func(t *testing.T, text string) {
		short, ok := unquote(text)
		if !ok || strings.ContainsAny(text, "\r\n\x00") || !isPrintable(text) {
			return
		}
		e := l.newEvaluation([]string{"MAKE"}, nil)
		s := &session{evaluation: e, stderr: &bytes.Buffer{}, out: &outcome{vars: Vars{}}}
		if err := s.secondShell(t.Context(), "", []assign{{name: "MAKE", value: text}}); err != nil {
			t.Fatal(err)
		}
		if got := s.out.vars.Get("MAKE"); got != short {
			t.Errorf("%q: short cut gives %q, the interpreter %q", text, short, got)
		}
	})
}

func isPrintable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
