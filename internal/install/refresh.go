// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dkms-go/internal/host"
	"dkms-go/internal/run"
)

// Refresh brings a kernel's module index up to date with depmod(8), once after
// all changes. A kernel without modules.dep has no image installed: nothing is
// made for it. When the last object of a removed kernel has gone, the empty
// index goes too. It returns whether depmod was run.
func Refresh(ctx context.Context, p host.Paths, release string, env []string) (bool, error) {
	tree := p.KernelTree(release)
	index := filepath.Join(tree, "modules.dep")
	if _, err := os.Stat(index); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	argv := []string{"depmod", "-a", release}
	if p.InstallTree != host.Default().InstallTree {
		base, cleanup, err := depmodBase(p)
		if err != nil {
			return false, err
		}
		defer cleanup()
		argv = append(argv, "-b", base)
	}
	if _, err := os.Stat(p.SystemMap(release)); err == nil {
		argv = append(argv, "-F", p.SystemMap(release))
	}
	if out, err := (run.Cmd{Argv: argv, Env: env}).Output(ctx); err != nil {
		return true, fmt.Errorf("updating the module index of kernel %s: %w%s", release, err, out)
	}
	if fi, err := os.Stat(index); err == nil && fi.Size() == 0 {
		return true, dropIndex(tree)
	}
	return true, nil
}

// depmodBase makes a directory in which depmod finds the install tree at the
// place it insists on: lib/modules, or usr/lib/modules where kmod was built so.
func depmodBase(p host.Paths) (base string, cleanup func(), err error) {
	base, err = os.MkdirTemp(p.Temp, "dkms-depmod-")
	if err != nil {
		return "", nil, fmt.Errorf("updating the module index: %w", err)
	}
	cleanup = func() { os.RemoveAll(base) }
	target, err := filepath.Abs(p.InstallTree)
	if err == nil {
		err = os.Mkdir(filepath.Join(base, "lib"), 0o755)
	}
	if err == nil {
		err = os.Symlink(target, filepath.Join(base, "lib", "modules"))
	}
	if err == nil {
		err = os.Symlink(".", filepath.Join(base, "usr"))
	}
	if err != nil {
		cleanup()
		return "", nil, fmt.Errorf("updating the module index: %w", err)
	}
	return base, cleanup, nil
}

// dropIndex removes the index files of a kernel without objects, and its
// directory if that is all there was.
func dropIndex(tree string) error {
	for _, pattern := range []string{"modules.alias", "modules.dep", "modules.devname", "modules.softdep", "modules.symbols", "modules.weakdep", "modules.*.bin"} {
		hits, _ := filepath.Glob(filepath.Join(tree, pattern))
		for _, hit := range hits {
			if err := os.Remove(hit); err != nil {
				return fmt.Errorf("removing an empty module index: %w", err)
			}
		}
	}
	os.Remove(tree) // fails unless it is empty
	return nil
}
