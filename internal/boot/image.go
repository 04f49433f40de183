// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/host"
)

// maxRelease bounds a kernel release in bytes (include/linux/uts.h,
// __NEW_UTS_LEN).
const maxRelease = 64

// isKernelName reports whether a file of the boot directory is named as a
// kernel's image.
func isKernelName(name string) bool {
	for _, prefix := range []string{"vmlinuz-", "vmlinux-", "kernel-", "Image-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// release returns the kernel release of an image by the path that a boot
// loader has for it, or "". The path may be relative to a file system that is
// mounted elsewhere, so its last parts count: ".../vmlinuz-RELEASE", then
// ".../RELEASE/linux" (kernel-install), then the header of the image of that
// name in the boot directory, then version, the entry's own word.
func release(p host.Paths, image, version string) string {
	if image == "" {
		return ""
	}
	name := base(image)
	if r := named(name); r != "" {
		return r
	}
	if parent := base(filepath.Dir(strings.ReplaceAll(image, `\`, "/"))); name == "linux" && isRelease(parent) {
		return parent
	}
	if r := header(filepath.Join(p.Boot, name)); r != "" {
		return r
	}
	if isRelease(version) {
		return version
	}
	return ""
}

// named returns the release in the name of an image, or "".
func named(name string) string {
	if !isKernelName(name) {
		return ""
	}
	_, r, _ := strings.Cut(name, "-")
	r = strings.TrimSuffix(r, ".efi.signed")
	if !isRelease(r) {
		return ""
	}
	return r
}

// isRelease reports whether s looks like a kernel release: a number first, and
// nothing that a file name wouldn't have.
func isRelease(s string) bool {
	if s == "" || len(s) > maxRelease || s[0] < '0' || s[0] > '9' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == '/' || r == '\\' || r == 0x7f || strings.ContainsRune(`'"$*?[]>{}`+"`", r)
	})
}

// header returns the release that an x86 image has in its header, or ""
// (Documentation/arch/x86/boot.rst: "HdrS" at 0x202, kernel_version at 0x20e,
// plus 0x200 the place of the version text).
func header(path string) string {
	if !isFile(path) {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	var head [0x210]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || !bytes.Equal(head[0x202:0x206], []byte("HdrS")) {
		return ""
	}
	var text [maxRelease + 1]byte
	n, _ := f.ReadAt(text[:], int64(binary.LittleEndian.Uint16(head[0x20e:]))+0x200)
	r, _, found := bytes.Cut(text[:n], []byte(" "))
	if !found || !isRelease(string(r)) {
		return ""
	}
	return string(r)
}
