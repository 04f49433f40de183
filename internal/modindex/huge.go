// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// enough is what an update takes of the heap, in bytes.
const enough = 24 << 20

// hugePages has the kernel back the next allocations with huge pages, where
// /sys/kernel/mm/transparent_hugepage/enabled lets those have them that ask
// (madvise(2), MADV_HUGEPAGE): an update spends else most of its time on page
// faults, one for each 4 KiB. The advice stays with the addresses, which the
// heap uses again once they are free. Where there are no huge pages nothing
// changes.
func hugePages() {
	const huge = 2 << 20
	room := make([]byte, enough+huge)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(room))) % huge
	_ = unix.Madvise(room[skip:][:enough], unix.MADV_HUGEPAGE)
	runtime.GC()
}
