// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func sorted(p picture) []string { return slices.Sorted(maps.Keys(p)) }

// every returns the distance of the points that are tried.
func every(t *testing.T, sample int) int {
	t.Helper()
	if text := os.Getenv("CRASH_EVERY"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("CRASH_EVERY=%q is no number of points", text)
		}
		return n
	}
	if os.Getenv("CI") != "" {
		return sample
	}
	return 1
}

// stage is a scenario with its two ends.
type stage struct {
	*machine
	scenario
	before, after picture
	// sets are the sets of objects that a kernel may have, by the kernel.
	sets map[string][]picture
	// originals are the kernels' own objects.
	originals picture
	steps     []step
	states    map[string]bool
	mixed     int // kills that left a module with neither set until the next dkms
	lost      int // points with something to complain of
}

// newStage makes a machine and runs the scenario there undisturbed.
func newStage(t *testing.T, s scenario) *stage {
	t.Helper()
	g := &stage{machine: newMachine(t), scenario: s, sets: map[string][]picture{}, originals: picture{}, states: map[string]bool{}}
	s.before(g.machine)
	g.before = g.take()
	for path, e := range g.empty {
		if isObject(path) {
			g.originals[path] = e
		}
	}
	r := g.struck(fault{}, s.args...)
	if r.code != 0 {
		t.Fatalf("dkms %q undisturbed: %v", s.args, r)
	}
	g.after, g.steps = g.take(), r.steps
	for _, p := range []picture{g.before, g.after} {
		g.allow(p)
		g.restore(p)
		g.must("autoinstall", "-k", k1)
		g.must("autoinstall", "-k", k2)
		g.allow(g.take())
	}
	return g
}

// isObject reports whether a path is one of an object in a kernel's tree.
func isObject(path string) bool {
	return strings.HasPrefix(path, modules+"/") && strings.Contains(filepath.Base(path), ".ko") && !strings.Contains(path, "/build/")
}

// objects returns a kernel's objects.
func (p picture) objects(kernel string) picture {
	set := picture{}
	for path, e := range p {
		if isObject(path) && strings.HasPrefix(path, modules+"/"+kernel+"/") {
			set[path] = entry{mode: e.mode, text: e.text}
		}
	}
	return set
}

// index returns a kernel's module index.
func (p picture) index(kernel string) picture {
	set := picture{}
	for path, e := range p {
		if filepath.Dir(path) == modules+"/"+kernel && strings.HasPrefix(filepath.Base(path), "modules.") {
			set[path] = entry{mode: e.mode, text: e.text}
		}
	}
	return set
}

// allow makes the sets of a picture, with the index that depmod(8) makes of
// them, such as a kernel may have.
func (g *stage) allow(p picture) {
	g.Helper()
	for _, k := range []string{k1, k2} {
		if set := p.objects(k); g.setOf(k, set) == nil {
			g.restore(p)
			g.command("depmod", k)
			made := g.take()
			g.sets[k] = append(g.sets[k], merge(set, made.index(k)))
		}
	}
}

func merge(a, b picture) picture {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// setOf returns the allowed set with these objects, nil if there is none.
func (g *stage) setOf(kernel string, objects picture) picture {
	for _, s := range g.sets[kernel] {
		if maps.Equal(s.objects(kernel), objects) {
			return s
		}
	}
	return nil
}

// losses tells what is gone or torn in a state that nothing has mended yet.
func (g *stage) losses(p picture) (list []string) {
	for path, e := range g.originals {
		found := false
		for other, now := range p {
			kept := strings.HasPrefix(other, tree+"/") && strings.Contains(other, "/original_module/")
			found = found || (other == path || kept && filepath.Base(other) == filepath.Base(path)) && now.text == e.text
		}
		if !found {
			list = append(list, "the original "+path+" is lost")
		}
	}
	for path, e := range p {
		if !isObject(path) || strings.HasPrefix(filepath.Base(path), ".") {
			continue
		}
		known := false
		for _, sets := range g.sets {
			for _, s := range sets {
				known = known || s[path].text == e.text
			}
		}
		if !known {
			list = append(list, path+" is neither an old nor a new object")
		}
	}
	return list
}

// mixes reports whether a kernel has neither the old nor the new set of one of
// the modules.
func (g *stage) mixes(p picture) bool {
	for _, k := range []string{k1, k2} {
		for _, names := range [][]string{{"alpha", "beta"}, {"gamma"}, {"delta"}} {
			of := func(p picture) picture {
				objects := p.objects(k)
				maps.DeleteFunc(objects, func(path string, _ entry) bool {
					name, _, _ := strings.Cut(filepath.Base(path), ".")
					return !slices.Contains(names, name)
				})
				return objects
			}
			if !slices.ContainsFunc(g.sets[k], func(s picture) bool { return maps.Equal(of(s), of(p)) }) {
				return true
			}
		}
	}
	return false
}

// unsound tells what is wrong with a state in which all should be well.
func (g *stage) unsound(p picture) (list []string) {
	list = g.losses(p)
	for _, k := range []string{k1, k2} {
		set := g.setOf(k, p.objects(k))
		if set == nil {
			list = append(list, fmt.Sprintf("kernel %s has neither an old nor a new set: %q", k, sorted(p.objects(k))))
		} else if d := difference(p.index(k), set.index(k)); d != "" {
			list = append(list, "the module index doesn't agree with the objects:\n"+d)
		}
	}
	for path := range p {
		// The cache is cleared of such files when they are an hour old.
		if strings.HasSuffix(path, ".dkms-new") && !below(path, tree, cached) {
			list = append(list, path+" is left behind")
		}
	}
	for _, i := range check(tree, sources) {
		list = append(list, i)
	}
	return list
}

// settled is a picture without what differs from run to run: times in records
// and logs, and what can be made again.
func settled(p picture) picture {
	out := picture{}
	for path, e := range p {
		name := filepath.Base(path)
		switch {
		case below(path, cached, "/tmp"), path == tree+"/.lock", path == tree+"/.index-due", path == tree+"/.log": // directories, empty
			continue
		case name == "make.log", name == "build.json", below(path, tree+"/.outcome"):
			e.text = ""
		}
		out[path] = entry{mode: e.mode, text: e.text}
	}
	return out
}

func difference(got, want picture) string {
	var list []string
	for _, path := range sorted(merge(got, want)) {
		g, here := got[path]
		w, there := want[path]
		switch {
		case !here:
			list = append(list, path+" is missing")
		case !there:
			list = append(list, path+" is too much")
		case g != w:
			list = append(list, fmt.Sprintf("%s is %v %.60q, want %v %.60q", path, g.mode, g.text, w.mode, w.text))
		}
	}
	return strings.Join(list, "\n")
}

// undone is a picture without the build directories, which stay after a build
// that failed.
func undone(p picture) picture {
	maps.DeleteFunc(p, func(path string, _ entry) bool {
		rel, _ := filepath.Rel(tree, path)
		parts := strings.Split(rel, "/")
		return len(parts) > 2 && parts[2] == "build"
	})
	return p
}

// finish runs the command once more, which must end with all done.
func (g *stage) finish() (complaints []string) {
	r := g.dkms(g.args...)
	if r.code != 0 && !slices.Contains(g.again, r.code) {
		complaints = append(complaints, fmt.Sprintf("the same command again: %v", r))
	}
	p := g.take()
	if d := difference(undone(settled(p)), undone(settled(g.after))); d != "" {
		complaints = append(complaints, "after the same command again:\n"+d)
	}
	return append(complaints, g.unsound(p)...)
}

// other runs other commands, which must leave all sound.
func (g *stage) other(before picture) (complaints []string) {
	if r := g.dkms("status"); r.code != 0 {
		complaints = append(complaints, fmt.Sprintf("dkms status: %v", r))
	}
	if d := difference(settled(g.take()), settled(before)); d != "" {
		complaints = append(complaints, "dkms status changes:\n"+d)
	}
	for _, k := range []string{k1, k2} {
		if r := g.dkms("autoinstall", "-k", k); r.code != 0 {
			complaints = append(complaints, fmt.Sprintf("dkms autoinstall: %v", r))
		}
	}
	return append(complaints, g.unsound(g.take())...)
}

// random matches what differs in the names of two runs.
var random = regexp.MustCompile(`[0-9a-f]{16}|[0-9]{6,}`)

// seen reports whether a state was there before, but for random names.
func (g *stage) seen(p picture) bool {
	sum := sha256.New()
	p = settled(p)
	for _, path := range sorted(p) {
		e := p[path]
		fmt.Fprintf(sum, "%q %v %q\n", random.ReplaceAllString(path, "#"), e.mode, random.ReplaceAllString(e.text, "#"))
	}
	key := string(sum.Sum(nil))
	was := g.states[key]
	g.states[key] = true
	return was
}

// othersEvery is for how many states the command itself, run once more, is tried,
// until other commands are tried as well.
const othersEvery = 5

// kills tries every n-th point of a command. What is done afterwards is looked at
// once for each state that a kill leaves.
func (g *stage) kills(distance int, tear bool) (points int) {
	for n := (distance + 1) / 2; ; n += distance {
		g.restore(g.before)
		r := g.struck(fault{at: n, tear: tear}, g.args...)
		if r.struck == nil {
			return points
		}
		points++
		killed := g.take()
		complaints := g.losses(killed)
		if g.mixes(killed) {
			g.mixed++
		}
		if !g.seen(killed) {
			complaints = append(complaints, g.finish()...)
			if len(g.states)%othersEvery == 1 {
				g.restore(killed)
				complaints = append(complaints, g.other(killed)...)
			}
		}
		if r.code != -1 && r.code != 128+int(syscall.SIGKILL) {
			complaints = append(complaints, fmt.Sprintf("exit code %d of a killed command", r.code))
		}
		g.complain(fmt.Sprintf("killed at change %d, %v", n, r.struck), complaints)
	}
}

func (g *stage) complain(when string, complaints []string) {
	g.Helper()
	if len(complaints) > 0 {
		g.lost++
		g.Errorf("%s:\n%s", when, strings.Join(complaints, "\n"))
	}
}

// total adds the numbers of all scenarios of a test and shows them at its end.
type total struct {
	mu    sync.Mutex
	sums  map[string]int
	order []string
}

func newTotal(t *testing.T) *total {
	all := &total{sums: map[string]int{}}
	t.Cleanup(func() { t.Logf("all: %s", all) })
	return all
}

func (a *total) add(t *testing.T, numbers ...any) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	one := &total{sums: map[string]int{}}
	for i := 0; i < len(numbers); i += 2 {
		what, n := numbers[i].(string), numbers[i+1].(int)
		if !slices.Contains(a.order, what) {
			a.order = append(a.order, what)
		}
		one.order = append(one.order, what)
		one.sums[what] += n
		a.sums[what] += n
	}
	t.Logf("%s", one)
}

func (a *total) String() string {
	var list []string
	for _, what := range a.order {
		list = append(list, fmt.Sprintf("%d %s", a.sums[what], what))
	}
	return strings.Join(list, ", ")
}

// A command that is killed at any of its changes to the disk loses nothing, and
// the next one finishes or undoes it.
func TestKill(t *testing.T) {
	all := newTotal(t)
	for _, s := range append(scenarios(), more()...) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			g := newStage(t, s)
			points := g.kills(every(t, 199), false)
			torn := g.kills(every(t, 199), true)
			all.add(t, "changes", len(g.steps), "kills before one", points, "kills in the middle of a write", torn,
				"states", len(g.states), "kernels with neither set until the next command", g.mixed, "losses", g.lost)
		})
	}
}
