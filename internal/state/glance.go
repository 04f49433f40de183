// SPDX-License-Identifier: Apache-2.0

package state

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Glance lets one who holds no lock read the tree as it was before a change, or as it
// is after it. It may be used by one goroutine at a time.
type Glance struct {
	Tree Tree
	// end is when no more time is given to changes under way.
	end time.Time
}

// How long a Glance waits for changes in all, and for one at a time.
const (
	glanceLimit = 2 * time.Second
	glancePause = 2 * time.Millisecond
)

// At calls read, and calls it again if a change was being carried out meanwhile. A
// change takes milliseconds. One that doesn't end, or that a killed writer has left,
// is read as it is.
func (g *Glance) At(read func()) {
	for {
		before, quiet := g.Tree.changes()
		read()
		after, _ := g.Tree.changes()
		if quiet && slices.Equal(before, after) {
			return
		}
		if !quiet && !g.Tree.locked() {
			return
		}
		if g.end.IsZero() {
			g.end = time.Now().Add(glanceLimit)
		} else if time.Now().After(g.end) {
			return
		}
		time.Sleep(glancePause)
	}
}

// changes lists what is in the journal: each change has a name of its own. quiet says
// that none is being carried out.
func (t Tree) changes() (names []string, quiet bool) {
	entries, err := os.ReadDir(filepath.Join(t.Dir, ".journal"))
	if err != nil {
		return nil, true
	}
	quiet = true
	for _, e := range entries {
		names = append(names, e.Name())
		quiet = quiet && filepath.Ext(e.Name()) != ".commit"
	}
	return names, quiet
}

// locked reports whether a writer is at work.
func (t Tree) locked() bool {
	f, err := os.OpenFile(filepath.Join(t.Dir, lockName), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}
