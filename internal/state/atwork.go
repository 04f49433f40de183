// SPDX-License-Identifier: Apache-2.0

package state

// AtWork reports whether another process is changing the tree. What Check finds
// meanwhile may be its unfinished work.
func (t Tree) AtWork() bool { return t.locked() }
