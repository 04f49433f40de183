// SPDX-License-Identifier: Apache-2.0

package install

import (
	"path/filepath"
	"slices"
)

// Placement is what would become of one object.
type Placement struct {
	// Name is the object's without ".ko", To where it would be placed.
	Name, To string
	// There are the objects of that name that the kernel has elsewhere or from
	// somebody else: the first would be kept, and come back when the module goes.
	There []string
	// Refused says why it would not be placed; nil also while there is no result to
	// compare.
	Refused error
}

// Preview tells where Install would place each object that applies to the kernel.
// There needn't be a result. Nothing is changed.
func (j Job) Preview() []Placement {
	tree := j.Paths.KernelTree(j.Key.Kernel)
	var objects []object
	for i, o := range j.Conf.Objects {
		if !j.Conf.ObjectApplies(i, j.Facts).OK {
			continue
		}
		file := o.Dest + ".ko" + j.Suffix
		from, built := Find(j.Tree.Objects(j.Key), o.Dest)
		if built {
			file = filepath.Base(from)
		}
		objects = append(objects, object{o, from, filepath.Join(tree, j.Dir(o.DestDir), file)})
	}
	there := j.present(objects)
	own := map[string]bool{}
	for _, p := range j.placed(j.Key) {
		own[p.Path] = true
	}
	var list []Placement
	for _, o := range objects {
		p := Placement{Name: o.Dest, To: o.dest, There: there[o.Dest]}
		if o.from != "" {
			p.Refused = j.acceptable(o, p.There)
		}
		p.There = slices.DeleteFunc(slices.Clone(p.There), func(path string) bool { return own[path] })
		list = append(list, p)
	}
	return list
}
