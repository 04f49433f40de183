// SPDX-License-Identifier: Apache-2.0

// Package hook finds and runs the scripts that a module names in its conf:
// POST_ADD, PRE_BUILD, POST_BUILD, PRE_INSTALL, POST_INSTALL and POST_REMOVE
// (dkms(8); reference 5.6).
package hook

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/host"
	"dkms-go/internal/run"
)

// Script is one script of a module.
type Script struct {
	// Name is the hook in small letters, as messages name it.
	Name string
	// Directive is its value in the conf: a file below Root, then arguments.
	Directive string
	// Module is the module's name: an executable of the same name below
	// <conf dir>/<module> takes the place of the module's own script.
	Module string
	// Root is the module's source or build directory, the script's cwd.
	Root string
}

// Command returns the directory a script runs in and its command line, or
// false if what the directive names can't be executed.
func (s Script) Command(p host.Paths) (dir, line string, ok bool) {
	file, _, _ := strings.Cut(s.Directive, " ")
	for _, dir := range []string{filepath.Join(p.ConfDir, s.Module), s.Root} {
		fi, err := os.Stat(filepath.Join(dir, file))
		if err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return dir, dir + "/" + s.Directive, true
		}
	}
	return "", "", false
}

// Run runs a script with its output going to out and errw. The line is split
// at blanks and wildcards are expanded, nothing else, as upstream does for the
// hooks of add, install and remove.
func (s Script) Run(ctx context.Context, p host.Paths, env []string, out, errw io.Writer) error {
	dir, _, ok := s.Command(p)
	if !ok {
		return ErrNotExecutable
	}
	argv := words(s.Directive, dir)
	argv[0] = dir + "/" + argv[0]
	c := run.Cmd{Argv: argv, Dir: dir, Env: env, Stdout: out, Stderr: errw}
	return c.Run(ctx)
}

// ErrNotExecutable is returned for a script that isn't there or isn't
// executable; upstream warns and goes on.
const ErrNotExecutable = notExecutable("the script is not executable")

type notExecutable string

func (e notExecutable) Error() string { return string(e) }

// words splits a line at blanks and expands wildcards in dir, as an unquoted
// shell variable would.
func words(line, dir string) []string {
	var out []string
	for i, w := range strings.Fields(line) {
		if i == 0 || !strings.ContainsAny(w, "*?[") {
			out = append(out, w)
			continue
		}
		pattern := w
		if !filepath.IsAbs(w) {
			pattern = filepath.Join(dir, w)
		}
		hits, err := filepath.Glob(pattern)
		if err != nil || len(hits) == 0 {
			out = append(out, w)
			continue
		}
		for _, h := range hits {
			if !filepath.IsAbs(w) {
				h = strings.TrimPrefix(h, dir+"/")
			}
			out = append(out, h)
		}
	}
	return out
}
