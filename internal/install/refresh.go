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
	kernels "dkms-go/internal/kernel"
	"dkms-go/internal/modindex"
	"dkms-go/internal/run"
)

// Refreshed says how a module index was brought up to date.
type Refreshed struct {
	// Ran is false for a kernel without an image: nothing was done.
	Ran bool
	// How is a sentence for people: by dkms itself or by depmod, and why.
	How string
}

// Refresh brings a kernel's module index up to date, once after all changes:
// in process if modindex can make the same index as depmod(8), else, and always
// if depmodOnly is set, with depmod. For a kernel without modules.dep that has no
// image installed nothing is made. When the last object of a removed kernel
// has gone, the empty index goes too.
func Refresh(ctx context.Context, p host.Paths, release string, env []string, depmodOnly bool) (Refreshed, error) {
	tree := p.KernelTree(release)
	index := filepath.Join(tree, "modules.dep")
	if _, err := os.Stat(index); errors.Is(err, fs.ErrNotExist) && !kernels.Find(p, release, "", kernels.Options{}).HasImage(p) {
		return Refreshed{}, nil
	}
	req := modindex.Request{Tree: tree, Release: release, Cache: p.Cached(host.CacheIndex), Config: p.DepmodDirs, Env: env}
	out := Refreshed{Ran: true, How: "depmod was run: framework.conf says so"}
	var err error
	if !depmodOnly {
		out.How, err = updateIndex(ctx, req)
	}
	if depmodOnly || err != nil {
		if err := depmod(ctx, p, release, env); err != nil {
			return out, err
		}
	}
	if fi, err := os.Stat(index); err == nil && fi.Size() == 0 {
		modindex.Forget(req)
		return out, dropIndex(tree)
	}
	return out, nil
}

// updateIndex makes the index in process. After an error depmod shall do it.
func updateIndex(ctx context.Context, req modindex.Request) (how string, err error) {
	res, err := modindex.Update(ctx, req)
	if err != nil {
		return "depmod was run: " + err.Error(), err
	}
	return fmt.Sprintf("module index made by dkms: %d of %d objects read, %d files changed", res.Read, res.Objects, res.Written), nil
}

// depmod runs depmod(8) for all objects of a kernel.
func depmod(ctx context.Context, p host.Paths, release string, env []string) error {
	argv := []string{"depmod", "-a", release}
	if p.InstallTree != host.Default().InstallTree {
		base, cleanup, err := depmodBase(p)
		if err != nil {
			return err
		}
		defer cleanup()
		argv = append(argv, "-b", base)
	}
	if _, err := os.Stat(p.SystemMap(release)); err == nil {
		argv = append(argv, "-F", p.SystemMap(release))
	}
	if out, err := (run.Cmd{Argv: argv, Env: env}).Output(ctx); err != nil {
		return fmt.Errorf("updating the module index of kernel %s: %w%s", release, err, out)
	}
	return nil
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
