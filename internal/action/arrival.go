// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/bundle"
	"dkms-go/internal/copytree"
	"dkms-go/internal/hook"
	"dkms-go/internal/install"
	"dkms-go/internal/prebuilt"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// place puts the result, and what the module lacks of a source, into the tree, in one
// change.
func (a *arrival) place(ctx context.Context) error {
	dir, err := os.MkdirTemp(a.Framework.TmpLocation, "dkms.")
	if err != nil {
		return fail(NotWritable, err)
	}
	defer os.RemoveAll(dir)
	if err := a.unpackSource(dir); err != nil {
		return err
	}
	err = a.change(func(c *state.Change) error {
		if err := a.stageSource(c); err != nil {
			return err
		}
		return a.stageResult(c)
	})
	if err != nil {
		return fail(NotWritable, fmt.Errorf("importing %s: %w", a.key, err))
	}
	a.forgetStamps()
	a.mu.Lock()
	delete(a.sources, a.key.ID)
	a.mu.Unlock()
	if !a.fresh {
		return nil
	}
	script := hook.Script{Name: "post_add", Directive: a.conf.PostAdd, Module: a.key.Module, Root: a.tree.SourceLink(a.key.ID)}
	if err := install.Script(ctx, script, a.Paths, a.baseEnv(), a.Out, a.Err); err != nil {
		fmt.Fprintf(a.Err, "Warning: the post_add script of %s failed: %v\n", a.key.ID, err)
	}
	return nil
}

// unpackSource unpacks the bundle's source, if it is of use.
func (a *arrival) unpackSource(dir string) error {
	text := a.bundle.Content(prebuilt.SourcePath)
	if text == nil || !a.fresh || readable(a.source) {
		return nil
	}
	path := filepath.Join(dir, prebuilt.SourcePath)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fail(NotWritable, err)
	}
	archive, err := bundle.Extract(path, filepath.Join(dir, "source"))
	if err != nil {
		return fail(BadArchive, err)
	}
	digest, err := copytree.Digest(archive.SourceDir)
	if err != nil {
		return fail(BadArchive, err)
	}
	if digest != a.bundle.Manifest.Source {
		return failf(BadArchive, "the source in the bundle is not the one that its manifest names")
	}
	a.unpacked = archive.SourceDir
	return nil
}

// stageSource registers the module where that is needed.
func (a *arrival) stageSource(c *state.Change) error {
	if a.unpacked != "" {
		if err := stageTree(c, a.unpacked, a.source); err != nil {
			return err
		}
	}
	stands := a.tree.PrebuiltSource(a.key.ID)
	if a.source == stands {
		if err := a.stageStandIn(c, stands); err != nil {
			return err
		}
	}
	if a.fresh {
		return a.registration(c, a.key.ID, a.source)
	}
	return nil
}

// prebuiltFacts is what the file of that name holds.
type prebuiltFacts struct {
	Format int    `json:"format"`
	Source string `json:"source"`
}

// stageStandIn prepares what stands for the source.
func (a *arrival) stageStandIn(c *state.Change, dest string) error {
	tmp, err := c.Stage(dest)
	if err != nil {
		return err
	}
	facts, err := json.Marshal(prebuiltFacts{1, a.bundle.Manifest.Source})
	if err != nil {
		return err
	}
	if err := writeBelow(tmp, state.PrebuiltFacts, facts, 0o644); err != nil {
		return err
	}
	for _, f := range a.bundle.Manifest.Files {
		name, ok := strings.CutPrefix(f.Path, "conf/")
		if !ok || name == state.PrebuiltFacts {
			continue
		}
		mode := os.FileMode(0o644)
		if f.Executable {
			mode = 0o755
		}
		if err := writeBelow(tmp, name, a.bundle.Content(f.Path), mode); err != nil {
			return err
		}
	}
	return nil
}

// writeBelow writes a file of a directory that is being prepared.
func writeBelow(dir, name string, data []byte, mode os.FileMode) error {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, mode)
}

// readPrebuiltFacts reads the digest of the source that a module was built from
// elsewhere.
func readPrebuiltFacts(t state.Tree, id state.ID) (source string, err error) {
	text, err := untrusted.ReadFile(filepath.Join(t.PrebuiltSource(id), state.PrebuiltFacts), maxConf)
	var f prebuiltFacts
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return "", fmt.Errorf("reading what came with the prebuilt %s: %w", id, err)
	}
	return f.Source, nil
}

// stageResult prepares the result: the objects, byte by byte as they came, the log and
// the record.
func (a *arrival) stageResult(c *state.Change) error {
	result := a.tree.Result(a.key)
	if readable(result) {
		c.Remove(result)
	}
	tmp, err := c.Stage(result)
	if err != nil {
		return err
	}
	for _, o := range a.bundle.Manifest.Objects {
		if err := writeBelow(tmp, filepath.Join("module", filepath.Base(o.Path)), a.bundle.Content(o.Path), 0o644); err != nil {
			return err
		}
	}
	log := fmt.Sprintf("DKMS (%s) make.log for %s for kernel %s (%s)\n%s\n\nNothing was compiled: the objects came from %s. The log of their build:\n\n%s",
		a.Version, a.key.ID, a.t.Kernel, a.t.Arch, a.record.Built.Format("Mon Jan _2 15:04:05 MST 2006"), a.from, a.bundle.Content(prebuilt.LogPath))
	if err := writeBelow(tmp, filepath.Join("log", "make.log"), []byte(log), 0o644); err != nil {
		return err
	}
	if list, err := untrusted.ReadFile(a.tree.PlacedList(a.key), maxConf); err == nil && a.tree.Installed(a.key) {
		if err := writeBelow(tmp, filepath.Base(a.tree.PlacedList(a.key)), list, 0o644); err != nil {
			return err
		}
	}
	a.tree.ForgetOutcome(c, a.key)
	return state.WriteRecord(tmp, a.record)
}
