// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/durable"
	"dkms-go/internal/run"
)

// pin makes the entry of release r the default, by a GRUB_DEFAULT that
// grub-mkconfig reads or by saved_entry.
func (g *grub) pin(ctx context.Context, r string) (bool, error) {
	entry, err := g.entryOf(r)
	if err != nil {
		return false, err
	}
	command, err := mkconfig(g.cfg())
	if err != nil {
		return false, err
	}
	if command != nil {
		return g.pinDefault(ctx, command, r, entry)
	}
	byEnv, err := g.takesSaved()
	if err != nil {
		return false, err
	}
	if !byEnv {
		return false, fmt.Errorf("holding the boot default at %s: grub-mkconfig of this machine doesn't read %s, and %s doesn't take its default from saved_entry; set GRUB_DEFAULT=saved",
			r, g.paths.GRUBGate, g.cfg())
	}
	return g.pinSaved(ctx, r, entry)
}

// unpin undoes both forms of pin.
func (g *grub) unpin(ctx context.Context) (bool, error) {
	saved, err := g.unpinSaved(ctx)
	if err != nil {
		return saved, err
	}
	// A rename, so that a call that was killed is finished by the next one.
	path, undone := g.paths.GRUBGate, g.paths.GRUBGate+".undone"
	if err := os.Rename(path, undone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return saved, fmt.Errorf("taking the boot gate away: %w", err)
	}
	text, found, err := readFile(undone, maxEntryFile)
	if err != nil || !found {
		return saved, err
	}
	command, err := mkconfig(g.cfg())
	if err == nil && command != nil {
		err = g.update(ctx, command)
	}
	if err != nil {
		return saved, errors.Join(fmt.Errorf("taking the boot gate away: %w", err), os.Rename(undone, path))
	}
	if err := removeFile(undone); err != nil {
		return true, err
	}
	if strings.Contains(string(text), gateMadeDir) {
		os.Remove(filepath.Dir(path)) // stays if somebody uses it
	}
	return true, nil
}

func (g *grub) pinned() (string, error) {
	text, found, err := readFile(g.paths.GRUBGate, maxEntryFile)
	if err != nil || found {
		return heldIn(string(text)), err
	}
	text, _, err = readFile(g.savedFile(), maxEntryFile)
	return heldIn(string(text)), err
}

const (
	gateHold    = "# dkms-gate: hold "
	gateMadeDir = "# dkms-gate: the directory is ours too\n"
)

// heldIn returns the release in the line gateHold of one of our files.
func heldIn(text string) string {
	for line := range strings.Lines(text) {
		if r, ok := strings.CutPrefix(strings.TrimSpace(line), gateHold); ok && isRelease(r) {
			return r
		}
	}
	return ""
}

// entryOf returns the path of the menu entry for a release, by ids where there
// are some. An entry that grub-mkconfig points at the newest kernel
// (gnulinux-simple-…) is none.
func (g *grub) entryOf(r string) (string, error) {
	s, err := g.run(g.lasting())
	if err != nil {
		return "", err
	}
	path := search(s.top, func(e *entry) bool {
		// By name: a link such as /vmlinuz names another kernel tomorrow.
		named := named(base(e.image)) == r || e.version == r
		return named && !strings.HasPrefix(e.id, "gnulinux-simple-")
	})
	if path == "" {
		return "", fmt.Errorf("holding the boot default at %s: %s has no menu entry of its own for it", r, g.cfg())
	}
	if strings.ContainsAny(path, "'\"\\$`\r\n") {
		return "", fmt.Errorf("holding the boot default at %s: the menu entry %q has characters that mean something in grub.cfg", r, path)
	}
	return path, nil
}

// search returns the path of the first entry that fits, "" if there is none.
func search(m *entry, fits func(*entry) bool) string {
	for _, e := range m.children {
		switch name := escape(e.name()); {
		case e.submenu:
			if sub := search(e, fits); sub != "" {
				return name + ">" + sub
			}
		case fits(e):
			return name
		}
	}
	return ""
}

// mkconfig returns the command that makes grub.cfg again, if it reads
// default/grub.d as Debian's does (debian/patches/default-grub-d.patch), else nil.
func mkconfig(cfg string) ([]string, error) {
	for _, name := range []string{"grub-mkconfig", "grub2-mkconfig"} {
		path, err := run.LookPath(name, os.Environ())
		if err != nil {
			continue
		}
		text, _, err := readFile(path, maxConfig)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(text), "default/grub.d") {
			return nil, nil
		}
		if update, err := run.LookPath("update-grub", os.Environ()); err == nil {
			return []string{update}, nil
		}
		return []string{path, "-o", cfg}, nil
	}
	return nil, nil
}

// update runs the command that makes grub.cfg again. It isn't interrupted:
// grub-mkconfig prepares the file aside, but then copies it in place.
func (g *grub) update(ctx context.Context, command []string) error {
	if _, err := (run.Cmd{Argv: command}).Output(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("making %s again: %w", g.cfg(), err)
	}
	return durable.Sync(g.dir)
}

// pinDefault writes GRUBGate, makes grub.cfg again, and looks whether it has
// the effect; if not, both are put back.
func (g *grub) pinDefault(ctx context.Context, command []string, r, entry string) (bool, error) {
	path := g.paths.GRUBGate
	before, found, err := readFile(path, maxEntryFile)
	if err != nil {
		return false, err
	}
	dir := filepath.Dir(path)
	_, statErr := os.Stat(dir)
	made := errors.Is(statErr, os.ErrNotExist) || strings.Contains(string(before), gateMadeDir)
	text := gateHold + r + "\n" +
		"# Written by dkms: GRUB stays with this kernel until the modules of a newer one\n" +
		"# are ready. To undo it by hand, delete this file and make grub.cfg again.\n"
	if made {
		text += gateMadeDir
	}
	text += "GRUB_DEFAULT='" + entry + "'\n"
	if string(before) == text && g.effect(r) == nil {
		return false, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("holding the boot default at %s: %w", r, err)
	}
	back := func() error {
		if found {
			return replaceFile(path, string(before))
		}
		err := removeFile(path)
		if made {
			os.Remove(dir)
		}
		return err
	}
	if err := replaceFile(path, text); err != nil {
		return false, errors.Join(err, back())
	}
	if err := g.update(ctx, command); err != nil { // grub.cfg is as it was
		return false, errors.Join(fmt.Errorf("holding the boot default at %s: %w", r, err), back())
	}
	if err := g.effect(r); err != nil {
		return false, errors.Join(fmt.Errorf("holding the boot default at %s: %w", r, err), back(), g.update(ctx, command))
	}
	return true, nil
}

// effect reads grub.cfg and grubenv from disk and returns an error unless r is
// the default.
func (g *grub) effect(r string) error {
	m, err := readGRUB(g.paths, g.dir)
	if err != nil {
		return err
	}
	now, ok := m.(*grub)
	if !ok {
		return fmt.Errorf("%s is gone", g.cfg())
	}
	c, err := now.choose(now.lasting())
	if err == nil && c.Release != r {
		err = fmt.Errorf("something else sets the default: %s", c.Why)
	}
	return err
}

// takesSaved reports whether the default is what saved_entry names.
func (g *grub) takesSaved() (bool, error) {
	const probe = "dkms-gate-probe"
	env := maps.Clone(g.lasting())
	env["saved_entry"] = probe
	s, err := g.run(env)
	return err == nil && s.env["default"] == probe, err
}

func (g *grub) savedFile() string { return filepath.Join(g.dir, "dkms-gate.saved") }

// pinSaved sets saved_entry. The value before goes into our own file first;
// one that somebody has set while ours was there takes its place.
func (g *grub) pinSaved(ctx context.Context, r, entry string) (bool, error) {
	if strings.ContainsRune(entry, '\n') {
		return false, fmt.Errorf("holding the boot default at %s: the entry's name has a line break", r)
	}
	text, found, err := readFile(g.savedFile(), maxEntryFile)
	if err != nil {
		return false, err
	}
	kept, err := parseKept(string(text))
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", g.savedFile(), err)
	}
	now, set := g.env["saved_entry"]
	if !found || now != kept.entry {
		kept.old, kept.wasSet = now, set
	}
	kept.release, kept.entry = r, entry
	if string(text) == kept.String() && now == entry {
		return false, nil
	}
	if err := replaceFile(g.savedFile(), kept.String()); err != nil {
		return false, err
	}
	err = g.editenv(ctx, "set", "saved_entry="+entry)
	if err == nil {
		err = g.effect(r)
	}
	if err == nil {
		return true, nil
	}
	err = fmt.Errorf("holding the boot default at %s: %w", r, err)
	if found {
		return false, errors.Join(err, replaceFile(g.savedFile(), string(text)), g.restore(ctx, now, set))
	}
	return false, errors.Join(err, g.restore(ctx, now, set), removeFile(g.savedFile()))
}

// unpinSaved gives saved_entry its old value, unless somebody has set another
// one since.
func (g *grub) unpinSaved(ctx context.Context) (bool, error) {
	text, found, err := readFile(g.savedFile(), maxEntryFile)
	if err != nil || !found {
		return false, err
	}
	kept, err := parseKept(string(text))
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", g.savedFile(), err)
	}
	if g.env["saved_entry"] == kept.entry {
		if err := g.restore(ctx, kept.old, kept.wasSet); err != nil {
			return false, err
		}
	}
	return true, removeFile(g.savedFile())
}

// restore sets saved_entry to what it was.
func (g *grub) restore(ctx context.Context, value string, set bool) error {
	if !set {
		return g.editenv(ctx, "unset", "saved_entry")
	}
	return g.editenv(ctx, "set", "saved_entry="+value)
}

// editenv runs grub-editenv: GRUB writes to the blocks of grubenv when the
// machine starts, so its own tool changes the file.
func (g *grub) editenv(ctx context.Context, args ...string) error {
	name := "grub-editenv"
	if _, err := run.LookPath(name, os.Environ()); err != nil {
		name = "grub2-editenv"
	}
	file := filepath.Join(g.dir, "grubenv")
	if _, err := (run.Cmd{Argv: append([]string{name, file}, args...)}).Output(ctx); err != nil {
		return fmt.Errorf("changing %s: %w", file, err)
	}
	return nil
}

// kept is our file beside grubenv.
type kept struct {
	release string // that is held
	entry   string // that saved_entry was set to
	old     string // what it was before
	wasSet  bool   // it was set
}

// String is the text of the file.
func (k kept) String() string {
	text := gateHold + k.release + "\nentry=" + k.entry + "\n"
	if k.wasSet {
		text += "saved_entry=" + k.old + "\n"
	}
	return text
}

// parseKept reads it; an empty text is an empty value.
func parseKept(text string) (kept, error) {
	k := kept{release: heldIn(text)}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch name, value, _ := strings.Cut(line, "="); name {
		case "entry":
			k.entry = value
		case "saved_entry":
			k.old, k.wasSet = value, true
		}
	}
	if text != "" && (k.release == "" || k.entry == "") {
		return kept{}, errors.New("the file isn't as dkms wrote it; delete it to give it up")
	}
	return k, nil
}
