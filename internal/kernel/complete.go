// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"path/filepath"
	"strings"
)

// HeadersMissing returns the files that a build of a module can't do without and
// that the kernel's headers lack: the makefile and what it includes by full name,
// the configuration as kbuild reads it, and kbuild's own programs (kernel source,
// Documentation/kbuild/modules.rst). Each is the path at which the file should be,
// links followed as far as they lead.
func (k Kernel) HeadersMissing() []string {
	wanted := []string{
		"Makefile", "include/generated/autoconf.h", "include/config/auto.conf", "scripts/basic/fixdep", "scripts/mod/modpost",
	}
	var missing []string
	for _, name := range wanted {
		if path := filepath.Join(k.SourceDir, name); !exists(path) {
			missing = append(missing, leadsTo(path))
		}
	}
	text, err := readText(filepath.Join(k.SourceDir, "Makefile"))
	if err != nil {
		return missing
	}
	for line := range strings.Lines(text) {
		// Debian's makefile is one line that includes the common one.
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == "include" && filepath.IsAbs(words[1]) && !strings.Contains(words[1], "$") && !exists(words[1]) {
			missing = append(missing, leadsTo(words[1]))
		}
	}
	return missing
}

// HeadersRelease returns the release that the kernel's headers are of, "" if they
// don't tell.
func (k Kernel) HeadersRelease() string {
	release, err := treeRelease(k.SourceDir)
	if err != nil {
		return ""
	}
	return release
}

// leadsTo follows the links in a path of which not all exists.
func leadsTo(path string) string {
	for range 40 { // as many as the system follows (path_resolution(7))
		dir := path
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			to, err := os.Readlink(dir)
			if err != nil {
				continue
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(resolved(filepath.Dir(dir)), to)
			}
			path = filepath.Join(to, strings.TrimPrefix(path, dir))
			break
		}
		if dir == filepath.Dir(dir) {
			return path
		}
	}
	return path
}
