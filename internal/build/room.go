// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"dkms-go/internal/run"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// Room is the build directory of one module, <tree>/<m>/<v>/build. Confs name
// that path literally, so builds of one module for several kernels all need
// it: each then works in a directory of its own, bound to that path in a mount
// namespace of its own; where that isn't allowed they take turns.
type Room struct {
	tree    state.Tree
	id      state.ID
	path    string
	several bool // more than one build will use it
	shared  bool // at the same time
	turn    sync.Mutex

	mu     sync.Mutex
	users  int
	failed string
}

// NewRoom returns the build directory of a module that users builds will use.
func NewRoom(tree state.Tree, id state.ID, users int) *Room {
	return &Room{tree: tree, id: id, path: tree.Build(id), users: users, several: users > 1, shared: users > 1 && run.CanPrivate()}
}

// with calls fn with the build directory in place, where commands see view. A
// failed build's directory stays at the room's path once the last user has
// left, a successful one goes.
func (r *Room) with(k state.Key, view run.View, fn func(dir string) error) error {
	if !r.shared {
		r.turn.Lock()
		defer r.turn.Unlock()
	}
	own := r.tree.OwnBuild(k)
	for _, dir := range []string{own, r.path} { // own first: it tells that the other is in use
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the build directory: %w", err)
		}
	}
	if !r.shared {
		err := run.Private(view, func() error { return fn(r.path) })
		return errors.Join(err, r.leave(r.path, err), os.RemoveAll(own))
	}
	view.Binds = []run.Bind{{Source: own, Target: r.path}}
	err := run.Private(view, func() error { return fn(r.path) })
	return errors.Join(err, r.leave(own, err))
}

// Leave counts a user out whose build was never attempted.
func (r *Room) Leave() error { return r.leave("", nil) }

// Spare counts a user out whose result is in its place without a build, and
// removes what a failed build had left.
func (r *Room) Spare() error {
	if r.shared {
		return r.Leave() // others may be at work; the last one clears up
	}
	r.turn.Lock()
	defer r.turn.Unlock()
	return r.leave(r.path, nil)
}

func (r *Room) leave(dir string, failure error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users--
	var err error
	switch {
	case dir == "":
	case failure == nil:
		err = untrusted.RemoveAll(dir)
		if !r.shared {
			r.failed = ""
		}
	default:
		if r.failed != "" && r.failed != dir {
			err = untrusted.RemoveAll(r.failed)
		}
		r.failed = dir
	}
	if r.users > 0 {
		return err
	}
	if r.shared {
		err = errors.Join(err, untrusted.RemoveAll(r.path))
	}
	if r.shared && r.failed != "" {
		err = errors.Join(err, os.Rename(r.failed, r.path))
	}
	return errors.Join(err, r.sweep())
}

// sweep removes what builds that could not be ended, as on a full disk, have left
// beside the build directory.
func (r *Room) sweep() (err error) {
	left, _ := filepath.Glob(r.tree.OwnBuild(state.Key{ID: r.id, Kernel: "*", Arch: "*"}))
	for _, dir := range left {
		err = errors.Join(err, untrusted.RemoveAll(dir))
	}
	return err
}
