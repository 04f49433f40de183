// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"dkms-go/internal/build"
	"dkms-go/internal/conf"
	"dkms-go/internal/diagnose"
	"dkms-go/internal/doctor"
	"dkms-go/internal/headers"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/internal/vercmp"
)

// The bounds of what is looked at for a diagnosis: how long headers are searched,
// of how many kernels, and how much of a module's makefiles is read, in bytes.
const (
	searchTime    = time.Minute
	maxTrees      = 8
	maxMakefiles  = 20
	maxMakefile   = 64 << 10
	makefileDepth = 3
)

// Diagnose tells from the log of a build of key why it failed. m is the module's
// conf, nil if it isn't known. The headers of the kernels on the machine are
// searched for what the error is about.
func (e *Engine) Diagnose(ctx context.Context, key state.Key, m *conf.Module, log []byte) diagnose.Diagnosis {
	d := diagnose.Read(log, e.diagnosisFacts(key, m))
	q, ok := d.Question()
	if !ok {
		return d
	}
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	d.Answer(headers.Source(ctx, q, e.sourceOf(key.ID)), headers.Search(ctx, q, e.headerTrees(key)))
	return d
}

// sourceOf is where the source of a module is, whether it is added or not.
func (e *Engine) sourceOf(id state.ID) string {
	if id.Module == "" {
		return ""
	}
	for _, dir := range []string{e.tree.SourceLink(id), e.tree.Source(id)} {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			return dir
		}
	}
	return ""
}

// diagnosisFacts is what is known of a build besides its log.
func (e *Engine) diagnosisFacts(key state.Key, m *conf.Module) diagnose.Facts {
	t := plan.Target{Kernel: key.Kernel, Arch: key.Arch}
	k := e.kernel(t)
	f := diagnose.Facts{
		Kernel: key.Kernel, Arch: key.Arch, HeaderDirs: headerDirs(k.SourceDir, k.Tree),
		Config: e.kernelFacts(t).Config, Overrides: e.Paths.ConfDir,
		Install: func(program string) string {
			if pkg := e.distro.ProgramPackage(program); pkg != "" {
				return e.distro.InstallCommand(pkg)
			}
			return ""
		},
	}
	if key.Module != "" {
		f.Module, f.BuildDir = key.ID.String(), e.tree.Build(key.ID)
		f.Makefiles = makefiles(e.sourceOf(key.ID))
	}
	if m != nil {
		f.Depends = m.BuildDepends
		f.Confined = e.Confines && m.Confine != conf.ConfineOff && e.Framework.Confine != conf.ConfineOff
	}
	return f
}

// headerDirs are the directories of a kernel's headers, by the names that they may
// have in a log.
func headerDirs(sourceDir, tree string) []string {
	var list []string
	for _, dir := range []string{sourceDir, filepath.Join(tree, "source")} {
		if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
			continue
		}
		list = append(list, dir)
		if real, err := filepath.EvalSymlinks(dir); err == nil && real != dir {
			list = append(list, real)
		}
	}
	return list
}

// headerTrees are the headers of the kernel that was built for, and then of the
// others, the newest first.
func (e *Engine) headerTrees(key state.Key) []headers.Tree {
	var releases []string
	entries, _ := os.ReadDir(e.Paths.InstallTree)
	for _, entry := range entries {
		if entry.Name() != key.Kernel {
			releases = append(releases, entry.Name())
		}
	}
	slices.SortFunc(releases, func(a, b string) int {
		if vercmp.Less(b, a) {
			return -1
		}
		return 1
	})
	var list []headers.Tree
	for _, r := range append([]string{key.Kernel}, releases...) {
		t := plan.Target{Kernel: r, Arch: key.Arch}
		k := e.kernel(t)
		if r == "" || !k.HasHeaders() || len(list) == maxTrees {
			continue
		}
		list = append(list, headers.Tree{Release: r, Dirs: headerDirs(k.SourceDir, k.Tree), Config: e.kernelFacts(t).Config})
	}
	return list
}

// makefiles is the text of a module's makefiles.
func makefiles(dir string) string {
	var b strings.Builder
	left := maxMakefiles
	if dir == "" {
		return ""
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return ""
	}
	_ = filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(real, path)
		switch name := filepath.Base(path); {
		case err != nil, left == 0:
			return fs.SkipAll
		case d.IsDir() && strings.Count(rel, string(filepath.Separator)) >= makefileDepth:
			return fs.SkipDir
		case d.Type().IsRegular() && (name == "Makefile" || name == "Kbuild"):
			left--
			if f, err := os.Open(path); err == nil {
				io.Copy(&b, io.LimitReader(f, maxMakefile))
				f.Close()
				b.WriteByte('\n')
			}
		}
		return nil
	})
	return b.String()
}

// LogCommand is the command line that shows the log of a build.
func LogCommand(key state.Key) string { return fmt.Sprintf("dkms log %s -k %s", key.ID, key.Kernel) }

// buildFailure tells of a failed build what went wrong and what to do about it.
func (e *Engine) buildFailure(ctx context.Context, key state.Key, m *conf.Module, b *build.Failure) *Failure {
	reasons := map[build.Stage]Reason{
		build.Prepare: Internal, build.PatchPath: PatchPath, build.Patch: PatchFailed,
		build.PreBuild: HookFailed, build.Make: MakeFailed, build.Missing: ObjectMissing,
		build.Collect: ObjectMissing, build.PostBuild: HookFailed, build.Verify: NotVerified,
	}
	f := fail(reasons[b.Stage], b.Err)
	f.Status = b.Status
	if b.Stage == build.Prepare || b.Text == nil || ctx.Err() != nil {
		return f
	}
	d := e.Diagnose(ctx, key, m, b.Text)
	f.Diagnosis = &d
	switch {
	case d.Error == "" || strings.Contains(b.Err.Error(), d.Error):
	case d.Guess:
		f.hint("It said last: %s", d.Error)
	default:
		f.Cause = d.Error
		f.hint("The first error: %s", d.Error)
	}
	if d.Class != diagnose.Unknown {
		f.hint("Cause: %s.", d.What)
	}
	if b.Stage == build.Verify {
		f.hint("Its Makefile must build for the kernel that dkms names ($kernelver, KERNELRELEASE). --force keeps the result nevertheless.")
	} else if len(b.Refused) == 0 {
		for _, step := range d.Next {
			f.hint("%s", NextLine(step))
		}
	}
	f.hint("%s%s, and shown by: %s", doctor.LogHint, b.Log, LogCommand(key))
	return f
}

// NextLine is a step as a line of a failure's hints.
func NextLine(step string) string {
	if line, ok := strings.CutPrefix(step, "$ "); ok {
		return "    " + line
	}
	return "Next: " + step
}

// class is the class of a failure, also of one that isn't a build's.
func (f *Failure) class() diagnose.Class {
	if f.Diagnosis != nil {
		return f.Diagnosis.Class
	}
	switch f.Reason {
	case NoHeaders, BadKernelTree:
		return diagnose.Headers
	case MissingDepends:
		return diagnose.Dependency
	case Excluded:
		return diagnose.Excluded
	case PatchPath, PatchFailed:
		return diagnose.Patch
	case NotVerified:
		return diagnose.Headers
	}
	if errors.Is(f.Err, syscall.ENOSPC) || errors.Is(f.Err, syscall.EDQUOT) {
		return diagnose.Disk
	}
	return ""
}
