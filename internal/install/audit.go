// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/abi"
	"dkms-go/internal/ko"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// Installed is the kind of an inconsistency between an active result and what the
// kernel's tree has of it.
const Installed state.Kind = "installed"

// Audit holds the objects of the active result, as its record or conf has them,
// against the kernel's tree and its modules.dep (depmod(8)). An object that was
// only signed or compressed anew is no inconsistency: administrators do that.
// Nothing is changed.
func (j Job) Audit(objects []state.ObjectEntry, index bool) []state.Inconsistency {
	var found []state.Inconsistency
	add := func(kind state.Kind, path, what string, args ...any) {
		found = append(found, state.Inconsistency{Kind: kind, Key: j.Key, Path: path, What: fmt.Sprintf(what, args...)})
	}
	_, err := j.Tree.Record(j.Key)
	recorded := err == nil
	dep := map[string]string(nil)
	if index {
		dep = abi.ModuleIndex(j.Paths.KernelTree(j.Key.Kernel))
	}
	for _, o := range objects {
		from, built := Find(j.Tree.Objects(j.Key), o.Name)
		to, placed := j.placeOf(o)
		switch {
		case !built && !recorded: // else Check has told of it
			add(state.ResultWrong, j.Tree.Objects(j.Key), "it lacks the object %s.ko", o.Name)
		case !built:
		case !placed:
			add(Installed, to, "the object is not there")
		case !equal(from, to):
			add(Installed, to, "it isn't the object that was installed")
		case dep != nil && dep[strings.ReplaceAll(o.Name, "-", "_")] == "":
			add(Installed, to, "it is not in modules.dep, so modprobe doesn't find it")
		}
	}
	return found
}

// placeOf returns where an object of the active result is in the kernel's tree, or
// should be, and whether anything is there.
func (j Job) placeOf(o state.ObjectEntry) (path string, there bool) {
	for _, p := range j.placed(j.Key) {
		if p.name() != o.Name {
			continue
		}
		if _, err := os.Lstat(p.Path); err == nil {
			return p.Path, true
		}
		path = p.Path
	}
	tree := j.Paths.KernelTree(j.Key.Kernel)
	for _, dir := range []string{j.Dir(o.Location), o.Location} {
		if at, ok := Find(filepath.Join(tree, dir), o.Name); ok {
			return at, true
		}
	}
	if path == "" {
		path = filepath.Join(tree, j.Dir(o.Location), j.fileOf(o))
	}
	return path, false
}

// Survivor returns where an object is installed that its own result in the DKMS tree
// has lost: as it was put there or, where that isn't known, one that was made for the
// kernel. It is "" if the result has the object, or the kernel's tree no good one.
func (j Job) Survivor(o state.ObjectEntry) string {
	if _, built := Find(j.Tree.Objects(j.Key), o.Name); built {
		return ""
	}
	for _, p := range j.placed(j.Key) {
		if p.name() == o.Name {
			if p.intact() {
				return p.Path
			}
			return ""
		}
	}
	if to, there := j.placeOf(o); there && loadable(to, j.Key.Kernel) {
		return to
	}
	return ""
}

// fileOf returns the file name of an object that is to be placed.
func (j Job) fileOf(o state.ObjectEntry) string {
	if from, ok := Find(j.Tree.Objects(j.Key), o.Name); ok {
		return filepath.Base(from)
	}
	if o.File != "" {
		return filepath.Base(o.File)
	}
	return o.Name + ".ko" + j.Suffix
}

// equal reports whether two objects are the same apart from signature and
// compression.
func equal(a, b string) bool {
	if same(a, b) {
		return true
	}
	x, err := ko.Read(a)
	if err != nil {
		return false
	}
	y, err := ko.Read(b)
	return err == nil && bytes.Equal(ko.WithoutSignature(x), ko.WithoutSignature(y))
}

// loadable reports whether a file is an object that was made for a kernel: its
// vermagic begins with the release (kernel source, include/linux/vermagic.h).
func loadable(path, release string) bool {
	data, err := ko.Read(path)
	if err != nil {
		return false
	}
	info, err := ko.ParseInfo(data)
	if err != nil {
		return false
	}
	made, _, _ := strings.Cut(info.Vermagic(), " ")
	return made == release
}

// Loadable is the rule by which fsck keeps an object: it was made for the kernel.
func Loadable(path, release string) bool { return loadable(path, release) }

func digest(path string) string {
	data, err := untrusted.ReadLinked(path, ko.MaxSize)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
