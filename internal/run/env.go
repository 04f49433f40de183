// SPDX-License-Identifier: Apache-2.0

package run

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// BaseEnv returns environ without the variables that would change how a
// module is compiled: CC, CXX, CFLAGS, CXXFLAGS and LDFLAGS.
func BaseEnv(environ []string) []string {
	return without(environ, "CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS")
}

// LookPath returns the file that a shell with that environment would execute
// for name. A name with a slash is returned as it is. Empty and relative
// entries of PATH are passed over, so that what is run doesn't depend on the
// working directory. The error wraps exec.ErrNotFound.
func LookPath(name string, environ []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path, _ := lookup(environ, "PATH")
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) || name == "" {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("looking up %q: %w", name, exec.ErrNotFound)
}

// Line returns the command as a shell would read it, without its environment,
// directory and prelude.
func (c Cmd) Line() string {
	if c.Shell != "" {
		return c.Shell
	}
	words := make([]string, len(c.Argv))
	for i, word := range c.Argv {
		words[i] = quote(word)
	}
	return strings.Join(words, " ")
}

// Replay returns one line for a POSIX shell that runs the command again. It
// has only those variables that differ from the environment of this process,
// and no MAKEFLAGS that name a jobserver, which is gone by then.
func (c Cmd) Replay() string {
	var b strings.Builder
	if c.Dir != "" {
		b.WriteString("cd " + quote(c.Dir) + " && ")
	}
	unset, set := changes(os.Environ(), c.environ())
	if len(unset) > 0 {
		b.WriteString("env ")
	}
	for _, name := range unset {
		b.WriteString("-u " + quote(name) + " ")
	}
	for _, variable := range set {
		name, value, _ := strings.Cut(variable, "=")
		b.WriteString(name + "=" + quote(value) + " ")
	}
	if c.Shell != "" {
		b.WriteString("bash -c " + quote(c.Prelude+c.Shell))
	} else {
		b.WriteString(c.Line())
	}
	return b.String()
}

// changes returns, sorted, which names of the environment old aren't in new,
// and which variables of new differ from old.
func changes(old, new []string) (unset, set []string) {
	before, after := table(old), table(new)
	for name := range before {
		if _, ok := after[name]; !ok {
			unset = append(unset, name)
		}
	}
	for name, value := range after {
		was, ok := before[name]
		if name == "PWD" || name == "MAKEFLAGS" && strings.Contains(value, "--jobserver") {
			continue
		}
		if !ok || was != value {
			set = append(set, name+"="+value)
		}
	}
	slices.Sort(unset)
	slices.Sort(set)
	return unset, set
}

// table returns environ as a map; as in os/exec the last value of a name
// counts. Exported shell functions, which no shell can set by assignment, are
// left out.
func table(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, variable := range environ {
		name, value, ok := strings.Cut(variable, "=")
		if ok && name != "" && !strings.ContainsAny(name, "%()") {
			m[name] = value
		}
	}
	return m
}

// lookup returns the value of a variable.
func lookup(environ []string, name string) (string, bool) {
	for _, variable := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// without returns a copy of environ that lacks some names.
func without(environ []string, names ...string) []string {
	kept := make([]string, 0, len(environ))
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if !slices.Contains(names, name) {
			kept = append(kept, variable)
		}
	}
	return kept
}

// quote returns s as one word of a POSIX shell (Shell Command Language, 2.2).
func quote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
