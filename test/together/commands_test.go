// SPDX-License-Identifier: Apache-2.0

package together

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"dkms-go/test/lab"
)

// invocation is one run of dkms.
type invocation struct {
	// name is what the summary calls it.
	name  string
	args  []string
	stdin string
	// codes are the exit codes that it may have, each with what is then said.
	codes map[int]string
	cmd   *exec.Cmd
	ended chan struct{}

	code int
	// out and err are files with what it writes.
	out, err *os.File
}

// start begins it in a root.
func (i *invocation) start(ctx context.Context, root string) error {
	argv := append([]string{"-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root"}, lab.RaceOptions()...)
	argv = append(append(argv, "chroot", root, "dkms"), i.args...)
	i.cmd = exec.CommandContext(ctx, "env", argv...)
	i.ended = make(chan struct{})
	var err error
	if i.out, err = os.CreateTemp("", "together-"); err == nil {
		defer os.Remove(i.out.Name())
		i.err, err = os.CreateTemp("", "together-")
	}
	if err != nil {
		return err
	}
	defer os.Remove(i.err.Name())
	i.cmd.Stdin, i.cmd.Stdout, i.cmd.Stderr = strings.NewReader(i.stdin), i.out, i.err
	return i.cmd.Start()
}

// said returns what it has written so far.
func said(f *os.File) string {
	fi, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	text := make([]byte, fi.Size())
	n, _ := f.ReadAt(text, 0)
	return string(text[:n])
}

func (i *invocation) stdout() string { return said(i.out) }
func (i *invocation) stderr() string { return said(i.err) }

// end waits for its end.
func (i *invocation) end() {
	i.cmd.Wait()
	i.code = i.cmd.ProcessState.ExitCode()
	close(i.ended)
}

// line is its command line.
func (i *invocation) line() string { return "dkms " + strings.Join(i.args, " ") }

// explained reports whether the exit code is one that may be, and the text says so.
func (i *invocation) explained() bool {
	want, ok := i.codes[i.code]
	return ok && strings.Contains(i.stderr()+i.stdout(), want)
}

// What commands say with the exit codes that they may end with here.
const (
	notAdded     = "is not in the DKMS tree"
	alreadyAdded = "is in the DKMS tree already"
	compiling    = "Error!"
	notBuilt     = "BUILD_DEPENDS"
	someFailed   = "failed"
	notNewer     = "can't be installed"
)

// random returns a writer. It is drawn so that each kind comes often, and so that
// nothing but the order decides what is there in the end.
func random(r *rand.Rand) *invocation {
	var ids []string
	for id := range modules {
		if id != steady && id != slow {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	id, k := ids[r.IntN(len(ids))], kernels[r.IntN(len(kernels))]
	module, version, _ := strings.Cut(id, "/")
	ok := func(name string, args ...string) *invocation {
		return &invocation{name: name, args: args, codes: map[int]string{0: ""}}
	}
	made := func(name string, args ...string) *invocation {
		i := ok(name, args...)
		switch id {
		case wrong:
			i.codes = map[int]string{10: compiling}
		case upper:
			i.codes[13] = notBuilt
		case "two/1.0": // where two/2.0 is installed
			i.codes[6] = notNewer
		}
		return i
	}
	back := func(verb string, args ...string) *invocation {
		i := ok(verb, append([]string{verb, id}, args...)...)
		i.codes[3] = notAdded
		return i
	}
	pacman := func(verb string, paths ...string) *invocation {
		i := ok("hook pacman "+verb, "hook", "pacman", verb)
		i.stdin = strings.Join(paths, "\n") + "\n"
		return i
	}
	choices := []func() *invocation{
		func() *invocation {
			i := ok("add", "add", id)
			i.codes[3] = alreadyAdded
			return i
		},
		func() *invocation { return made("build", "build", id, "-k", k) },
		func() *invocation { return made("install", "install", id, "-k", k) },
		func() *invocation { return made("install --force", "install", id, "-k", k, "--force") },
		func() *invocation { return ok("install --force", "install", steady, "-k", k, "--force") },
		func() *invocation { return back("uninstall", "-k", k) },
		func() *invocation { return back("unbuild", "-k", k) },
		func() *invocation { return back("remove", "--all") },
		func() *invocation {
			i := ok("autoinstall", "autoinstall", "-k", k)
			i.codes[11] = someFailed // wrong, or upper without base
			return i
		},
		func() *invocation { return ok("hook image", "hook", "image", k) },
		func() *invocation { return ok("hook headers", "hook", "headers", k) },
		func() *invocation { return ok("hook package", "hook", "package", module, version) },
		func() *invocation { return ok("hook kernel-install", "hook", "kernel-install", "add", k) },
		func() *invocation { return pacman("install", "usr/lib/modules/"+k+"/vmlinuz") },
		func() *invocation {
			return pacman("install", "usr/src/"+module+"-"+version+"/dkms.conf", "usr/lib/modules/"+k+"/build/Makefile")
		},
	}
	return choices[r.IntN(len(choices))]()
}

// statusLine is what a status may say of any module, at any time.
var statusLine = regexp.MustCompile(`^[a-z]+/[0-9.]+(: added|, [0-9a-z.-]+, x86_64: (built|installed))$`)

// badLines are the lines of a status that tell of a half state.
func badLines(status string) []string {
	var bad []string
	for line := range strings.Lines(status) {
		if line = strings.TrimSuffix(line, "\n"); !statusLine.MatchString(line) {
			bad = append(bad, line)
		}
	}
	for _, k := range kernels {
		if want := fmt.Sprintf("%s, %s, %s: installed\n", steady, k, arch); !strings.Contains(status, want) {
			bad = append(bad, "no line "+want)
		}
	}
	return bad
}
