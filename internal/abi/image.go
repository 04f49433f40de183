// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// ErrUnknown says that an image has a shape that this package doesn't know, so
// that nothing is said of what the kernel offers.
var ErrUnknown = errors.New("not a known form of kernel image")

const (
	// maxImage bounds a kernel's image in bytes, packed and unpacked. Debian's
	// largest has 80 MB unpacked.
	maxImage = 512 << 20
	// maxWindow bounds what a packed image may ask for; kernel builds use
	// windows of up to 128 MiB (scripts/Makefile.lib, cmd_zstd22).
	maxWindow = 128 << 20
)

// ReadImage reads the ELF file of a kernel from its image: a bzImage of x86,
// or the ELF file itself, maybe compressed by gzip.
func ReadImage(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := readAll(f, int(min(info.Size(), maxImage)))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	out, err := unpack(data)
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", path, err)
	}
	return out, nil
}

// unpack returns the ELF file in data.
func unpack(data []byte) ([]byte, error) {
	switch {
	case isELF(data):
		return data, nil
	case bytes.HasPrefix(data, []byte(magicGzip)):
		return expectELF(gunzip(data))
	}
	payload, err := bzPayload(data)
	if err != nil {
		return nil, err
	}
	return expectELF(decompress(payload))
}

func isELF(data []byte) bool { return bytes.HasPrefix(data, []byte(elf.ELFMAG)) }

func expectELF(data []byte, err error) ([]byte, error) {
	if err == nil && !isELF(data) {
		err = fmt.Errorf("no ELF file inside: %w", ErrUnknown)
	}
	return data, err
}

// bzPayload returns the packed kernel of a bzImage (Documentation/arch/x86/
// boot.rst: setup_sects, header, version, payload_offset, payload_length).
func bzPayload(data []byte) ([]byte, error) {
	const (
		setupSectors, magic, version = 0x1f1, 0x202, 0x206
		offset, length, end          = 0x248, 0x24c, 0x250
		firstWithPayload             = 0x208
	)
	word := binary.LittleEndian.Uint32
	if len(data) < end || string(data[magic:magic+4]) != "HdrS" {
		return nil, fmt.Errorf("neither an ELF file nor a bzImage: %w", ErrUnknown)
	}
	if binary.LittleEndian.Uint16(data[version:]) < firstWithPayload {
		return nil, fmt.Errorf("bzImage of a boot protocol before 2.8: %w", ErrUnknown)
	}
	sectors := uint64(data[setupSectors])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + uint64(word(data[offset:]))
	stop := start + uint64(word(data[length:]))
	if stop > uint64(len(data)) || stop-start < 8 {
		return nil, fmt.Errorf("the payload of the bzImage, %d bytes at %d, is outside of the file", stop-start, start)
	}
	return data[start:stop], nil
}

// The magic numbers of what a kernel can be packed with
// (scripts/extract-vmlinux).
const (
	magicGzip = "\x1f\x8b\x08"
	magicXZ   = "\xfd7zXZ\x00"
	magicZstd = "\x28\xb5\x2f\xfd"
	magicLZ4  = "\x02\x21\x4c\x18"
)

// decompress unpacks a payload. All but gzip's ends with the unpacked size in
// 4 bytes (scripts/Makefile.lib, size_append), against which it is held.
func decompress(payload []byte) ([]byte, error) {
	body := payload[:len(payload)-4]
	var out []byte
	var err error
	switch {
	case bytes.HasPrefix(payload, []byte(magicGzip)):
		return gunzip(payload)
	case bytes.HasPrefix(payload, []byte(magicXZ)):
		out, err = unxz(body)
	case bytes.HasPrefix(payload, []byte(magicZstd)):
		out, err = unzstd(body)
	case bytes.HasPrefix(payload, []byte(magicLZ4)):
		out, err = readAll(lz4.NewReader(bytes.NewReader(body)), 3*len(body))
	default:
		return nil, fmt.Errorf("packed in an unknown way, beginning with %q: %w", payload[:4], ErrUnknown)
	}
	if err != nil {
		return nil, err
	}
	if want := binary.LittleEndian.Uint32(payload[len(payload)-4:]); uint64(want) != uint64(len(out)) {
		return nil, fmt.Errorf("%d bytes inside, where the image says %d", len(out), want)
	}
	return out, nil
}

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	r.Multistream(false)
	return readAll(r, 4*len(data))
}

func unzstd(data []byte) ([]byte, error) {
	r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAll(io.Reader(r), 5*len(data))
}

// ikconfig returns the configuration that a kernel with CONFIG_IKCONFIG has in
// it, gzip data behind a mark (kernel/configs.c), or "".
func ikconfig(image []byte) string {
	const mark = "IKCFG_ST"
	at := bytes.Index(image, []byte(mark+magicGzip))
	if at < 0 {
		return ""
	}
	const maxConfig = 8 << 20
	r, err := gzip.NewReader(bytes.NewReader(image[at+len(mark):]))
	if err != nil {
		return ""
	}
	r.Multistream(false)
	text, err := io.ReadAll(io.LimitReader(r, maxConfig))
	if err != nil {
		return ""
	}
	return string(text)
}
