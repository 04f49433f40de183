// SPDX-License-Identifier: Apache-2.0

// Package action has the verbs of dkms, one file each: what a command does,
// from the facts over the plan to the steps.
//
// A verb returns a value or a *Failure; it prints what its steps say and
// nothing else. Arguments, texts of errors and exit codes are the command
// line's business.
package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"dkms-go/internal/abi"
	"dkms-go/internal/conf"
	"dkms-go/internal/distro"
	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
	"dkms-go/internal/memo"
	"dkms-go/internal/mok"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
	"dkms-go/internal/trust"
)

// Settings are what the command line and framework.conf decided.
type Settings struct {
	Paths     host.Paths
	Framework conf.Framework
	Environ   []string
	// Version is what make.log and the records name as the program.
	Version string
	// Root is set when another root than the machine's is worked on.
	Root string

	Force, ForceVersion, Verbose, NoDepmod, ModprobeOnInstall bool
	Symlink, RPMSafeUpgrade, DryRun                           bool
	// CheckReproducible makes a build one that is done twice and compared.
	CheckReproducible bool

	// Conf, KernelConfig and KernelSource take the place of the module's
	// dkms.conf, the kernel's configuration and its build directory.
	Conf, KernelConfig, KernelSource string
	Directives                       []string
	// Jobs is the argument of make's -j, "" for an open number.
	Jobs string
	// Tokens is how many jobs run at once over all builds. JobsGiven says that
	// somebody has chosen it; otherwise there are fewer when memory is short.
	Tokens    int
	JobsGiven bool

	// Confines says that this program, started again, can confine itself
	// (run.IsConfined); without it nothing is confined.
	Confines bool

	Out, Err io.Writer
	// Explain shows a failure on w, Code gives its exit code.
	Explain func(w io.Writer, f *Failure)
	// People returns the writer to w for text that tells people what to do.
	People func(w io.Writer) io.Writer
	Code   func(f *Failure) int
	// Running returns the release and machine of the running kernel.
	Running func() (release, machine string, err error)
}

// Engine performs verbs.
type Engine struct {
	Settings
	distro distro.Distro
	tree   state.Tree
	addon  string

	// whole is the environment with the PINs and passphrases that Environ lacks:
	// confs, builds and hooks have no business with them.
	whole []string

	// hooked says that a package manager's hook is at work, kernelHook that it calls
	// one of upstream's actions for them. deep compares
	// sources too when it looks for what is stale. remember leaves alone what has
	// failed before with the same inputs. ownInitramfs says that the caller makes
	// the initramfs itself afterwards.
	hooked, kernelHook, deep, remember, ownInitramfs bool

	// retires says that what is removed is about to be replaced.
	retires bool

	// arrived is a module that was registered together with what an archive held;
	// the rest of adding it is still to be done.
	arrived state.ID

	// compiles says that a build is wanted for its own sake: no source of prebuilts is
	// asked. down are the sources that don't answer, and why.
	compiles bool
	down     map[string]string

	// trial is set where builds are tried aside.
	trial *trial

	mu         sync.Mutex
	became     []Result
	kernels    map[plan.Target]kernel.Kernel
	abis       map[plan.Target]*abi.Kernel
	identities map[plan.Target]kernel.Identity
	sources    map[state.ID]sourceFacts
	stamps     map[plan.Target]func() string
	configs    map[plan.Target]kernel.Config
	remembered *memo.Store
	judge      judge
	signing    map[plan.Target]signing
	suffixes   map[plan.Target]string
	commits    sync.Mutex // one change of state at a time
	keys       sync.Mutex // one look for the signing key at a time
	trustOnce  sync.Once
	trusting   trust.Machine

	kmod      sync.Once
	readables []ko.Compression // of kmod
	walls     sync.Once        // builds are confined less here, and people were told
	realUname sync.Once        // builds were told the wrong uname, and people of it
}

// New returns an engine. The error is a *Failure if os-release is missing.
func New(s Settings) (*Engine, error) {
	d, err := distro.Detect(s.Paths)
	if errors.Is(err, distro.ErrNoOSRelease) {
		return nil, fail(NoOSRelease, err, "dkms needs it to know where this distribution keeps its modules.")
	}
	if err != nil {
		return nil, fail(Internal, err)
	}
	whole := s.Environ
	s.Environ = mok.WithoutPINs(whole)
	return &Engine{
		Settings:   s,
		whole:      whole,
		distro:     d,
		tree:       state.Tree{Dir: s.Paths.DKMSTree, Sources: s.Paths.SourceTree},
		addon:      distro.AddonDir(s.Paths, s.Environ),
		kernels:    map[plan.Target]kernel.Kernel{},
		abis:       map[plan.Target]*abi.Kernel{},
		identities: map[plan.Target]kernel.Identity{},
		sources:    map[state.ID]sourceFacts{},
		stamps:     map[plan.Target]func() string{},
		configs:    map[plan.Target]kernel.Config{},
		signing:    map[plan.Target]signing{},
		suffixes:   map[plan.Target]string{},
		judge:      judge{shared: map[string]memo.Stamp{}, grounds: map[plan.Target]memo.Digest{}},
	}, nil
}

// unknownKernel stands for a kernel where a conf is read for none.
const unknownKernel = "unknown"

// Targets completes the kernels a verb works on: without one it is the running
// kernel, or with another root all kernels of that root that have headers. An
// arch is missing where none was given with the kernel. Actions for which no
// kernel is needed get an unknown one in a root without kernels.
func (e *Engine) Targets(kernels, arches []string, needed bool) ([]plan.Target, error) {
	release, machine := "", ""
	if len(kernels) == 0 || len(arches) == 0 {
		var err error
		if release, machine, err = e.Running(); err != nil {
			return nil, fail(Internal, err)
		}
	}
	if len(kernels) == 0 {
		kernels = []string{release}
		if e.Root != "" {
			kernels = kernel.Installed(e.Paths)
		}
		if len(kernels) == 0 && !needed {
			kernels = []string{unknownKernel}
		}
		if len(kernels) == 0 {
			return nil, failf(NoHeaders, "there is no kernel in %s", e.Paths.InstallTree).hint("Install a kernel and its headers there, or name one with -k.")
		}
	}
	if len(arches) == 0 {
		arches = []string{e.arch(kernels[0], machine)}
	}
	var targets []plan.Target
	for i, k := range kernels {
		a := arches[0]
		if len(arches) > 1 {
			a = arches[i]
		}
		if k == "" || a == "" {
			return nil, failf(EmptyKernel, "an empty kernel release or architecture was given")
		}
		if err := state.CheckName("kernel release", k); err != nil {
			return nil, fail(BadName, err)
		}
		if err := state.CheckName("architecture", a); err != nil {
			return nil, fail(BadName, err)
		}
		targets = append(targets, plan.Target{Kernel: k, Arch: a})
	}
	return targets, nil
}

// arch returns what the distribution calls the architecture of a kernel: that
// of the machine, or on rpm distributions that of the kernel's package, for which
// rpm is run only if the kernel's tree has changed.
func (e *Engine) arch(release, machine string) string {
	if e.distro.ArchIsUname() {
		return machine
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	tree := e.Paths.KernelTree(release)
	arch, _ := e.memory().Value("arch of the package", tree, func(tree string) (string, error) {
		c := run.Cmd{Argv: []string{"rpm", "-qf", "--queryformat", "%{NAME} %{ARCH}\n", tree}, Env: e.Environ}
		out, err := c.Output(context.Background())
		for _, line := range strings.Split(string(out), "\n") {
			name, arch, ok := strings.Cut(line, " ")
			if err == nil && ok && strings.Contains(name, "kernel") {
				return arch, nil
			}
		}
		return "", errNothing
	})
	if arch != "" {
		return arch
	}
	return machine
}

// kernel returns the facts of a target; they are gathered once.
func (e *Engine) kernel(t plan.Target) kernel.Kernel {
	e.mu.Lock()
	defer e.mu.Unlock()
	k, ok := e.kernels[t]
	if !ok {
		k = kernel.Find(e.Paths, t.Kernel, t.Arch, kernel.Options{SourceDir: e.KernelSource, ConfigFile: e.KernelConfig})
		e.kernels[t] = k
	}
	return k
}

// suffix returns the compression suffix of a kernel's objects; its tree is
// searched once.
func (e *Engine) suffix(t plan.Target) string {
	k := e.kernel(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.suffixes[t]
	if !ok {
		s = k.Suffix()
		e.suffixes[t] = s
	}
	return s
}

// installDir returns the directory below a kernel's tree for an object whose
// conf names location.
func (e *Engine) installDir(location string) string {
	return e.distro.InstallDir(location, e.addon)
}

// RequireRoot fails for callers other than root, unless nothing will change.
func (e *Engine) RequireRoot() error {
	if os.Geteuid() != 0 && !e.DryRun {
		return failf(NotRoot, "this command changes the system and must be run by root").hint("Run it again with sudo.")
	}
	return nil
}

// requireWritable fails for callers that may not write to the DKMS tree.
func (e *Engine) requireWritable() error {
	if e.DryRun {
		return nil
	}
	if err := e.tree.Writable(); err != nil {
		return fail(NotWritable, err, "Run it as root, or name a tree of your own with --dkmstree.")
	}
	return nil
}

// requireID fails unless both parts of a module's name were given.
func requireID(id state.ID, verb string) error {
	if id.Module == "" || id.Version == "" {
		return failf(NoModule, "the module and its version are not given").
			hint("Say: dkms %s <module>/<version>", verb).
			hint(" or:  dkms %s -m <module> -v <version>", verb)
	}
	if err := id.Check(); err != nil {
		return fail(BadName, err)
	}
	return nil
}

// condition is state.Tree.Condition for one who may not hold the lock.
func (e *Engine) condition(id state.ID) (c state.Condition) {
	glance := state.Glance{Tree: e.tree}
	glance.At(func() { c = e.tree.Condition(id) })
	return c
}

// requireSound fails for broken modules.
func (e *Engine) requireSound(id state.ID) error {
	if e.condition(id) == state.Broken {
		return failf(BrokenModule, "%s is broken: its source directory, or the link to it, is missing", id).
			hint("Put the source back to %s, or the link %s to it.", e.tree.Source(id), e.tree.SourceLink(id))
	}
	return nil
}

// requireAdded fails for modules that are not in the tree.
func (e *Engine) requireAdded(id state.ID) error {
	if e.condition(id) == state.Added {
		return nil
	}
	f := failf(NotAdded, "%s is not in the DKMS tree", id)
	if others := e.listed(id.Module); len(others) > 0 {
		return f.hint("There is: %s", join(others))
	}
	return f.hint("`dkms status` lists the modules that are.")
}

// listed returns the versions of a module that a status would list.
func (e *Engine) listed(module string) []state.ID {
	return slices.DeleteFunc(e.tree.Modules(module, ""), func(id state.ID) bool { return e.tree.Condition(id) == state.Hidden })
}

func join(ids []state.ID) string {
	var names []string
	for _, id := range ids {
		names = append(names, id.String())
	}
	return strings.Join(names, " ")
}

// lock makes this process the tree's only writer; a dry run needs no lock.
func (e *Engine) lock(ctx context.Context) (unlock func(), err error) {
	if e.DryRun {
		return func() {}, nil
	}
	return e.lockBy(func(held string, w *state.Wait) (func(), error) { return e.tree.Lock(ctx, held, w) })
}

func (e *Engine) lockBy(take func(held string, w *state.Wait) (func(), error)) (unlock func(), err error) {
	if err := e.tree.Writable(); err != nil {
		return nil, fail(NotWritable, err)
	}
	held, _ := e.environment(state.LockEnv)
	unlock, err = take(held, e.turn())
	var busy *state.Busy
	var damaged *state.Damaged
	switch {
	case errors.As(err, &busy):
		return nil, fail(Busy, fmt.Errorf("gave up waiting for another dkms: %w", err))
	case errors.As(err, &damaged):
		return nil, fail(Internal, damaged, "`dkms fsck --repair` moves it aside, and repairs what the change has left.")
	case err != nil:
		return nil, fail(Internal, err)
	}
	return unlock, nil
}

// lockFor locks the tree for a verb that is refused by check. That comes first
// where nothing is under way in the tree, so that who may not write to it is told
// as well; after a killed writer it only counts once its change was finished.
func (e *Engine) lockFor(ctx context.Context, check func() error) (unlock func(), err error) {
	if e.tree.Settled() || e.DryRun {
		if err := check(); err != nil {
			return nil, err
		}
	}
	if err := e.requireWritable(); err != nil {
		return nil, err
	}
	unlock, err = e.lock(ctx)
	if err != nil {
		return nil, err
	}
	if err := check(); err != nil {
		err = errors.Join(err, e.serveIndexes(ctx))
		unlock()
		return nil, err
	}
	return unlock, nil
}

// despite does for a verb that failed what is due apart from it: the module indexes
// that an earlier run left behind.
func (e *Engine) despite(ctx context.Context, err error) error {
	var f *Failure
	if ctx.Err() != nil || errors.As(err, &f) && f.Reason == IndexFailed {
		return err
	}
	return errors.Join(err, e.serveIndexes(ctx))
}

// serveIndexes brings up to date the module indexes that an earlier run left
// behind, for a verb that has nothing else to do any more.
func (e *Engine) serveIndexes(ctx context.Context) error {
	due := e.tree.KernelsDue()
	if len(due) == 0 || e.DryRun {
		return nil
	}
	f := &plan.Facts{IndexDue: due}
	outcomes, err := e.perform(ctx, plan.InstallAll(state.ID{}, nil, f, plan.Options{NoRefresh: e.NoDepmod}), f, false)
	if err != nil {
		return err
	}
	return verdict(outcomes)
}

// loader returns the reader of confs; what a conf says on stderr goes to errw.
func (e *Engine) loader(errw io.Writer) *conf.Loader {
	return &conf.Loader{
		Paths: e.Paths, Environ: e.Environ, Stderr: errw,
		Bash:     func(ctx context.Context, b conf.Program) ([]byte, error) { return runBash(ctx, b, errw, nil) },
		Confined: e.confinedBash(errw), Time: e.Framework.BuildTime,
	}
}

// framework reads framework.conf for a kernel. It may name the key with its PIN, as
// the environment may.
func (e *Engine) framework(ctx context.Context, release string, errw io.Writer) (conf.Framework, error) {
	l := e.loader(errw)
	l.Environ = e.whole
	return l.Framework(ctx, release)
}

// load reads the conf of a module for a kernel: the one named on the command
// line, the one in the tree, or for a module not added yet that of its source.
func (e *Engine) load(ctx context.Context, id state.ID, t plan.Target, policy conf.Policy, errw io.Writer) (*conf.Module, error) {
	file := e.Conf
	if file == "" {
		file = filepath.Join(e.tree.SourceLink(id), "dkms.conf")
		if c := e.tree.Condition(id); c == state.Absent || c == state.Hidden {
			if _, err := os.Stat(file); err != nil {
				file = filepath.Join(e.tree.Source(id), "dkms.conf")
			}
		}
	}
	return e.loadFile(ctx, id, t, file, policy, errw)
}

func (e *Engine) loadFile(ctx context.Context, id state.ID, t plan.Target, file string, policy conf.Policy, errw io.Writer) (*conf.Module, error) {
	k := e.kernel(t)
	m, err := e.loader(errw).Load(ctx, conf.Request{
		Module: id.Module, Version: id.Version, Kernel: t.Kernel, Arch: t.Arch, File: file,
		KernelSourceDir: k.SourceDir, KernelConfig: k.ConfigFile, Distro: e.distro.ID,
		Directives: e.Directives, Policy: policy,
		Vars: map[string]string{"parallel_jobs": e.Jobs, "tmp_location": e.Framework.TmpLocation},
	})
	if err != nil && ctx.Err() != nil {
		return nil, fail(Interrupted, context.Cause(ctx))
	}
	return m, err
}

// confFailure turns an error of reading a conf into a failure.
func confFailure(err error) *Failure {
	var unreadable *conf.Unreadable
	var invalid *conf.Invalid
	var f *Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &unreadable):
		return fail(NoConf, err)
	case errors.As(err, &invalid):
		return fail(BadConf, err).hint("dkms.conf(5) describes every directive.")
	}
	return fail(BadConf, err)
}
