// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"dkms-go/internal/conf"
	"dkms-go/internal/diagnose"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// maxLogFile bounds the log that is read, in bytes: dkms writes none that is larger.
const maxLogFile = 64 << 20

// BuildLog is the log of one build.
type BuildLog struct {
	// Key is what was built; a log from elsewhere may not say it.
	Key  state.Key
	Path string
	When time.Time
	// Text is what the file has.
	Text []byte
	// Failed says that the build failed, Diagnosis why.
	Failed    bool
	Diagnosis diagnose.Diagnosis
	// Others is how many more logs there were to choose from.
	Others int
}

// Logs returns the newest of the logs that the filters match: those that are kept
// of the last build for each kernel, those of results, and for modules of another
// dkms the one in the build directory.
func (e *Engine) Logs(ctx context.Context, filters []Filter) (BuildLog, error) {
	var all []BuildLog
	for _, f := range filters {
		all = append(all, e.keptLogs(f)...)
	}
	if len(all) == 0 {
		return BuildLog{}, e.noLog(filters[0])
	}
	slices.SortStableFunc(all, func(a, b BuildLog) int { return b.When.Compare(a.When) })
	chosen := all[0]
	seen := map[state.Key]bool{}
	for _, l := range all {
		seen[l.Key] = true
	}
	chosen.Others = len(seen) - 1
	return e.readLog(ctx, chosen)
}

// LogFile reads a log from any place.
func (e *Engine) LogFile(ctx context.Context, path string) (BuildLog, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return BuildLog{}, fail(NoLog, fmt.Errorf("reading the log: %w", err))
	}
	return e.readLog(ctx, BuildLog{Path: path, When: fi.ModTime()})
}

// noLog says that there is none, and why.
func (e *Engine) noLog(f Filter) *Failure {
	what := "no build"
	if f.Module != "" {
		what += " of " + strings.TrimSuffix(f.Module+"/"+f.Version, "/")
	}
	if f.Kernel != "" {
		what += " for kernel " + f.Kernel
	}
	failure := failf(NoLog, "there is no log: %s has left one in %s", what, e.tree.Dir)
	for _, o := range e.tree.Outcomes(state.ID{Module: f.Module, Version: f.Version}, f.Kernel) {
		failure.hint("%s for kernel %s: %s", o.Key().ID, o.Kernel, o.Error)
	}
	return failure
}

// keptLogs finds the logs that a filter matches, without reading them.
func (e *Engine) keptLogs(f Filter) []BuildLog {
	var list []BuildLog
	for _, k := range e.tree.LoggedKeys(state.ID{Module: f.Module, Version: f.Version}, f.Kernel) {
		if f.Arch != "" && k.Arch != f.Arch {
			continue
		}
		for _, path := range []string{e.tree.KeptLog(k), filepath.Join(e.tree.Result(k), "log", "make.log")} {
			if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
				list = append(list, BuildLog{Key: k, Path: path, When: fi.ModTime()})
				break
			}
		}
	}
	for _, id := range e.tree.Modules(f.Module, f.Version) {
		path := filepath.Join(e.tree.Build(id), "make.log")
		fi, err := os.Lstat(path)
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		l := BuildLog{Path: path, When: fi.ModTime()}
		if l.Key = e.headed(path); l.Key.ID == id && (f.Kernel == "" || f.Kernel == l.Key.Kernel) && (f.Arch == "" || f.Arch == l.Key.Arch) {
			list = append(list, l)
		}
	}
	return list
}

// headed is what the first line of a log says that it is of.
func (e *Engine) headed(path string) state.Key {
	f, _, err := untrusted.OpenFile(path)
	if err != nil {
		return state.Key{}
	}
	defer f.Close()
	head := make([]byte, 1024)
	n, _ := io.ReadFull(f, head)
	return logHead(head[:n])
}

// logHead reads the first line of a log: "DKMS … make.log for M/V for kernel K (A)",
// of dkms before 3 "M-V".
func logHead(text []byte) state.Key {
	g := regexp.MustCompile(`^DKMS .*make\.log for (\S+) for kernel (\S+) \((\S+)\)`).FindSubmatch(text)
	if g == nil {
		return state.Key{}
	}
	k := state.Key{Kernel: string(g[2]), Arch: string(g[3])}
	name := string(g[1])
	at := strings.LastIndexByte(name, '/')
	if at < 0 {
		at = strings.LastIndexByte(name, '-')
	}
	if at > 0 {
		k.ID = state.ID{Module: name[:at], Version: name[at+1:]}
	}
	if k.ID.Check() != nil || strings.ContainsAny(k.Kernel+k.Arch, "/\\") || strings.HasPrefix(k.Kernel, ".") {
		return state.Key{}
	}
	return k
}

// readLog reads and diagnoses a log.
func (e *Engine) readLog(ctx context.Context, l BuildLog) (BuildLog, error) {
	var err error
	if l.Text, err = untrusted.ReadLinked(l.Path, maxLogFile); err != nil {
		return l, fail(NoLog, fmt.Errorf("reading the log %s: %w", l.Path, err))
	}
	if len(strings.TrimSpace(string(l.Text))) == 0 {
		return l, failf(NoLog, "the log %s is empty", l.Path)
	}
	if l.Key == (state.Key{}) {
		l.Key = logHead(l.Text)
	}
	if l.Failed = diagnose.Failed(l.Text); l.Failed {
		l.Diagnosis = e.Diagnose(ctx, l.Key, e.confOf(ctx, l.Key), l.Text)
	}
	return l, nil
}

// confOf is the conf of what a log is of, as far as it can be read without running
// commands; nil if it can't.
func (e *Engine) confOf(ctx context.Context, key state.Key) *conf.Module {
	if key.Module == "" {
		return nil
	}
	m, err := e.load(ctx, key.ID, plan.Target{Kernel: key.Kernel, Arch: key.Arch}, conf.NoExec, io.Discard)
	if err != nil {
		return nil
	}
	return m
}
