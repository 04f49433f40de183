// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/host"
)

// systemd is a machine that systemd-boot boots.
type systemd struct {
	paths   host.Paths
	conf    string     // the path of loader.conf, "" if there is none
	text    string     // its text
	entries []blsEntry // in the order of the menu
	// oneShot, set and last are EFI variables: the entry for one boot, the
	// default that was set at run time, the last that was booted.
	oneShot, set, last string
}

// openSystemd returns nil if there is neither a loader.conf nor an entry. The
// EFI system partition is the first directory that has a loader.conf.
func openSystemd(p host.Paths) (menu, error) {
	s := &systemd{paths: p}
	for _, root := range p.LoaderRoots {
		conf := filepath.Join(root, "loader", "loader.conf")
		data, found, err := readFile(conf, maxEntryFile)
		if err != nil {
			return nil, err
		}
		if found {
			s.conf, s.text = conf, string(data)
			break
		}
	}
	var err error
	if s.entries, err = readEntries(p.LoaderRoots); err != nil {
		return nil, err
	}
	images, err := readUnified(p.LoaderRoots)
	if err != nil {
		return nil, err
	}
	s.entries = append(s.entries, images...)
	if s.conf == "" && len(s.entries) == 0 {
		return nil, nil
	}
	for name, to := range map[string]*string{
		"LoaderEntryOneShot": &s.oneShot, "LoaderEntryDefault": &s.set, "LoaderEntryLastBooted": &s.last,
	} {
		if *to, err = variable(p.EFIVars, name); err != nil {
			return nil, err
		}
	}
	sortEntries(s.entries)
	return s, nil
}

// next tells what systemd-boot takes, as loader.conf(5) and bootctl(1) say:
// the entry for one boot, else LoaderEntryDefault, else the default of
// loader.conf, else the first entry.
func (s *systemd) next() (Choice, error) {
	always, err := s.choose("", s.text)
	if err != nil || s.oneShot == "" {
		return always, err
	}
	c, err := s.choose(s.oneShot, s.text)
	c.Default = always.Release
	return c, err
}

// choose finds the entry with that entry for one boot, and that loader.conf.
func (s *systemd) choose(oneShot, text string) (Choice, error) {
	if len(s.entries) == 0 {
		return Choice{}, fmt.Errorf("finding the kernel that boots next: systemd-boot's %s has no entries", s.conf)
	}
	chosen := ""
	for key, value := range settings(text) {
		if key == "default" {
			chosen = value
		}
	}
	i, why := -1, ""
	shot := false
	for _, from := range []struct{ pattern, why string }{
		{oneShot, "the EFI variable LoaderEntryOneShot, for one boot"},
		{s.set, "the EFI variable LoaderEntryDefault"},
		{chosen, "default in " + s.conf},
	} {
		if i = s.find(from.pattern); i >= 0 {
			shot = oneShot != "" && from.pattern == oneShot && strings.Contains(from.why, "OneShot")
			why = fmt.Sprintf("%s is %q", from.why, from.pattern)
			break
		}
	}
	if i < 0 {
		i, why = 0, "the first entry: no default is set that names one"
	}
	e := s.entries[i]
	r := s.release(e)
	return Choice{Release: r, Default: r, Loader: SystemdBoot, Entry: e.file, Why: why, OneShot: shot}, nil
}

// release returns the kernel release of an entry, or "".
func (s *systemd) release(e blsEntry) string {
	if isRelease(e.uname) {
		return e.uname
	}
	return release(s.paths, e.linux, e.version)
}

// find returns the place of the first entry whose id matches the pattern, with
// ".conf" or without it, or -1.
func (s *systemd) find(pattern string) int {
	pattern = strings.ToLower(pattern)
	if pattern == "@saved" {
		pattern = strings.ToLower(s.last)
	}
	if pattern == "" || len(pattern) > 1024 {
		return -1
	}
	return slices.IndexFunc(s.entries, func(e blsEntry) bool {
		for _, id := range []string{e.id, strings.TrimSuffix(strings.TrimSuffix(e.id, ".conf"), ".efi")} {
			if ok, err := filepath.Match(pattern, id); err == nil && ok {
				return true
			}
		}
		return false
	})
}

// entryOf returns the first entry of the menu for a release.
func (s *systemd) entryOf(r string) (blsEntry, error) {
	for _, e := range s.entries {
		if s.release(e) == r {
			if strings.ContainsAny(e.id, "*?[\\\"# \t\r\n") {
				return e, fmt.Errorf("holding the boot default at %s: the entry's name %q has characters that mean something in loader.conf", r, e.id)
			}
			return e, nil
		}
	}
	return blsEntry{}, fmt.Errorf("holding the boot default at %s: systemd-boot has no entry for it", r)
}

// pin puts "default ENTRY" at the top of loader.conf and makes comments of the
// other defaults.
func (s *systemd) pin(_ context.Context, r string) (bool, error) {
	e, err := s.entryOf(r)
	if err != nil {
		return false, err
	}
	if s.conf == "" {
		return false, fmt.Errorf("holding the boot default at %s: systemd-boot has no loader.conf; bootctl install makes one", r)
	}
	before, _ := unpinned(s.text)
	text := pinnedText(before, r, e.id)
	c, err := s.choose("", text)
	if err != nil {
		return false, err
	}
	if c.Release != r {
		return false, fmt.Errorf("holding the boot default at %s: %s, which goes before loader.conf", r, c.Why)
	}
	if text == s.text {
		return false, nil
	}
	return true, replaceFile(s.conf, text)
}

// unpin undoes pin: the file is as it was, byte for byte.
func (s *systemd) unpin(context.Context) (bool, error) {
	before, r := unpinned(s.text)
	if r == "" {
		return false, nil
	}
	return true, replaceFile(s.conf, before)
}

func (s *systemd) pinned() (string, error) {
	_, r := unpinned(s.text)
	return r, nil
}

// The lines that the gate adds at the top of loader.conf, and what stands in
// front of the lines that it makes comments of.
const (
	mark     = "# dkms-gate: "
	markHold = mark + "hold "
	markEnd  = mark + "end; to undo by hand delete the lines up to here and \"" + mark + "\" below"
)

// pinnedText is loader.conf with the default entry id.
func pinnedText(text, r, id string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\ndefault %s\n%s\n", markHold, r, id, markEnd)
	for line := range strings.Lines(text) {
		for key := range settings(line) {
			if key == "default" {
				b.WriteString(mark)
			}
		}
		if strings.HasPrefix(line, mark) {
			b.WriteString(mark)
		}
		b.WriteString(line)
	}
	return b.String()
}

// unpinned undoes pinnedText and returns the release that was held, or "".
func unpinned(text string) (before, r string) {
	head, rest, found := strings.Cut(text, markEnd+"\n")
	first, _, _ := strings.Cut(head, "\n")
	r = strings.TrimPrefix(first, markHold)
	if !found || r == first || !isRelease(r) {
		return text, ""
	}
	var b strings.Builder
	for line := range strings.Lines(rest) {
		b.WriteString(strings.TrimPrefix(line, mark))
	}
	return b.String(), r
}
