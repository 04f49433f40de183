// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/host"
	"dkms-go/internal/run"
)

const tell = "#!/bin/sh\npwd\necho \"$0\"\nfor a; do echo \"[$a]\"; done\necho diag >&2\nexit ${CODE:-0}\n"

func script(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(tell), mode); err != nil {
		t.Fatal(err)
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	p := host.Paths{ConfDir: dir + "/etc"}
	root := dir + "/a b/src" // a blank in a path is no end of a word
	script(t, root+"/hooks/go", 0o755)
	script(t, root+"/x1.txt", 0o644)
	script(t, root+"/x2.txt", 0o644)
	script(t, root+"/over", 0o755)
	script(t, dir+"/etc/m/over", 0o755)
	script(t, root+"/shadowed", 0o755)
	script(t, dir+"/etc/m/shadowed", 0o644)
	cases := []struct{ directive, in, args string }{
		{"hooks/go", root, ""},
		{"hooks/go  one\ttwo", root, "[one] [two]"},
		{"hooks/go x*.txt none* '*'", root, "[x1.txt] [x2.txt] [none*] ['*']"},
		{"hooks/go x[1].txt x?.txt", root, "[x1.txt] [x1.txt] [x2.txt]"},
		{"hooks/go $HOME `id` \"a b\" ;true", root, "[$HOME] [`id`] [\"a] [b\"] [;true]"},
		{"hooks/go " + filepath.Dir(dir) + "/nothing*", root, "[" + filepath.Dir(dir) + "/nothing*]"},
		{"over y", dir + "/etc/m", "[y]"},
		{"shadowed", root, ""},
	}
	for _, c := range cases {
		var out, errw bytes.Buffer
		s := Script{Name: "post_add", Directive: c.directive, Module: "m", Root: root}
		if err := s.Run(context.Background(), p, os.Environ(), &out, &errw); err != nil {
			t.Errorf("%s: %v", c.directive, err)
			continue
		}
		file, _, _ := strings.Cut(c.directive, " ")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if lines[0] != c.in || lines[1] != c.in+"/"+file || strings.Join(lines[2:], " ") != c.args || errw.String() != "diag\n" {
			t.Errorf("%s:\n%s%s", c.directive, &out, &errw)
		}
	}
}

func TestFailureAndAbsence(t *testing.T) {
	root := t.TempDir()
	script(t, root+"/go", 0o755)
	script(t, root+"/plain", 0o644)
	if err := os.Mkdir(root+"/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, directive := range []string{"plain", "none", "dir", "", " go", "   "} {
		s := Script{Directive: directive, Module: "m", Root: root}
		if _, _, ok := s.Command(host.Paths{ConfDir: root + "/etc"}); ok {
			t.Errorf("%q can be executed", directive)
		}
		if err := s.Run(context.Background(), host.Paths{}, nil, nil, nil); !errors.Is(err, ErrNotExecutable) {
			t.Errorf("%q: %v", directive, err)
		}
	}
	err := Script{Directive: "go", Root: root}.Run(context.Background(), host.Paths{}, append(os.Environ(), "CODE=7"), nil, nil)
	if run.Code(err) != 7 {
		t.Error(err)
	}
	if ErrNotExecutable.Error() == "" {
		t.Error("no text")
	}
}

func TestCommandLine(t *testing.T) {
	root := t.TempDir()
	script(t, root+"/go", 0o755)
	dir, line, ok := Script{Directive: "go 'a b' *", Root: root}.Command(host.Paths{ConfDir: root + "/etc"})
	if !ok || dir != root || line != root+"/go 'a b' *" {
		t.Error(dir, line, ok) // a shell gets it as it is
	}
}
