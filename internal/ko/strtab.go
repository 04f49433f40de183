// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"cmp"
	"slices"
	"strings"
)

// stringTable builds an ELF string table in which a string that ends another
// one shares its bytes. Strings keep the order in which they were added, which
// is what the GNU linker and strip do; equal input gives equal bytes.
type stringTable struct {
	index   map[string]int
	strings []string
	offset  []uint32
}

func newStringTable() *stringTable { return &stringTable{index: map[string]int{}} }

func (t *stringTable) add(s string) {
	if _, ok := t.index[s]; ok || s == "" {
		return
	}
	t.index[s] = len(t.strings)
	t.strings = append(t.strings, s)
}

// finish places the strings and returns the table.
func (t *stringTable) finish() []byte {
	sorted := make([]int, len(t.strings))
	for i := range sorted {
		sorted[i] = i
	}
	slices.SortFunc(sorted, func(a, b int) int { return compareReversed(t.strings[a], t.strings[b]) })
	holder := make([]int, len(t.strings)) // the string whose tail this one is
	last := -1
	for _, i := range slices.Backward(sorted) {
		if last < 0 || !strings.HasSuffix(t.strings[last], t.strings[i]) {
			last = i
		}
		holder[i] = last
	}
	out := []byte{0}
	t.offset = make([]uint32, len(t.strings))
	for i, s := range t.strings {
		if holder[i] == i {
			t.offset[i] = uint32(len(out))
			out = append(append(out, s...), 0)
		}
	}
	for i, s := range t.strings {
		if h := holder[i]; h != i {
			t.offset[i] = t.offset[h] + uint32(len(t.strings[h])-len(s))
		}
	}
	return out
}

// at returns the offset of an added string; valid after finish.
func (t *stringTable) at(s string) uint32 {
	if s == "" {
		return 0
	}
	return t.offset[t.index[s]]
}

// compareReversed orders strings by their last byte first, a suffix before
// the strings it ends.
func compareReversed(a, b string) int {
	for i, j := len(a)-1, len(b)-1; i >= 0 && j >= 0; i, j = i-1, j-1 {
		if a[i] != b[j] {
			return cmp.Compare(a[i], b[j])
		}
	}
	return cmp.Compare(len(a), len(b))
}
