// SPDX-License-Identifier: Apache-2.0

package modindex

import "encoding/binary"

// The format of the binary indexes (kmod, libkmod/libkmod-index.c): a trie. A
// node has the rest of its text, a table of children for the range of characters
// that occur, and values with a priority, each if its offset says so. depmod
// writes nodes after their children, from release 34 on before them.
const (
	trieMagic   = 0xB007F457
	trieVersion = 2<<16 | 1

	nodePrefix = 0x80000000
	nodeValues = 0x40000000
	nodeChilds = 0x20000000
)

// value is one value of a key: a text, and its place among those of the key.
type value struct {
	text     string
	priority uint32
}

// entries are the keys of a trie in order, each once, and their values.
type entries struct {
	keys []string
	// values adds those of key i in the order of the file.
	values func(i int, to []value) []value
}

type trie struct {
	entries
	nodesFirst bool // nodes come before their children
	out        []byte
	children   []uint32 // a stack
	scratch    []value
}

// buildTrie returns the content of a binary index, in the order of that depmod.
func buildTrie(kmod int, e entries, hint int) []byte {
	t := &trie{entries: e, nodesFirst: kmod >= 34, out: make([]byte, 0, hint)}
	t.out = binary.BigEndian.AppendUint32(t.out, trieMagic)
	t.out = binary.BigEndian.AppendUint32(t.out, trieVersion)
	t.out = binary.BigEndian.AppendUint32(t.out, 0)
	root := t.node(0, len(e.keys), 0, true)
	binary.BigEndian.PutUint32(t.out[8:], root)
	return t.out
}

// node writes the node of keys[lo:hi], which are equal up to depth, and those
// below it. It returns its offset with flags. The root has no text of its own.
func (t *trie) node(lo, hi, depth int, root bool) uint32 {
	end := depth
	if !root {
		first, last := t.keys[lo], t.keys[hi-1]
		for end < len(first) && end < len(last) && first[end] == last[end] {
			end++
		}
	}
	own := lo < hi && len(t.keys[lo]) == end
	rest := lo
	if own {
		rest++
	}
	base, count := len(t.children), 0
	var from byte
	if rest < hi {
		from = t.keys[rest][end]
		count = int(t.keys[hi-1][end]-from) + 1
		for range count {
			t.children = append(t.children, 0)
		}
	}
	if !t.nodesFirst {
		t.below(rest, hi, end, base)
	}
	offset := uint32(len(t.out))
	if end > depth {
		t.out = append(append(t.out, t.keys[lo][depth:end]...), 0)
		offset |= nodePrefix
	}
	at := len(t.out) + 2 // of the table
	if count > 0 {
		t.out = append(t.out, from, from+byte(count-1))
		t.out = append(t.out, make([]byte, 4*count)...)
		offset |= nodeChilds
	}
	if own {
		t.write(lo)
		offset |= nodeValues
	}
	if t.nodesFirst {
		t.below(rest, hi, end, base)
	}
	for i, child := range t.children[base:] {
		binary.BigEndian.PutUint32(t.out[at+4*i:], child)
	}
	t.children = t.children[:base]
	return offset
}

// below writes the nodes of keys[lo:hi], one for each character at end, and puts
// their offsets into t.children from base on.
func (t *trie) below(lo, hi, end, base int) {
	for at := lo; at < hi; {
		next := t.group(at, hi, end)
		offset := t.node(at, next, end+1, false)
		t.children[base+int(t.keys[at][end]-t.keys[lo][end])] = offset
		at = next
	}
}

// group returns where the keys end that have the character of keys[at] at end:
// found in steps that grow, as groups are short or very long.
func (t *trie) group(at, hi, end int) int {
	c := t.keys[at][end]
	step, lo := 1, at
	for lo+step < hi && t.keys[lo+step][end] == c {
		lo += step
		step *= 2
	}
	high := min(lo+step, hi)
	for lo+1 < high {
		if mid := (lo + high) / 2; t.keys[mid][end] == c {
			lo = mid
		} else {
			high = mid
		}
	}
	return lo + 1
}

func (t *trie) write(i int) {
	t.scratch = t.values(i, t.scratch[:0])
	t.out = binary.BigEndian.AppendUint32(t.out, uint32(len(t.scratch)))
	for _, v := range t.scratch {
		t.out = binary.BigEndian.AppendUint32(t.out, v.priority)
		t.out = append(append(t.out, v.text...), 0)
	}
}
