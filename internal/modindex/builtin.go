// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// readBuiltin reads a file of the kernel's package; nil without it.
func readBuiltin(tree, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(tree, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || !ascii(data) || len(data) > maxCache {
		return nil, unsure("%s can't be read", name)
	}
	return append(make([]byte, 0, 1), data...), nil
}

// builtinFile makes modules.builtin.bin, the names of the modules that the
// kernel has in itself. Without modules.builtin it is empty.
func builtinFile(tree string, kmod int) ([]byte, error) {
	data, err := readBuiltin(tree, "modules.builtin")
	if data == nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		letter := line[0] | 0x20
		if letter < 'a' || letter > 'z' || len(line) > maxLine || !strings.HasSuffix(line, ".ko\n") || strings.Contains(line, "\x00") {
			return nil, unsure("modules.builtin has the line %q", line)
		}
		names = append(names, nameOf(filepath.Base(line)))
	}
	return valueTrie(kmod, names, func(int) string { return "" }), nil
}

// builtinAliases makes modules.builtin.alias.bin out of
// modules.builtin.modinfo, which has texts NAME.KEY=VALUE, each with a zero
// behind it.
func builtinAliases(tree string, kmod int) ([]byte, error) {
	data, err := readBuiltin(tree, "modules.builtin.modinfo")
	if data == nil {
		return nil, err
	}
	var keys, names []string
	in := scanner(data)
	for len(in) > 0 {
		name := in.until('.')
		if name == "" {
			continue
		}
		if key := in.until('='); key != "alias" {
			in.until(0) // after a text without '=' that is all of the next one
			continue
		}
		alias := in.until(0)
		if len(name) > maxLine || len(alias) > maxLine {
			return nil, unsure("modules.builtin.modinfo has a text that is too long")
		}
		if key, ok := normalize(alias); ok && alias != "" {
			keys, names = append(keys, key), append(names, name)
		}
	}
	return valueTrie(kmod, keys, func(i int) string { return names[i] }), nil
}

// scanner reads texts in depmod's way.
type scanner []byte

// until returns what comes before end, and takes it with end. A text that a
// zero or the end of the file cuts short is "".
func (s *scanner) until(end byte) string {
	for i, c := range *s {
		if c != end && c != 0 {
			continue
		}
		text := string((*s)[:i])
		*s = (*s)[i+1:]
		if c != end {
			return ""
		}
		return text
	}
	*s = nil
	return ""
}

// valueTrie makes a trie of keys that may be there several times, all with the
// same priority: of equal ones the last comes first.
func valueTrie(kmod int, keys []string, text func(int) string) []byte {
	order := make([]int, len(keys))
	for i := range order {
		order[i] = len(keys) - 1 - i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(keys[a], keys[b]) })
	var unique []string
	var starts []int
	for i, n := range order {
		if i == 0 || keys[n] != keys[order[i-1]] {
			unique, starts = append(unique, keys[n]), append(starts, i)
		}
	}
	starts = append(starts, len(order))
	return buildTrie(kmod, entries{unique, func(i int, to []value) []value {
		for _, n := range order[starts[i]:starts[i+1]] {
			to = append(to, value{text: text(n)})
		}
		return to
	}}, 1024)
}
