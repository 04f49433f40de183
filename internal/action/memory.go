// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/install"
	"dkms-go/internal/memo"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// factsFile is the name of the file below host.Paths.Cache that keeps what was
// read out of files.
const factsFile = "facts"

// memory is what is remembered of files; it is opened when it is first needed.
// The caller holds e.mu.
func (e *Engine) memory() *memo.Store {
	if e.remembered == nil {
		file := ""
		if e.Paths.Cache != "" {
			file = filepath.Join(e.Paths.Cache, factsFile)
		}
		e.remembered = memo.Open(file)
	}
	return e.remembered
}

// Remember keeps what was read for later runs. It is called at the end of a run;
// where nothing can be kept, as for most users, nothing is.
func (e *Engine) Remember() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.remembered != nil && !e.DryRun {
		_ = e.remembered.Save() // a memory only
	}
}

// soundness is with what an installed result was found in order: it is not stale,
// each object that its record names is there, and the same is in the kernel's tree.
type soundness struct {
	// compiler is the program's path, "" if the record has none.
	compiler string
	// objects are the names of the files in the result, placed the paths of those
	// in the kernel's tree, in the same order.
	objects, placed []string
}

// text is the form in which it is remembered.
func (s soundness) text() string {
	words := []string{s.compiler}
	for i := range s.objects {
		words = append(words, s.objects[i], s.placed[i])
	}
	return strings.Join(words, "\x00")
}

// parse is the inverse of text; it uses the slices that s has.
func (s *soundness) parse(text string) {
	s.objects, s.placed = s.objects[:0], s.placed[:0]
	var object, placed string
	s.compiler, text, _ = strings.Cut(text, "\x00")
	for text != "" {
		object, text, _ = strings.Cut(text, "\x00")
		placed, text, _ = strings.Cut(text, "\x00")
		s.objects, s.placed = append(s.objects, object), append(s.placed, placed)
	}
}

// judge tells from memory which results are sound. It lives for one run, in which
// files and directories that many results share are looked at once.
type judge struct {
	shared  map[string]memo.Stamp
	grounds map[plan.Target]memo.Digest
	// The rest is room that is used again for each result.
	sum   memo.Sum
	found soundness
	last  []memo.Stamp
}

// factsVersion changes with the meaning of what is remembered of results.
const factsVersion = "1"

// ground is the digest of what all results for a kernel rest on: what they are
// held against to find them stale, and where objects belong.
func (e *Engine) ground(t plan.Target) memo.Digest {
	if d, ok := e.judge.grounds[t]; ok {
		return d
	}
	k := e.kernel(t)
	words := []string{factsVersion, e.tree.Dir, k.Tree, k.SourceDir, k.ConfigFile, e.installDir("/a"), e.installDir("/b")}
	if k.HasHeaders() {
		words = append(words, fmt.Sprintf("%q", e.identity(t)))
	}
	var sum memo.Sum
	for _, w := range words {
		sum.Text(w)
	}
	d := sum.Digest()
	e.judge.grounds[t] = d
	return d
}

// stampOf returns the stamp of a file that many results share.
func (e *Engine) stampOf(path string) memo.Stamp {
	t, ok := e.judge.shared[path]
	if !ok {
		t = e.remembered.Of(path)
		e.judge.shared[path] = t
	}
	return t
}

// mark is the digest of all by which it shows that an installed result is no more
// as it was when it was found sound, and list that of the list of what was placed.
// Nothing is read for them. e.judge.last has the stamps.
func (e *Engine) mark(k state.Key, s *soundness, withList bool) (mark, list memo.Digest) {
	m, j, slash := e.remembered, &e.judge, "/"
	ground := e.ground(plan.Target{Kernel: k.Kernel, Arch: k.Arch})
	of := func(name, file string) memo.Stamp {
		return m.Of(e.tree.Dir, slash, k.Module, slash, k.Version, slash, k.Kernel, slash, k.Arch, name, file)
	}
	if withList {
		j.last = append(j.last[:0], of(slash, ".installed"))
		j.sum.Stamp(j.last[0])
		list = j.sum.Digest()
	} else {
		j.last = j.last[:0]
	}
	j.last = append(j.last, e.stampOf(e.tree.Dir+slash+k.Module), // with the active links
		e.stampOf(s.compiler), of(slash, state.RecordFile), of("/module", ""))
	for i, object := range s.objects {
		dir := s.placed[i][:max(strings.LastIndexByte(s.placed[i], '/'), 0)]
		j.last = append(j.last, of("/module/", object), e.stampOf(dir), m.Of(s.placed[i]))
	}
	j.sum.Bytes(ground[:])
	skip := 0
	if withList {
		skip = 1
	}
	for _, t := range j.last[skip:] {
		j.sum.Stamp(t)
	}
	return j.sum.Digest(), list
}

// forgetStamps makes what many results share be looked at again, since this process
// may have changed it.
func (e *Engine) forgetStamps() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.memory()
	clear(e.judge.shared)
}

// results are the results of a module for the kernels and arches asked for, as
// state.Tree.Results finds them; there may be directories among them that aren't
// built.
func (e *Engine) results(id state.ID, kernel, arch string) []state.Key {
	if kernel != "" || arch != "" {
		return e.tree.Results(id, kernel, arch)
	}
	m, j, dir := e.remembered, &e.judge, e.tree.Version(id)
	j.sum.Text("results")
	j.sum.Text(dir)
	key := j.sum.Digest()
	if v, ok := m.Get(key); ok && len(v) >= len(key) {
		list := parseKeys(id, string(v[len(key):]))
		if e.layoutMark(dir, list) == memo.Digest(v[:len(key)]) {
			return slices.DeleteFunc(list, func(k state.Key) bool { return k.Arch == "" })
		}
	}
	kernels, arches, plain := e.tree.Layout(id)
	var list []state.Key
	text := ""
	for _, k := range kernels {
		for _, a := range append(arches[k], "") { // the last stands for the directory
			list = append(list, state.Key{ID: id, Kernel: k, Arch: a})
			text += k + "/" + a + "\x00"
		}
	}
	if mark := e.layoutMark(dir, list); plain {
		m.Put(key, append(mark[:], text...), j.last...)
	}
	return slices.DeleteFunc(list, func(k state.Key) bool { return k.Arch == "" })
}

// parseKeys reads what results has written.
func parseKeys(id state.ID, text string) []state.Key {
	list := make([]state.Key, 0, strings.Count(text, "\x00"))
	for word := range strings.SplitSeq(strings.TrimSuffix(text, "\x00"), "\x00") {
		kernel, arch, _ := strings.Cut(word, "/")
		list = append(list, state.Key{ID: id, Kernel: kernel, Arch: arch})
	}
	return list
}

// layoutMark is the digest of the stamps of a module's directory and of those of
// its kernels; e.judge.last has them.
func (e *Engine) layoutMark(dir string, list []state.Key) memo.Digest {
	j := &e.judge
	j.last = append(j.last[:0], e.remembered.Of(dir))
	for _, k := range list {
		if k.Arch == "" {
			j.last = append(j.last, e.remembered.Of(dir, "/", k.Kernel))
		}
	}
	for _, t := range j.last {
		j.sum.Stamp(t)
	}
	return j.sum.Digest()
}

func (e *Engine) soundKey(k state.Key) memo.Digest {
	sum := &e.judge.sum
	for _, s := range [...]string{"sound", e.tree.Dir, k.Module, k.Version, k.Kernel, k.Arch} {
		sum.Text(s)
	}
	return sum.Digest()
}

// sound reports whether a result is known to be installed, not stale, and the
// same in the kernel's tree; withList also that all that was placed is there.
// False says that it must be looked at.
func (e *Engine) sound(k state.Key, withList bool) bool {
	e.mu.Lock()
	v, ok := e.memory().Get(e.soundKey(k))
	e.mu.Unlock()
	const size = len(memo.Digest{})
	if !ok || len(v) < 2*size {
		return false
	}
	e.judge.found.parse(string(v[2*size:]))
	mark, list := e.mark(k, &e.judge.found, withList)
	return mark == memo.Digest(v[:size]) && (!withList || list == memo.Digest(v[size:2*size]))
}

// rememberSound keeps that an installed result was found sound, if it was: what
// its record names is in the kernel's tree, and so is all of the list. It must not
// be stale.
func (e *Engine) rememberSound(k state.Key) {
	record, err := e.tree.Record(k)
	if err != nil || e.deep || e.DryRun {
		return
	}
	var s soundness
	if record.Compiler != nil {
		s.compiler = record.Compiler.Path
	}
	job := install.Job{Key: k, Tree: e.tree, Paths: e.Paths, Dir: e.installDir}
	for _, o := range record.Objects {
		from, ok := install.Find(e.tree.Objects(k), o.Name)
		to := job.Located(o.Name, o.Location)
		if !ok || to == "" || !install.Same(from, to) {
			return
		}
		s.objects, s.placed = append(s.objects, filepath.Base(from)), append(s.placed, to)
	}
	placed := install.ReadPlaced(e.tree, e.Paths.KernelTree(k.Kernel), k)
	for _, p := range placed {
		if !slices.Contains(s.placed, p.Path) {
			return
		}
	}
	key := e.soundKey(k)
	mark, list := e.mark(k, &s, true)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.memory().Put(key, append(append(mark[:], list[:]...), s.text()...), e.judge.last...)
}
