// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/copytree"
	"dkms-go/internal/hook"
	"dkms-go/internal/untrusted"
)

// prepare makes a clean build directory: the source, then what /etc/dkms lays
// over its patches (3.4.0), then a new make.log.
func (w *work) prepare(context.Context) error {
	if err := emptyDir(w.dir); err != nil {
		return fmt.Errorf("emptying the build directory: %w", err)
	}
	if err := copytree.Copy(w.Tree.SourceLink(w.Key.ID)+"/.", w.dir); err != nil {
		return err
	}
	var err error
	if w.inside, err = untrusted.Open(w.dir); err != nil {
		return err
	}
	header := fmt.Sprintf("DKMS (%s) make.log for %s for kernel %s (%s)", w.Version, w.Key.ID, w.Key.Kernel, w.Key.Arch)
	if w.log, err = startLog(w.inside, header); err != nil {
		return err
	}
	overlay := filepath.Join(w.Paths.ConfDir, w.Key.Module, "patches")
	if fi, err := os.Stat(overlay); err == nil && fi.IsDir() {
		if err := w.overlay(overlay); err != nil {
			return err
		}
	}
	return w.handOver()
}

// overlay lays patches of the administrator's over those of the source.
func (w *work) overlay(from string) error {
	const name = "patches"
	err := w.inside.Root().MkdirAll(name, 0o755)
	if err != nil {
		return fmt.Errorf("laying %s over the source: %w", from, err)
	}
	dest, err := w.inside.Root().OpenRoot(name)
	if err != nil {
		return fmt.Errorf("laying %s over the source: %w", from, err)
	}
	defer dest.Close()
	return copytree.Into(dest, from)
}

// emptyDir leaves an empty directory at path. The directory itself stays if it
// is there: another build may have it bound elsewhere.
func emptyDir(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(path, 0o755)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := untrusted.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// patch applies the patches that the conf names for the kernel, with patch(1):
// offsets and fuzz are part of what people rely on.
func (w *work) patch(ctx context.Context) error {
	for _, p := range w.Conf.Patches {
		if err := w.patchExists(p); err != nil {
			return &Failure{Stage: PatchPath, Err: err, Log: w.logPath()}
		}
		line := "patch -p1 < ./patches/" + p
		if err := w.command(ctx, "Applying patch "+p, line); err != nil {
			return w.failed(ctx, Patch, fmt.Sprintf("patch %s does not apply to %s", p, w.Key.ID), line, err)
		}
	}
	return nil
}

func (w *work) patchExists(p string) error {
	if strings.Contains("/"+p, "/../") {
		return fmt.Errorf("patch %q leads out of the module's patches directory", p)
	}
	if err := w.inside.Exists(filepath.Join("patches", p)); err != nil {
		return fmt.Errorf("patch %q is not in the patches directory of %s: %w", p, w.Key.ID, err)
	}
	return nil
}

// hookLine returns the shell line of a build hook, false when there is none.
func (w *work) hookLine(name, directive string) (string, bool) {
	if directive == "" {
		return "", false
	}
	s := hook.Script{Name: name, Directive: directive, Module: w.Key.Module, Root: w.Tree.Build(w.Key.ID)}
	dir, line, ok := s.Command(w.Paths)
	if !ok {
		fmt.Fprintf(w.Err, "\nWarning: the %s script %q of %s is not executable, going on without it\n", name, directive, w.Key.ID)
		return "", false
	}
	return "cd " + dir + "/ && " + line, true
}
