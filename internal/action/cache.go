// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/altroot"
	"dkms-go/internal/build"
	"dkms-go/internal/cache"
	"dkms-go/internal/conf"
	"dkms-go/internal/copytree"
	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// store holds what builds made.
func (e *Engine) store() cache.Store {
	return cache.Store{Dir: e.Paths.Cached(host.CacheResults), Limit: e.Framework.ResultCache}
}

// resultInputs are what a result is kept under: all that a build is made from
// and that can be told without running a program. What needs more time to be
// told (resultNote) is compared once there is an entry.
type resultInputs struct {
	Format, Record   int
	Tool             string
	Key              state.Key
	Source, Settings string
	Vars             map[string]string
	Identity         kernel.Identity
	Toolchain        kernel.Toolchain
	Environ          []string
	Depends          []dependInputs
}

// dependInputs are what a build may take from a module that it depends on.
type dependInputs struct{ Module, Version, Source, Result string }

// resultNote is what an entry tells beside its files, which are the objects in
// their order, Module.symvers if there was one, and make.log.
type resultNote struct {
	Record state.Record
	// Headers is the stamp of the kernel's headers, Programs are the files that
	// the names of tools stood for: an entry counts while both are the same.
	Headers  string
	Programs map[string][]state.Program
	Objects  []noteObject
	Symvers  bool
}

type noteObject struct {
	Index int
	Path  string
}

// reuse is a build whose result may come from the cache, or go there.
type reuse struct {
	*performance
	key  string
	step plan.Step
	t    plan.Target
	m    *conf.Module
	// report tells with --verbose of what is of no use.
	report io.Writer
}

// reusable returns nil for a build that isn't a function of its inputs, as far
// as they are known: PRE_BUILD may read anything on the machine and POST_BUILD
// change anything, and who builds again counts on both being run.
func (w *performance) reusable(ctx context.Context, s plan.Step, t plan.Target, m *conf.Module, errw io.Writer) *reuse {
	if w.Framework.ResultCache <= 0 || w.Paths.Cache == "" || m.PreBuild != "" || m.PostBuild != "" || len(s.Missing) > 0 {
		return nil
	}
	r := &reuse{performance: w, step: s, t: t, m: m, report: io.Discard}
	if w.Verbose {
		r.report = errw
	}
	var err error
	if r.key, err = w.resultKey(ctx, s.Key, t, m); err != nil {
		fmt.Fprintf(r.report, "The result cache is of no use: %v\n", err)
		return nil
	}
	return r
}

// resultKey returns the name under which the result of a build is kept.
func (w *performance) resultKey(ctx context.Context, key state.Key, t plan.Target, m *conf.Module) (string, error) {
	source, err := w.sourceDigest(key.ID)
	if err != nil {
		return "", err
	}
	more, err := w.buildEnvironment(ctx)
	if err != nil {
		return "", err
	}
	k := w.kernel(t)
	in := resultInputs{
		Format: cache.Format, Record: state.RecordFormat, Tool: w.Version, Key: key,
		Source: source, Settings: w.objectDigest(m, key.ID), Vars: w.vars(key, k), Identity: w.identity(t),
		Toolchain: k.Toolchain(func(name string) (string, error) { return run.LookPath(name, w.Environ) }),
		Environ:   telling(append(w.compileEnv(key, m, k), more...)),
	}
	delete(in.Vars, "parallel_jobs") // how many at a time makes no other object
	if !w.watchesImage(key.ID, m) {
		in.Identity = in.Identity.OfHeaders()
	}
	for _, d := range m.BuildDepends {
		v, _ := w.tree.Active(t.Key(state.ID{Module: d}))
		id := state.ID{Module: d, Version: v}
		from := dependInputs{Module: d, Version: v}
		from.Source, _ = w.sourceDigest(id) // "" while it isn't there
		from.Result, _ = copytree.Digest(w.tree.Objects(t.Key(id)))
		in.Depends = append(in.Depends, from)
	}
	return cache.Key(in)
}

// telling returns, sorted, those variables of an environment that may have a
// say in a build: all but those known to be of the session, of the package
// manager at work, or of ours.
func telling(environ []string) []string {
	names := []string{
		"_", "PWD", "OLDPWD", "SHLVL", "TERM", "COLORTERM", "DISPLAY", "WAYLAND_DISPLAY", "LS_COLORS", "LESSOPEN", "LESSCLOSE", "PAGER", "EDITOR", "VISUAL",
		"MAIL", "HISTFILE", "HISTSIZE", "PS1", "WINDOWID", "COLUMNS", "LINES", "TMPDIR", "INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET", "SYSTEMD_EXEC_PID",
		"MAINPID", "MANAGERPID", "DBUS_SESSION_BUS_ADDRESS", "parallel_jobs", state.LockEnv, altroot.ActiveVar,
	}
	prefixes := []string{"SSH_", "SUDO_", "XDG_", "DPKG_", "DEBIAN_", "DEBCONF_", "APT_", "GPG_", "TMUX", "VTE_", "KONSOLE_", "GNOME_"}
	last := map[string]string{} // as in os/exec the last value of a name counts
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		last[name] = kv
	}
	var list []string
	for name, kv := range last {
		if !slices.Contains(names, name) && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			list = append(list, kv)
		}
	}
	slices.Sort(list)
	return list
}

// restore puts the result of an earlier build with the same inputs into its
// place, if there is one. An entry that is damaged, or that the kernel would not
// load, is dropped.
func (r *reuse) restore(ctx context.Context, out, errw io.Writer) bool {
	p, err := r.find(r.store().Get)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil {
		err = r.place(ctx, p, out, errw)
	}
	if err != nil {
		fmt.Fprintf(r.report, "The cached result of %s for kernel %s is of no use, building it: %v\n", r.step.Key.ID, r.t.Kernel, err)
		r.store().Drop(r.key)
		return false
	}
	r.store().Used(r.key)
	return true
}

// find reads the entry, by Get or Peek of the store, and holds it against the
// machine.
func (r *reuse) find(get func(key string) (cache.Entry, error)) (build.Product, error) {
	e, err := get(r.key)
	if err != nil {
		return build.Product{}, err
	}
	var note resultNote
	if err := json.Unmarshal(e.Note, &note); err != nil {
		return build.Product{}, fmt.Errorf("reading what it says of itself: %w", err)
	}
	for name, were := range note.Programs {
		if now := r.programs(name); !slices.Equal(now, were) {
			return build.Product{}, fmt.Errorf("%s is another program now", name)
		}
	}
	if note.Headers != r.headersStamp(r.t)() {
		return build.Product{}, errors.New("the kernel's headers have changed")
	}
	return r.product(note, e.Files)
}

// product is the content of an entry, if it has the objects that the conf asks
// for.
func (r *reuse) product(note resultNote, files []cache.File) (build.Product, error) {
	p := build.Product{Record: note.Record}
	wanted := 0
	for i := range r.m.Objects {
		if r.m.ObjectApplies(i, r.kernelFacts(r.t)).OK {
			wanted++
		}
	}
	count := len(note.Objects) + 1
	if note.Symvers {
		count++
	}
	if len(note.Objects) != wanted || len(files) != count {
		return p, fmt.Errorf("it has %d objects in %d files", len(note.Objects), len(files))
	}
	for i, o := range note.Objects {
		if o.Index < 0 || o.Index >= len(r.m.Objects) {
			return p, fmt.Errorf("it has an object with the index %d", o.Index)
		}
		p.Objects = append(p.Objects, build.Object{Index: o.Index, Path: o.Path, Data: files[i].Data})
	}
	if note.Symvers {
		p.Symvers = files[wanted].Data
	}
	p.Log = files[count-1].Data
	return p, nil
}

// place makes a result of a product, without its compilers.
func (r *reuse) place(ctx context.Context, p build.Product, out, errw io.Writer) error {
	fmt.Fprintf(out, "Using the cached result of the build of %s: source, settings, kernel and compiler are the same.\n", p.Record.Built.Local().Format(time.DateTime))
	finish := r.finish(r.t, toolchain{})
	heading := fmt.Sprintf("DKMS (%s) make.log for %s for kernel %s (%s)\n%s\n\nNothing was compiled: the result of an earlier build with the same inputs was used. The log of that build:\n\n",
		r.Version, r.step.Key.ID, r.t.Kernel, r.t.Arch, time.Now().Format(time.UnixDate))
	job := r.job(r.step, r.t, r.m, out, errw)
	job.Inputs, job.Finish = r.inputDigests(r.step.Key, r.m), finish
	return job.Restore(ctx, r.rooms[r.step.Key.ID], p, build.Cached, heading)
}

// keeper returns what keeps the product of a build by that toolchain, and begins
// what it needs beside the compilers.
func (r *reuse) keeper(chain toolchain) func(build.Product) {
	go r.headersStamp(r.t)()
	return func(p build.Product) {
		switch {
		case p.Outside != "":
			fmt.Fprintf(r.report, "The result is not kept in the cache: the build reads %s, which is no part of the module\n", p.Outside)
		case !r.untold.Load():
			r.keep(p, chain)
		}
	}
}

// keep puts the product of a build into the cache, and tells only with --verbose
// if that can't be: who isn't root does without.
func (r *reuse) keep(p build.Product, chain toolchain) {
	note := resultNote{Record: p.Record, Headers: r.headersStamp(r.t)(), Programs: map[string][]state.Program{}, Symvers: p.Symvers != nil}
	for _, name := range r.buildTools(chain) {
		note.Programs[name] = r.programs(name)
	}
	var e cache.Entry
	for i, o := range p.Objects {
		note.Objects = append(note.Objects, noteObject{o.Index, o.Path})
		e.Files = append(e.Files, cache.File{Name: fmt.Sprint("object ", i), Data: o.Data})
	}
	if p.Symvers != nil {
		e.Files = append(e.Files, cache.File{Name: "Module.symvers", Data: p.Symvers})
	}
	e.Files = append(e.Files, cache.File{Name: "make.log", Data: p.Log})
	var err error
	if e.Note, err = json.Marshal(note); err == nil {
		err = r.store().Put(r.key, e)
	}
	if err != nil {
		fmt.Fprintf(r.report, "The result is not kept in the cache: %v\n", err)
	}
}

// buildTools names the programs that made a result's bytes: those of the kernel's
// toolchain, with and without the prefix of a cross compiler.
func (r *reuse) buildTools(chain toolchain) []string {
	names := append(r.toolNames(r.t), "as", "ld.bfd", "objcopy", "llvm-objcopy", "strip", "sh", "awk", "sed")
	for _, variable := range []string{"CC", "LD"} {
		for _, word := range strings.Fields(lastValue(chain.env, variable)) {
			names = append(names, word)
			if prefix, _, ok := strings.Cut(word, "gcc"); ok {
				names = append(names, prefix+"as", prefix+"ld", prefix+"objcopy")
			}
		}
	}
	return names
}

// programs returns the files that a command may be, in the order of PATH: the
// first may be a wrapper of the next. The compiler proper, which gcc runs, is
// among them (GCC's manual, "Directory Options": it is looked for beside gcc).
func (e *Engine) programs(name string) []state.Program {
	var list []state.Program
	for _, dir := range filepath.SplitList(lastValue(e.Environ, "PATH")) {
		if !filepath.IsAbs(dir) || strings.Contains(name, "/") {
			continue
		}
		p := e.program(filepath.Join(dir, name), e.Environ)
		if p == nil || slices.Contains(list, *p) {
			continue
		}
		list = append(list, *p)
		if !strings.Contains(name, "gcc") {
			continue
		}
		proper, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(p.Path)), "lib*", "gcc", "*", "*", "cc1"))
		for _, path := range proper {
			if p := e.program(path, e.Environ); p != nil {
				list = append(list, *p)
			}
		}
	}
	if strings.Contains(name, "/") {
		if p := e.program(name, e.Environ); p != nil {
			list = append(list, *p)
		}
	}
	return list
}

// headersStamp returns the function that gives the stamp of a kernel's headers;
// it is made once.
func (e *Engine) headersStamp(t plan.Target) func() string {
	k := e.kernel(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stamps[t] == nil {
		e.stamps[t] = sync.OnceValue(k.HeadersStamp)
	}
	return e.stamps[t]
}

// CacheStats is what `dkms cache stats` tells.
type CacheStats struct {
	Dir string
	// Bound is the limit of the results in bytes, 0 if they are not kept; Other
	// is the size of what else is in the directory.
	Bound, Other int64
	cache.Stats
}

// CacheStats tells what is kept between builds.
func (e *Engine) CacheStats() (CacheStats, error) {
	st := CacheStats{Dir: e.Paths.Cache, Bound: e.Framework.ResultCache}
	var err error
	if st.Stats, err = e.store().Stats(); err != nil {
		return st, fail(Internal, err)
	}
	all, err := diskSize(e.Paths.Cache)
	st.Other = max(all-st.Bytes, 0)
	return st, err
}

// CacheClean removes all that dkms keeps between builds, and nothing else that is
// in that directory, and returns its size in bytes. Each of it is made again when
// it is needed.
func (e *Engine) CacheClean() (int64, error) {
	total := int64(0)
	for _, name := range []string{host.CacheResults, host.CacheIndex, host.CacheFacts} {
		path := e.Paths.Cached(name)
		size, err := diskSize(path)
		if err != nil {
			return total, err
		}
		if err := os.RemoveAll(path); err != nil {
			return total, fail(NotWritable, fmt.Errorf("cleaning the cache: %w", err), "Run it as root. If "+e.Paths.Cache+" is no directory, remove it: dkms makes a new one.")
		}
		total += size
	}
	return total, nil
}

// diskSize adds up the files of a directory, in bytes.
func diskSize(dir string) (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) { // not there yet, or removed meanwhile
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		if fi, err := d.Info(); err == nil {
			total += fi.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fail(Internal, fmt.Errorf("measuring the cache: %w", err))
	}
	return total, nil
}
