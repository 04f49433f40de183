// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"strings"
	"unicode"
)

// Bounds of names, in bytes.
const (
	maxComponent = 255  // NAME_MAX of Linux
	maxPath      = 2048 // leaves room for the directory below PATH_MAX
)

// badName says why s can not be the name of a module, a version, a kernel or an
// arch, which become directories; "" if it can.
func badName(s string) string {
	switch {
	case s == "":
		return "the name is empty"
	case len(s) > maxComponent:
		return "the name is longer than 255 bytes"
	case s[0] == '.' || s[0] == '-':
		return "the name starts with '.' or '-'"
	case strings.ContainsRune(s, '/'):
		return "the name has a '/'"
	case strings.ContainsFunc(s, unicode.IsSpace):
		return "the name has a blank"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "the name has a control character"
	}
	return ""
}

// splitEntry returns the components of an entry's name without "." and empty
// ones, or the reason why the name is refused. The root has no components.
func splitEntry(name string) (parts []string, reason string) {
	switch {
	case name == "":
		return nil, "the name is empty"
	case strings.HasPrefix(name, "/"):
		return nil, "the name is an absolute path"
	case strings.ContainsFunc(name, unicode.IsControl):
		return nil, "the name has a control character"
	case len(name) > maxPath:
		return nil, "the name is longer than 2048 bytes"
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return nil, "the name has a '..' component"
		case len(part) > maxComponent:
			return nil, "a component of the name is longer than 255 bytes"
		}
		parts = append(parts, part)
	}
	return parts, ""
}

// badPlace says why an entry can not stand where its name puts it in mktarball's
// layout, "" if it can: the three directories at the root are directories, and
// in dkms_main_tree the two levels below are directories named by a kernel and
// an arch.
func badPlace(parts []string, isDir bool) string {
	switch parts[0] {
	case mainTree:
		for _, p := range parts[1:min(len(parts), 3)] {
			if reason := badName(p); reason != "" {
				return "as a kernel or arch " + reason
			}
		}
		if len(parts) <= 3 && !isDir {
			return "only directories <kernel>/<arch> may be in " + mainTree
		}
	case sourceTree, binariesOnly:
		if len(parts) == 1 && !isDir {
			return "not a directory"
		}
	}
	return ""
}

// scopeLen is how many leading components name the directory an entry must stay
// in, since the caller moves that directory elsewhere.
func scopeLen(parts []string) int {
	switch parts[0] {
	case mainTree:
		return min(3, len(parts)-1)
	case sourceTree, binariesOnly:
		return min(1, len(parts)-1)
	}
	return 0
}

// badTarget says why a symlink may not point to target, "" if it may. depth is
// the number of real directories between the directory the link must stay in
// and the link.
//
// A target has ".." only in front, and no more than depth of them. As the
// directories above a link are never links themselves, going up stays inside;
// after that it only goes down, at most through links that keep the same rule.
// So no chain of such links leads outside, wherever the whole is moved to.
func badTarget(target string, depth int) string {
	switch {
	case target == "":
		return "the link has no target"
	case strings.HasPrefix(target, "/"):
		return "the link points to an absolute path"
	case strings.ContainsFunc(target, unicode.IsControl):
		return "the link's target has a control character"
	case len(target) > maxPath:
		return "the link's target is longer than 2048 bytes"
	}
	up, down := 0, false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			up++
			if down {
				return "the link's target has a '..' after a name"
			}
		default:
			down = true
		}
	}
	if up > depth {
		return "the link points outside"
	}
	return ""
}
