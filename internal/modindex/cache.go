// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// magic begins a cache; its last digit counts the formats.
	magic = "dkms-index-2\n"
	// maxCache bounds a cache in bytes; that of a stock kernel has 4 million.
	maxCache = 256 << 20
)

// record is what is known of one object.
type record struct {
	*object
	known   bool
	exports []uint32 // symbols
	needs   []uint32 // symbols, as the object names them
	aliases []uint32
	soft    []string // values of softdep and weakdep
	weak    []string
}

// facts are what is known of all objects of a tree.
type facts struct {
	tool    tool
	symbols *table
	aliases *table
	records []record
	// changed is true when the cache on disk has other facts.
	changed bool
}

// cached is a cache as it was read.
type cached struct {
	facts
	byPath map[string]int
}

// treeName is the tree as its cache names it: seen from the directory of the
// caches, so that one made in a root directory is found from outside, too.
func treeName(req Request) string {
	if name, err := filepath.Rel(req.Cache, req.Tree); err == nil {
		return name
	}
	return req.Tree
}

// cacheFile returns the path of a tree's cache.
func cacheFile(req Request) string {
	h := fnv.New64a()
	io.WriteString(h, treeName(req))
	return filepath.Join(req.Cache, fmt.Sprintf("%s.%016x", filepath.Base(req.Release), h.Sum64()))
}

// loadCache reads a tree's cache. Any that is damaged, of another format or of
// another tree is as good as none.
func loadCache(req Request) *cached {
	none := &cached{facts: facts{symbols: newTable(compareSymbols), aliases: newTable(compareAliases), changed: true}}
	if req.Cache == "" {
		return none
	}
	f, err := os.Open(cacheFile(req))
	if err != nil {
		return none
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxCache {
		return none
	}
	data := make([]byte, st.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return none
	}
	c, err := decodeCache(data, treeName(req))
	if err != nil {
		return none
	}
	return c
}

// take matches the objects of a tree with the cache.
func (c *cached) take(objects []object) *facts {
	f := &facts{symbols: c.symbols, aliases: c.aliases, changed: c.changed || len(objects) != len(c.records)}
	f.records = make([]record, len(objects))
	for i := range objects {
		o := &objects[i]
		f.records[i].object = o
		// The order of the cache is that of an earlier walk.
		at := i
		if at >= len(c.records) || c.records[at].out != o.out {
			var ok bool
			if at, ok = c.find(o.out); !ok {
				f.changed = true
				continue
			}
		}
		if old := &c.records[at]; old.id == o.id {
			f.records[i] = *old
			f.records[i].object = o
		} else {
			f.changed = true
		}
	}
	return f
}

func (c *cached) find(path string) (int, bool) {
	if c.byPath == nil {
		c.byPath = make(map[string]int, len(c.records))
		for i := range c.records {
			c.byPath[c.records[i].out] = i
		}
	}
	at, ok := c.byPath[path]
	return at, ok
}

// save writes the cache. That it can't be written is no error: the next run
// reads more objects.
func (f *facts) save(req Request) {
	if req.Cache == "" || os.MkdirAll(req.Cache, 0o755) != nil {
		return
	}
	path := cacheFile(req)
	aside := fmt.Sprintf("%s.%016x.dkms-new", path, rand.Uint64())
	dropOthers(req.Cache, filepath.Base(path))
	// Not synced: what a power cut leaves of it has a wrong checksum.
	if err := os.WriteFile(aside, f.encode(treeName(req)), 0o644); err == nil {
		err = os.Rename(aside, path)
		if err == nil {
			return
		}
	}
	os.Remove(aside)
}

// Forget removes a tree's cache.
func Forget(req Request) {
	if tree, err := filepath.Abs(req.Tree); err == nil && req.Cache != "" {
		req.Tree = tree
		os.Remove(cacheFile(req))
	}
}

// dropOthers removes the caches of trees that are gone, and what isn't a cache.
func dropOthers(dir, own string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil || e.Name() == own || time.Since(info.ModTime()) < time.Hour {
			continue
		}
		if tree := treeOf(path); tree == "" || !filepath.IsAbs(tree) && missing(filepath.Join(dir, tree)) {
			os.Remove(path)
		}
	}
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return err != nil
}

// treeOf reads the tree's name out of a cache, "" if it isn't one.
func treeOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, len(magic)+4+maxPath)
	n, _ := io.ReadFull(f, head)
	if n < len(magic)+4 || string(head[:len(magic)]) != magic {
		return ""
	}
	d := &decoder{rest: string(head[len(magic)+4 : n])}
	return d.text()
}

// encode writes the facts: the magic, a CRC-32C of what follows, then the tree,
// the depmod, the two tables sorted and without what nothing uses, the records.
// Numbers are varints, texts have their length before them.
func (f *facts) encode(tree string) []byte {
	b := make([]byte, 0, 4<<20)
	b = append(b, magic...)
	b = append(b, 0, 0, 0, 0)
	b = appendText(b, tree)
	b = f.tool.encode(b)
	symbols, aliases := f.used()
	var newSymbol, newAlias []uint32
	b, newSymbol = encodeTable(b, f.symbols, symbols)
	b, newAlias = encodeTable(b, f.aliases, aliases)
	b = binary.AppendUvarint(b, uint64(len(f.records)))
	for i := range f.records {
		r := &f.records[i]
		b = appendText(b, r.out)
		b = r.id.encode(b)
		b = appendNumbers(b, r.exports, newSymbol)
		b = appendNumbers(b, r.needs, newSymbol)
		b = appendNumbers(b, r.aliases, newAlias)
		b = appendTexts(b, r.soft)
		b = appendTexts(b, r.weak)
	}
	sum := crc32.Checksum(b[len(magic)+4:], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b[len(magic):], sum)
	return b
}

// used marks what the records have of the tables.
func (f *facts) used() (symbols, aliases []bool) {
	symbols, aliases = make([]bool, len(f.symbols.text)), make([]bool, len(f.aliases.text))
	for i := range f.records {
		r := &f.records[i]
		for _, n := range r.exports {
			symbols[n] = true
		}
		for _, n := range r.needs {
			symbols[n] = true
		}
		for _, n := range r.aliases {
			aliases[n] = true
		}
	}
	return symbols, aliases
}

// encodeTable returns the new number of each text besides.
func encodeTable(b []byte, t *table, used []bool) ([]byte, []uint32) {
	renumber := make([]uint32, len(t.text))
	count, size := 0, 0
	order := t.order()
	for _, n := range order {
		if used[n] {
			renumber[n] = uint32(count)
			count++
			size += len(t.text[n]) + 1
		}
	}
	b = binary.AppendUvarint(b, uint64(count))
	b = binary.AppendUvarint(b, uint64(size))
	for _, n := range order {
		if used[n] {
			b = append(b, t.text[n]...)
			b = append(b, 0)
		}
	}
	return b, renumber
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendTexts(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

func appendNumbers(b []byte, list, renumber []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, n := range list {
		b = binary.AppendUvarint(b, uint64(renumber[n]))
	}
	return b
}

func (id identity) encode(b []byte) []byte {
	for _, v := range [...]uint64{id.ino, id.size, uint64(id.mtime), uint64(id.ctime)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func (t *tool) encode(b []byte) []byte {
	b = appendText(b, t.path)
	b = t.id.encode(b)
	b = binary.AppendUvarint(b, uint64(t.version))
	flags := byte(0)
	for i, on := range []bool{t.zlib, t.xz, t.zstd} {
		if on {
			flags |= 1 << i
		}
	}
	return appendText(append(b, flags), t.reason)
}

var errCache = errors.New("the cache is damaged")

// decoder reads what encode wrote. After an error every read gives nothing.
type decoder struct {
	rest string
	bad  bool
	nums []uint32 // room for the lists of numbers
}

func decodeCache(data []byte, tree string) (*cached, error) {
	head := len(magic) + 4
	if len(data) < head || string(data[:len(magic)]) != magic ||
		binary.LittleEndian.Uint32(data[len(magic):]) != crc32.Checksum(data[head:], crc32.MakeTable(crc32.Castagnoli)) {
		return nil, errCache
	}
	d := &decoder{rest: string(data[head:])}
	c := &cached{}
	if d.text() != tree {
		return nil, errCache
	}
	c.tool = d.tool()
	c.symbols, c.aliases = d.table(compareSymbols), d.table(compareAliases)
	n := d.count(38)
	c.records = make([]record, n)
	objects := make([]object, n)
	d.nums = make([]uint32, 0, min(len(d.rest), maxCache)/2)
	for i := range c.records {
		r := &c.records[i]
		r.object, r.known = &objects[i], true
		r.out = d.text()
		r.id = d.identity()
		r.exports = d.numbers(len(c.symbols.text))
		r.needs = d.numbers(len(c.symbols.text))
		r.aliases = d.numbers(len(c.aliases.text))
		r.soft, r.weak = d.texts(), d.texts()
	}
	if d.bad || d.rest != "" {
		return nil, errCache
	}
	return c, nil
}

func compareSymbols(a, b string) int { return strings.Compare(a, b) }

func (d *decoder) fail() uint64 {
	d.bad, d.rest = true, ""
	return 0
}

func (d *decoder) uvarint() uint64 {
	var v uint64
	for i := 0; i < len(d.rest) && i < binary.MaxVarintLen64; i++ {
		c := d.rest[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.rest = d.rest[i+1:]
			return v
		}
	}
	return d.fail()
}

// count reads the length of a list whose entries have at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		return int(d.fail())
	}
	return int(n)
}

func (d *decoder) take(n int) string {
	if n < 0 || n > len(d.rest) {
		d.fail()
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) text() string { return d.take(d.count(1)) }

func (d *decoder) texts() []string {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = d.text()
	}
	return list
}

func (d *decoder) numbers(limit int) []uint32 {
	n := d.count(1)
	start := len(d.nums)
	for range n {
		v := d.uvarint()
		if v >= uint64(limit) {
			d.fail()
			return nil
		}
		d.nums = append(d.nums, uint32(v))
	}
	return d.nums[start:len(d.nums):len(d.nums)]
}

func (d *decoder) word() uint64 {
	s := d.take(8)
	if len(s) < 8 {
		return 0
	}
	var v uint64
	for i := range 8 {
		v |= uint64(s[i]) << (8 * i)
	}
	return v
}

func (d *decoder) identity() identity {
	return identity{d.word(), d.word(), int64(d.word()), int64(d.word())}
}

func (d *decoder) tool() tool {
	t := tool{path: d.text(), id: d.identity(), version: int(d.uvarint())}
	if flags := d.take(1); flags != "" {
		t.zlib, t.xz, t.zstd = flags[0]&1 != 0, flags[0]&2 != 0, flags[0]&4 != 0
	}
	t.reason = d.text()
	return t
}

// table reads a table. That it is sorted the checksum vouches for.
func (d *decoder) table(compare func(a, b string) int) *table {
	n := d.count(1)
	all := d.text()
	t := newTable(compare)
	t.text = make([]string, 0, n)
	for range n {
		s, rest, ok := strings.Cut(all, "\x00")
		if !ok {
			d.fail()
			return t
		}
		t.text = append(t.text, s)
		all = rest
	}
	if all != "" {
		d.fail()
	}
	t.sorted = len(t.text)
	return t
}
