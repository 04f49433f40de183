// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/host"
	"dkms-go/internal/install"
	"dkms-go/internal/memo"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// memory is what is remembered of files; it is opened when it is first needed.
// The caller holds e.mu.
func (e *Engine) memory() *memo.Store {
	if e.remembered == nil {
		e.remembered = memo.Open(e.Paths.Cached(host.CacheFacts))
	}
	return e.remembered
}

// Remember keeps what was read for later runs. It is called at the end of a run;
// where nothing can be kept, as for most users, nothing is.
func (e *Engine) Remember() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.remembered != nil && !e.DryRun && e.trial == nil {
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
	keys  []state.Key
	// module and version are the directories of id.
	id              state.ID
	module, version string
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
	} else {
		words = append(words, e.abi(t).HeaderVersion())
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
	m, j := e.remembered, &e.judge
	if j.id != k.ID {
		j.id, j.module, j.version = k.ID, e.tree.Module(k.Module), e.tree.Version(k.ID)
	}
	version := j.version
	ground := e.ground(plan.Target{Kernel: k.Kernel, Arch: k.Arch})
	of := func(name, file string) memo.Stamp { return m.In(version, k.Kernel, "/", k.Arch, name, file) }
	j.last = j.last[:0]
	if withList {
		j.last = append(j.last, of("/.installed", ""))
		j.sum.Stamp(j.last[0])
		list = j.sum.Digest()
	}
	j.last = append(j.last, e.stampOf(j.module), // with the active links
		e.stampOf(s.compiler), of("/"+state.RecordFile, ""), of("/module", ""))
	for i, object := range s.objects {
		slash := max(strings.LastIndexByte(s.placed[i], '/'), 0)
		dir, name := s.placed[i][:slash], s.placed[i][min(slash+1, len(s.placed[i])):]
		j.last = append(j.last, of("/module/", object), e.stampOf(dir), m.In(dir, name))
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
	e.remembered.Close()
	clear(e.judge.shared)
}

// modules are state.Tree.Modules.
func (e *Engine) modules(name, version string) []state.ID {
	if name != "" || version != "" {
		return e.tree.Modules(name, version)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	m, j := e.memory(), &e.judge
	j.sum.Text("modules")
	j.sum.Text(e.tree.Dir)
	key := j.sum.Digest()
	if v, ok := m.Get(key); ok && len(v) >= len(key) {
		names, ids := parseModules(v[len(key):])
		if mark := e.treeMark(names); string(mark[:]) == v[:len(key)] {
			return ids
		}
	}
	ids := e.tree.Modules("", "")
	if !e.tree.Plain() {
		return ids
	}
	var text strings.Builder
	names, _ := os.ReadDir(e.tree.Dir)
	for _, n := range names {
		if n.IsDir() && !strings.HasPrefix(n.Name(), ".") {
			text.WriteString(n.Name() + "/\x00")
		}
	}
	for _, id := range ids {
		text.WriteString(id.String() + "\x00")
	}
	all, _ := parseModules(text.String())
	mark := e.treeMark(all)
	m.Put(key, mark.String()+text.String(), j.last...)
	return ids
}

// parseModules reads what modules has written: the directories of all modules, and
// the modules.
func parseModules(text string) (dirs []string, ids []state.ID) {
	for text != "" {
		var word string
		word, text, _ = strings.Cut(text, "\x00")
		module, version, _ := strings.Cut(word, "/")
		if version == "" {
			dirs = append(dirs, module)
		} else {
			ids = append(ids, state.ID{Module: module, Version: version})
		}
	}
	return dirs, ids
}

// treeMark is the digest of the stamps of the tree's directory and of those of
// modules; e.judge.last has them.
func (e *Engine) treeMark(modules []string) memo.Digest {
	j := &e.judge
	j.last = append(j.last[:0], e.stampOf(e.tree.Dir))
	for _, name := range modules {
		j.last = append(j.last, e.stampOf(e.tree.Module(name)))
	}
	for _, t := range j.last {
		j.sum.Stamp(t)
	}
	return j.sum.Digest()
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
		j.parseKeys(id, v[len(key):])
		if mark := e.layoutMark(dir); string(mark[:]) == v[:len(key)] {
			return j.built()
		}
	}
	kernels, arches, plain := e.tree.Layout(id)
	var text strings.Builder
	j.keys = j.keys[:0]
	for _, k := range kernels {
		for _, a := range append(arches[k], "") { // the last stands for the directory
			j.keys = append(j.keys, state.Key{ID: id, Kernel: k, Arch: a})
			text.WriteString(k + "/" + a + "\x00")
		}
	}
	if mark := e.layoutMark(dir); plain {
		m.Put(key, mark.String()+text.String(), j.last...)
	}
	return j.built()
}

// parseKeys reads what results has written.
func (j *judge) parseKeys(id state.ID, text string) {
	j.keys = j.keys[:0]
	for text != "" {
		var word string
		word, text, _ = strings.Cut(text, "\x00")
		kernel, arch, _ := strings.Cut(word, "/")
		j.keys = append(j.keys, state.Key{ID: id, Kernel: kernel, Arch: arch})
	}
}

// built drops the keys that stand for directories.
func (j *judge) built() []state.Key {
	j.keys = slices.DeleteFunc(j.keys, func(k state.Key) bool { return k.Arch == "" })
	return j.keys
}

// layoutMark is the digest of the stamps of a module's directory and of those of
// its kernels, which e.judge.keys names; e.judge.last has them.
func (e *Engine) layoutMark(dir string) memo.Digest {
	j := &e.judge
	j.last = append(j.last[:0], e.remembered.Of(dir))
	for _, k := range j.keys {
		if k.Arch == "" {
			j.last = append(j.last, e.remembered.In(dir, k.Kernel))
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
	e.judge.found.parse(v[2*size:])
	mark, list := e.mark(k, &e.judge.found, withList)
	return string(mark[:]) == v[:size] && (!withList || string(list[:]) == v[size:2*size])
}

// rememberSound keeps that an installed result was found sound, if it was: what
// its record names is in the kernel's tree, and so is all of the list. It must not
// be stale.
func (e *Engine) rememberSound(k state.Key) {
	record, err := e.tree.Record(k)
	if err != nil || e.DryRun {
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
	e.memory().Put(key, mark.String()+list.String()+s.text(), e.judge.last...)
}
