// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"dkms-go/test/lab"
)

const (
	arch     = "x86_64"
	dkmsTree = "/var/lib/dkms"
)

// machine is the root that a script works on.
type machine struct {
	root          string
	kernel, newer string
	before        map[string]string // of snapshot
	schemas       *lab.Schemas      // of what is printed as JSON; nil with the peer
	journal       *net.UnixConn     // listens in the place of the systemd journal

	stdout, stderr string // of the last command
}

func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.root}, elem...)...)
}

type command = func(*testscript.TestScript, bool, []string)

func (m *machine) commands() map[string]command {
	cmds := map[string]command{
		"dkms": m.dkms, "run": m.run, "status": m.status, "says": m.says, "silent": m.silent, "quiet": m.quiet,
		"log": m.log, "link": m.link, "modinfo": m.modinfo, "signed": m.signed, "unsigned": m.unsigned,
		"adds": m.adds, "installs": m.installs, "uninstalls": m.uninstalls, "skips": m.skips, "deletes": m.deletes,
		"attempts": m.attempts, "outcome": m.outcome,
		"metrics": m.metrics, "listen": m.listen, "entry": m.entry, "noentry": m.noentry,
		"works": m.works, "fails": m.fails, "traced": m.traced,
		"interrupt": m.interrupt, "idle": m.idle,
		"source": m.source, "put": m.put, "clean": m.clean, "snapshot": m.snapshot, "unchanged": m.unchanged,
	}
	for name, f := range cmds {
		cmds[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("unsupported: ! %s", name)
			}
			f(ts, neg, args)
		}
	}
	return cmds
}

// progressDots are printed, one each three seconds, while a step runs.
var progressDots = regexp.MustCompile(`\.{4,}`)

// chroot runs a command in the root and returns its exit status.
func (m *machine) chroot(ts *testscript.TestScript, name string, args ...string) int {
	code := m.exec(ts, "env", m.entering(name, args)...)
	if name == "dkms" && slices.Contains(args, "--json") && m.stdout != "" && m.schemas != nil {
		if err := m.schemas.Check([]byte(m.stdout)); err != nil {
			ts.Fatalf("what dkms %s prints is not what docs/schema promises: %v", strings.Join(args, " "), err)
		}
	}
	return code
}

// entering returns the arguments of env(1) that run a command in the root.
func (m *machine) entering(name string, args []string) []string {
	env := []string{"-i", "PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root", "parallel_jobs=1"}
	env = append(append(env, lab.RaceOptions()...), "chroot", m.root, name)
	return append(env, args...)
}

func (m *machine) exec(ts *testscript.TestScript, name string, args ...string) int {
	err := ts.Exec(name, args...)
	m.stdout, m.stderr = progressDots.ReplaceAllString(ts.ReadFile("stdout"), "..."), ts.ReadFile("stderr")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%s: %v", name, err)
	}
	if exit != nil {
		return exit.ExitCode()
	}
	return 0
}

func (m *machine) dkms(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: dkms CODE ARG...")
	}
	m.run(ts, neg, append([]string{args[0], "dkms"}, args[1:]...))
	if strings.ContainsAny(m.stdout+m.stderr, "\x1b\b") {
		ts.Fatalf("control characters where there is no terminal")
	}
}

func (m *machine) run(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: run CODE COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := m.chroot(ts, args[1], args[2:]...); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// works runs dkms, which must succeed and have nothing to say on stderr.
func (m *machine) works(ts *testscript.TestScript, neg bool, args []string) {
	m.dkms(ts, neg, append([]string{"0"}, args...))
	m.quiet(ts, neg, nil)
}

// complaint matches what people must be told apart from the output.
var complaint = regexp.MustCompile(`(?mi)^(dkms(\.conf)?: )?(error|warning)\b`)

// fails runs dkms, which must fail and complain on stderr, and only there.
func (m *machine) fails(ts *testscript.TestScript, neg bool, args []string) {
	m.dkms(ts, neg, args)
	if !complaint.MatchString(m.stderr) {
		ts.Fatalf("no error on stderr")
	}
	if line := complaint.FindString(m.stdout); line != "" {
		ts.Fatalf("%q is on stdout", line)
	}
}

var suffixes = strings.NewReplacer(
	"(O)", " (Original modules exist)",
	"(D)", " (Differences between built and installed modules)",
	"(M)", " (Built modules are missing in the kernel modules folder)",
)

// status compares the lines of dkms status.
func (m *machine) status(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: status -all|PATTERN ENTRY...")
	}
	query := []string{"status", args[0]}
	if args[0] == "-all" {
		query = query[:1]
	}
	var want strings.Builder
	for _, entry := range args[1:] {
		want.WriteString(m.statusLine(ts, args[0], entry) + "\n")
	}
	if code := m.chroot(ts, "dkms", query...); code != 0 {
		ts.Fatalf("dkms status: exit code %d", code)
	}
	if m.stdout != want.String() {
		ts.Fatalf("status is\n%swant\n%s", m.stdout, want.String())
	}
}

func (m *machine) statusLine(ts *testscript.TestScript, name, entry string) string {
	where, state, ok := strings.Cut(entry, ":")
	if !ok {
		ts.Fatalf("status: no state in %q", entry)
	}
	id, kernel, explicit := strings.Cut(where, "@")
	if !strings.Contains(id, "/") {
		id = name + "/" + id
	}
	if state == "added" || state == "broken" {
		return id + ": " + state
	}
	if !explicit {
		kernel = m.kernel
	}
	return fmt.Sprintf("%s, %s, %s: %s", id, kernel, arch, suffixes.Replace(state))
}

// built is what a build says; says takes the line for a cached result for it.
const built = "Building module(s)... done."

// says looks for lines in stdout, in order, other lines between them allowed.
func (m *machine) says(ts *testscript.TestScript, _ bool, args []string) {
	lines := strings.Split(m.stdout, "\n")
	for _, want := range args {
		i := slices.IndexFunc(lines, func(line string) bool {
			return line == want || want == built && strings.HasPrefix(line, "Using the cached result of the build of ")
		})
		if i < 0 {
			ts.Fatalf("no line %q (in this order) in stdout:\n%s", want, m.stdout)
		}
		lines = lines[i+1:]
	}
}

func (m *machine) silent(ts *testscript.TestScript, _ bool, _ []string) {
	if m.stdout+m.stderr != "" {
		ts.Fatalf("not silent")
	}
}

func (m *machine) quiet(ts *testscript.TestScript, _ bool, _ []string) {
	if m.stderr != "" {
		ts.Fatalf("stderr is not empty")
	}
}

var (
	logTime    = regexp.MustCompile(`(?m)^(# elapsed time: )\d\d:\d\d:\d\d$`)
	logVersion = regexp.MustCompile(`^DKMS \(dkms-[^)]+\) make\.log (.*)\n.+\n`)
	logChatter = regexp.MustCompile(`(?m)^(make|Skipping|warning:|  ).*\n`)
)

// log compares a log in the root with a file of the script, apart from the
// version, the times and what make and the compiler write. @K@ in the file is
// the kernel.
func (m *machine) log(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: log PATH FILE")
	}
	got := ts.ReadFile(m.inside(args[0]))
	got = logTime.ReplaceAllString(got, "${1}HH:MM:SS")
	got = logVersion.ReplaceAllString(got, "DKMS make.log $1\nDATE\n")
	got = logChatter.ReplaceAllString(got, "")
	want := strings.ReplaceAll(ts.ReadFile(args[1]), "@K@", m.kernel)
	if got != want {
		ts.Fatalf("%s is\n%s\nwant\n%s", args[0], got, want)
	}
}

func (m *machine) link(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: link PATH TARGET")
	}
	got, err := os.Readlink(m.inside(args[0]))
	ts.Check(err)
	if got != args[1] {
		ts.Fatalf("%s is a link to %q, want %q", args[0], got, args[1])
	}
}

// inside returns the path outside of a path given with or without the root.
func (m *machine) inside(path string) string {
	if strings.HasPrefix(path, m.root+"/") {
		return path
	}
	return m.path(path)
}

func (m *machine) field(ts *testscript.TestScript, field, path string) string {
	if code := m.chroot(ts, "modinfo", "-F", field, strings.TrimPrefix(path, m.root)); code != 0 {
		ts.Fatalf("modinfo %s: exit code %d", path, code)
	}
	return strings.TrimSpace(m.stdout)
}

func (m *machine) modinfo(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: modinfo FIELD PATH VALUE")
	}
	if got := m.field(ts, args[0], args[1]); got != args[2] {
		ts.Fatalf("%s is %q, want %q", args[0], got, args[2])
	}
}

func (m *machine) signed(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: signed PATH CERT")
	}
	cert := strings.TrimPrefix(args[1], m.root)
	if code := m.chroot(ts, "openssl", "x509", "-inform", "der", "-in", cert, "-noout", "-serial"); code != 0 {
		ts.Fatalf("openssl: exit code %d", code)
	}
	serial := strings.TrimPrefix(strings.TrimSpace(m.stdout), "serial=")
	key := strings.ReplaceAll(m.field(ts, "sig_key", args[0]), ":", "")
	if key == "" || !strings.EqualFold(key, serial) {
		ts.Fatalf("%s is signed with %q, want serial %q", args[0], key, serial)
	}
}

func (m *machine) unsigned(ts *testscript.TestScript, _ bool, args []string) {
	if key := m.field(ts, "sig_key", args[0]); key != "" {
		ts.Fatalf("%s is signed with %q", args[0], key)
	}
}

func (m *machine) source(ts *testscript.TestScript, _ bool, args []string) {
	dir := m.inside(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(writeObjects(dir, args[1:]))
}

func (m *machine) put(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: put FILE PATH")
	}
	path := m.inside(args[1])
	text := ts.ReadFile(args[0])
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(os.WriteFile(path, []byte(text), mode))
	ts.Check(os.Chmod(path, mode)) // of a file that was there
}

// clean finds what the samples left in the DKMS tree and the kernels' trees,
// and removes their sources from the source tree.
func (m *machine) clean(ts *testscript.TestScript, _ bool, _ []string) {
	var left []string
	for _, pattern := range []string{dkmsTree + "/dgt_*", dkmsTree + "/depmod-pending*", "/usr/lib/modules/*/updates", "/usr/lib/modules/*/extra", "/usr/lib/modules/*/kernel/extra"} {
		found, err := filepath.Glob(m.path(pattern))
		ts.Check(err)
		left = append(left, found...)
	}
	if len(left) > 0 {
		ts.Fatalf("left behind: %q", left)
	}
	sources, err := filepath.Glob(m.path("/usr/src/dgt_*"))
	ts.Check(err)
	for _, dir := range sources {
		ts.Check(os.RemoveAll(dir))
	}
}

func (m *machine) snapshot(ts *testscript.TestScript, _ bool, _ []string) {
	m.before = m.picture(ts)
}

func (m *machine) unchanged(ts *testscript.TestScript, _ bool, _ []string) {
	now := m.picture(ts)
	var diff []string
	for path, old := range m.before {
		if now[path] != old {
			diff = append(diff, "changed or gone: "+path)
		}
	}
	for path := range now {
		if m.before[path] == "" {
			diff = append(diff, "new: "+path)
		}
	}
	slices.Sort(diff)
	if len(diff) > 0 {
		ts.Fatalf("the root is not as before:\n%s", strings.Join(diff, "\n"))
	}
}

// picture describes every file in the trees that dkms may change.
func (m *machine) picture(ts *testscript.TestScript) map[string]string {
	all := map[string]string{}
	for _, top := range []string{dkmsTree, "/usr/lib/modules", "/etc/dkms", "/tmp", "/usr/src"} {
		err := filepath.WalkDir(m.path(top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			// The headers and in-tree modules are many.
			if strings.HasPrefix(d.Name(), "linux-headers-") || strings.HasSuffix(path, m.newer+"/kernel") {
				return fs.SkipDir
			}
			all[strings.TrimPrefix(path, m.root)], err = describe(path, d)
			return err
		})
		ts.Check(err)
	}
	return all
}

func describe(path string, d fs.DirEntry) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	text := info.Mode().String()
	switch {
	case info.Mode().IsRegular():
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf(" %x", sha256.Sum256(data))
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		text += " " + target
	}
	return text, nil
}
