// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/autoload"
	"dkms-go/internal/conf"
	"dkms-go/internal/distro"
	"dkms-go/internal/doctor"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
	"dkms-go/internal/mok"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/internal/vercmp"
)

func isNoKey(err error) bool { return errors.Is(err, mok.ErrNone) }

// sourceKnown reports whether a module is in the tree, or its source in the source
// tree.
func (e *Engine) sourceKnown(id state.ID) bool {
	return len(e.tree.Modules(id.Module, id.Version)) > 0 || len(e.inSources(id)) > 0
}

// inSources are the versions of a module whose source is in the source tree, newest
// first.
func (e *Engine) inSources(id state.ID) []state.ID {
	var list []state.ID
	dirs, _ := filepath.Glob(filepath.Join(e.Paths.SourceTree, id.Module+"-*", "dkms.conf"))
	for _, file := range dirs {
		v, _ := strings.CutPrefix(filepath.Base(filepath.Dir(file)), id.Module+"-")
		other := state.ID{Module: id.Module, Version: v}
		m, err := e.loadFile(context.Background(), other, plan.Target{Kernel: unknownKernel}, file, conf.NoExec, io.Discard)
		if err == nil && m != nil && m.Name == id.Module && m.Version == v && (id.Version == "" || id.Version == v) {
			list = append(list, other)
		}
	}
	slices.SortFunc(list, newerFirst)
	return list
}

func newerFirst(a, b state.ID) int {
	switch {
	case vercmp.Less(b.Version, a.Version):
		return -1
	case vercmp.Less(a.Version, b.Version):
		return 1
	}
	return 0
}

// meant is the version of a module that is asked about: the one that is named, the
// one that counts in the tree, or else the newest whose source is there.
func (e *Engine) meant(id state.ID, t plan.Target) state.ID {
	if id.Version != "" {
		return id
	}
	for _, other := range e.newest() {
		if other.Module == id.Module {
			return other
		}
	}
	for _, other := range e.inSources(id) {
		return other
	}
	return id
}

// patientModules are the modules that are looked at for a kernel.
func (e *Engine) patientModules(f *doctor.Facts, t plan.Target) []state.ID {
	if f.Asked.Module != "" {
		return e.readableModules([]state.ID{e.meant(f.Asked, t)}, f.Unread)
	}
	list := e.newest()
	for _, id := range e.tree.Modules("", "") {
		known := slices.ContainsFunc(list, func(l state.ID) bool { return l.Module == id.Module })
		if !known && e.standIn(id) {
			list = append(list, id)
		}
	}
	return e.readableModules(append(list, e.unregistered()...), f.Unread)
}

// unregistered are the modules whose source a package has brought and that aren't in
// the tree in any version. A source without a package is somebody's own affair.
func (e *Engine) unregistered() []state.ID {
	var list []state.ID
	files, _ := filepath.Glob(filepath.Join(e.Paths.SourceTree, "*", "dkms.conf"))
	q := distro.Query{Paths: e.Paths, Env: e.baseEnv()}
	for _, file := range files {
		m, err := e.loadFile(context.Background(), state.ID{}, plan.Target{Kernel: unknownKernel}, file, conf.NoExec, io.Discard)
		if err != nil || m == nil || !m.Autoinstall || len(e.tree.Modules(m.Name, "")) > 0 {
			continue
		}
		id := state.ID{Module: m.Name, Version: m.Version}
		if id.Check() == nil && e.tree.Source(id) == filepath.Dir(file) && q.Owner(context.Background(), e.distro, file) != "" {
			list = append(list, id)
		}
	}
	return list
}

// patient is a module's standing with what only its gathering needs.
type patient struct {
	doctor.Module
	patches bool
}

// standingFor gathers how a module stands to a kernel.
func (e *Engine) standingFor(ctx context.Context, f *doctor.Facts, k *doctor.Kernel, id state.ID, t plan.Target) patient {
	key := t.Key(id)
	m := patient{Module: doctor.Module{ID: id, Condition: e.tree.Condition(id), Source: e.tree.Source(id), Link: e.tree.SourceLink(id)}}
	if to, err := os.Readlink(m.Link); err == nil {
		m.Source = to
	}
	m.StandIn = e.standIn(id)
	if m.StandIn {
		m.Source = e.tree.Source(id)
	}
	m.SourceThere = readable(filepath.Join(m.Source, "dkms.conf"))
	m.Built, m.Installed = e.tree.Built(key), e.tree.Installed(key)
	if active, ok := e.installedAs(id.Module, t); ok {
		m.Active = active.Version
	}
	for _, o := range e.Outcomes(Filter{Module: id.Module, Version: id.Version, Kernel: t.Kernel, Arch: t.Arch}) {
		m.Outcome = &o
	}
	m.Needed = e.neededFor(t, id.Module)
	if m.Condition == state.Added || m.Condition == state.Absent {
		e.readConf(ctx, &m, t)
	}
	if m.Active != "" {
		active := t.Key(state.ID{Module: id.Module, Version: m.Active})
		m.Stale = e.stale(active, t)
		m.Objects = e.objectsFor(ctx, active, k.Running)
	}
	return m
}

// neededFor says why a kernel must have a module: the running one has it.
func (e *Engine) neededFor(t plan.Target, module string) string {
	running, _, err := e.Running()
	if err != nil || running == t.Kernel {
		return ""
	}
	if id, ok := e.installedAs(module, plan.Target{Kernel: running, Arch: t.Arch}); ok {
		return "kernel " + running + ", which runs, has " + id.String()
	}
	return ""
}

// readConf adds what a module's conf says.
func (e *Engine) readConf(ctx context.Context, m *patient, t plan.Target) {
	c, err := e.load(ctx, m.ID, t, conf.Auto, io.Discard)
	if err = strict(c, err); err != nil {
		m.ConfError = err.Error()
		m.Others = e.otherVersions(ctx, m.ID, t, true)
		return
	}
	m.Auto, m.patches = c.Autoinstall, len(c.Patches) > 0
	if v := c.Applies(e.kernelFacts(t)); !v.OK {
		m.Excluded = v.Reason
		m.Others = e.otherVersions(ctx, m.ID, t, false)
		m.Fits = e.fits(ctx, m.ID, t)
	}
	for _, name := range e.notInstalled(c.BuildDepends, t) {
		d := doctor.Depend{Name: name}
		if other := e.meant(state.ID{Module: name}, t); other.Version != "" {
			d.ID = other
		}
		m.Depends = append(m.Depends, d)
	}
	if o := m.Outcome; o != nil && o.State == state.OutcomeFailed {
		m.Transient = o.Inputs == ""
		m.Again = m.Transient || o.Inputs != e.inputs(t.Key(m.ID), t, c)
		m.Others = e.otherVersions(ctx, m.ID, t, true)
	}
}

// otherVersions are the versions of a module, newest first, that are meant for a
// kernel and haven't failed for it; newer leaves out older ones.
func (e *Engine) otherVersions(ctx context.Context, id state.ID, t plan.Target, newer bool) []state.ID {
	var list []state.ID
	for _, other := range append(e.tree.Modules(id.Module, ""), e.inSources(state.ID{Module: id.Module})...) {
		if other == id || slices.Contains(list, other) || newer && !vercmp.Less(id.Version, other.Version) {
			continue
		}
		if o, ok := e.tree.Outcome(t.Key(other)); ok && o.State == state.OutcomeFailed {
			continue
		}
		m, err := e.load(ctx, other, t, conf.Auto, io.Discard)
		if strict(m, err) == nil && m.Applies(e.kernelFacts(t)).OK {
			list = append(list, other)
		}
	}
	slices.SortFunc(list, newerFirst)
	return list
}

// fits are the other kernels here that a module is meant for, newest first.
func (e *Engine) fits(ctx context.Context, id state.ID, not plan.Target) []string {
	var list []string
	for _, release := range slices.Backward(kernel.Installed(e.Paths)) {
		t := plan.Target{Kernel: release, Arch: not.Arch}
		if k := e.kernel(t); release == not.Kernel || !k.HasHeaders() {
			continue
		}
		if m, err := e.load(ctx, id, t, conf.Auto, io.Discard); err == nil && m.Applies(e.kernelFacts(t)).OK {
			list = append(list, release)
		}
	}
	return list
}

// objectsFor judges the installed objects of a result, and for the running kernel
// what is loaded of them.
func (e *Engine) objectsFor(ctx context.Context, key state.Key, running bool) []doctor.Object {
	verdicts, err := e.verifyResult(ctx, key)
	if err != nil {
		return nil
	}
	var list []doctor.Object
	for _, v := range verdicts {
		name, _, _ := ko.SplitName(v.Name)
		o := doctor.Object{Report: v.Report, Kernel: strings.ReplaceAll(name, "-", "_")}
		for _, p := range v.Problems {
			if winner, ok := strings.CutPrefix(p.Text, shadowedBy); ok {
				o.Winner = winner
			}
		}
		if running {
			e.loadedNow(&o)
		}
		list = append(list, o)
	}
	if slices.ContainsFunc(list, func(o doctor.Object) bool { return o.Judged && !o.Loaded }) {
		e.askedFor(list)
	}
	return list
}

// loadedNow reads what the running kernel has of an object
// (Documentation/ABI/stable/sysfs-module).
func (e *Engine) loadedNow(o *doctor.Object) {
	dir := filepath.Join(e.Paths.SysModule, o.Kernel)
	o.Judged = readable(filepath.Dir(dir))
	// What is built in has no state.
	o.Loaded = strings.TrimSpace(readFile(filepath.Join(dir, "initstate"))) == "live"
	o.LoadedSource = strings.TrimSpace(readFile(filepath.Join(dir, "srcversion")))
	holders, _ := os.ReadDir(filepath.Join(dir, "holders"))
	count := strings.TrimSpace(readFile(filepath.Join(dir, "refcnt")))
	o.InUse = len(holders) > 0 || count != "" && count != "0"
}

// askedFor finds what asks for objects that aren't loaded: lists of modules-load.d,
// and devices without a driver.
func (e *Engine) askedFor(list []doctor.Object) {
	asked, blocked := autoload.Asked(e.Paths), autoload.Blocked(e.Paths)
	named := func(in []autoload.Listed, name string) string {
		for _, l := range in {
			if l.Name == name {
				return l.File
			}
		}
		return ""
	}
	devices := e.driverless()
	for i := range list {
		o := &list[i]
		if !o.Judged || o.Loaded {
			continue
		}
		o.Asked, o.Blocked = named(asked, o.Kernel), named(blocked, o.Kernel)
		if o.Asked == "" {
			o.Asked = deviceFor(o.Path, devices)
		}
	}
}

// deviceFor returns the device that an object's aliases match, or "".
func deviceFor(file string, devices map[string]string) string {
	data, err := ko.Read(file)
	if err != nil {
		return ""
	}
	info, err := ko.ParseInfo(data)
	if err != nil {
		return ""
	}
	for _, pattern := range info.All("alias") {
		for alias, device := range devices {
			if ok, err := path.Match(pattern, alias); ok && err == nil {
				return "the device " + device
			}
		}
	}
	return ""
}

// driverless returns the devices that no driver has, by their aliases.
func (e *Engine) driverless() map[string]string {
	devices := map[string]string{}
	filepath.WalkDir(e.Paths.SysDevices, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "modalias" {
			return nil
		}
		dir := filepath.Dir(file)
		if _, err := os.Lstat(filepath.Join(dir, "driver")); err != nil {
			if alias := strings.TrimSpace(readFile(file)); alias != "" {
				devices[alias] = dir
			}
		}
		return nil
	})
	return devices
}

// others gathers what there is for kernels that aren't looked at by themselves.
func (e *Engine) others(ctx context.Context, f *doctor.Facts) {
	looked := func(release string) bool {
		return slices.ContainsFunc(f.Kernels, func(k doctor.Kernel) bool { return k.Release == release })
	}
	for _, o := range e.Outcomes(Filter{}) {
		k := e.kernel(plan.Target{Kernel: o.Kernel, Arch: o.Arch})
		if !looked(o.Kernel) && !(o.Waiting == state.WaitingImage && !k.HasImage(e.Paths)) {
			f.Elsewhere = append(f.Elsewhere, o)
		}
	}
	running, _, _ := e.Running()
	for row := range e.Standings(ctx, Filter{}, false) {
		t := plan.Target{Kernel: row.Key.Kernel, Arch: row.Key.Arch}
		k := e.kernel(t)
		switch {
		case t.Kernel == "":
		case !k.HasHeaders() && !k.HasImage(e.Paths):
			if t.Kernel != running {
				f.Gone = append(f.Gone, row.Key)
			}
		case !looked(t.Kernel) && row.State == StateInstalled && len(row.Stale) > 0:
			if _, failed := e.tree.Outcome(row.Key); !failed {
				m, err := e.load(ctx, row.Key.ID, t, conf.NoExec, io.Discard)
				f.Stale = append(f.Stale, doctor.Stale{Key: row.Key, Changed: row.Stale, Auto: err == nil && m.Autoinstall})
			}
		}
	}
	slices.SortStableFunc(f.Gone, func(a, b state.Key) int { return vercmp.Natural(a.Kernel, b.Kernel) })
}
