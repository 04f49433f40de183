// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"fmt"
	"slices"

	"dkms-go/internal/host"
)

// Question asks which objects of a module belong into a kernel's image.
type Question struct {
	Release string
	// Objects are the names of the module's objects, without .ko.
	Objects []string
	// ByConf says that the module's dkms.conf wants its objects there.
	ByConf bool
	// Env is the environment that the tool would run in; its PATH is searched.
	Env []string
}

// Belonging is an object that belongs into the image, and why.
type Belonging struct{ Object, Why string }

// Belongs tells which objects belong into a kernel's image: all if the
// module's conf says so, else those that a list of the machine's tool names,
// and those that the image has one of already, such as a driver of the kernel's
// own that the module takes the place of. Each is given once, in the order of
// the question.
//
// The image is read only for objects that nothing else speaks for.
func Belongs(p host.Paths, q Question) ([]Belonging, error) {
	image, exists := Find(p, q.Release)
	tool, _ := Owner(p, q.Release, q.Env)
	listed, err := Configured(p, tool)
	if err != nil {
		return nil, err
	}
	var all []Belonging
	var held []string
	for _, object := range q.Objects {
		name := Normal(object)
		at := slices.IndexFunc(listed, func(l Listed) bool { return l.Name == name })
		switch {
		case q.ByConf:
			all = append(all, Belonging{object, "dkms.conf says so"})
			continue
		case at >= 0:
			all = append(all, Belonging{object, "named in " + listed[at].File})
			continue
		case !exists:
			continue
		case held == nil:
			if held, err = Names(image); err != nil {
				return nil, fmt.Errorf("looking for the objects of a module: %w", err)
			}
			held = append(held, "") // read, even if there are none
		}
		if slices.Contains(held, name) {
			all = append(all, Belonging{object, "in " + image + " already"})
		}
	}
	return all, nil
}
