// SPDX-License-Identifier: Apache-2.0

package memo

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
)

// table is the content of a store's file, as it is there:
//
//	magic   8 bytes
//	crc     4 bytes, CRC-32 (Castagnoli) of all that follows
//	count   4 bytes
//	index   count times: key, 16 bytes; offset and size of the value, 4 bytes
//	        each; in the order of the keys
//	values
//
// Numbers are little-endian, offsets count from the start of the file. Nothing
// is copied out of it at the start: a run looks up what it needs.
type table []byte

const (
	magic      = "dkmsmem1"
	headSize   = len(magic) + 4 + 4
	entrySize  = len(Digest{}) + 4 + 4
	maxEntries = 1 << 18
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseTable returns data if it is a whole table, else an empty one.
func parseTable(data []byte) table {
	if len(data) < headSize || string(data[:len(magic)]) != magic {
		return nil
	}
	t := table(data)
	if binary.LittleEndian.Uint32(data[len(magic):]) != crc32.Checksum(data[len(magic)+4:], castagnoli) {
		return nil
	}
	if t.count() > maxEntries || headSize+t.count()*entrySize > len(t) {
		return nil
	}
	return t
}

func (t table) count() int {
	if len(t) < headSize {
		return 0
	}
	return int(binary.LittleEndian.Uint32(t[headSize-4:]))
}

// entry returns the i-th key and its value; nil for one that isn't in the file.
func (t table) entry(i int) (key, value []byte) {
	e := t[headSize+i*entrySize:][:entrySize]
	key = e[:len(Digest{})]
	from, size := uint64(binary.LittleEndian.Uint32(e[len(key):])), uint64(binary.LittleEndian.Uint32(e[len(key)+4:]))
	if from+size > uint64(len(t)) {
		return key, nil
	}
	return key, t[from : from+size : from+size]
}

func (t table) find(key Digest) ([]byte, bool) {
	low, high := 0, t.count()
	for low < high {
		middle := (low + high) / 2
		k, v := t.entry(middle)
		switch bytes.Compare(k, key[:]) {
		case 0:
			return v, v != nil
		case -1:
			low = middle + 1
		default:
			high = middle
		}
	}
	return nil, false
}

// merge returns the table with what is fresh added. One that has grown too large
// begins anew: what is for modules and kernels long gone would stay otherwise.
func (t table) merge(fresh map[Digest][]byte) []byte {
	all := map[Digest][]byte{}
	if t.count()+len(fresh) <= maxEntries {
		for i := range t.count() {
			if k, v := t.entry(i); v != nil {
				all[Digest(k)] = v
			}
		}
	}
	maps.Copy(all, fresh)
	keys := slices.SortedFunc(maps.Keys(all), func(a, b Digest) int { return bytes.Compare(a[:], b[:]) })
	out := make([]byte, headSize, headSize+len(keys)*entrySize)
	copy(out, magic)
	binary.LittleEndian.PutUint32(out[headSize-4:], uint32(len(keys)))
	offset := headSize + len(keys)*entrySize
	for _, k := range keys {
		out = append(out, k[:]...)
		out = binary.LittleEndian.AppendUint32(out, uint32(offset))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(all[k])))
		offset += len(all[k])
	}
	for _, k := range keys {
		out = append(out, all[k]...)
	}
	binary.LittleEndian.PutUint32(out[len(magic):], crc32.Checksum(out[len(magic)+4:], castagnoli))
	return out
}
