// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"dkms-go/internal/conf"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

// standInMark begins the dkms.conf that fsck makes where a source is gone.
const standInMark = "# Made by dkms fsck in place of a source that is gone."

// standIn reports whether a module's source is one that fsck has made.
func (e *Engine) standIn(id state.ID) bool {
	if !e.tree.Retired(id) {
		return false
	}
	text, err := readPrefix(filepath.Join(e.tree.KeptSource(id), "dkms.conf"), len(standInMark))
	return err == nil && string(text) == standInMark
}

func readPrefix(path string, size int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("not a file"))
	}
	return io.ReadAll(io.LimitReader(f, int64(size)))
}

// sourceTrouble is that of a module without source.
func (s *survey) sourceTrouble(i state.Inconsistency) trouble {
	id := i.Key.ID
	t := trouble{Inconsistency: i, group: "source " + id.String()}
	for _, dir := range []string{s.tree.Source(id), s.tree.KeptSource(id)} {
		if fi, err := os.Stat(filepath.Join(dir, "dkms.conf")); err == nil && fi.Mode().IsRegular() {
			t.mend, t.will = func(lost string) error { return s.relink(id, dir, lost) }, "sets the link to "+dir
			return t
		}
	}
	return s.withoutSource(t, id, fmt.Sprintf("put the source back to %s, such as by installing its package again, then: dkms add %s", s.tree.Source(id), id))
}

// withoutSource adds the cure where there is no source to be used.
func (s *survey) withoutSource(t trouble, id state.ID, step string) trouble {
	t.next = []string{step}
	if objects := s.installedObjects(id); len(objects) > 0 {
		t.mend, t.will = func(lost string) error { return s.putStandIn(id, objects, lost) }, "lets what is installed stay, so that it can be removed, until that is mended"
	} else {
		t.mend, t.will = func(lost string) error { return s.setAside(id, lost) }, "moves the registration aside: nothing of it is installed"
	}
	return t
}

// relink gives a module its source back.
func (s *survey) relink(id state.ID, source, lost string) error {
	return s.change(func(c *state.Change) error {
		link := s.tree.SourceLink(id)
		if fi, err := os.Lstat(link); err == nil && fi.Mode()&os.ModeSymlink == 0 {
			if err := c.Aside(s.tree, link, lost); err != nil {
				return err
			}
		}
		c.Link(source, link)
		if source != s.tree.KeptSource(id) {
			c.Remove(s.tree.KeptSource(id))
			c.Prune(filepath.Dir(s.tree.KeptSource(id)), s.tree.Dir)
		}
		return nil
	})
}

// installedObjects are the objects of a module that are installed for any kernel,
// as far as a conf can have their names.
func (s *survey) installedObjects(id state.ID) []state.ObjectEntry {
	var list []state.ObjectEntry
	for _, k := range s.tree.ActiveKeys() {
		if k.ID != id || s.gone[k.Kernel] {
			continue
		}
		for _, o := range s.claim(k) {
			known := slices.ContainsFunc(list, func(x state.ObjectEntry) bool { return x.Name == o.Name })
			if !known && plainWord(o.Name) && !strings.Contains(o.Name, "/") {
				list = append(list, o)
			}
		}
	}
	return list
}

// plainWord reports whether a text means itself in a conf.
func plainWord(s string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+/~:@%,"
	return s != "" && strings.Trim(s, plain) == "" && !strings.Contains(s, "..")
}

// putStandIn makes a source from which what is installed can be removed again, and
// nothing be built: the module then counts as retired.
func (s *survey) putStandIn(id state.ID, objects []state.ObjectEntry, lost string) error {
	var b bytes.Buffer
	// AUTOINSTALL has a new kernel's hook tell that the module is missing there.
	fmt.Fprintf(&b, "%s\n# What is installed can be removed by it; nothing is built.\nPACKAGE_NAME=\"%s\"\nPACKAGE_VERSION=\"%s\"\nAUTOINSTALL=\"yes\"\n", standInMark, id.Module, id.Version)
	for i, o := range objects {
		location := o.Location
		if !plainWord(location) || !slices.ContainsFunc([]string{"/kernel", "/updates", "/extra"}, func(p string) bool { return strings.HasPrefix(location, p) }) {
			location = "/updates/dkms"
		}
		fmt.Fprintf(&b, "BUILT_MODULE_NAME[%d]=\"%s\"\nDEST_MODULE_LOCATION[%d]=\"%s\"\n", i, o.Name, i, location)
	}
	return s.change(func(c *state.Change) error {
		kept := s.tree.KeptSource(id)
		tmp, err := c.Stage(kept)
		if err == nil {
			err = os.Mkdir(tmp, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(tmp, "dkms.conf"), b.Bytes(), 0o644)
		}
		if err != nil {
			return fmt.Errorf("making a source: %w", err)
		}
		link := s.tree.SourceLink(id)
		if fi, err := os.Lstat(link); err == nil && fi.Mode()&os.ModeSymlink == 0 {
			if err := c.Aside(s.tree, link, lost); err != nil {
				return err
			}
		}
		c.Link(kept, link)
		return nil
	})
}

// setAside takes a module of which nothing is installed out of the tree.
func (s *survey) setAside(id state.ID, lost string) error {
	return s.change(func(c *state.Change) error {
		for _, dir := range []string{s.tree.Version(id), s.tree.KeptLogs(id), s.tree.OutcomesDir(id)} {
			if _, err := os.Lstat(dir); err != nil {
				continue
			}
			if err := c.Aside(s.tree, dir, lost); err != nil {
				return err
			}
			c.Prune(filepath.Dir(dir), s.tree.Dir)
		}
		return nil
	})
}

// confTroubles looks at the confs of all modules that have a source.
func (s *survey) confTroubles() {
	for _, id := range s.tree.Modules("", "") {
		if s.tree.Condition(id) != state.Added {
			continue
		}
		if s.standIn(id) {
			s.standInTrouble(id)
			continue
		}
		path := filepath.Join(s.tree.SourceLink(id), "dkms.conf")
		what := s.confFault(id, path)
		if what == "" {
			continue
		}
		t := trouble{Inconsistency: state.Inconsistency{Kind: fsckConf, Key: state.Key{ID: id}, Path: path, What: what}, group: "source " + id.String()}
		s.add(s.withoutSource(t, id, fmt.Sprintf("correct it, or install the module's package again, then: dkms add %s", id)))
	}
}

// standInTrouble tells of a module that fsck has given a source.
func (s *survey) standInTrouble(id state.ID) {
	i := state.Inconsistency{Kind: state.SourceGone, Key: state.Key{ID: id}, Path: s.tree.SourceLink(id)}
	t := trouble{group: "source " + id.String()}
	source := s.tree.Source(id)
	if file := filepath.Join(source, "dkms.conf"); readable(file) && s.confFault(id, file) == "" {
		t.will = "gives it back to the module"
		i.What, t.why = "the source is back in "+source, "nothing is built from it, since the module has what fsck made in its place"
		t.mend = func(lost string) error { return s.relink(id, source, lost) }
	} else {
		i.What = fmt.Sprintf("the source of %s is gone, or its dkms.conf of no use: what is installed stays, and nothing is built for other kernels", id)
		t.note, t.next = true, []string{fmt.Sprintf("put the source back to %s, with its dkms.conf in order, such as by installing its package again, then: dkms add %s", source, id)}
	}
	t.Inconsistency = i
	s.add(t)
}

// confFault tells why a dkms.conf is of no use, "" if it is. No command that is in
// it runs.
func (s *survey) confFault(id state.ID, file string) string {
	if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() && fi.Size() == 0 {
		return "it is empty"
	}
	m, err := s.loadFile(s.ctx, id, s.anyTarget(), file, conf.NoExec, io.Discard)
	var unreadable *conf.Unreadable
	switch {
	case errors.As(err, &unreadable):
		if errors.Is(err, os.ErrPermission) {
			return ""
		}
		return "it can't be read: " + unreadable.Err.Error()
	case m == nil:
		return "" // no more can be said without running it
	case m.Malformed != "" && s.bashRefuses(s.ctx, file):
		return strings.TrimPrefix(m.Malformed, file+":")
	case err != nil && !m.Incomplete && m.Malformed == "":
		return err.Error()
	}
	return ""
}

// bashRefuses asks bash, which runs nothing then, about the syntax of a conf: it has
// the last word.
func (s *survey) bashRefuses(ctx context.Context, file string) bool {
	text, err := readPrefix(file, 1<<20)
	if err != nil || bytes.IndexByte(text, 0) >= 0 {
		return true
	}
	return run.Cmd{Argv: []string{"bash", "-O", "extglob", "-n", file}, Env: s.baseEnv(), Stdout: io.Discard, Stderr: io.Discard}.Run(ctx) != nil
}
