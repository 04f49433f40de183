// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// file is one file of the index.
type file struct {
	name string
	data []byte
}

func indexByte(s string, c byte) int { return strings.IndexByte(s, c) }

// index makes all files, in the order in which depmod writes them.
func (f *facts) index(tree string, t tool) ([]file, error) {
	g, err := newGraph(f, tree)
	if err != nil {
		return nil, err
	}
	var dep, depBin, alias, aliasBin, symbols, symbolsBin, soft, weak, devname, builtin, builtinAlias []byte
	var failed [4]error
	var all sync.WaitGroup
	all.Go(func() { dep, depBin = g.dependencies() })
	all.Go(func() { alias, aliasBin = g.aliasFiles() })
	all.Go(func() {
		symbols, symbolsBin = g.symbolFiles()
		soft = g.lines("# Soft dependencies extracted from modules themselves.\n", "softdep ", func(m *module) []string { return m.soft })
		weak = g.lines("# Weak dependencies extracted from modules themselves.\n", "weakdep ", func(m *module) []string { return m.weak })
	})
	devname, failed[0] = g.devnames()
	builtin, failed[1] = builtinFile(tree, t.version)
	builtinAlias, failed[2] = builtinAliases(tree, t.version)
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	files := []file{
		{"modules.dep", dep}, {"modules.dep.bin", depBin},
		{"modules.alias", alias}, {"modules.alias.bin", aliasBin},
		{"modules.softdep", soft}, {"modules.weakdep", weak},
		{"modules.symbols", symbols}, {"modules.symbols.bin", symbolsBin},
		{"modules.builtin.bin", builtin}, {"modules.builtin.alias.bin", builtinAlias},
		{"modules.devname", devname},
	}
	if t.version < 33 {
		files = slices.DeleteFunc(files, func(f file) bool { return f.name == "modules.weakdep" })
	}
	return files, nil
}

// dependencies makes modules.dep and modules.dep.bin: each module with all that
// it needs, those that others of them need last.
func (g *graph) dependencies() (text, bin []byte) {
	c := closure{graph: g, seen: make([]int32, len(g.modules))}
	text = make([]byte, 0, 200*len(g.modules)+1024)
	ends := make([]int, len(g.modules))
	for i := range g.modules {
		text = append(append(text, g.modules[i].out...), ':')
		for _, d := range c.of(i) {
			text = append(append(text, ' '), g.modules[d].out...)
		}
		text = append(text, '\n')
		ends[i] = len(text)
	}
	all := string(text)
	order := make([]int, len(g.modules))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(g.modules[a].name, g.modules[b].name) })
	keys := make([]string, len(order))
	for i, n := range order {
		keys[i] = g.modules[n].name
	}
	return text, buildTrie(g.tool.version, entries{keys, func(i int, to []value) []value {
		n, start := order[i], 0
		if n > 0 {
			start = ends[n-1]
		}
		return append(to, value{all[start : ends[n]-1], uint32(n)})
	}}, 2*len(text))
}

// aliasFiles makes modules.alias and modules.alias.bin. An alias whose brackets
// don't match is in the former only.
func (g *graph) aliasFiles() (text, bin []byte) {
	users := make([][]int32, len(g.aliases.text))
	text = append(make([]byte, 0, 2<<20), "# Aliases extracted from modules themselves.\n"...)
	for i := range g.modules {
		m := &g.modules[i]
		for _, n := range m.aliases {
			text = append(append(text, "alias "...), g.aliases.text[n]...)
			text = append(append(append(text, ' '), m.name...), '\n')
			users[n] = append(users[n], int32(i))
		}
	}
	var keys []string
	var spans [][]int32
	for _, n := range g.aliases.order() {
		key, ok := normalize(g.aliases.text[n])
		switch {
		case !ok || len(users[n]) == 0:
		case len(keys) > 0 && keys[len(keys)-1] == key:
			last := &spans[len(spans)-1]
			*last = slices.Concat(*last, users[n])
			slices.Sort(*last)
		default:
			keys, spans = append(keys, key), append(spans, users[n])
		}
	}
	return text, buildTrie(g.tool.version, entries{keys, func(i int, to []value) []value {
		for _, n := range spans[i] {
			to = append(to, value{g.modules[n].name, uint32(n)})
		}
		return to
	}}, len(text)+len(text)/4)
}

// symbolFiles makes modules.symbols, in the order of depmod's hash table, and
// modules.symbols.bin.
func (g *graph) symbolFiles() (text, bin []byte) {
	const buckets, prefix = 2048, "symbol:"
	var exported []uint32
	size := 0
	var count [buckets + 1]int
	for _, n := range g.symbols.order() {
		if g.owner[n] >= 0 {
			exported = append(exported, n)
			size += len(prefix) + len(g.symbols.text[n])
			count[superFast(g.symbols.text[n])%buckets+1]++
		}
	}
	for i := range buckets {
		count[i+1] += count[i]
	}
	hashed := make([]uint32, len(exported))
	var names strings.Builder
	names.Grow(size)
	keys := make([]string, len(exported))
	for i, n := range exported {
		start := names.Len()
		names.WriteString(prefix)
		names.WriteString(g.symbols.text[n])
		keys[i] = names.String()[start:]
		bucket := superFast(g.symbols.text[n]) % buckets
		hashed[count[bucket]] = n
		count[bucket]++
	}
	text = append(make([]byte, 0, 2*size), "# Aliases for symbols, used by symbol_request().\n"...)
	for _, n := range hashed {
		text = append(append(text, "alias symbol:"...), g.symbols.text[n]...)
		text = append(append(append(text, ' '), g.modules[g.owner[n]].name...), '\n')
	}
	return text, buildTrie(g.tool.version, entries{keys, func(i int, to []value) []value {
		n := g.owner[exported[i]]
		return append(to, value{g.modules[n].name, uint32(n)})
	}}, 2*len(text))
}

// lines makes modules.softdep and modules.weakdep.
func (g *graph) lines(head, word string, of func(*module) []string) []byte {
	text := []byte(head)
	for i := range g.modules {
		for _, s := range of(&g.modules[i]) {
			text = append(append(append(text, word...), g.modules[i].name...), ' ')
			text = append(append(text, s...), '\n')
		}
	}
	return text
}

// devnames makes modules.devname: the modules that have a name and the numbers
// of a device node among their aliases. Without any it is empty.
func (g *graph) devnames() ([]byte, error) {
	var text []byte
	for i := range g.modules {
		name, kind, numbers, err := g.devname(&g.modules[i])
		if err != nil {
			return nil, err
		}
		if name == "" || kind == 0 {
			continue
		}
		if len(text) == 0 {
			text = []byte("# Device nodes to trigger on-demand module loading.\n")
		}
		text = append(append(append(text, g.modules[i].name...), ' '), name...)
		text = append(append(append(append(text, ' '), kind), numbers...), '\n')
	}
	return text, nil
}

// devname looks for the aliases of a device node: the first name and numbers
// after which both are there, and of each the last one before that.
func (g *graph) devname(m *module) (name string, kind byte, numbers string, err error) {
	for _, n := range m.aliases {
		alias := g.aliases.text[n]
		if rest, ok := strings.CutPrefix(alias, "devname:"); ok {
			if rest == "" {
				return "", 0, "", unsure("%s has an empty devname", m.out)
			}
			name = rest
		} else {
			for _, k := range []struct {
				prefix string
				kind   byte
			}{{"char-major-", 'c'}, {"block-major-", 'b'}} {
				rest, ok := strings.CutPrefix(alias, k.prefix)
				if !ok {
					continue
				}
				text, ok, sure := nodeNumbers(rest)
				if !sure {
					return "", 0, "", unsure("%s has the alias %q", m.out, alias)
				}
				if ok {
					kind, numbers = k.kind, text
				}
			}
		}
		if name != "" && kind != 0 {
			break
		}
	}
	return name, kind, numbers, nil
}

// nodeNumbers reads "10-130" as "10:130"; what comes behind the second number
// is ignored. It isn't sure of what sscanf(3) takes for a number besides digits.
func nodeNumbers(s string) (text string, ok, sure bool) {
	major, rest, digits := number(s)
	if !digits {
		return "", false, s == "" || s[0] == '*' || s[0] >= 'A'
	}
	if rest == "" || rest[0] != '-' {
		return "", false, true
	}
	minor, _, digits := number(rest[1:])
	if !digits {
		return "", false, len(rest) == 1 || rest[1] == '*' || rest[1] >= 'A'
	}
	return major + ":" + minor, true, len(major) < 10 && len(minor) < 10
}

// number reads digits and returns them without zeros in front.
func number(s string) (n, rest string, ok bool) {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	v, err := strconv.ParseUint(s[:end], 10, 64)
	if end == 0 || err != nil {
		return s[:end], s[end:], end > 0
	}
	return strconv.FormatUint(v, 10), s[end:], true
}
