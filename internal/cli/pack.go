// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/action"
	"dkms-go/internal/pack"
	"dkms-go/internal/state"
)

// PackagesSchema names the form of `mkdeb --json` and its like, InitSchema that of
// `init --json`.
const (
	PackagesSchema = "dkms-packages/1"
	InitSchema     = "dkms-init/1"
)

type packagesDocument struct {
	Schema   string        `json:"schema"`
	DryRun   bool          `json:"dry_run,omitempty"`
	Packages []packedItem  `json:"packages"`
	LeftOut  []leftOutItem `json:"left_out"`
}

type packedItem struct {
	Format  string `json:"format"`
	File    string `json:"file"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Kernel  string `json:"kernel,omitempty"`
	Size    int64  `json:"size,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
}

type leftOutItem struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

type initDocument struct {
	Schema    string        `json:"schema"`
	DryRun    bool          `json:"dry_run,omitempty"`
	Directory string        `json:"directory"`
	Files     []draftedItem `json:"files"`
	Notes     []string      `json:"notes"`
}

type draftedItem struct {
	File    string `json:"file"`
	Written bool   `json:"written"`
	Text    string `json:"text,omitempty"`
}

// packages makes packages of the given formats.
func packages(formats ...pack.Format) func(context.Context, *command) error {
	return func(ctx context.Context, c *command) error {
		o, err := c.packageOptions(formats)
		if err != nil {
			return err
		}
		if !c.args.has("--binary") {
			list, left, err := c.engine.SourcePackages(ctx, o)
			if err != nil {
				return err
			}
			return c.tellPackages(list, left)
		}
		return c.tryAside(ctx, c.kernelChoice(), c.engine.PreparePackages, func(a *action.Aside) error {
			list, err := c.engine.ObjectPackages(ctx, a, o)
			if err != nil {
				return err
			}
			return c.tellPackages(list, nil)
		})
	}
}

// packageOptions reads the words of the command line.
func (c *command) packageOptions(formats []pack.Format) (action.PackageOptions, error) {
	a := c.args
	o := action.PackageOptions{Formats: formats, Output: ".", ID: c.id(), Fields: map[string]string{}}
	if a.has("--output") {
		if o.Output = a.output; o.Output == "" {
			return o, usageError("--output needs a directory")
		}
	}
	switch binary := a.has("--binary"); {
	case binary && len(a.kernels) == 0 && a.kernelTree == "":
		return o, usageError("--binary needs the kernel: -k <kernel>")
	case !binary && len(a.kernels)+len(a.arches) > 0:
		return o, usageError("a package of the source is for all kernels: with -k and -a say --binary")
	}
	for _, f := range a.fields {
		name, value, _ := strings.Cut(f, "=")
		var names []string
		for _, n := range action.PackageFields() {
			names = append(names, n[0])
		}
		if !slices.Contains(names, name) {
			return o, usageError("%q is no field of a package%s; there are: %s", name, didYouMean(name, names), strings.Join(names, ", "))
		}
		o.Fields[name] = value
	}
	dir, id, err := c.sourceWord()
	if id != (state.ID{}) {
		o.ID = id
	}
	if o.Dir = dir; dir == "" && o.ID == (state.ID{}) {
		o.Dir = "."
	}
	return o, err
}

// sourceWord reads the only word behind the action: a directory, its dkms.conf, or
// <module>/<version>.
func (c *command) sourceWord() (dir string, id state.ID, err error) {
	switch len(c.args.rest) {
	case 0:
		return "", state.ID{}, nil
	case 1:
	default:
		return "", state.ID{}, usageError("%s takes one module at a time", c.verb.Name)
	}
	word := c.args.rest[0]
	name, version, two := strings.Cut(word, "/")
	switch {
	case filepath.Base(word) == "dkms.conf" && isFile(word):
		return filepath.Dir(word), state.ID{}, nil
	case two && name != "" && name != "." && name != ".." && version != "" && !strings.Contains(version, "/") && !isDirectory(word):
		return "", state.ID{Module: name, Version: version}, nil
	}
	return filepath.Clean(word), state.ID{}, nil
}

// tellPackages prints what was made.
func (c *command) tellPackages(list []action.Packed, left []pack.LeftOut) error {
	if c.args.has("--json") {
		doc := packagesDocument{Schema: PackagesSchema, DryRun: c.args.has("--dry-run"), Packages: []packedItem{}, LeftOut: []leftOutItem{}}
		for _, p := range list {
			doc.Packages = append(doc.Packages, packedItem{string(p.Format), p.Path, p.Name, p.Version, p.Arch, p.Kernel, p.Size, p.SHA256})
		}
		for _, l := range left {
			doc.LeftOut = append(doc.LeftOut, leftOutItem{l.Name, l.Why})
		}
		return c.printJSON(doc)
	}
	verbose := c.args.has("--verbose") || c.args.has("--debug")
	for _, l := range left {
		switch {
		case l.Odd:
			fmt.Fprintf(c.io.Err, "Warning: %s is left out: %s\n", l.Name, l.Why)
		case verbose:
			fmt.Fprintf(c.io.Err, "left out: %s (%s)\n", l.Name, l.Why)
		}
	}
	for _, p := range list {
		if _, err := fmt.Fprintln(c.io.Out, p.Path); err != nil {
			return fmt.Errorf("writing the list: %w", err)
		}
	}
	return nil
}

// initVerb writes the files that a source needs for dkms.
func initVerb(ctx context.Context, c *command) error {
	dir, id, err := c.sourceWord()
	if err != nil {
		return err
	}
	if id != (state.ID{}) { // a directory that isn't there
		dir = filepath.Join(id.Module, id.Version)
	}
	if dir == "" {
		dir = "."
	}
	files, notes, err := c.engine.Init(ctx, dir, c.id())
	if err != nil {
		return err
	}
	dry := c.args.has("--dry-run")
	if c.args.has("--json") {
		doc := initDocument{Schema: InitSchema, DryRun: dry, Directory: dir, Files: []draftedItem{}, Notes: list0(notes)}
		for _, f := range files {
			doc.Files = append(doc.Files, draftedItem{f.Path, f.Written, f.Text})
		}
		return c.printJSON(doc)
	}
	for _, f := range files {
		var werr error
		switch {
		case f.Text == "":
			_, werr = fmt.Fprintf(c.io.Out, "%s is there already, and stays as it is\n", f.Path)
		case dry:
			_, werr = fmt.Fprintf(c.io.Out, "%s would be:\n\n%s\n", f.Path, f.Text)
		default:
			_, werr = fmt.Fprintf(c.io.Out, "wrote %s\n", f.Path)
		}
		err = errors.Join(err, werr)
	}
	for _, n := range notes {
		fmt.Fprintf(c.io.Err, "Note: %s\n", n)
	}
	if !dry {
		_, werr := fmt.Fprintf(c.io.Out, "Next: look at dkms.conf, say \"-include dkms.mk\" at the end of the Makefile, then: make dkms-packages\n")
		err = errors.Join(err, werr)
	}
	return err
}

// fieldHelp lists the fields of packages.
func fieldHelp() string {
	var b strings.Builder
	b.WriteString("\nFields (--field), and the directives of dkms.conf that give them otherwise:\n")
	for _, f := range action.PackageFields() {
		directive := f[1]
		if directive == "" {
			directive = "PACKAGE_VERSION"
		}
		fmt.Fprintf(&b, "  %-16s %s\n", f[0], directive)
	}
	return b.String()
}

func isDirectory(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}
