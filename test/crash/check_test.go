// SPDX-License-Identifier: Apache-2.0

package crash

import "dkms-go/internal/state"

// check looks for what doesn't agree in a tree.
func check(dir, sources string) (list []string) {
	for _, i := range (state.Tree{Dir: dir, Sources: sources}).Check() {
		list = append(list, i.String())
	}
	return list
}
