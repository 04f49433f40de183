// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"dkms-go/internal/abi"
	"dkms-go/internal/conf"
	"dkms-go/internal/initramfs"
	"dkms-go/internal/install"
	"dkms-go/internal/ko"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
	"dkms-go/internal/trust"
	"dkms-go/internal/verify"
)

// abi returns what a kernel offers to objects; it is read once between two
// installs.
func (e *Engine) abi(t plan.Target) *abi.Kernel {
	k := e.kernel(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.abis[t]
	if a == nil {
		a = abi.Open(e.Paths, k)
		e.abis[t] = a
	}
	return a
}

// forgetABI makes the next abi see objects that were placed or taken out.
func (e *Engine) forgetABI(t plan.Target) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.abis, t)
}

// verifyTarget is what the objects of a module are held against: the kernel, and
// the results of the modules that it depends on.
func (e *Engine) verifyTarget(key state.Key, t plan.Target, m *conf.Module) verify.Target {
	target := verify.Target{Kernel: e.abi(t), Certificates: e.certificates()}
	target.Readable = func(c ko.Compression) bool { return e.readable(t, c) }
	for _, d := range m.BuildDepends {
		for _, id := range e.tree.Modules(d, "") {
			files, _ := os.ReadDir(e.tree.Objects(t.Key(id)))
			for _, f := range files {
				if _, _, ok := ko.SplitName(f.Name()); ok {
					target.Exporters = append(target.Exporters, filepath.Join(e.tree.Objects(t.Key(id)), f.Name()))
				}
			}
		}
	}
	return target
}

// readable tells whether a kernel's objects may have a compression: that of its
// own objects, or one that this machine's kmod reads, by the features that it
// lists; any if there is no kmod. It is looked at once, and only when needed.
func (e *Engine) readable(t plan.Target, c ko.Compression) bool {
	if c == ko.Compression(e.suffix(t)) {
		return true
	}
	e.kmod.Do(func() {
		features := e.kmodFeatures()
		if features == "" {
			return
		}
		e.readables = []ko.Compression{ko.None}
		for feature, c := range map[string]ko.Compression{"+ZSTD": ko.Zstd, "+XZ": ko.XZ, "+ZLIB": ko.Gzip} {
			if slices.Contains(strings.Fields(features), feature) {
				e.readables = append(e.readables, c)
			}
		}
	})
	return e.readables == nil || slices.Contains(e.readables, c)
}

// kmodFeatures returns the line of features that kmod --version prints. The program
// has it as one literal, so that it needn't be run; one that hides it is asked, and
// so is a wrapper. It is "" if there is no kmod.
func (e *Engine) kmodFeatures() string {
	path, err := run.LookPath("kmod", e.baseEnv())
	if err != nil {
		return ""
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	features, _ := e.memory().Value("kmod features", path, func(path string) (string, error) {
		if f, err := os.Open(path); err == nil {
			defer f.Close()
			text, _ := io.ReadAll(io.LimitReader(f, maxKmod))
			if line := kmodLine().FindSubmatch(text); line != nil && bytes.HasPrefix(text, []byte("\x7fELF")) {
				return string(line[1]), nil
			}
		}
		out, err := run.Cmd{Argv: []string{path, "--version"}, Env: e.baseEnv()}.Output(context.Background())
		return string(out), err
	})
	return features
}

// kmodLine matches the features in kmod: each with + or -, compressions first.
var kmodLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\x00([+-]ZSTD [+-]XZ [+-]ZLIB [ +A-Z0-9-]*)\x00`)
})

// maxKmod bounds what is read of kmod, in bytes; it has less than 200 KiB.
const maxKmod = 8 << 20

// Verdict is one object of `dkms verify`.
type Verdict struct {
	Key state.Key
	// Installed says that the object is the one in the kernel's tree.
	Installed bool
	verify.Report
	Signing
}

// Signing is who has signed an object, and what its kernel thinks of it.
type Signing struct {
	// Subject is the name in the signer's certificate, "" if that isn't known.
	Subject string
	// Trust tells whether the kernel trusts the signer, or an authority that has
	// issued the certificate in the signature.
	Trust trust.Verdict
	// Unsigned is why the object isn't signed, if that was recorded.
	Unsigned string
}

// Verify tells of each object of the results that a filter matches whether its
// kernel would load it; nothing is loaded. An installed object is judged where
// it is installed: whether it is there, whether modprobe would take it, and
// whether the initramfs has it if it belongs there. The error is that something
// is refused, or that nothing matches.
func (e *Engine) Verify(ctx context.Context, f Filter) ([]Verdict, error) {
	var all []Verdict
	for _, id := range e.tree.Modules(f.Module, f.Version) {
		for _, k := range e.tree.Results(id, f.Kernel, f.Arch) {
			verdicts, err := e.verifyResult(ctx, k)
			if err != nil {
				return nil, err
			}
			all = append(all, verdicts...)
		}
	}
	if len(all) == 0 && (f.Module != "" || f.Kernel != "") {
		what := strings.Trim(state.ID{Module: f.Module, Version: f.Version}.String(), "/")
		if f.Kernel != "" {
			what += " for kernel " + f.Kernel
		}
		return nil, failf(NotAdded, "nothing is built of %s", strings.TrimSpace(what)).hint("`dkms status` lists what is.")
	}
	for _, v := range all {
		if v.Refused() {
			return all, &Failure{Reason: NotVerified, Err: fmt.Errorf("kernel %s would not load what is there of %s", v.Key.Kernel, v.Key.ID), Said: true}
		}
	}
	return all, nil
}

// verifyResult judges the objects of one result.
func (e *Engine) verifyResult(ctx context.Context, k state.Key) ([]Verdict, error) {
	t := plan.Target{Kernel: k.Kernel, Arch: k.Arch}
	record, err := e.tree.Record(k) // one made by upstream has none
	if what := damage(err); what != "" {
		fmt.Fprintf(e.people(e.Err), "Warning: %s: dkms fsck --repair moves it aside\n", what)
	}
	installed := e.tree.Installed(k)
	job := install.Job{Key: k, Tree: e.tree, Paths: e.Paths, Dir: e.installDir}
	var files []verify.File
	var lost []verify.Report
	var kept []string
	for _, o := range e.expected(ctx, k, record) {
		path, ok := install.Find(e.tree.Objects(k), o.Name)
		if installed {
			path = job.Located(o.Name, o.Location)
			if survivor := job.Survivor(o); survivor != "" {
				path = survivor
				kept = append(kept, survivor)
			}
			ok = path != ""
		}
		if !ok {
			lost = append(lost, e.lost(job, o, installed))
			continue
		}
		files = append(files, verify.File{Name: filepath.Base(path), Path: path})
	}
	m, err := e.load(ctx, k.ID, t, conf.NoExec, e.Err)
	if err = strict(m, err); err != nil {
		if record.Format != 0 { // else expected has told
			fmt.Fprintf(e.people(e.Err), "Warning: the dkms.conf of %s can't be used: %v\n", k.ID, err)
		}
		m = &conf.Module{}
	}
	reports := append(verify.Objects(files, e.verifyTarget(k, t, m)), lost...)
	for _, path := range kept {
		addProblem(reports, path, verify.Problem{Code: verify.Result, Text: "its result has lost it, " + e.tree.Objects(k) + " lacks it: dkms fsck --repair puts it back from here"})
	}
	if installed {
		e.verifyPlace(t, m, reports)
	}
	var all []Verdict
	for i := range reports {
		all = append(all, Verdict{k, installed, reports[i], e.verifySigner(t, &reports[i], record.Unsigned)})
		all[i].Report = reports[i]
	}
	return all, nil
}

// lost reports on an object that isn't there, or not the one that was installed.
func (e *Engine) lost(job install.Job, o state.ObjectEntry, installed bool) verify.Report {
	r := verify.Report{Name: o.Name + ".ko"}
	text := "is not there"
	for _, dir := range []string{job.Dir(o.Location), o.Location} {
		path, ok := install.Find(filepath.Join(e.Paths.KernelTree(job.Key.Kernel), dir), o.Name)
		if installed && ok && r.Path == "" {
			r.Name, r.Path = filepath.Base(path), path
			text = path + " is damaged, or not the object that was installed"
		}
	}
	r.Problems = []verify.Problem{{Code: verify.Unreadable, Refuse: true, Text: text}}
	return r
}

// verifyPlace adds what is wrong with the places of installed objects: another
// file of that name would win, or the initramfs has another or none.
func (e *Engine) verifyPlace(t plan.Target, m *conf.Module, reports []verify.Report) {
	var paths []string
	for _, r := range reports {
		if r.Path != "" {
			paths = append(paths, r.Path)
		}
	}
	if e.kernel(t).HasImage(e.Paths) {
		for _, s := range verify.Shadowed(e.Paths.KernelTree(t.Kernel), paths) {
			text := "is not in modules.dep: run depmod -a " + t.Kernel
			if s.Winner != "" {
				text = shadowedBy + s.Winner
			}
			addProblem(reports, s.Path, verify.Problem{Code: "shadowed", Refuse: true, Text: text})
		}
	}
	held, err := e.inInitramfs(t, m, paths)
	for i := range reports {
		if err != nil {
			reports[i].Unchecked = append(reports[i].Unchecked, err.Error())
		}
	}
	for path, held := range held {
		what := map[initramfs.Held]string{initramfs.Missing: "lacks it", initramfs.Other: "has another of that name"}[held]
		if what != "" {
			addProblem(reports, path, verify.Problem{Code: "initramfs", Refuse: true, Text: "belongs into the initramfs, which " + what})
		}
	}
}

// shadowedBy begins the text of a problem, in front of a path.
const shadowedBy = "is shadowed: modprobe takes "

func addProblem(reports []verify.Report, path string, p verify.Problem) {
	for i := range reports {
		if reports[i].Path == path {
			reports[i].Problems = append(reports[i].Problems, p)
		}
	}
}

// inInitramfs tells of installed objects that belong into the kernel's initramfs
// what it has of them.
func (e *Engine) inInitramfs(t plan.Target, m *conf.Module, paths []string) (map[string]initramfs.Held, error) {
	image, ok := initramfs.Find(e.Paths, t.Kernel)
	if !ok || len(paths) == 0 {
		return nil, nil
	}
	byName := map[string]string{}
	var names []string
	for _, path := range paths {
		name, _, _ := ko.SplitName(filepath.Base(path))
		byName[name] = path
		names = append(names, name)
	}
	belong, err := initramfs.Belongs(e.Paths, initramfs.Question{Release: t.Kernel, Objects: names, ByConf: m.Initramfs, Env: e.baseEnv()})
	if err != nil || len(belong) == 0 {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, b := range belong {
		wanted[initramfs.Normal(b.Object)] = true
	}
	objects, err := initramfs.Read(image, func(name string) bool { return wanted[name] })
	if err != nil {
		return nil, err
	}
	held := map[string]initramfs.Held{}
	for _, b := range belong {
		if data, err := ko.Read(byName[b.Object]); err == nil {
			held[byName[b.Object]] = initramfs.Compare(objects, b.Object, data)
		}
	}
	return held, nil
}
