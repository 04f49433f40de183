// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"slices"
	"strings"
)

// table numbers texts, each once. Those that came from the cache stand in
// front, sorted, so that a table from the cache is used without sorting or
// hashing it.
type table struct {
	text   []string
	sorted int // so many at the front are in order
	added  map[string]uint32
	// compare is the order; equal only for equal texts.
	compare func(a, b string) int
}

func newTable(compare func(a, b string) int) *table {
	return &table{added: map[string]uint32{}, compare: compare}
}

// number returns the number of a text, which is added when it is missing.
func (t *table) number(text []byte) uint32 {
	if n, ok := t.added[string(text)]; ok {
		return n
	}
	if n, ok := slices.BinarySearchFunc(t.text[:t.sorted], string(text), t.compare); ok {
		return uint32(n)
	}
	n := uint32(len(t.text))
	t.text = append(t.text, string(text))
	t.added[t.text[n]] = n
	return n
}

// order returns all numbers in the order of their texts.
func (t *table) order() []uint32 {
	fresh := make([]uint32, 0, len(t.text)-t.sorted)
	for n := t.sorted; n < len(t.text); n++ {
		fresh = append(fresh, uint32(n))
	}
	slices.SortFunc(fresh, func(a, b uint32) int { return t.compare(t.text[a], t.text[b]) })
	out := make([]uint32, 0, len(t.text))
	old := uint32(0)
	for _, n := range fresh {
		at, _ := slices.BinarySearchFunc(t.text[old:t.sorted], t.text[n], t.compare)
		for end := old + uint32(at); old < end; old++ {
			out = append(out, old)
		}
		out = append(out, n)
	}
	for ; old < uint32(t.sorted); old++ {
		out = append(out, old)
	}
	return out
}

// compareAliases orders aliases by what modules.alias.bin has for them.
func compareAliases(a, b string) int {
	if strings.IndexByte(a, '-') < 0 && strings.IndexByte(b, '-') < 0 {
		return strings.Compare(a, b)
	}
	if c := strings.Compare(aliasKey(a), aliasKey(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func aliasKey(alias string) string {
	if key, ok := normalize(alias); ok {
		return key
	}
	return alias
}

// normalize makes underscores of dashes outside of brackets. It reports false
// for brackets that don't match; the text means nothing then.
func normalize(alias string) (string, bool) {
	if strings.IndexByte(alias, '-') < 0 && strings.IndexByte(alias, '[') < 0 && strings.IndexByte(alias, ']') < 0 {
		return alias, true
	}
	out := []byte(alias)
	for i := 0; i < len(out); i++ {
		switch out[i] {
		case '-':
			out[i] = '_'
		case ']':
			return "", false
		case '[':
			end := strings.IndexByte(alias[i:], ']')
			if end < 0 {
				return "", false
			}
			i += end
		}
	}
	return string(out), true
}
