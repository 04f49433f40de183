// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/abi"
	"dkms-go/internal/ko"
)

// Shadow is an installed object that modprobe doesn't take.
type Shadow struct {
	Path string // the object
	// Winner is the file that modprobe takes for the module's name, "" if the
	// module index has none, and BuiltIn for a module inside the kernel.
	Winner string
}

// BuiltIn is the winner of a name that the kernel has built in: modprobe then
// loads nothing.
const BuiltIn = "built into the kernel"

// Shadowed reads modules.dep of a kernel's tree, in which depmod has already
// applied its search order, and returns those of the installed objects that
// another file wins over. It reads the index anew each time, so it tells the
// truth after depmod ran. Paths are absolute or below tree.
func Shadowed(tree string, paths []string) []Shadow {
	index := abi.ModuleIndex(tree)
	builtin := builtins(tree)
	var out []Shadow
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			path = filepath.Join(tree, path)
		}
		name := nameOf(path)
		winner := index[name]
		if builtin[name] {
			winner = BuiltIn
		}
		if winner != filepath.Clean(path) {
			out = append(out, Shadow{path, winner})
		}
	}
	return out
}

// builtins reads modules.builtin, a path a line (Documentation/kbuild/
// kbuild.rst).
func builtins(tree string) map[string]bool {
	out := map[string]bool{}
	data, err := os.ReadFile(filepath.Join(tree, "modules.builtin"))
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(data)) {
		out[nameOf(strings.TrimSpace(line))] = true
	}
	return out
}

// nameOf returns the module name of an object's file.
func nameOf(path string) string {
	name, _, _ := ko.SplitName(filepath.Base(path))
	return strings.ReplaceAll(name, "-", "_")
}
