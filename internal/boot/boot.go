// SPDX-License-Identifier: Apache-2.0

// Package boot tells which kernel boots next, and can hold the boot default
// at one kernel (the gate) until another one is ready.
//
// It reads what GRUB and systemd-boot read: grub.cfg as grub-mkconfig writes
// it, grubenv, Boot Loader Specification entries, loader.conf and the boot
// loader's EFI variables. Nothing is executed for that.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/host"
	"dkms-go/internal/vercmp"
)

// The boot loaders that are known.
const (
	GRUB        = "grub"
	SystemdBoot = "systemd-boot"
	// NoLoader stands for a machine where none of them was found.
	NoLoader = "none"
)

const (
	// maxConfig bounds the size of a configuration file in bytes.
	maxConfig = 4 << 20
	// maxEntries bounds the menu entries that are read.
	maxEntries = 10000
)

// Choice is what boots next.
type Choice struct {
	// Release is the kernel release that boots next; "" if the entry is none
	// of a Linux kernel (another system, the firmware's setup).
	Release string
	// Loader is GRUB, SystemdBoot or NoLoader.
	Loader string
	// Entry is the menu entry: for GRUB the ids or titles from the top of the
	// menu, joined with ">"; for systemd-boot the name of the entry's file.
	Entry string
	// Why says what decided, for a reader.
	Why string
	// OneShot is set if the entry was chosen for the next boot only
	// (grub-reboot, bootctl set-oneshot).
	OneShot bool
	// Default is the release that boots when nothing is chosen for one boot
	// only; the same as Release without OneShot.
	Default string
}

// Next returns what boots next. An error tells that the boot loader's files
// are unreadable or damaged, or that there is nothing to boot.
func Next(p host.Paths) (Choice, error) {
	m, err := open(p)
	if err != nil {
		return Choice{}, err
	}
	return m.next()
}

// menu is a boot loader's configuration.
type menu interface {
	// next tells what boots next.
	next() (Choice, error)
	// pin makes release the default; see Pin.
	pin(ctx context.Context, release string) (bool, error)
	// unpin undoes it; see Unpin.
	unpin(ctx context.Context) (bool, error)
	// pinned returns the release that pin made the default, or "".
	pinned() (string, error)
}

// open finds the boot loader. One that told the firmware so, in the variable
// LoaderInfo, goes first; then a grub.cfg, then systemd-boot's directory. With
// GRUB there may be both (Boot Loader Specification entries).
func open(p host.Paths) (menu, error) {
	info, err := variable(p.EFIVars, "LoaderInfo")
	if err != nil {
		return nil, err
	}
	// In this order nothing is read that isn't needed: users may not read an
	// EFI system partition.
	loaders := []func(host.Paths) (menu, error){openGRUB, openSystemd}
	if strings.HasPrefix(info, "systemd-boot") {
		slices.Reverse(loaders)
	}
	for _, open := range loaders {
		if m, err := open(p); m != nil || err != nil {
			return m, err
		}
	}
	return noLoader{p}, nil
}

// noLoader is a machine without a known boot loader.
type noLoader struct{ paths host.Paths }

// next returns the newest kernel of the boot directory.
func (n noLoader) next() (Choice, error) {
	entries, err := os.ReadDir(n.paths.Boot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Choice{}, fmt.Errorf("listing kernels: %w", err)
	}
	var releases []string
	for _, e := range entries {
		if r := release(n.paths, e.Name(), ""); r != "" && isKernelName(e.Name()) {
			releases = append(releases, r)
		}
	}
	if len(releases) == 0 {
		return Choice{}, fmt.Errorf("finding the kernel that boots next: no boot loader's configuration and no vmlinuz-* in %s", n.paths.Boot)
	}
	newest := slices.MaxFunc(releases, vercmp.Natural)
	return Choice{
		Release: newest, Default: newest, Loader: NoLoader,
		Why: "no configuration of a boot loader was found; this is the newest kernel in " + n.paths.Boot,
	}, nil
}

func (n noLoader) pin(context.Context, string) (bool, error) {
	return false, errors.New("holding the boot default: neither GRUB nor systemd-boot was found on this machine")
}

func (n noLoader) unpin(context.Context) (bool, error) { return false, nil }

func (n noLoader) pinned() (string, error) { return "", nil }

// readFile reads a whole file of at most limit bytes; found is false if there
// is none.
func readFile(path string, limit int) (data []byte, found bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the boot configuration: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, false, fmt.Errorf("reading the boot configuration: %s is no file", path)
	}
	data, err = io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the boot configuration %s: %w", path, err)
	}
	return data, true, nil
}

// isFile reports whether path is a file, links followed.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// base is filepath.Base for a path as boot loaders write it, which may come
// with a device in front: "($root)/boot/vmlinuz-6.1".
func base(path string) string {
	return filepath.Base(strings.ReplaceAll(path, `\`, "/"))
}
