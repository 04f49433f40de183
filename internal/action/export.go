// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"dkms-go/internal/bundle"
	"dkms-go/internal/conf"
	"dkms-go/internal/dsse"
	"dkms-go/internal/durable"
	"dkms-go/internal/fingerprint"
	"dkms-go/internal/plan"
	"dkms-go/internal/prebuilt"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// ExportOptions say what Export packs and where to.
type ExportOptions struct {
	// Dir is the directory for the files, "" for the current one; SignKey the file of the
	// key that signs, "" for none.
	Dir, SignKey string
	// WithSource packs the source as well.
	WithSource bool
}

// Export writes a bundle for each target from the module's result. After: files named
// MODULE-KERNEL-VERSION.tar.gz; one that was there is replaced as a whole.
func (e *Engine) Export(ctx context.Context, id state.ID, targets []plan.Target, o ExportOptions) error {
	if err := requireID(id, "export"); err != nil {
		return err
	}
	if err := e.requireSound(id); err != nil {
		return err
	}
	if err := e.requireAdded(id); err != nil {
		return err
	}
	key, err := signingKey(o.SignKey)
	if err != nil {
		return err
	}
	for _, t := range distinct(targets) {
		b, err := e.bundleOf(ctx, id, t, key, o.WithSource)
		if err != nil {
			return err
		}
		path := filepath.Join(o.Dir, b.Manifest.FileName())
		if !e.DryRun {
			if err := writeBundle(path, b); err != nil {
				return err
			}
		}
		fmt.Fprintf(e.Out, "Bundle: %s\n", path)
		if key == nil {
			fmt.Fprintf(e.Err, "Warning: %s is not signed, and no machine imports it as it is: dkms export --sign <key>\n", path)
		}
	}
	return nil
}

// MakeBundleKey makes a key that signs bundles, in a file; its public part is beside it.
func (e *Engine) MakeBundleKey(file string) error {
	if file == "" {
		return failf(KeyFailed, "the file for the key is not given").hint("Say: dkms key generate --bundle <file>")
	}
	if e.DryRun {
		fmt.Fprintf(e.Out, "Would make %s and %s.pub.\n", file, file)
		return nil
	}
	public, err := dsse.Generate(file)
	if err != nil {
		return fail(KeyFailed, err)
	}
	fmt.Fprintf(e.Out, "Key for bundles: %s (keep it secret)\nPublic key: %s.pub, SHA-256 %s\nMachines that are to trust it: copy %s.pub to %s there.\n", file, file, dsse.ID(public), filepath.Base(file), e.trustDir())
	return nil
}

// signingKey reads the key that signs bundles.
func signingKey(file string) (ed25519.PrivateKey, error) {
	if file == "" {
		return nil, nil
	}
	key, err := dsse.LoadPrivate(file)
	if err != nil {
		return nil, fail(KeyFailed, err, "`dkms key generate --bundle <file>` makes a key for bundles.")
	}
	return key, nil
}

func writeBundle(path string, b *prebuilt.Bundle) error {
	var text strings.Builder
	if err := b.Write(&text); err != nil {
		return fail(ArchiveFailed, err)
	}
	if err := durable.Replace(path, []byte(text.String()), 0o644); err != nil {
		return fail(ArchiveFailed, fmt.Errorf("writing %s: %w", path, err))
	}
	return nil
}

// fingerprint returns what tells a kernel from others of its release on any machine.
func (e *Engine) fingerprint(t plan.Target) fingerprint.Kernel {
	return fingerprint.Of(e.abi(t), e.identity(t))
}

// bundleOf makes the bundle of a result.
func (e *Engine) bundleOf(ctx context.Context, id state.ID, t plan.Target, key ed25519.PrivateKey, withSource bool) (*prebuilt.Bundle, error) {
	k := t.Key(id)
	if !e.tree.Built(k) {
		return nil, failf(NotBuilt, "%s is not built for %s", id, t).hint("Build it first: dkms build %s -k %s/%s", id, t.Kernel, t.Arch)
	}
	r, err := e.tree.Record(k)
	if err != nil || r.Source == "" {
		return nil, failf(NotBuilt, "what is built of %s for %s has no record of its source", id, t).hint("Build it again: dkms build --force %s -k %s/%s", id, t.Kernel, t.Arch)
	}
	if changed := e.stale(k, t); len(changed) > 0 {
		return nil, failf(NotBuilt, "what is built of %s for %s is stale: changed since: %s", id, t, strings.Join(changed, ", ")).hint("Build it again: dkms build %s -k %s/%s", id, t.Kernel, t.Arch)
	}
	m, err := e.load(ctx, id, t, conf.Auto, e.Err)
	if err = strict(m, err); err != nil {
		return nil, confFailure(err)
	}
	p := &bundling{Engine: e, key: k, record: r, conf: m, content: map[string][]byte{}}
	if err := p.all(ctx, t, withSource); err != nil {
		return nil, err
	}
	b, err := prebuilt.New(p.manifest, p.content, key)
	if err != nil {
		return nil, fail(ArchiveFailed, fmt.Errorf("packing %s: %w", k, err))
	}
	return b, nil
}

// bundling is a bundle being made.
type bundling struct {
	*Engine
	key      state.Key
	record   state.Record
	conf     *conf.Module
	manifest prebuilt.Manifest
	content  map[string][]byte
}

func (p *bundling) all(ctx context.Context, t plan.Target, withSource bool) error {
	r := p.record
	options, err := p.optionsDigest(ctx, p.key, p.conf)
	if err != nil {
		return err
	}
	p.manifest = prebuilt.Manifest{
		Module: p.key.Module, Version: p.key.Version, Kernel: p.fingerprint(t), KernelFiles: r.Identity, Source: r.Source, Options: options,
		Build: prebuilt.Build{
			Date: r.Built, Tool: r.Tool, Make: r.Make, Compiler: r.Identity.Compiler, Origin: r.Origin, Settings: r.Settings, Depends: r.Depends,
			WatchesImage: r.WatchesImage, Signed: r.Signed, Unsigned: r.Unsigned,
		},
	}
	if r.Compiler != nil {
		p.manifest.Build.Compiler = r.Compiler.Banner
	}
	for _, o := range r.Objects {
		data, err := untrusted.ReadLinked(filepath.Join(p.tree.Objects(p.key), o.File), prebuilt.MaxTotal)
		if err != nil {
			return fail(NotBuilt, fmt.Errorf("reading an object: %w", err), "Build it again: dkms build --force "+p.key.ID.String())
		}
		if digestOf(data) != o.SHA256 {
			return failf(NotBuilt, "%s is not the object that was built", filepath.Join(p.tree.Objects(p.key), o.File)).hint("Build it again: dkms build --force %s", p.key.ID)
		}
		file := prebuilt.File{Path: "objects/" + o.File}
		p.manifest.Objects = append(p.manifest.Objects, prebuilt.Object{File: file, Name: o.Name, Location: o.Location, Vermagic: o.Vermagic, SrcVersion: o.SrcVersion})
		p.content[file.Path] = data
	}
	if err := p.describing(ctx, t, withSource); err != nil {
		return err
	}
	if log, err := untrusted.ReadLinked(filepath.Join(p.tree.Result(p.key), "log", "make.log"), maxLogFile); err == nil {
		p.put(prebuilt.LogPath, log, false)
	}
	return nil
}

// put adds a content that is no object.
func (p *bundling) put(path string, data []byte, executable bool) {
	if _, there := p.content[path]; there {
		return
	}
	p.manifest.Files = append(p.manifest.Files, prebuilt.File{Path: path, Executable: executable})
	p.content[path] = data
}

// describing adds the conf, the scripts of installation that it names, and the source.
func (p *bundling) describing(ctx context.Context, t plan.Target, withSource bool) error {
	source, err := untrusted.Open(p.tree.SourceLink(p.key.ID))
	if err != nil {
		return fail(NoConf, err)
	}
	defer source.Close()
	text, err := source.Read("dkms.conf", maxConf)
	if err != nil {
		return fail(NoConf, err)
	}
	p.put(prebuilt.ConfPath, text, false)
	for _, directive := range []string{p.conf.PostAdd, p.conf.PreInstall, p.conf.PostInstall, p.conf.PostRemove} {
		file, _, _ := strings.Cut(directive, " ")
		if file == "" || filepath.Clean(file) != file {
			continue
		}
		f, fi, err := source.File(file)
		if err != nil {
			continue // as where it is installed from the source: a warning there
		}
		f.Close()
		script, err := source.Read(file, maxScript)
		if err != nil {
			return fail(ArchiveFailed, fmt.Errorf("packing a script: %w", err))
		}
		p.put("conf/"+file, script, fi.Mode()&0o111 != 0)
	}
	if !withSource {
		return p.standsAlone(ctx, t, text)
	}
	return p.source()
}

// The bounds of a dkms.conf and of a script, in bytes.
const (
	maxConf   = 4 << 20
	maxScript = 4 << 20
)

// standsAlone fails for a conf that comes to something else without the source: it reads
// other files of it.
func (p *bundling) standsAlone(ctx context.Context, t plan.Target, text []byte) error {
	dir, err := os.MkdirTemp(p.Framework.TmpLocation, "dkms.")
	if err != nil {
		return fail(NotWritable, err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "dkms.conf")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return fail(NotWritable, err)
	}
	m, err := p.loadFile(ctx, p.key.ID, t, file, conf.Auto, p.Err)
	if err = strict(m, err); err == nil && !reflect.DeepEqual(m.Vars, p.conf.Vars) {
		err = errors.New("it comes to something else")
	}
	if err != nil {
		return failf(BadConf, "the dkms.conf of %s is of no use without its source: %w", p.key.ID, err).hint("Pack the source too: --with-source.")
	}
	return nil
}

// source adds the source, as the archive that mktarball --source-only makes.
func (p *bundling) source() error {
	if p.tree.OnlyPrebuilt(p.key.ID) {
		return failf(NoSource, "the source of %s is not here: it came prebuilt", p.key.ID).hint("Export it without --with-source.")
	}
	now, err := p.sourceDigest(p.key.ID)
	if err != nil {
		return fail(NoSource, err)
	}
	if now != p.record.Source {
		return failf(NotBuilt, "the source of %s has changed since it was built for kernel %s", p.key.ID, p.key.Kernel).hint("Build it again: dkms build --force %s -k %s/%s", p.key.ID, p.key.Kernel, p.key.Arch)
	}
	dir, err := os.MkdirTemp(p.Framework.TmpLocation, "dkms.")
	if err != nil {
		return fail(NotWritable, err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, prebuilt.SourcePath)
	err = bundle.Write(path, bundle.Contents{Module: p.key.Module, Version: p.key.Version, SourceDir: p.tree.SourceLink(p.key.ID), Kind: bundle.SourceOnly})
	if err != nil {
		return fail(ArchiveFailed, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fail(ArchiveFailed, err)
	}
	p.put(prebuilt.SourcePath, text, false)
	return nil
}
