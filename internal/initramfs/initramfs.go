// SPDX-License-Identifier: Apache-2.0

// Package initramfs looks after the initial file system of a kernel: it finds
// the image, reads the objects in it, tells which of a module's objects belong
// there, and has the machine's own tool make the image again.
//
// Images are concatenated cpio archives, each compressed or not
// (Documentation/driver-api/early-userspace/buffer-format.rst). Unified kernel
// images (EFI/Linux/*.efi on the EFI system partition) are neither found nor
// made: they are signed as a whole, by others.
package initramfs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/host"
)

// Find returns the path of the image that a kernel boots with; false says that
// there is none, as for a kernel that is just being installed. In this order:
//
//	<boot>/initrd.img-K                    initramfs-tools (update-initramfs(8))
//	<boot>/initramfs-K.img, initrd-K       dracut on Fedora and SUSE (dracut(8))
//	<boot>/initramfs-<pkgbase>.img         mkinitcpio's presets on Arch
//	<boot or ESP>/<token>/K/initrd         kernel-install(8)
//	<modules>/K/initrd                     dracut without any of these places
//
// An image named after a pkgbase is K's only while the vmlinuz beside it is
// the one in K's own tree: between the two steps of an upgrade it is not.
func Find(p host.Paths, release string) (string, bool) {
	if release == "" || release == "." || release == ".." || strings.Contains(release, "/") {
		return "", false
	}
	candidates := []string{
		filepath.Join(p.Boot, "initrd.img-"+release),
		filepath.Join(p.Boot, "initramfs-"+release+".img"),
		filepath.Join(p.Boot, "initrd-"+release),
	}
	if base := pkgbase(p, release); base != "" && sameContent(
		filepath.Join(p.Boot, "vmlinuz-"+base), filepath.Join(p.KernelTree(release), "vmlinuz")) {
		candidates = append(candidates, presetImage(p, base))
	}
	for _, top := range append([]string{p.Boot}, p.ESP...) {
		for _, token := range entryTokens(p) {
			candidates = append(candidates, filepath.Join(top, token, release, "initrd"))
		}
	}
	candidates = append(candidates, filepath.Join(p.KernelTree(release), "initrd"))
	for _, path := range candidates {
		if isImage(path) {
			return path, true
		}
	}
	return "", false
}

// isImage reports whether path is a file with something in it.
func isImage(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Size() > 0
}

// presetImage is where Arch's presets put the image of a kernel package.
func presetImage(p host.Paths, base string) string {
	return filepath.Join(p.Boot, "initramfs-"+base+".img")
}

// pkgbase returns the name of the kernel's package on Arch, which its file
// pkgbase has, "" elsewhere.
func pkgbase(p host.Paths, release string) string {
	return word(filepath.Join(p.KernelTree(release), "pkgbase"))
}

// entryTokens returns the names that the directory of the machine's boot
// loader entries may have (kernel-install(8), --entry-token).
func entryTokens(p host.Paths) []string {
	var tokens []string
	for _, file := range []string{filepath.Join(p.KernelInstall, "entry-token"), p.MachineID} {
		if token := word(file); token != "" {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// word returns the one word that a small file has, "" if it has something
// else or can't be the name of a directory entry.
func word(path string) string {
	text, err := readSmall(path)
	fields := strings.Fields(text)
	if err != nil || len(fields) != 1 || strings.HasPrefix(fields[0], ".") || strings.Contains(fields[0], "/") {
		return ""
	}
	return fields[0]
}

// sameContent reports whether two files are there and hold the same.
func sameContent(a, b string) bool {
	const maxKernel = 256 << 20
	fa, errA := os.Stat(a)
	fb, errB := os.Stat(b)
	if errA != nil || errB != nil || fa.Size() != fb.Size() || fa.Size() > maxKernel {
		return false
	}
	x, errA := os.ReadFile(a)
	y, errB := os.ReadFile(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}
