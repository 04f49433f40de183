// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"dkms-go/internal/conf"
	"dkms-go/internal/copytree"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// stale names what has changed under a result since it was built: its kernel,
// the compiler, and with deep, which reads all of the source, the source. A
// result of another program has no record to compare with. Without headers
// nothing could be built anew, so nothing is stale, but for prebuilts once the image
// is that of another build.
func (e *Engine) stale(key state.Key, t plan.Target) []string {
	r, err := e.tree.Record(key)
	if err != nil {
		return nil
	}
	if !e.kernel(t).HasHeaders() {
		if v := e.abi(t).HeaderVersion(); r.Origin == Prebuilt && v != "" && r.Identity.UTSVersion != "" && v != r.Identity.UTSVersion {
			return []string{"the kernel's version"}
		}
		return nil
	}
	changed := e.identity(t).Changed(r.Identity, r.WatchesImage)
	if r.Compiler != nil && e.replaced(*r.Compiler) {
		changed = append(changed, "the compiler")
	}
	if e.deep && e.otherSource(key) {
		changed = append(changed, "the source")
	}
	return changed
}

// otherSource reports whether a result was built from another source than the
// module has now, as far as its record tells. A source that is lost is none.
func (e *Engine) otherSource(key state.Key) bool {
	r, err := e.tree.Record(key)
	if err != nil || r.Source == "" || e.standIn(key.ID) {
		return false
	}
	now, err := e.sourceDigest(key.ID)
	return err == nil && now != r.Source
}

// errNothing keeps what couldn't be read from being remembered.
var errNothing = errors.New("nothing")

// identity returns what tells a kernel from others of its release; it is read
// once.
func (e *Engine) identity(t plan.Target) kernel.Identity {
	k := e.kernel(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	id, ok := e.identities[t]
	if !ok {
		id = k.IdentityBy(e.Paths, func(kind, path string, compute func(string) string) string {
			v, _ := e.memory().Value(kind, path, func(path string) (string, error) {
				if v := compute(path); v != "" {
					return v, nil
				}
				return "", errNothing
			})
			return v
		})
		e.identities[t] = id
	}
	return id
}

// program describes the file that a command is, without a banner; nil if there
// is none.
func (e *Engine) program(name string, environ []string) *state.Program {
	path, err := run.LookPath(name, environ)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return &state.Program{Path: path, Size: fi.Size(), ModTime: fi.ModTime().UnixNano()}
}

// banner returns the first line of what a program prints of its version. A program
// that hasn't changed isn't run again for it.
func (e *Engine) banner(path string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	line, _ := e.memory().Value("banner", path, func(path string) (string, error) {
		out, err := run.Cmd{Argv: []string{path, "--version"}, Env: e.baseEnv()}.Output(context.Background())
		line, _, _ := strings.Cut(string(out), "\n")
		return line, err
	})
	return line
}

// replaced reports whether another program is in the place of the one that
// compiled a result. It is run only if its file isn't the same any more: a
// reinstalled package changes nothing.
func (e *Engine) replaced(was state.Program) bool {
	now := e.program(was.Path, e.Environ)
	if now == nil || now.Size == was.Size && now.ModTime == was.ModTime {
		return false
	}
	banner := e.banner(now.Path)
	return banner != "" && banner != was.Banner
}

// sourceFacts is what is known of a module's source as a whole.
type sourceFacts struct {
	digest string
	// image says that a file names what comes with the kernel's image.
	image bool
}

// surveyed reads a module's source; once, and not at all if nothing in it has
// changed since an earlier run.
func (e *Engine) surveyed(id state.ID) (sourceFacts, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f, ok := e.sources[id]; ok {
		return f, nil
	}
	if e.tree.OnlyPrebuilt(id) {
		digest, err := readPrebuiltFacts(e.tree, id)
		return sourceFacts{digest: digest}, err
	}
	text, err := e.memory().Tree("source", e.tree.SourceLink(id), func(dir string) (string, error) {
		image := ""
		digest, err := copytree.Survey(dir, func(text []byte) {
			if len(text) <= maxScanned && imageWords().Match(text) {
				image = "image"
			}
		})
		return digest + " " + image, err
	})
	if err != nil {
		return sourceFacts{}, err
	}
	digest, image, _ := strings.Cut(text, " ")
	f := sourceFacts{digest, image != ""}
	e.sources[id] = f
	return f, nil
}

// sourceDigest returns the digest of a module's source.
func (e *Engine) sourceDigest(id state.ID) (string, error) {
	f, err := e.surveyed(id)
	return f.digest, err
}

// settingsDigest returns the digest of a module's evaluated conf and of what the
// administrator lays over its source.
func (e *Engine) settingsDigest(m *conf.Module, id state.ID) string {
	return e.digestOf(m, id, m.Vars)
}

// objectDigest is settingsDigest of what can make other objects.
func (e *Engine) objectDigest(m *conf.Module, id state.ID) string {
	vars := maps.Clone(m.Vars)
	for _, name := range conf.Apart() {
		delete(vars, name)
	}
	return e.digestOf(m, id, vars)
}

func (e *Engine) digestOf(m *conf.Module, id state.ID, vars conf.Vars) string {
	h := sha256.New()
	text, _ := json.Marshal(vars) // maps are written in the order of their keys
	h.Write(text)
	fmt.Fprintf(h, "%q", m.Env)
	if overlay, err := copytree.Digest(filepath.Join(e.Paths.ConfDir, id.Module)); err == nil {
		fmt.Fprintln(h, overlay)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// toolNames are the programs whose arrival or change makes it worth to try a
// failed build again.
func (e *Engine) toolNames(t plan.Target) []string {
	names := []string{"make", "gcc", "cc", "clang", "ld", "ld.lld", "patch", "bash", "perl", "pahole"}
	if c, err := e.kernel(t).Config(); err == nil {
		if cc, _, _ := strings.Cut(c.Text("CONFIG_CC_VERSION_TEXT"), " "); cc != "" {
			names = append(names, cc)
		}
	}
	return names
}

// inputs returns the digest of all that a build of a module for a kernel is made
// from, as far as the machine shows it without running anything. It is "" if the
// source can't be read.
func (e *Engine) inputs(key state.Key, t plan.Target, m *conf.Module) string {
	source, err := e.sourceDigest(key.ID)
	if err != nil {
		return ""
	}
	h := sha256.New()
	id := e.identity(t)
	if m == nil || !e.watchesImage(key.ID, m) {
		id = id.OfHeaders()
	}
	fmt.Fprintf(h, "%s\n%q\n%q\n", source, id, e.Version)
	if m != nil {
		fmt.Fprintln(h, e.settingsDigest(m, key.ID))
		for _, d := range m.BuildDepends {
			v, _ := e.tree.Active(t.Key(state.ID{Module: d}))
			fmt.Fprintf(h, "%q %q\n", d, v)
		}
	}
	for _, name := range e.toolNames(t) {
		if p := e.program(name, e.Environ); p != nil {
			fmt.Fprintf(h, "%q %d %d\n", p.Path, p.Size, p.ModTime)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// watchesImage reports whether a build may read what comes with the kernel's
// image and not with its headers: it has a PRE_BUILD script, or its source names
// such a file. Too many is safe: it costs one more build when the image comes.
func (e *Engine) watchesImage(id state.ID, m *conf.Module) bool {
	if m.PreBuild != "" {
		return true
	}
	f, err := e.surveyed(id)
	return err == nil && f.image
}

// imageWords matches the names of what comes with a kernel's image.
var imageWords = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`System\.map|kallsyms\b|\bboot/|\bvmlinux`)
})

// maxScanned bounds the files of a source that are looked into, in bytes.
const maxScanned = 1 << 20
