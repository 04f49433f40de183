// SPDX-License-Identifier: Apache-2.0

package install

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/ko"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// Placed is one object in a kernel's tree, as it was put there.
type Placed struct{ Path, SHA256 string }

// maxNote bounds what is read of lists and notes in the tree, in bytes.
const maxNote = 4 << 20

// ReadPlaced returns what an install of the result k put into the kernel's tree. A module that another program installed has no list.
//
// The list is needed to take out what was put in: the conf may have changed
// since, or be gone. Its lines are those of sha256sum(1). Lines that can't be
// of an install for this kernel are passed over.
func ReadPlaced(t state.Tree, kernelTree string, k state.Key) []Placed {
	text, err := untrusted.ReadFile(t.PlacedList(k), maxNote)
	if err != nil {
		return nil
	}
	var list []Placed
	for _, line := range strings.Split(string(text), "\n") {
		sum, path, ok := strings.Cut(line, "  ")
		if ok && path == filepath.Clean(path) && strings.HasPrefix(path, kernelTree+"/") {
			list = append(list, Placed{Path: path, SHA256: sum})
		}
	}
	return list
}

// Lost reports whether an object that was put into a kernel's tree is gone.
func Lost(list []Placed) bool {
	for _, p := range list {
		if _, err := os.Lstat(p.Path); os.IsNotExist(err) {
			return true
		}
	}
	return false
}

// Damaged reports whether an object in a kernel's tree is none any more, as a
// power failure leaves it: it has another size than in its result, in the
// directory objects, and can't be read. One that was signed or compressed anew by
// others is no damage.
func Damaged(list []Placed, objects string) bool {
	for _, p := range list {
		there, err := os.Stat(p.Path)
		if err != nil {
			continue
		}
		ours, err := os.Stat(filepath.Join(objects, filepath.Base(p.Path)))
		if err != nil || there.Size() == ours.Size() {
			continue
		}
		data, err := ko.Read(p.Path)
		if err == nil {
			_, err = ko.ParseInfo(data)
		}
		if err != nil {
			return true
		}
	}
	return false
}

// intact reports whether the object is still the one that was put there.
func (p Placed) intact() bool {
	data, err := untrusted.ReadLinked(p.Path, ko.MaxSize)
	sum := sha256.Sum256(data)
	return err == nil && hex.EncodeToString(sum[:]) == p.SHA256
}

// name returns the object's name without suffixes.
func (p Placed) name() string {
	name, _, _ := ko.SplitName(filepath.Base(p.Path))
	return name
}

// listPlaced records what an install puts into the kernel's tree, in the same
// change.
func (j Job) listPlaced(c *state.Change, objects []object) error {
	var b strings.Builder
	for _, o := range objects {
		data, err := untrusted.ReadLinked(o.from, ko.MaxSize)
		if err != nil {
			return fmt.Errorf("reading an object: %w", err)
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(&b, "%s  %s\n", hex.EncodeToString(sum[:]), o.dest)
	}
	return c.StageFile(j.Tree.PlacedList(j.Key), []byte(b.String()), 0o644)
}

// placed returns the list of an install for the job's kernel.
func (j Job) placed(k state.Key) []Placed {
	return ReadPlaced(j.Tree, j.Paths.KernelTree(k.Kernel), k)
}
