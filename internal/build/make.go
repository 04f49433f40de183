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

	"dkms-go/internal/diagnose"
)

// makeLine returns the command that compiles: the conf's, or upstream's
// default, with the number of jobs and the kernel release put behind a leading
// "make" (reference 5.5). Under a job server make takes its jobs from there.
func (w *work) makeLine() string {
	line := w.Conf.Make
	if line == "" {
		line = fmt.Sprintf("make -C %s M=%s", w.Kernel.SourceDir, w.Tree.Build(w.Key.ID))
	}
	if w.LLVM {
		line += " LLVM=1"
	}
	rest, ok := strings.CutPrefix(line, "make")
	if !ok || rest != "" && !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "\t") {
		return line
	}
	jobs := "make -j" + w.Jobs
	if w.Server != nil {
		jobs, rest = "make", shared(rest)
	}
	return jobs + " KERNELRELEASE=" + w.Key.Kernel + rest
}

func (w *work) make(ctx context.Context) error {
	line := w.makeLine()
	release, err := w.acquire(ctx, line)
	if err != nil {
		return err
	}
	defer release()
	w.record.Make = line
	if err := w.command(ctx, "Building module(s)", line); err != nil {
		return w.failed(ctx, Make, fmt.Sprintf("compiling %s for kernel %s (%s) failed", w.Key.ID, w.Key.Kernel, w.Key.Arch), line, err)
	}
	return nil
}

// check holds the outcome against the conf: every object that applies to the
// kernel must have been made.
func (w *work) check(context.Context) error {
	for i, o := range w.Conf.Objects {
		if !w.Conf.ObjectApplies(i, w.Facts).OK {
			continue
		}
		name := o.BuiltDir + o.Built + ".ko"
		err := w.inside.Exists(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("the build of %s for kernel %s (%s) made no %s%s", w.Key.ID, w.Key.Kernel, w.Key.Arch, name, w.nearby())
		case err != nil:
			return fmt.Errorf("the build of %s for kernel %s (%s) made no object: %w", w.Key.ID, w.Key.Kernel, w.Key.Arch, err)
		}
	}
	return nil
}

// nearby names objects that were made instead of the one the conf names.
func (w *work) nearby() string {
	var found []string
	filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ko") && len(found) < 5 {
			rel, _ := filepath.Rel(w.dir, path)
			found = append(found, diagnose.Printable(rel))
		}
		return nil
	})
	if len(found) == 0 {
		return " (nor any other object)"
	}
	return " (but " + strings.Join(found, ", ") + ")"
}
