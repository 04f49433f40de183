// SPDX-License-Identifier: Apache-2.0

package memo

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"unsafe"
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
type table string

const (
	magic      = "dkmsmem1"
	headSize   = len(magic) + 4 + 4
	entrySize  = len(Digest{}) + 4 + 4
	maxEntries = 1 << 18
)

// parseTable returns data if it is a whole table, else an empty one. data must
// not be changed any more.
func parseTable(data []byte) table {
	if len(data) < headSize || string(data[:len(magic)]) != magic {
		return ""
	}
	if binary.LittleEndian.Uint32(data[len(magic):]) != crc32.Checksum(data[len(magic)+4:], crc32.MakeTable(crc32.Castagnoli)) {
		return ""
	}
	t := table(unsafe.String(&data[0], len(data)))
	if t.count() > maxEntries || headSize+t.count()*entrySize > len(t) {
		return ""
	}
	return t
}

// number returns the number at an offset.
func (t table) number(at int) uint32 {
	return uint32(t[at]) | uint32(t[at+1])<<8 | uint32(t[at+2])<<16 | uint32(t[at+3])<<24
}

func (t table) count() int {
	if len(t) < headSize {
		return 0
	}
	return int(t.number(headSize - 4))
}

// entry returns the i-th key and its value; whole is false for a value that isn't
// in the file.
func (t table) entry(i int) (key, value string, whole bool) {
	at := headSize + i*entrySize
	behind := at + len(Digest{})
	from, size := uint64(t.number(behind)), uint64(t.number(behind+4))
	if from+size > uint64(len(t)) {
		return string(t[at:behind]), "", false
	}
	return string(t[at:behind]), string(t[from : from+size]), true
}

func (t table) find(key Digest) (string, bool) {
	low, high := 0, t.count()
	for low < high {
		middle := (low + high) / 2
		k, v, whole := t.entry(middle)
		switch {
		case k == string(key[:]):
			return v, whole
		case k < string(key[:]):
			low = middle + 1
		default:
			high = middle
		}
	}
	return "", false
}

// merge returns the table with what is fresh added. One that has grown too large
// begins anew: what is for modules and kernels long gone would stay otherwise.
func (t table) merge(fresh map[Digest]string) []byte {
	all := map[Digest]string{}
	if t.count()+len(fresh) <= maxEntries {
		for i := range t.count() {
			if k, v, whole := t.entry(i); whole {
				all[Digest([]byte(k))] = v
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
	binary.LittleEndian.PutUint32(out[len(magic):], crc32.Checksum(out[len(magic)+4:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}
