// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"dkms-go/internal/autoload"
	"dkms-go/internal/conf"
	"dkms-go/internal/initramfs"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// touched remembers that the objects of a module were placed, or taken out, for
// a kernel.
func (w *performance) touched(t plan.Target, m *conf.Module, placed bool) {
	w.marks.Lock()
	defer w.marks.Unlock()
	q := w.images[t]
	if q == nil {
		q = &initramfs.Question{Release: t.Kernel, Env: w.baseEnv()}
		w.images[t] = q
	}
	for i, o := range m.Objects {
		if m.ObjectApplies(i, w.kernelFacts(t)).OK {
			q.Objects = append(q.Objects, o.Dest)
		}
	}
	q.ByConf = q.ByConf || placed && m.Initramfs
}

// updateInitramfs has the initramfs of a kernel made again if an object that has
// changed belongs into it. It runs once a kernel, after depmod. A kernel that
// has none yet gets it from its own package.
func (w *performance) updateInitramfs(ctx context.Context, t plan.Target, out io.Writer) error {
	w.marks.Lock()
	q := w.images[t]
	w.marks.Unlock()
	if q == nil || w.ownInitramfs || !w.Framework.Initramfs {
		return nil
	}
	if _, exists := initramfs.Find(w.Paths, t.Kernel); !exists {
		return nil
	}
	belong, err := initramfs.Belongs(w.Paths, *q)
	if err != nil {
		return fail(InitramfsFailed, err, "The objects are installed. Make the initramfs by hand.")
	}
	if len(belong) == 0 {
		return nil
	}
	w.imaging.Lock()
	defer w.imaging.Unlock()
	fmt.Fprintf(out, "Updating the initramfs of kernel %s (%s: %s)...", t.Kernel, belong[0].Object, belong[0].Why)
	var said bytes.Buffer
	to := io.Writer(&said)
	if w.Verbose {
		to = out
	}
	done, err := initramfs.Rebuild(ctx, w.Paths, t.Kernel, w.baseEnv(), to)
	if err == nil {
		fmt.Fprintln(out, " done.")
		return nil
	}
	fmt.Fprintln(out, " failed.")
	if errors.Is(err, initramfs.ErrNoTool) {
		fmt.Fprintf(out, "Warning: %v\n", err)
		return nil
	}
	f := fail(InitramfsFailed, err, "The objects are installed; the initramfs is the old one. Once the cause is gone, run: "+done.Line)
	if words := strings.TrimSpace(said.String()); words != "" {
		f.hint("It said last: %s", words[strings.LastIndexByte(words, '\n')+1:])
	}
	return f
}

// Autoload switches the loading of a module's objects at boot on or off.
func (e *Engine) Autoload(ctx context.Context, id state.ID, on bool) error {
	if err := e.RequireRoot(); err != nil {
		return err
	}
	if !on {
		if err := autoload.Off(e.Paths, id.Module); err != nil {
			return fail(NotWritable, err)
		}
		fmt.Fprintf(e.Out, "%s is not loaded at boot by dkms.\n", id.Module)
		return nil
	}
	objects, err := e.objectsOf(ctx, id)
	if err != nil {
		return err
	}
	if err := autoload.On(e.Paths, id.Module, objects); err != nil {
		return fail(NotWritable, err)
	}
	fmt.Fprintf(e.Out, "%s is loaded at boot: %s (%s)\n", id.Module, strings.Join(objects, " "), autoload.Path(e.Paths, id.Module))
	return nil
}

// AutoloadState returns the objects of a module that are loaded at boot by dkms.
func (e *Engine) AutoloadState(id state.ID) (objects []string, on bool, err error) {
	if objects, on, err = autoload.State(e.Paths, id.Module); err != nil {
		return nil, false, fail(NotWritable, err)
	}
	return objects, on, nil
}

// objectsOf returns the names of a module's objects, of its newest version if
// none is named.
func (e *Engine) objectsOf(ctx context.Context, id state.ID) ([]string, error) {
	for _, latest := range e.latest() {
		if latest.Module == id.Module && id.Version == "" {
			id = latest
		}
	}
	if id.Version == "" {
		return nil, failf(NotAdded, "there is no module %q in the DKMS tree", id.Module).hint("`dkms status` lists the modules that are.")
	}
	if e.tree.Condition(id) != state.Added {
		return nil, e.requireAdded(id)
	}
	m, err := e.load(ctx, id, plan.Target{Kernel: unknownKernel}, conf.Auto, e.Err)
	if err != nil {
		return nil, confFailure(err)
	}
	var objects []string
	for _, o := range m.Objects {
		objects = append(objects, o.Dest)
	}
	return objects, nil
}
