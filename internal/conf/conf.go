// SPDX-License-Identifier: Apache-2.0

// Package conf evaluates the configuration files of dkms: a module's
// dkms.conf with its overrides and --directive values (a Module), and
// framework.conf (a Framework).
//
// Both are shell code. The package runs that code in a Go interpreter, or in
// real bash where the interpreter is known to differ, and returns values: it
// decides nothing and knows neither the kernel nor the state tree.
package conf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
	command "dkms-go/internal/run"
)

// Policy says how the shell code of a conf is run.
type Policy int

const (
	// Auto uses the Go interpreter, and real bash for a file with a construct
	// that the interpreter evaluates differently.
	Auto Policy = iota
	// Go always uses the Go interpreter.
	Go
	// Bash always uses real bash.
	Bash
	// NoExec uses the Go interpreter and refuses external commands and writes
	// to files. The result is marked Incomplete when something was refused or
	// may have been evaluated differently.
	NoExec
)

// Request names a dkms.conf and what it is evaluated for.
type Request struct {
	// Module, Version, Kernel and Arch select the overrides and are visible as
	// $module, $module_version, $kernelver and $arch.
	Module, Version, Kernel, Arch string
	// File is the dkms.conf to read.
	File string
	// KernelSourceDir and KernelConfig are visible as $kernel_source_dir and
	// $kernel_config.
	KernelSourceDir, KernelConfig string
	// Distro is visible as $running_distribution.
	Distro string
	// Directives are NAME=value pairs that are set, literally, after all files.
	Directives []string
	// Vars are further variables visible to the conf.
	Vars map[string]string
	// Policy says how the shell code is run.
	Policy Policy
}

// Program is one for real bash: its text, what is on its standard input, the
// whole environment, the working directory (empty: any), and the confs that it is
// about. It does not depend on them being readable there.
type Program struct {
	Script, Input string
	Env           []string
	Dir           string
	Confs         []string
}

// Command returns the command that runs the program, without what shows its errors.
func (p Program) Command() command.Cmd {
	return command.Cmd{Argv: []string{"bash", "-c", p.Script}, Stdin: strings.NewReader(p.Input), Env: p.Env, Dir: p.Dir}
}

// BashFunc runs a program and returns its standard output. Its standard error goes
// where the caller shows it.
type BashFunc func(context.Context, Program) (stdout []byte, err error)

// Loader reads confs. Only Paths must be set.
type Loader struct {
	Paths host.Paths
	// Environ is the environment in which the conf runs; nil is that of the
	// process. The compiler variables CC, CXX, CFLAGS, CXXFLAGS and LDFLAGS and
	// all directives are removed from it.
	Environ []string
	// Stderr shows what the conf itself writes to its standard error; nil
	// discards it. Its standard output is always discarded.
	Stderr io.Writer
	// Bash runs real bash; nil means there is none, and Auto is then Go.
	Bash BashFunc
	// Confined, if not nil, is what runs bash for a module's dkms.conf, with all
	// commands that it has: the Go interpreter then runs none and writes nothing.
	Confined BashFunc
	// Time is how long the code of a dkms.conf may run; 0, and more than a minute,
	// stand for a minute.
	Time time.Duration
	// Dir is the working directory of the conf; empty is that of the process.
	Dir string
	// Policy is how framework.conf is evaluated; that of a dkms.conf is the
	// request's.
	Policy Policy
}

// Unreadable reports a conf that could not be read.
type Unreadable struct {
	File string
	Err  error
}

// Error names the file and the reason.
func (e *Unreadable) Error() string {
	return fmt.Sprintf("read conf %q: %v", e.File, e.Err)
}

// Unwrap returns the error of the file system.
func (e *Unreadable) Unwrap() error { return e.Err }

// Invalid reports everything that is wrong with a conf, in the order in which
// upstream checks it.
type Invalid struct {
	File     string
	Problems []string
}

// Error gives all problems on one line.
func (e *Invalid) Error() string {
	var problems []string
	for _, p := range e.Problems { // a syntax error names its file, which may be another
		problems = append(problems, strings.TrimPrefix(p, e.File+": "))
	}
	return fmt.Sprintf("conf %q: %s", e.File, strings.Join(problems, "; "))
}

// evaluationTime is how long the code of a dkms.conf may run at most.
const evaluationTime = time.Minute

// maxConf bounds the size of a conf in bytes; the largest known is 15 KiB.
const maxConf = 1 << 20

// Load evaluates r.File, the module's overrides in l.Paths.ConfDir and the
// directives, as `dkms.conf` and "OVERRIDES" in dkms(8) describe.
//
// It returns *Unreadable when a file cannot be read, and *Invalid together
// with the module when the values do not make a valid conf. A cancelled ctx
// stops the conf's code; Load then returns ctx's error.
func (l *Loader) Load(ctx context.Context, r Request) (*Module, error) {
	files, err := readConfs(append([]string{r.File}, l.overrides(r)...))
	if err != nil {
		return nil, err
	}
	limit := evaluationTime
	if l.Time > 0 {
		limit = min(limit, l.Time)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not finished after %s", limit))
	defer cancel()
	e := l.newEvaluation(moduleNames(), files)
	e.shell, e.foreign = l.moduleShell(r), true
	out, err := l.evaluate(ctx, e, r.Policy)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("evaluate conf %q: %w", r.File, err)
	}
	m := newModule(r, out)
	l.exception(ctx, m, files[1:])
	m.Unknown = nearMisses(e.scripts[0])
	m.Malformed = l.malformed(ctx, e, r.Policy)
	if p := m.problems(); len(p) > 0 {
		if m.Malformed != "" {
			p = []string{m.Malformed} // what else is wrong comes of it: values were lost
		}
		return m, &Invalid{File: r.File, Problems: p}
	}
	return m, nil
}

// overrides returns the files that may change a module's conf, in the order
// in which they are evaluated: the later wins.
func (l *Loader) overrides(r Request) []string {
	base := l.Paths.ConfDir + "/" + r.Module
	all := []string{
		base,
		base + "-" + r.Version,
		base + "-" + r.Version + "-" + r.Kernel,
		base + "-" + r.Version + "-" + r.Kernel + "-" + r.Arch,
		base + "--" + r.Kernel,
		base + "--" + r.Kernel + "-" + r.Arch,
	}
	var found []string
	for _, f := range all {
		if _, err := os.Stat(f + ".conf"); err == nil {
			found = append(found, f+".conf")
		}
	}
	return found
}

// moduleShell returns upstream's shell variables that a dkms.conf can see.
func (l *Loader) moduleShell(r Request) map[string]string {
	vars := map[string]string{
		"dkms_tree":            l.Paths.DKMSTree,
		"source_tree":          l.Paths.SourceTree,
		"install_tree":         l.Paths.InstallTree,
		"tmp_location":         l.Paths.Temp,
		"module":               r.Module,
		"module_version":       r.Version,
		"kernelver":            r.Kernel,
		"arch":                 r.Arch,
		"kernel_source_dir":    r.KernelSourceDir,
		"kernel_config":        r.KernelConfig,
		"running_distribution": r.Distro,
	}
	for name, value := range r.Vars {
		vars[name] = value
	}
	return vars
}

// confFile is a conf's path and contents.
type confFile struct {
	path string
	text string
}

// readConfs reads files, each of at most maxConf bytes.
func readConfs(paths []string) ([]confFile, error) {
	files := make([]confFile, 0, len(paths))
	for _, path := range paths {
		text, err := readConf(path)
		if err != nil {
			return nil, &Unreadable{File: path, Err: err}
		}
		files = append(files, confFile{path: path, text: text})
	}
	return files, nil
}

// isNull tells the null device, by which administrators make overrides empty, from
// devices that would be waited for or have no end (null(4)).
func isNull(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && fi.Mode()&fs.ModeCharDevice != 0 && st.Rdev == unix.Mkdev(1, 3)
}

func readConf(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // wait for no writer of a pipe
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() && !isNull(st) {
		return "", errors.New("not a file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConf+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxConf {
		return "", fmt.Errorf("larger than %d bytes", maxConf)
	}
	return string(data), nil
}
