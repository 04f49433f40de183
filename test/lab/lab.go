// SPDX-License-Identifier: Apache-2.0

// Package lab gives tests the real things that `make lab` prepares under
// .lab: kernel headers, module packages, the distribution's own dkms, and
// throw-away roots made over them.
//
// Nothing here skips a test: what is missing is a fatal error that says how to
// get it. Making a root needs Linux, root and overlayfs.
package lab

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Repo returns the top directory of the repository: the nearest directory at
// or above the working directory that has a go.mod.
func Repo(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			tb.Fatal("no go.mod at or above the working directory")
		}
		dir = up
	}
}

// Path returns a path inside the lab, .lab of the repository or $LAB, and
// fails the test when nothing is there.
func Path(tb testing.TB, elem ...string) string {
	tb.Helper()
	dir := os.Getenv("LAB")
	if dir == "" {
		dir = filepath.Join(Repo(tb), ".lab")
	}
	path := filepath.Join(append([]string{dir}, elem...)...)
	if _, err := os.Lstat(path); err != nil {
		tb.Fatalf("the lab is not complete: %v; run: make lab", err)
	}
	return path
}

// KernelRoot returns the directory with the unpacked files of both kernels, in
// the layout of a root with a merged /usr. Tests must not write to it.
func KernelRoot(tb testing.TB) string {
	tb.Helper()
	return Path(tb, "root")
}

// Kernels returns the two kernel releases of the lab. For the older one there
// are headers only; the newer one has its image, modules and modules.dep too.
func Kernels(tb testing.TB) (older, newer string) {
	tb.Helper()
	data, err := os.ReadFile(Path(tb, "kernels"))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		switch which, release, _ := strings.Cut(strings.TrimSpace(line), " "); which {
		case "old":
			older = release
		case "new":
			newer = release
		}
	}
	if older == "" || newer == "" {
		tb.Fatalf("the lab's list of kernels is damaged: %q; run: make distclean lab", data)
	}
	return older, newer
}

// CloudKernel returns the release of the lab's kernel for virtual machines,
// which is of the older one's series in another configuration.
func CloudKernel(tb testing.TB) string {
	tb.Helper()
	data, err := os.ReadFile(Path(tb, "verify", "kernels"))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if release, ok := strings.CutPrefix(line, "cloud "); ok {
			return strings.TrimSpace(release)
		}
	}
	tb.Fatalf("the lab has no cloud kernel: %q; run: make distclean lab", data)
	return ""
}

// Oracle returns the unpacked dkms package of the distribution. Its control
// files are in the subdirectory DEBIAN.
func Oracle(tb testing.TB) string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(KernelRoot(tb)), "dkms-*[0-9]"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(found) != 1 {
		tb.Fatalf("the lab has %d unpacked dkms packages, want 1; run: make lab", len(found))
	}
	return found[0]
}

// Binary returns the path of the binary under test: bin/dkms, or $DKMS_BINARY.
func Binary(tb testing.TB) string {
	tb.Helper()
	path := os.Getenv("DKMS_BINARY")
	if path == "" {
		path = filepath.Join(Repo(tb), "bin", "dkms")
	}
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("no binary under test: %v; run: make build", err)
	}
	return path
}

// RaceOptions are the settings of the environment that a command with an otherwise
// empty one must have, so that a race in a dkms built by `make race` ends it.
func RaceOptions() []string {
	if v, ok := os.LookupEnv("GORACE"); ok {
		return []string{"GORACE=" + v}
	}
	return nil
}

// Result is what a finished command left.
type Result struct {
	Code           int    // exit status; -1 when ended by a signal
	Stdout, Stderr string // everything written
}

// Exec runs a command to its end. A command that cannot be started fails the
// test; one that ends with an error status does not.
func Exec(tb testing.TB, name string, args ...string) Result {
	tb.Helper()
	return runCmd(tb, exec.Command(name, args...))
}

func runCmd(tb testing.TB, cmd *exec.Cmd) Result {
	tb.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		tb.Fatalf("run %q: %v", cmd.Args, err)
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// MustExec is Exec, but an exit status other than 0 fails the test.
func MustExec(tb testing.TB, name string, args ...string) Result {
	tb.Helper()
	r := Exec(tb, name, args...)
	if r.Code != 0 {
		tb.Fatalf("run %s %q: exit status %d\n%s%s", name, args, r.Code, r.Stdout, r.Stderr)
	}
	return r
}
