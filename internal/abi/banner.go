// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"syscall"
)

// maxBanner bounds what is read of a bzImage for its version: the header and what
// it may point to (Documentation/arch/x86/boot.rst, kernel_version).
const maxBanner = 64 << 10

// UTSVersion returns what uname -v prints on the kernel, by its image: "" if that
// isn't there or doesn't tell. Nothing is unpacked for a bzImage.
func (a *Kernel) UTSVersion() string {
	for _, path := range a.paths.Images(a.Release) {
		head, err := readHead(path)
		if err != nil {
			continue
		}
		if v := bzVersion(head, a.Release); v != "" {
			return v
		}
		if data, err := ReadImage(path); err == nil {
			return linuxBanner(data, a.Release)
		}
	}
	return ""
}

// HeaderVersion is UTSVersion as far as the header of a bzImage tells it: that takes no
// time.
func (a *Kernel) HeaderVersion() string {
	for _, path := range a.paths.Images(a.Release) {
		if head, err := readHead(path); err == nil {
			return bzVersion(head, a.Release)
		}
	}
	return ""
}

func readHead(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, os.ErrInvalid
	}
	return io.ReadAll(io.LimitReader(f, maxBanner))
}

// bzVersion takes the version from the header of a bzImage: the text "RELEASE
// (BUILDER) VERSION" (arch/x86/boot/version.c), at the place that the field
// kernel_version names.
func bzVersion(head []byte, release string) string {
	const magic, field, base = 0x202, 0x20e, 0x200
	if len(head) < field+2 || string(head[magic:magic+4]) != "HdrS" {
		return ""
	}
	at := int(binary.LittleEndian.Uint16(head[field:])) + base
	if at == base || at >= len(head) {
		return ""
	}
	text, _, _ := bytes.Cut(head[at:], []byte{0})
	return versionIn(string(text), release+" ")
}

// linuxBanner takes the version from the text that /proc/version has, "Linux
// version RELEASE (BUILDER) (COMPILER) VERSION" (init/version.c).
func linuxBanner(data []byte, release string) string {
	begin := "Linux version " + release + " "
	i := bytes.Index(data, []byte(begin))
	if i < 0 {
		return ""
	}
	text, _, _ := bytes.Cut(data[i:min(len(data), i+4096)], []byte{'\n'})
	return versionIn(string(text), begin)
}

// versionIn returns the version behind the builder, or the compiler, in brackets.
// It begins with the number of the build (init/Makefile).
func versionIn(text, begin string) string {
	rest, ok := strings.CutPrefix(text, begin)
	i := strings.LastIndex(rest, ") #")
	if !ok || i < 0 || strings.ContainsFunc(rest, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return rest[i+2:]
}
