// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"dkms-go/internal/state"
)

// unreadable are the directories of modules in the tree, or of one, that the caller may
// not look into.
func (e *Engine) unreadable(module string) []string {
	if os.Geteuid() == 0 {
		return nil
	}
	return e.tree.Unreadable(module)
}

// TellUnread says on Err of the parts of the tree that a list can't have since the
// caller may not look into them.
func (e *Engine) TellUnread(filters ...Filter) {
	var told []string
	for _, f := range filters {
		module := f.Module
		if strings.ContainsAny(module, "*?[") {
			module = ""
		}
		for _, dir := range e.unreadable(module) {
			if !slices.Contains(told, dir) {
				told = append(told, dir)
				fmt.Fprintf(e.people(e.Err), "Warning: %s can't be read by user %d: what is in it is not told of\n", dir, os.Geteuid())
			}
		}
	}
}

// readableModules leaves out those of whose directories nothing can be told.
func (e *Engine) readableModules(ids []state.ID, unread []string) []state.ID {
	return slices.DeleteFunc(slices.Clone(ids), func(id state.ID) bool {
		return state.Within(e.tree.Version(id), unread) || slices.ContainsFunc(unread, func(dir string) bool {
			return strings.HasPrefix(dir, e.tree.Version(id)+"/")
		})
	})
}
