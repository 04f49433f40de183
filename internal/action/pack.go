// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dkms-go/internal/conf"
	"dkms-go/internal/draft"
	"dkms-go/internal/durable"
	"dkms-go/internal/lint"
	"dkms-go/internal/pack"
	"dkms-go/internal/state"
)

// PackageOptions say what Packages makes.
type PackageOptions struct {
	Formats []pack.Format
	// Dir has a dkms.conf; without it ID is a module of the trees.
	Dir string
	ID  state.ID
	// Output is the directory for the packages.
	Output string
	// Fields take the place of what dkms.conf says, by PackageFields.
	Fields map[string]string
}

// PackageFields are the names of the fields of packages that can be given, and the
// directives of dkms.conf that give them otherwise; version has none.
func PackageFields() [][2]string {
	return [][2]string{
		{"description", conf.VarDescription}, {"homepage", conf.VarHomepage}, {"license", conf.VarLicense}, {"maintainer", conf.VarMaintainer},
		{"depends_deb", conf.VarDependsDeb}, {"depends_rpm", conf.VarDependsRPM}, {"version", ""},
	}
}

// Packed is a package that was made, or would be.
type Packed struct {
	Format pack.Format
	// Path is the file; Name, Version and Arch are the package's.
	Path, Name, Version, Arch string
	// Kernel is the one whose objects are in it, "" for a source.
	Kernel string
	// Size is in bytes, SHA256 in hexadecimal digits.
	Size   int64
	SHA256 string
}

// packing is a module that is about to be packed.
type packing struct {
	PackageOptions
	id     state.ID
	source string
	module *conf.Module
	tree   pack.Tree
	facts  draft.Facts
	when   time.Time
}

// SourcePackages packs a module's source: one package for each format, each file
// replaced whole. The list of what was left out comes with it. Nothing is changed on
// an error but files that were written before it.
func (e *Engine) SourcePackages(ctx context.Context, o PackageOptions) ([]Packed, []pack.LeftOut, error) {
	p, err := e.packing(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	var list []*pack.Package
	for _, f := range o.Formats {
		list = append(list, pack.Source(f, p.id, p.version(), p.tree.Files))
	}
	done, err := e.writePackages(p, "", list)
	return done, p.tree.LeftOut, err
}

// packing reads the module that is to be packed.
func (e *Engine) packing(ctx context.Context, o PackageOptions) (*packing, error) {
	p := &packing{PackageOptions: o, source: o.Dir}
	if o.Dir == "" {
		if err := requireID(o.ID, "mkpackages"); err != nil {
			return nil, err
		}
		if p.source = e.tree.SourceLink(o.ID); e.condition(o.ID) != state.Added {
			p.source = e.tree.Source(o.ID)
		}
	}
	file := filepath.Join(p.source, "dkms.conf")
	if fi, err := os.Stat(file); err != nil || !fi.Mode().IsRegular() {
		if o.Dir == "" {
			return nil, failf(NoSourceDir, "the source of %s is missing: there is no %s", o.ID, file)
		}
		return nil, failf(NotSourceTree, "%s has no dkms.conf", o.Dir).hint("`dkms init %s` writes one to begin with.", o.Dir)
	}
	t := (&survey{Engine: e, ctx: ctx}).anyTarget()
	m, err := e.loadFile(ctx, o.ID, t, file, conf.Auto, e.Err)
	if err = strict(m, err); err != nil {
		return nil, confFailure(err)
	}
	p.module, p.id = m, state.ID{Module: m.Name, Version: m.Version}
	if err := p.id.Check(); err != nil {
		return nil, fail(BadName, err)
	}
	if err := pack.CheckModule(p.id); err != nil {
		return nil, fail(BadPackage, err)
	}
	if p.tree, err = pack.Gather(p.source); err != nil {
		return nil, fail(NoSource, err)
	}
	p.when, err = e.packingTime(p.tree)
	p.facts = draft.Describe(texts(p.tree.Files))
	return p, err
}

// texts returns the makefiles and C sources among files.
func texts(files []pack.File) map[string]string {
	all := map[string]string{}
	for _, f := range files {
		if f.Body != nil && lint.IsRead(f.Name) && len(f.Body) <= lintFile {
			all[f.Name] = string(f.Body)
		}
	}
	return all
}

// packingTime is the time of all files: SOURCE_DATE_EPOCH, or that of the newest file.
func (e *Engine) packingTime(t pack.Tree) (time.Time, error) {
	text, ok := e.environment("SOURCE_DATE_EPOCH")
	if !ok || text == "" {
		return t.Newest.Truncate(time.Second), nil
	}
	seconds, err := strconv.ParseUint(text, 10, 32) // what the header of an rpm can hold
	if err != nil {
		return time.Time{}, failf(BadPackage, "SOURCE_DATE_EPOCH is %q; it has to be a number of seconds since 1970", text)
	}
	return time.Unix(int64(seconds), 0), nil
}

// version is the packages' version.
func (p *packing) version() string {
	if v := p.Fields["version"]; v != "" {
		return v
	}
	return p.id.Version
}

// field returns what was given for a field, or what dkms.conf says.
func (p *packing) field(name, directive string) string {
	if v, ok := p.Fields[name]; ok {
		return v
	}
	return p.module.Vars.Get(directive)
}

// nobody is the maintainer of a package for which none was named.
const nobody = "Unknown <unknown@example.invalid>"

// describe fills in the fields of a package.
func (e *Engine) describe(p *packing, to *pack.Package) {
	or := func(values ...string) string {
		for _, v := range values {
			if v != "" {
				return v
			}
		}
		return ""
	}
	to.Time, to.Author = p.when, p.facts.Author
	to.Summary = or(p.field("description", conf.VarDescription), p.facts.Description, "kernel module "+p.id.Module)
	to.Homepage = p.field("homepage", conf.VarHomepage)
	to.License = or(p.field("license", conf.VarLicense), p.facts.License, "LicenseRef-Unknown")
	to.Maintainer = or(p.field("maintainer", conf.VarMaintainer), e.maintainer(), withAddress(p.facts.Author), nobody)
	depends := p.field("depends_deb", conf.VarDependsDeb)
	if to.Format == pack.RPM {
		depends = p.field("depends_rpm", conf.VarDependsRPM)
	}
	to.Depends = append(to.Depends, pack.Relations(depends)...)
}

// maintainer is the one that Debian's tools take from the environment
// (debchange(1), DEBEMAIL).
func (e *Engine) maintainer() string {
	name, _ := e.environment("DEBFULLNAME")
	address, _ := e.environment("DEBEMAIL")
	if address == "" || strings.Contains(address, "<") {
		return address
	}
	if name == "" {
		name, _, _ = strings.Cut(address, "@")
	}
	return name + " <" + address + ">"
}

// withAddress returns an author that is a name with an address, else "".
func withAddress(author string) string {
	if name, rest, ok := strings.Cut(author, " <"); ok && name != "" && strings.HasSuffix(rest, ">") && strings.Contains(rest, "@") {
		return author
	}
	return ""
}

// writePackages writes packages, each aside first. All are checked before any is.
func (e *Engine) writePackages(p *packing, kernel string, list []*pack.Package) ([]Packed, error) {
	for _, one := range list {
		e.describe(p, one)
		if err := packageFailure(one.Check()); err != nil {
			return nil, err
		}
	}
	if list[0].Maintainer == nobody {
		fmt.Fprintf(e.Err, "Warning: the packages name no maintainer: put PACKAGE_MAINTAINER=\"Name <name@example.org>\" into dkms.conf, or say --field maintainer=...\n")
	}
	if err := e.outputDir(p.Output); err != nil {
		return nil, err
	}
	var done []Packed
	for _, one := range list {
		body, err := one.Bytes()
		if err != nil {
			return done, fail(ArchiveFailed, err)
		}
		path := filepath.Join(p.Output, one.File())
		if fi, err := os.Lstat(path); err == nil && !fi.Mode().IsRegular() {
			return done, failf(ArchiveFailed, "writing %s: it exists and is not a regular file", path)
		}
		if !e.DryRun {
			if err := durable.Replace(path, body, 0o644); err != nil {
				return done, fail(ArchiveFailed, fmt.Errorf("writing %s: %w", path, err))
			}
		}
		done = append(done, Packed{
			Format: one.Format, Path: path, Name: one.Name, Version: one.Version, Arch: one.Arch, Kernel: kernel,
			Size: int64(len(body)), SHA256: fmt.Sprintf("%x", sha256.Sum256(body)),
		})
	}
	return done, nil
}

// packageFailure says how a bad version is helped.
func packageFailure(err error) error {
	var bad *pack.BadVersion
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad) && bad.Instead != "":
		return fail(BadPackage, err, "Give the package another version than the module: --field version="+bad.Instead)
	case errors.As(err, &bad):
		return fail(BadPackage, err, "Give the package another version than the module: --field version=<version>")
	}
	return fail(BadPackage, err)
}

// outputDir makes the directory for packages.
func (e *Engine) outputDir(dir string) error {
	if e.DryRun {
		if fi, err := os.Stat(dir); err == nil && !fi.IsDir() {
			return failf(NoPlace, "%s is no directory", dir)
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fail(NoPlace, err)
	}
	if err := probe(dir); err != nil {
		return fail(NoPlace, err)
	}
	return nil
}
