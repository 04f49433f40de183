// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/aside"
	"dkms-go/internal/distro"
	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// KernelChoice names the kernels that modules are tried for.
type KernelChoice struct {
	// Releases need headers on the machine, in Packages, or, with Download, in
	// apt's sources. Arches are as in Targets.
	Releases, Arches []string
	// Packages are header packages, and directories of them. Without Releases
	// all kernels count that they have headers of.
	Packages []string
	// Installed stands for all kernels on the machine, WithHeaders for those that
	// have headers.
	Installed, WithHeaders bool
	Download               bool
}

// Aside is a private place, and the kernels that modules are tried for there.
type Aside struct {
	Targets []plan.Target
	place   *aside.Place
	// layers are what has to stand over the machine's directories. inside says that
	// they do.
	layers []aside.Layer
	inside bool
}

// NeedsExec reports whether the trial has to be made by another process, see Exec.
func (a *Aside) NeedsExec() bool { return len(a.layers) > 0 && !a.inside }

// Exec runs the same command line in a process that sees the place's directories over
// the machine's, and returns its exit code.
func (a *Aside) Exec(ctx context.Context, argv, environ []string, stdio run.Stdio) (int, error) {
	code, err := a.place.Exec(ctx, a.layers, argv, environ, stdio)
	if err != nil && ctx.Err() == nil {
		return code, fail(Internal, err, "Without such mounts header packages can't be used here. Install them, or choose kernels that are installed.")
	}
	return code, err
}

// Close removes the place, if this process has made it.
func (a *Aside) Close() error {
	if a.inside {
		return a.place.Leave()
	}
	if err := a.place.Remove(); err != nil {
		return fail(NotWritable, fmt.Errorf("removing what was built aside: %w", err))
	}
	return nil
}

// kernelsFile lists, in a place, the kernels for the inner process.
const kernelsFile = "kernels"

// Reenter is Aside in the process that Exec has started.
func (e *Engine) Reenter(dir string, arches []string) (*Aside, error) {
	p, err := aside.Open(dir)
	if err != nil {
		return nil, fail(Internal, err)
	}
	text, err := os.ReadFile(p.Path(kernelsFile))
	if err != nil {
		return nil, fail(Internal, errors.Join(fmt.Errorf("reading the kernels: %w", err), p.Leave()))
	}
	a := &Aside{place: p, inside: true}
	if a.Targets, err = e.Targets(strings.Fields(string(text)), arches, true); err == nil {
		err = e.headersWhole(a)
	}
	if err != nil {
		return nil, errors.Join(err, p.Leave())
	}
	return a, nil
}

// headersWhole fails where a kernel's packages don't have all of its headers.
func (e *Engine) headersWhole(a *Aside) error {
	packaged := a.place.Kernels()
	for _, t := range a.Targets {
		if missing := e.kernel(t).HeadersMissing(); len(missing) > 0 && slices.Contains(packaged, t.Kernel) {
			return failf(NoHeaders, "the packages don't have all headers of kernel %s: there is no %s", t.Kernel, missing[0]).
				hint("They are in several packages, such as linux-headers-%s, linux-headers-...-common and linux-kbuild-...: name them all, or their directory.", t.Kernel)
		}
	}
	return nil
}

// aside makes a place with the headers of the kernels that are not on this machine.
// The caller closes it.
func (e *Engine) aside(ctx context.Context, c KernelChoice) (*Aside, error) {
	p, err := aside.Make([]string{e.Paths.Cached(host.CacheAside), e.Paths.Temp})
	if err != nil {
		return nil, fail(NotWritable, err)
	}
	a := &Aside{place: p}
	releases, err := e.headersAside(ctx, a, c)
	if err == nil {
		a.Targets, err = e.Targets(releases, c.Arches, true)
	}
	if err == nil {
		err = os.WriteFile(p.Path(kernelsFile), []byte(strings.Join(releases, "\n")+"\n"), 0o644)
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// headersAside unpacks what headers are to be taken from packages, and returns the
// kernels.
func (e *Engine) headersAside(ctx context.Context, a *Aside, c KernelChoice) ([]string, error) {
	releases := slices.Clone(c.Releases)
	for _, r := range kernel.Installed(e.Paths) {
		if c.Installed || c.WithHeaders && e.hasHeaders(r) {
			releases = append(releases, r)
		}
	}
	absent, err := e.absent(c)
	if err != nil {
		return nil, err
	}
	packages := c.Packages
	if len(packages) == 0 && len(absent) > 0 {
		dir, err := e.download(ctx, a, absent, c.Download)
		if err != nil {
			return nil, err
		}
		packages = []string{dir}
	}
	if len(packages) > 0 {
		if err := e.unpackAside(ctx, a, packages, absent); err != nil {
			return nil, err
		}
	}
	unpacked := a.place.Kernels()
	if len(c.Releases) == 0 {
		releases = append(releases, unpacked...)
	}
	for _, r := range absent {
		if !e.hasHeaders(r) && !slices.Contains(unpacked, r) {
			return nil, failf(NoHeaders, "the packages have no headers of kernel %s", r).hint("They have those of: %s", strings.Join(unpacked, " "))
		}
	}
	if len(releases) == 0 {
		return nil, failf(NoHeaders, "there are no headers of any kernel in %s", strings.Join(append(c.Packages, e.Paths.InstallTree), " or "))
	}
	slices.Sort(releases)
	return slices.Compact(releases), nil
}

// absent returns the named kernels whose headers have to come from packages: all if
// packages are named.
func (e *Engine) absent(c KernelChoice) (list []string, err error) {
	for _, r := range c.Releases {
		if err := state.CheckName("kernel release", r); err != nil {
			return nil, fail(BadName, err)
		}
		if len(c.Packages) > 0 || !e.hasHeaders(r) {
			list = append(list, r)
		}
	}
	return list, nil
}

func (e *Engine) hasHeaders(release string) bool {
	return kernel.Find(e.Paths, release, "", kernel.Options{}).HasHeaders()
}

// unpackAside unpacks packages, and names the directories that they stand over.
func (e *Engine) unpackAside(ctx context.Context, a *Aside, packages, releases []string) error {
	env := append(run.BaseEnv(e.Environ), "LC_ALL=C")
	if _, err := run.LookPath("dpkg-deb", env); err != nil {
		return fail(NoHeaders, fmt.Errorf("unpacking header packages: %w", err), "Only packages of Debian and its relatives can be used, where dpkg is installed.")
	}
	if !run.CanPrivate() {
		return failf(NotRoot, "header packages are laid over this machine's directories in a private mount namespace, which isn't allowed here").hint("Run it again with sudo.")
	}
	list, err := aside.Packages(ctx, env, packages)
	if err != nil {
		return fail(BadArchive, err)
	}
	if len(list) == 0 {
		return failf(NoHeaders, "there is no package of headers in %s", strings.Join(packages, " "))
	}
	if err := a.place.Unpack(ctx, env, aside.Choose(list, releases)); err != nil {
		if ctx.Err() != nil {
			return fail(Interrupted, context.Cause(ctx))
		}
		return fail(BadArchive, err)
	}
	if err := e.modulesBelow(a); err != nil {
		return err
	}
	for _, l := range []aside.Layer{
		{Name: aside.Library, Over: e.Paths.PackagedLibraries}, {Name: aside.Modules, Over: e.Paths.InstallTree}, {Name: aside.Source, Over: e.Paths.PackagedSources},
	} {
		if a.place.Has(l.Name) {
			a.layers = append(a.layers, l)
		}
	}
	return nil
}

// modulesBelow gives a machine that has no directory of kernels one to lay that of the
// packages over, where it is below a directory that is laid over anyway.
func (e *Engine) modulesBelow(a *Aside) error {
	if _, err := os.Stat(e.Paths.InstallTree); err == nil {
		return nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(e.Paths.InstallTree))
	if err != nil || parent != e.Paths.PackagedLibraries {
		return nil // the mount tells
	}
	if err := os.Mkdir(a.place.Path(aside.Library, filepath.Base(e.Paths.InstallTree)), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail(NotWritable, err)
	}
	return nil
}

// download has apt download the header packages of kernels into the place, or tells
// how that is asked for.
func (e *Engine) download(ctx context.Context, a *Aside, releases []string, allowed bool) (string, error) {
	env := append(e.baseEnv(), "LC_ALL=C")
	var names []string
	for _, r := range releases {
		pkg, known := e.distro.LookupHeaders(ctx, distro.Query{Release: r, Paths: e.Paths, Env: e.baseEnv()})
		if !known {
			return "", failf(NoHeaders, "the headers of kernel %s are not installed, and no configured package source has them", r).
				hint("Name its header packages, or a directory that has them. `dkms matrix` and `dkms preflight` take them as they are.")
		}
		names = append(names, e.headerPackages(ctx, pkg, env)...)
	}
	slices.Sort(names)
	argv := append([]string{"apt-get", "download"}, slices.Compact(names)...)
	if _, err := run.LookPath(argv[0], env); err != nil {
		f := failf(NoHeaders, "the headers of kernel %s are not installed", strings.Join(releases, " "))
		return "", f.hint("Install them with: %s", e.distro.InstallCommand(names...))
	}
	if !allowed {
		return "", failf(NoHeaders, "the headers of kernel %s are not installed", strings.Join(releases, " ")).
			hint("Say --download to have their packages downloaded and unpacked aside, or do it yourself, and name the directory: %s", strings.Join(argv, " "))
	}
	dir := a.place.Path(aside.Downloads)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fail(NotWritable, err)
	}
	fmt.Fprintf(e.Err, "Downloading %s\n", strings.Join(argv[2:], " "))
	err := run.Cmd{Argv: argv, Dir: dir, Env: env}.Run(ctx)
	if err != nil && ctx.Err() == nil {
		return "", fail(NoHeaders, fmt.Errorf("downloading the headers of kernel %s: %w", strings.Join(releases, " "), err))
	}
	return dir, err
}

// maxHeaderPackages bounds how many packages one kernel's headers are taken from.
const maxHeaderPackages = 10

// headerPackages returns the packages of a kernel's headers: one and those that it
// depends on, as far as they have headers or the programs of a build.
func (e *Engine) headerPackages(ctx context.Context, pkg string, env []string) []string {
	list := []string{pkg}
	for i := 0; i < len(list) && len(list) < maxHeaderPackages; i++ {
		out, err := run.Cmd{Argv: []string{"apt-cache", "show", "--no-all-versions", "--", list[i]}, Env: env}.Output(ctx)
		if err != nil {
			continue
		}
		_, _, depends := aside.ParseControl(string(out))
		for _, d := range depends {
			if (strings.Contains(d, "-headers-") || strings.HasPrefix(d, "linux-kbuild-")) && !slices.Contains(list, d) {
				list = append(list, d)
			}
		}
	}
	return list
}
