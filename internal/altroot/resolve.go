// SPDX-License-Identifier: Apache-2.0

package altroot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the number of symbolic links followed in one path, as in the
// kernel (path_resolution(7)).
const maxLinks = 40

// resolve returns the path of name below root as a process with that root
// would find it: symbolic links, absolute ones too, stay inside. What doesn't
// exist is taken as it is spelled.
func resolve(root, name string) (string, error) {
	todo := strings.Split(filepath.Clean("/"+name), "/")
	done := "/" // inside the root
	for links := 0; len(todo) > 0; {
		next := filepath.Join(done, todo[0])
		todo = todo[1:]
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil { // not a link, or missing
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("resolving %q in %s: %w", name, root, unix.ELOOP)
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		// ".." must stay a step of its own: what is before it may be a link.
		todo = append(strings.Split(target, "/"), todo...)
	}
	return filepath.Join(root, done), nil
}
