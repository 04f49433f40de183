// SPDX-License-Identifier: Apache-2.0

// Package modindex writes a kernel's module index, modules.dep and its
// siblings, as depmod(8) writes it, byte for byte, and without reading every
// object each time: what depmod takes from an object is remembered in a cache
// per kernel, and only objects that are new or changed are read.
//
// The rules are those of kmod's tools/depmod.c, libkmod-elf.c and
// libkmod-index.c, releases 30 and 34. Where depmod would fail, warn or do
// something that isn't understood here, nothing is written and the error is
// Unsure: the caller runs depmod then.
package modindex

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Unsure says that depmod has to make this index: Reason is a short text for
// people. Nothing has been changed.
type Unsure struct{ Reason string }

func (u *Unsure) Error() string { return "the module index is left to depmod: " + u.Reason }

func unsure(format string, args ...any) error {
	return &Unsure{Reason: fmt.Sprintf(format, args...)}
}

// Request says which index to make.
type Request struct {
	// Tree is the kernel's directory, with modules.order and kernel/ in it.
	Tree string
	// Release is the kernel's release, which depmod.d(5) files may ask for.
	Release string
	// Cache is the directory of the facts, made when it is missing; "" or one
	// that can't be written is done without.
	Cache string
	// Config are the directories of depmod.d(5), the most important first.
	Config []string
	// Env is the environment in which depmod is looked up.
	Env []string
}

// Result says what an update did.
type Result struct {
	Objects int // in the tree, without those that another hides
	Read    int // objects that were read, the others came from the cache
	Written int // index files whose content has changed
}

// Update brings the index of a kernel up to date. Each file is replaced in one
// step, in depmod's order; a file whose content is the same is left as it is,
// but modules.dep always gets the present time, by which `depmod -A` sees that
// nothing is newer. After an error that isn't Unsure some files may be new and
// some old, each complete.
//
// Two updates of one tree wait for each other.
func Update(ctx context.Context, req Request) (Result, error) {
	unlock, err := lock(req.Tree)
	if err != nil {
		return Result{}, fmt.Errorf("updating the module index: %w", err)
	}
	defer unlock()
	if req.Tree, err = filepath.Abs(req.Tree); err != nil {
		return Result{}, fmt.Errorf("updating the module index: %w", err)
	}
	hugePages()
	old := loadCache(req)
	tool, err := findTool(ctx, req.Env, old.tool)
	if err != nil {
		return Result{}, err
	}
	cfg, err := readConfig(req)
	if err != nil {
		return Result{}, err
	}
	w, err := walk(req.Tree, cfg, tool)
	if err != nil {
		return Result{}, err
	}
	facts := old.take(w.objects)
	facts.changed = facts.changed || old.tool != tool
	facts.tool = tool
	read, err := facts.readMissing(ctx, tool)
	if err != nil {
		return Result{}, err
	}
	files, err := facts.index(req.Tree, tool)
	if err != nil {
		return Result{}, err
	}
	res := Result{Objects: len(facts.records), Read: read}
	if res.Written, err = replace(req.Tree, files, w.leftovers); err != nil {
		return res, fmt.Errorf("updating the module index: %w", err)
	}
	if facts.changed {
		facts.save(req)
	}
	return res, nil
}

// lock waits for the kernel's directory.
func lock(tree string) (func(), error) {
	dir, err := os.Open(tree)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("locking %s: %w", tree, err)
	}
	return func() { dir.Close() }, nil
}

// ascii reports whether the tries can hold a text: kmod's have 128 children in
// each node.
func ascii[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// nameOf returns the name of the module in an object with that file name:
// what is before the first dot, with underscores.
func nameOf(base string) string {
	if i := strings.IndexByte(base, '.'); i >= 0 {
		base = base[:i]
	}
	return strings.ReplaceAll(base, "-", "_")
}
