// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// maxLine is the longest line in bytes that depmod reads whole, with some room.
const maxLine = 4000

// module is one module in the order of the index.
type module struct {
	*record
	deps []int32 // modules, in the order of the symbols, later by rank
	rank int32   // topological: users before what they use
}

// graph is all modules with what they need.
type graph struct {
	*facts
	modules []module
	owner   []int32 // the module that a symbol comes from, -1: none
}

// newGraph orders the modules and finds what they need.
func newGraph(f *facts, tree string) (*graph, error) {
	g := &graph{facts: f}
	order, err := f.ordered(tree)
	if err != nil {
		return nil, err
	}
	g.modules = make([]module, len(order))
	for i, n := range order {
		g.modules[i].record = &f.records[n]
	}
	g.resolve()
	return g, g.sort()
}

// ordered returns the records in the order of modules.order; those that it
// doesn't have follow in the order of depmod's hash table. When there is no
// modules.order all are in that order.
func (f *facts) ordered(tree string) ([]int, error) {
	const buckets = 512
	hashed := make([]uint32, len(f.records))
	order := make([]int, len(f.records))
	for i := range f.records {
		order[i] = i
		hashed[i] = superFast(f.records[i].name) % buckets
	}
	line, err := modulesOrder(tree, len(f.records))
	if err != nil {
		return nil, err
	}
	place := make([]int, len(f.records))
	for i := range f.records {
		place[i] = math.MaxInt
		if o := f.records[i].object; line != nil && o.out == o.rel {
			// What would be the name of the object, uncompressed.
			if n, ok := line[o.rel[:o.base+len(o.name)+len(".ko")]]; ok {
				place[i] = n
			}
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		if c := cmp.Compare(place[a], place[b]); c != 0 || place[a] < math.MaxInt {
			return c
		}
		if c := cmp.Compare(hashed[a], hashed[b]); c != 0 {
			return c
		}
		return cmp.Compare(f.records[a].name, f.records[b].name)
	})
	return order, nil
}

// modulesOrder returns the line of each path in modules.order, the last one if
// it is there twice. It is nil without the file.
func modulesOrder(tree string, hint int) (map[string]int, error) {
	data, err := os.ReadFile(filepath.Join(tree, "modules.order"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unsure("%v", err)
	}
	if len(data) > 0 && data[len(data)-1] != '\n' || bytes.IndexByte(data, 0) >= 0 {
		return nil, unsure("modules.order is damaged")
	}
	text := string(data)
	line := make(map[string]int, hint)
	for n := 1; text != ""; n++ {
		end := indexByte(text, '\n')
		if end > maxLine {
			return nil, unsure("modules.order has a line of %d bytes", end)
		}
		line[text[:end]] = n
		text = text[end+1:]
	}
	return line, nil
}

// resolve finds for each module those that have its symbols, each once, in the
// order of the symbols. Of several modules with one symbol the last one counts.
func (g *graph) resolve() {
	g.owner = make([]int32, len(g.symbols.text))
	for i := range g.owner {
		g.owner[i] = -1
	}
	total := 0
	for i := range g.modules {
		for _, n := range g.modules[i].exports {
			g.owner[n] = int32(i)
		}
		total += len(g.modules[i].needs)
	}
	seen := make([]int32, len(g.modules)) // by which module, plus one
	all := make([]int32, 0, min(total, 8*len(g.modules)))
	for i := range g.modules {
		start := len(all)
		for _, n := range g.modules[i].needs {
			if o := g.owner[n]; o >= 0 && seen[o] != int32(i)+1 {
				seen[o] = int32(i) + 1
				all = append(all, o)
			}
		}
		g.modules[i].deps = all[start:len(all):len(all)]
	}
}

// sort ranks the modules in the way of depmod_calculate_dependencies: the last
// one that nothing uses any more comes next. It fails for cycles, as depmod.
func (g *graph) sort() error {
	users := make([]int32, len(g.modules))
	for i := range g.modules {
		for _, d := range g.modules[i].deps {
			users[d]++
		}
	}
	free := make([]int32, 0, len(g.modules))
	for i, n := range users {
		if n == 0 {
			free = append(free, int32(i))
		}
	}
	ranked := 0
	for len(free) > 0 {
		i := free[len(free)-1]
		free = free[:len(free)-1]
		g.modules[i].rank = int32(ranked)
		ranked++
		for _, d := range g.modules[i].deps {
			if users[d]--; users[d] == 0 {
				free = append(free, d)
			}
		}
	}
	if ranked < len(g.modules) {
		return unsure("modules need each other in a circle")
	}
	for i := range g.modules {
		g.byRank(g.modules[i].deps)
	}
	return nil
}

func (g *graph) byRank(list []int32) {
	slices.SortFunc(list, func(a, b int32) int { return cmp.Compare(g.modules[a].rank, g.modules[b].rank) })
}

// closure finds all that modules need.
type closure struct {
	*graph
	seen []int32
	list []int32
}

// of returns what a module needs and what that needs, by rank. The result is
// valid until the next call.
func (c *closure) of(i int) []int32 {
	c.list = c.list[:0]
	c.add(int32(i), int32(i)+1)
	c.byRank(c.list)
	return c.list
}

func (c *closure) add(i, mark int32) {
	for _, d := range c.modules[i].deps {
		if c.seen[d] != mark {
			c.seen[d] = mark
			c.list = append(c.list, d)
			c.add(d, mark)
		}
	}
}

// superFast is the hash of kmod's tables, Paul Hsieh's SuperFastHash in the
// form that kmod has (shared/hash.c), for texts of ASCII on little and big
// endian machines of the first kind.
func superFast(s string) uint32 {
	pair := func(i int) uint32 { return uint32(s[i]) | uint32(s[i+1])<<8 }
	h := uint32(len(s))
	i := 0
	for ; i+4 <= len(s); i += 4 {
		h += pair(i)
		h = h<<16 ^ pair(i+2)<<11 ^ h
		h += h >> 11
	}
	switch len(s) - i {
	case 3:
		h += pair(i)
		h ^= h << 16
		h ^= uint32(s[i+2]) << 18
		h += h >> 11
	case 2:
		h += pair(i)
		h ^= h << 11
		h += h >> 17
	case 1:
		h += uint32(s[i])
		h ^= h << 10
		h += h >> 1
	}
	h ^= h << 3
	h += h >> 5
	h ^= h << 4
	h += h >> 17
	h ^= h << 25
	return h + h>>6
}
