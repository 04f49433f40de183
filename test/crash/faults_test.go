// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// disaster is a way in which the changes of a command fail.
type disaster struct {
	name  string
	fault fault
	words string // of the error
}

func disasters() []disaster {
	return []disaster{
		{"EIO", fault{errno: unix.EIO}, "input/output error"},
		{"full disk", fault{errno: unix.ENOSPC, onwards: true}, "no space left on device"},
		{"read-only", fault{errno: unix.EROFS, onwards: true}, "read-only file system"},
	}
}

// A command whose n-th change fails with an error of the disk, alone or with all
// that follow, has done its work nevertheless or ends with one error that names
// what is wrong. Nothing is lost, and the next run does the rest.
func TestFailing(t *testing.T) {
	all := map[string]*total{}
	for _, d := range disasters() {
		all[d.name] = newTotal(t)
	}
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			g := newStage(t, s)
			for _, d := range disasters() {
				g.states, g.lost = map[string]bool{}, 0
				points, errs := g.fails(d, every(t, 499))
				all[d.name].add(t, d.name+": changes", len(g.steps), "of them failed", points, "commands with an error", errs, "states", len(g.states), "losses", g.lost)
			}
		})
	}
}

// fails tries every n-th point, and returns how many there were and how many
// commands ended with an error.
func (g *stage) fails(d disaster, distance int) (points, errs int) {
	for n := (distance + 1) / 2; ; n += distance {
		g.restore(g.before)
		f := d.fault
		f.at = n
		r := g.struck(f, g.args...)
		if len(r.steps) < n {
			return points, errs
		}
		if r.struck == nil {
			continue // a call that needs no room
		}
		points++
		left := g.take()
		complaints := g.losses(left)
		switch {
		case r.code == -1:
			complaints = append(complaints, fmt.Sprintf("it was killed: %v", r))
		case r.code != 0 || !g.served(left):
			errs++
			complaints = append(complaints, unclear(r, d.words)...)
		}
		if !g.seen(left) {
			complaints = append(complaints, g.finish()...)
		}
		g.complain(fmt.Sprintf("%s at change %d, %v", d.name, n, r.struck), complaints)
	}
}

// served reports whether the kernels have what the command is for.
func (g *stage) served(p picture) bool {
	return maps.Equal(p.objects(k1), g.after.objects(k1)) && maps.Equal(p.objects(k2), g.after.objects(k2))
}

// errorLine matches the lines that tell of an error: its first, and what a
// module's own command said.
var errorLine = regexp.MustCompile(`(?m)^(Error! |The first error: ).*$`)

// unclear tells what is wrong with how a command has told of an error of the
// disk: it has one, or one for each of several modules, that names the error and
// the file.
func unclear(r result, words string) (list []string) {
	lines := errorLine.FindAllString(r.stderr, -1)
	if len(lines) == 0 {
		return []string{fmt.Sprintf("no error was told: %v", r)}
	}
	told := 0
	for _, l := range lines {
		if strings.Contains(strings.ToLower(l), words) && strings.ContainsAny(l, "/'") {
			told++
		}
	}
	if told == 0 {
		list = append(list, fmt.Sprintf("no error names %q and a file: %v", words, r))
	}
	return list
}

// The same with a disk that is really full, and one that is really remounted
// read-only, from the n-th change on.
func TestRealDisk(t *testing.T) {
	for name, d := range map[string]struct {
		words      string
		begin, end func(dir string) error
	}{
		"full":      {"no space left on device", shrink, widen},
		"read-only": {"read-only file system", freeze, thaw},
	} {
		for _, place := range []string{tree, modules} {
			t.Run(name+" "+place, func(t *testing.T) {
				t.Parallel()
				g := newStage(t, scenario{"upgrade", upgrade, []string{"install", "alpha/2.0", "-k", k1, "-k", k2}, nil})
				points, errs := 0, 0
				for n := (every(t, 301) + 1) / 2; ; n += every(t, 301) {
					g.restore(g.before)
					busy := false
					r := g.struck(fault{at: n, act: func() {
						err := d.begin(place)
						busy = errors.Is(err, unix.EBUSY) // a file is being written
						if err != nil && !busy {
							t.Error(err)
						}
					}}, g.args...)
					g.check("after the disaster", d.end(place))
					if r.struck == nil {
						break
					}
					if busy {
						continue
					}
					points++
					left := g.take()
					complaints := g.losses(left)
					if r.code != 0 {
						errs++
						complaints = append(complaints, unclear(r, d.words)...)
					}
					g.complain(fmt.Sprintf("at change %d, %v", n, r.struck), append(complaints, g.finish()...))
				}
				t.Logf("%d points, %d commands with an error, %d losses", points, errs, g.lost)
			})
		}
	}
}

// shrink takes the room that is left from a file system.
func shrink(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	return unix.Mount("", dir, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", int64(st.Blocks-st.Bfree)*st.Bsize))
}

func widen(dir string) error { return unix.Mount("", dir, "", unix.MS_REMOUNT, "size=1g") }

func freeze(dir string) error { return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") }

func thaw(dir string) error { return unix.Mount("", dir, "", unix.MS_REMOUNT, "") }
