// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"dkms-go/internal/boot"
	"dkms-go/internal/capacity"
	"dkms-go/internal/distro"
	"dkms-go/internal/doctor"
	"dkms-go/internal/finding"
	"dkms-go/internal/initramfs"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
	"dkms-go/internal/trust"
	"dkms-go/internal/vercmp"
)

// Diagnosis is what Doctor found.
type Diagnosis struct {
	// Target is the kernel that was looked at.
	Target   plan.Target
	Findings []finding.Finding
}

// Doctor tells what keeps modules from being built, installed and loaded: all of
// them, or one. release names a kernel; without one it is the running kernel, and
// for all modules that which boots next too. Nothing is changed, built or loaded;
// the package manager is asked, from what the machine has, for the names of
// packages that are missing. The error is a Failure with Said set if anything worse
// than a note was found.
func (e *Engine) Doctor(ctx context.Context, id state.ID, release string) (Diagnosis, error) {
	shown, environ := e.Err, e.Environ
	e.Err = io.Discard // what confs and results have to say is among the findings
	if os.Geteuid() != 0 {
		e.Environ = e.systemPath(e.Environ) // root's own will have that
	}
	f, err := e.examine(ctx, id, release)
	e.Err, e.Environ = shown, environ
	if err != nil {
		return Diagnosis{}, err
	}
	d := Diagnosis{Findings: doctor.Run(f)}
	if len(f.Kernels) > 0 {
		d.Target = plan.Target{Kernel: f.Kernels[0].Release, Arch: f.Kernels[0].Arch}
	}
	return d, Found(d.Findings)
}

// Found is the failure that findings come to, nil for none and for notes.
func Found(list []finding.Finding) error {
	switch worst, any := finding.Worst(list); {
	case !any || worst == finding.Note:
		return nil
	case worst == finding.Warning:
		return &Failure{Reason: FoundWarning, Err: fmt.Errorf("a warning was found"), Said: true}
	}
	return &Failure{Reason: FoundError, Err: fmt.Errorf("an error was found"), Said: true}
}

// examine gathers the facts. What takes long and is apart from the rest runs beside
// it.
func (e *Engine) examine(ctx context.Context, id state.ID, release string) (*doctor.Facts, error) {
	e.forgetStamps()
	f := &doctor.Facts{Distro: e.distro, Asked: id, UID: os.Geteuid(), AtWork: e.tree.AtWork(), Writable: e.writable()}
	targets, err := e.patients(f, release)
	if err != nil {
		return nil, err
	}
	f.Unread = e.unreadable(id.Module)
	if id.Module != "" && !e.sourceKnown(id) && len(f.Unread) == 0 {
		f := failf(NotAdded, "module %s is not in the DKMS tree, nor is its source in %s", strings.TrimSuffix(id.String(), "/"), e.Paths.SourceTree)
		if others := e.listed(id.Module); len(others) > 0 {
			return nil, f.hint("There is: %s", join(others))
		}
		return nil, f.hint("`dkms status` lists the modules that are.")
	}
	if _, err := run.LookPath("sudo", e.baseEnv()); err == nil {
		f.Sudo = true
	}
	var beside sync.WaitGroup
	beside.Go(func() { f.Damage = e.damage(id) })
	beside.Go(func() { e.hooksAmiss(ctx, f) })
	for i, t := range targets {
		f.Kernels = append(f.Kernels, e.patient(ctx, f, t))
		k := &f.Kernels[i]
		k.Next, k.WhyNext = k.Next || i > 0, ""
	}
	beside.Wait()
	if id.Module == "" {
		e.others(ctx, f)
		f.Held, _ = boot.Pinned(e.Paths)
		f.IndexDue = e.tree.KernelsDue()
	}
	e.room(f)
	e.askPackages(ctx, f)
	return f, nil
}

// patients chooses the kernels that are looked at.
func (e *Engine) patients(f *doctor.Facts, release string) ([]plan.Target, error) {
	running, _, err := e.Running()
	if err != nil {
		return nil, fail(Internal, err)
	}
	next, _ := boot.Next(e.Paths) // unknown: it isn't looked at
	here := kernel.Installed(e.Paths)
	var releases []string
	switch {
	case release != "":
		releases, f.Named = []string{release}, true
	case slices.Contains(here, running) && e.Root == "":
		releases = []string{running}
	case slices.Contains(here, next.Release):
		releases = []string{next.Release}
	case len(here) > 0:
		releases = []string{e.newestHere(here)}
	}
	if release == "" && !slices.Contains(releases, running) && e.Root == "" {
		f.Absent = running
	}
	if release == "" && f.Asked.Module == "" && slices.Contains(here, next.Release) && !slices.Contains(releases, next.Release) {
		releases = append(releases, next.Release)
	}
	if len(releases) == 0 {
		return nil, nil
	}
	return e.Targets(releases, nil, true)
}

// newestHere is the newest kernel whose image is there, or else the newest.
func (e *Engine) newestHere(releases []string) string {
	best := slices.MaxFunc(releases, vercmp.Natural)
	for _, r := range slices.Backward(releases) {
		if e.kernel(plan.Target{Kernel: r}).HasImage(e.Paths) {
			return r
		}
	}
	return best
}

// patient gathers the facts of one kernel.
func (e *Engine) patient(ctx context.Context, f *doctor.Facts, t plan.Target) doctor.Kernel {
	running, _, _ := e.Running()
	next, _ := boot.Next(e.Paths)
	k := e.kernel(t)
	p := doctor.Kernel{
		Release: t.Kernel, Arch: t.Arch, Running: running == t.Kernel && e.Root == "", Next: next.Release == t.Kernel,
		Tree: k.Exists(), Image: k.HasImage(e.Paths), Named: f.Named,
		Headers: doctor.Headers{Dir: k.SourceDir, There: k.HasHeaders()},
	}
	if p.Headers.There {
		p.Headers.Missing, p.Headers.Release = k.HeadersMissing(), k.HeadersRelease()
	}
	patches := false
	for _, id := range e.patientModules(f, t) {
		m := e.standingFor(ctx, f, &p, id, t)
		patches = patches || m.patches
		p.Modules = append(p.Modules, m.Module)
	}
	p.Tools, p.Built, p.Found, p.Compiler = e.tools(ctx, k, patches)
	p.Signing = e.signingFor(ctx, t)
	if image, ok := initramfs.Find(e.Paths, t.Kernel); ok && e.Framework.Initramfs {
		tool, _ := initramfs.Owner(e.Paths, t.Kernel, e.baseEnv())
		p.Initramfs, p.InitramfsTool = image, string(tool)
	}
	return p
}

// signingFor tells how a kernel stands to the key.
func (e *Engine) signingFor(ctx context.Context, t plan.Target) doctor.Signing {
	s, err := e.KeyStatus(ctx, t.Kernel)
	if err != nil && s.Target.Kernel == "" {
		return doctor.Signing{}
	}
	d := doctor.Signing{Trusted: s.Trusted, Enforced: s.Enforced, Note: s.Enrol.Note}
	if s.Enrol.Import {
		d.Command = s.EnrolLine()
	}
	if s.Unusable != nil {
		d.Unusable, d.None = s.Unusable.Error(), isNoKey(s.Unusable)
	}
	if d.Enforced.Answer == trust.Yes {
		_, err := run.LookPath("mokutil", e.baseEnv())
		d.Mokutil = err == nil
	}
	return d
}

// writable reports whether the caller may write to the DKMS tree; it isn't made for
// that.
func (e *Engine) writable() bool {
	_, err := os.Stat(e.tree.Dir)
	return err == nil && e.tree.Writable() == nil
}

// damage looks for what doesn't agree in the tree, or in the part of it that a
// module has. What another dkms is at work on isn't damaged.
func (e *Engine) damage(id state.ID) []state.Inconsistency {
	var list []state.Inconsistency
	glance := state.Glance{Tree: e.tree}
	glance.At(func() { list = e.tree.Check() })
	if e.tree.AtWork() {
		return nil
	}
	return slices.DeleteFunc(list, func(i state.Inconsistency) bool {
		below := strings.HasPrefix(i.Path, e.tree.Module(id.Module)+"/")
		return id.Module != "" && !below || i.Kind == state.Unread || filepath.Base(i.Path) == "source" // a broken one is told by itself
	})
}

// hooksAmiss looks at the hooks of kernels' packages.
func (e *Engine) hooksAmiss(ctx context.Context, f *doctor.Facts) {
	amiss := false
	for _, path := range e.distro.Hooks(e.Paths) {
		h := doctor.Hook{Path: path}
		if fi, err := os.Stat(path); err == nil {
			h.There, h.Executable = true, fi.Mode()&0o111 != 0 || filepath.Ext(path) == ".hook"
		}
		f.Hooks, amiss = append(f.Hooks, h), amiss || !h.There
	}
	if program, err := os.Executable(); amiss && err == nil {
		q := distro.Query{Paths: e.Paths, Env: e.baseEnv()}
		f.HooksPackage = q.Owner(ctx, e.distro, program)
	}
	off := filepath.Join(e.Paths.ConfDir, "no-autoinstall")
	if _, err := os.Stat(off); err == nil {
		f.Disabled = off
	}
}

// What is wanted to be free, in bytes: for a build, for objects, for a compiler's
// temporary files.
const (
	buildRoom, treeRoom, tempRoom = 48 << 20, 16 << 20, 8 << 20
	// leastPeak is what the smallest compilation takes.
	leastPeak = 96 << 20
)

// room looks at disks and memory.
func (e *Engine) room(f *doctor.Facts) {
	dirs := []doctor.Dir{
		{Path: e.Paths.DKMSTree, Use: "builds", Need: buildRoom, Scripts: true},
		{Path: e.Paths.Temp, Use: "temporary files", Need: tempRoom},
	}
	if st, err := e.CacheStats(); err == nil {
		dirs[0].Cached = st.Bytes + st.Other
	}
	for _, k := range f.Kernels {
		if k.Tree {
			dirs = append(dirs, doctor.Dir{Path: e.Paths.KernelTree(k.Release), Use: "modules", Need: treeRoom})
		}
		if fi, err := os.Stat(k.Initramfs); err == nil {
			dirs = append(dirs, doctor.Dir{Path: filepath.Dir(k.Initramfs), Use: "images of kernels", Need: fi.Size(), Boot: true})
		}
	}
	for _, d := range dirs {
		if disk, err := capacity.DiskOf(e.Paths, d.Path); err == nil {
			d.Disk = disk
			f.Dirs = append(f.Dirs, d)
		}
	}
	f.Memory, _ = capacity.Free(e.Paths)
	for _, k := range f.Kernels {
		for _, m := range k.Modules {
			if !m.Installed && m.Excluded == "" {
				f.Need = max(f.Need, leastPeak, e.effort(m.ID).peak)
			}
		}
	}
}

// askPackages asks the package manager for what is missing, side by side.
func (e *Engine) askPackages(ctx context.Context, f *doctor.Facts) {
	var all sync.WaitGroup
	for i := range f.Kernels {
		k := &f.Kernels[i]
		q := distro.Query{Release: k.Release, Paths: e.Paths, Env: e.baseEnv()}
		foreign := k.Headers.Release != "" && k.Headers.Release != k.Release
		if !k.Headers.There || len(k.Headers.Missing) > 0 || foreign {
			all.Go(func() { k.Headers.Package, _ = e.distro.LookupHeaders(ctx, q) })
		}
		if len(k.Headers.Missing) > 0 {
			all.Go(func() {
				for _, path := range k.Headers.Missing {
					if owner := q.Owner(ctx, e.distro, path); owner != "" && !slices.Contains(k.Headers.Owners, owner) {
						k.Headers.Owners = append(k.Headers.Owners, owner)
					}
				}
			})
		}
		for j := range k.Modules {
			m := &k.Modules[j]
			bad := m.ConfError != "" || m.Excluded != "" || m.Outcome != nil && m.Outcome.State == state.OutcomeFailed
			if bad && len(m.Others) == 0 || m.Condition == state.Broken || m.StandIn {
				all.Go(func() {
					m.Owner = q.Owner(ctx, e.distro, filepath.Join(m.Source, "dkms.conf"))
					m.Newer = q.Newer(ctx, e.distro, m.Owner)
				})
			}
			for d := range m.Depends {
				if dep := &m.Depends[d]; dep.ID.Version == "" {
					all.Go(func() { dep.Package = q.ModulePackage(ctx, e.distro, dep.Name) })
				}
			}
		}
	}
	all.Wait()
}
