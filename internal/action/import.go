// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"dkms-go/internal/conf"
	"dkms-go/internal/copytree"
	"dkms-go/internal/dsse"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
	"dkms-go/internal/plan"
	"dkms-go/internal/prebuilt"
	"dkms-go/internal/state"
	"dkms-go/internal/verify"
)

// Prebuilt is the origin of results that were built elsewhere.
const Prebuilt = "prebuilt"

// Import installs what a bundle's file has, for its kernel, which is that of the targets
// if there are some. trust names files of keys besides those in the directory of trusted
// keys. On an error before the installation nothing has changed.
func (e *Engine) Import(ctx context.Context, file string, targets []plan.Target, trust []string) error {
	if err := e.RequireRoot(); err != nil {
		return err
	}
	keys, err := e.trustedKeys(trust)
	if err != nil {
		return err
	}
	b, err := readBundle(file, keys)
	if err != nil {
		return err
	}
	return e.take(ctx, &arrival{Engine: e, bundle: b, from: file}, targets)
}

// trustedKeys reads the keys that prebuilts must be signed by.
func (e *Engine) trustedKeys(more []string) ([]dsse.Key, error) {
	keys, err := dsse.LoadDir(e.trustDir())
	for _, file := range more {
		var key dsse.Key
		if err == nil {
			key, err = dsse.LoadPublic(file)
			keys = append(keys, key)
		}
	}
	if err != nil {
		return nil, fail(KeyFailed, err)
	}
	if len(keys) == 0 {
		return nil, failf(Untrusted, "no key is trusted to sign prebuilt modules").
			hint("Put the public key of who builds them into %s, as NAME.pub, or name it with --trust.", e.trustDir())
	}
	return keys, nil
}

func (e *Engine) trustDir() string {
	if e.Framework.PrebuiltTrust != "" {
		return e.Framework.PrebuiltTrust
	}
	return e.Paths.TrustDir
}

// readBundle reads a bundle's file.
func readBundle(file string, keys []dsse.Key) (*prebuilt.Bundle, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fail(NoArchive, fmt.Errorf("reading a bundle: %w", err))
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, failf(NoArchive, "%s is no file", file)
	}
	b, err := prebuilt.Read(f, keys)
	if err != nil {
		return nil, bundleFailure(fmt.Errorf("%s: %w", file, err))
	}
	return b, nil
}

// bundleFailure is the failure of a bundle that can't be taken as it is.
func bundleFailure(err error) *Failure {
	switch {
	case errors.Is(err, prebuilt.ErrUnsigned), errors.Is(err, dsse.ErrUnknownKey):
		return fail(Untrusted, err, "Nothing of it was unpacked. If you trust who made it, name the public key with --trust.")
	case errors.Is(err, dsse.ErrSignature):
		return fail(Untrusted, err, "Nothing of it was unpacked. It is damaged, or somebody has changed it: get it again.")
	}
	return fail(BadArchive, err, "Nothing was changed. It is damaged, or no bundle of dkms export: get it again.")
}

// take installs a bundle, whose signature was verified, for its kernel.
func (e *Engine) take(ctx context.Context, a *arrival, targets []plan.Target) error {
	b := a.bundle
	unlock, err := e.lockFor(ctx, func() error { return a.check(ctx, targets) })
	if err != nil {
		return err
	}
	defer unlock()
	if e.DryRun {
		fmt.Fprintf(e.Out, "Would install %s prebuilt, signed by %s.\n", a.key, b.By.Name)
		return nil
	}
	if a.there() {
		fmt.Fprintf(e.Out, "Module %s already installed on kernel %s (%s), skip. You may override by specifying --force.\n", a.key.ID, a.key.Kernel, a.key.Arch)
		return nil
	}
	if err := a.place(ctx); err != nil {
		return err
	}
	fmt.Fprintf(e.Out, "Imported %s, built on another machine, signed by %s.\n", a.key, b.By.Name)
	return a.install(ctx)
}

// there reports whether what the bundle has is installed already.
func (a *arrival) there() bool {
	r, err := a.tree.Record(a.key)
	same := err == nil && slices.EqualFunc(r.Objects, a.record.Objects, func(x, y state.ObjectEntry) bool { return x.Name == y.Name && x.SHA256 == y.SHA256 })
	return same && !a.Force && a.settled(a.key.ID, a.t)
}

// arrival is a bundle on its way into the tree.
type arrival struct {
	*Engine
	bundle *prebuilt.Bundle
	// from is what the record says that it comes from, lookup what it was looked up by.
	from, lookup string
	tried        []state.Tried
	key          state.Key
	t            plan.Target
	conf         *conf.Module
	record       state.Record
	// source is the directory that stands for the module's source, unpacked where the
	// bundle has that; fresh says that the module has to be registered with it.
	source, unpacked string
	fresh            bool
}

// check holds the bundle against the machine. Nothing is changed.
func (a *arrival) check(ctx context.Context, targets []plan.Target) error {
	m := a.bundle.Manifest
	a.key, a.fresh = m.StateKey(), false
	a.t = plan.Target{Kernel: a.key.Kernel, Arch: a.key.Arch}
	for _, t := range targets {
		if t != a.t {
			return failf(OtherKernel, "the bundle is for kernel %s (%s), not for %s", a.t.Kernel, a.t.Arch, t)
		}
	}
	if !a.kernel(a.t).Exists() {
		return failf(OtherKernel, "the bundle is for kernel %s, which is not installed here: there is no %s", a.t.Kernel, a.kernel(a.t).Tree).
			hint("Installed here: %s", strings.Join(kernel.Installed(a.Paths), " "))
	}
	if err := a.sameKernel(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(a.Framework.TmpLocation, "dkms.")
	if err != nil {
		return fail(NotWritable, err)
	}
	defer os.RemoveAll(dir)
	if err := a.readConf(ctx, dir); err != nil {
		return err
	}
	if err := a.chooseSource(); err != nil {
		return err
	}
	return a.judge()
}

// sameKernel fails unless the kernel here is the build that the objects were made for.
func (a *arrival) sameKernel() error {
	here, there := a.fingerprint(a.t), a.bundle.Manifest.Kernel
	if diff := here.Differences(there); len(diff) > 0 {
		return failf(OtherKernel, "kernel %s here is another build than the one that %s was built for: %s", a.t.Kernel, a.key.ID, strings.Join(diff, "; ")).
			hint("Nothing was changed. A prebuilt counts for one build of a kernel only: build it for this one.")
	}
	if missing, ok := here.Enough(there); !ok {
		return failf(OtherKernel, "it can't be told whether kernel %s here is the build that %s was built for: not known here is %s", a.t.Kernel, a.key.ID, strings.Join(missing, ", ")).
			hint("Install the kernel's headers, or its image with its configuration in %s.", a.Paths.Boot)
	}
	return nil
}

// readConf evaluates the bundle's dkms.conf for the kernel, with the overrides of this
// machine.
func (a *arrival) readConf(ctx context.Context, dir string) error {
	file := filepath.Join(dir, "dkms.conf")
	if err := os.WriteFile(file, a.bundle.Content(prebuilt.ConfPath), 0o644); err != nil {
		return fail(NotWritable, err)
	}
	m, err := a.loadFile(ctx, a.key.ID, a.t, file, conf.Auto, a.Err)
	if err = strict(m, err); err != nil {
		return confFailure(err)
	}
	if m.Name != a.key.Module || m.Version != a.key.Version {
		return failf(BadArchive, "the bundle is of %s, and its dkms.conf of %s/%s", a.key.ID, m.Name, m.Version)
	}
	if v := m.Applies(a.kernelFacts(a.t)); !v.OK {
		return failf(Excluded, "%s is not meant for %s: %s", a.key.ID, a.t, v.Reason)
	}
	a.conf = m
	return nil
}

// chooseSource decides what the module's source is: that which is there if it is the one
// of the bundle, the one in the bundle, or what stands for it.
func (a *arrival) chooseSource() error {
	id, want := a.key.ID, a.bundle.Manifest.Source
	other := func(dir, has string) error {
		if has == want || a.Force {
			return nil
		}
		return failf(AlreadyLoaded, "the source of %s in %s is another than the one that the bundle was built from", id, dir).
			hint("Remove the module first (dkms remove %s --all), or go on with --force.", id)
	}
	switch c := a.tree.Condition(id); {
	case c == state.Broken:
		return a.requireSound(id)
	case c == state.Added:
		has, err := a.sourceDigest(id)
		if err != nil {
			return fail(NoSource, err)
		}
		if a.source, err = os.Readlink(a.tree.SourceLink(id)); err != nil {
			a.source = a.tree.SourceLink(id)
		}
		return other(a.source, has)
	}
	a.fresh = true
	if a.source = a.tree.Source(id); readable(a.source) {
		has, err := copytree.Digest(a.source)
		if err != nil {
			return fail(NoSource, err)
		}
		return other(a.source, has)
	}
	if a.bundle.Content(prebuilt.SourcePath) == nil {
		a.source = a.tree.PrebuiltSource(id)
	}
	return nil
}

// judge holds the objects against the conf and the kernel, and makes the record.
func (a *arrival) judge() error {
	m := a.bundle.Manifest
	byName := map[string]prebuilt.Object{}
	for _, o := range m.Objects {
		byName[o.Name] = o
	}
	a.record = a.newRecord()
	var files []verify.File
	for i, o := range a.conf.Objects {
		if !a.conf.ObjectApplies(i, a.kernelFacts(a.t)).OK {
			continue
		}
		has, ok := byName[o.Dest]
		if !ok {
			return failf(BadArchive, "the bundle lacks the object %s, which its dkms.conf has for kernel %s", o.Dest, a.t.Kernel)
		}
		delete(byName, o.Dest)
		file, err := a.object(i, has)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	for name := range byName {
		return failf(BadArchive, "the bundle has an object %s, which its dkms.conf doesn't have for kernel %s", name, a.t.Kernel)
	}
	reports := verify.Objects(files, a.verifyTarget(a.key, a.t, a.conf))
	if err := verify.Refusal(reports); err != nil {
		return fail(NotVerified, fmt.Errorf("kernel %s would not load %s of the bundle: %w", a.t.Kernel, a.key.ID, err), "Nothing was changed.")
	}
	for _, r := range reports {
		for _, against := range r.Against {
			if !slices.Contains(a.record.Verified, against) {
				a.record.Verified = append(a.record.Verified, against)
			}
		}
	}
	return nil
}

// object adds an object to the record, if it is what the manifest says of it.
func (a *arrival) object(index int, o prebuilt.Object) (verify.File, error) {
	data, file := a.bundle.Content(o.Path), filepath.Base(o.Path)
	inside, err := ko.Decompress(data)
	var info *ko.Info
	if err == nil {
		info, err = ko.ParseInfo(inside)
	}
	if err != nil {
		return verify.File{}, failf(BadArchive, "the object %s of the bundle is none: %w", o.Name, err)
	}
	if vermagic := strings.TrimSpace(info.Vermagic()); vermagic != o.Vermagic || info.SrcVersion() != o.SrcVersion {
		return verify.File{}, failf(BadArchive, "the object %s of the bundle has vermagic %q and srcversion %q, its manifest says %q and %q", o.Name, vermagic, info.SrcVersion(), o.Vermagic, o.SrcVersion)
	}
	a.record.Objects = append(a.record.Objects, state.ObjectEntry{
		Index: index, Name: o.Name, File: file, Location: a.conf.Objects[index].DestDir, SHA256: o.SHA256, Vermagic: o.Vermagic, SrcVersion: o.SrcVersion,
	})
	return verify.File{Name: file, Path: filepath.Join(a.tree.Objects(a.key), file), Data: data, Object: inside}, nil
}

// newRecord is the record of the result. Its identity is that of the kernel here, and of
// the builder's where this machine doesn't tell: the result is stale once one of them is
// another.
func (a *arrival) newRecord() state.Record {
	m := a.bundle.Manifest
	if a.lookup == "" {
		a.lookup, _ = prebuilt.KeyOf(m).Digest()
	}
	return state.Record{
		Format: state.RecordFormat, Module: a.key.Module, Version: a.key.Version, Kernel: a.key.Kernel, Arch: a.key.Arch,
		Origin: Prebuilt, Built: m.Build.Date.UTC(), Tool: a.Version, Make: m.Build.Make, Identity: joinIdentities(a.identity(a.t), m.KernelFiles),
		Signed: m.Build.Signed, Unsigned: m.Build.Unsigned, Depends: m.Build.Depends, Source: m.Source, Settings: m.Build.Settings, WatchesImage: m.Build.WatchesImage,
		Prebuilt: &state.Prebuilt{Source: a.from, Key: a.lookup, SignedBy: dsse.ID(a.bundle.By.Public), TrustedBy: a.bundle.By.Name, BuiltWith: m.Build.Tool},
		Tried:    a.tried,
	}
}

// joinIdentities is an identity with what it lacks taken from another one, but for what
// comes with the image: distributions sign that after the build.
func joinIdentities(here, there kernel.Identity) kernel.Identity {
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&here.UTSVersion, there.UTSVersion}, {&here.Compiler, there.Compiler}, {&here.ModuleSymvers, there.ModuleSymvers},
		{&here.Config, there.Config}, {&here.SigningCert, there.SigningCert},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	return here
}

// install installs the result as any other, and warns of what the kernel doesn't trust.
func (a *arrival) install(ctx context.Context) error {
	again := a.tree.Installed(a.key) // other objects of this version are placed
	f := a.facts(ctx, []state.ID{a.key.ID}, []plan.Target{a.t}, func(id state.ID, r plan.Result) bool { return id == a.key.ID || r.Built })
	p := plan.InstallAll(a.key.ID, []plan.Target{a.t}, f, plan.Options{Force: again, NoRefresh: a.NoDepmod})
	outcomes, err := a.perform(ctx, p, f, false)
	if err == nil {
		err = verdict(outcomes)
	}
	if err != nil {
		return a.despite(ctx, err)
	}
	a.warnOfTrust(ctx, a.key)
	return a.afterwards(ctx, []plan.Target{a.t})
}

// warnOfTrust warns of objects that were built elsewhere and whose signature the kernel
// won't take.
func (e *Engine) warnOfTrust(ctx context.Context, key state.Key) {
	verdicts, err := e.verifyResult(ctx, key)
	if err != nil {
		return
	}
	for _, v := range verdicts {
		for _, p := range v.Problems {
			if p.Code == verify.Signature {
				fmt.Fprintf(e.Err, "Warning: %s %s\n", v.Name, p.Text)
			}
		}
	}
}
