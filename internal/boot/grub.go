// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"dkms-go/internal/host"
	"dkms-go/internal/vercmp"
)

// grub is a machine that GRUB boots.
type grub struct {
	paths host.Paths
	dir   string            // has grub.cfg and grubenv
	text  string            // grub.cfg
	env   map[string]string // grubenv
}

// openGRUB returns nil if there is no grub.cfg.
func openGRUB(p host.Paths) (menu, error) {
	for _, dir := range p.GRUBDirs {
		g, err := readGRUB(p, dir)
		if g != nil || err != nil {
			return g, err
		}
	}
	return nil, nil
}

// readGRUB reads grub.cfg and grubenv; a nil menu tells there is no grub.cfg.
func readGRUB(p host.Paths, dir string) (menu, error) {
	data, found, err := readFile(filepath.Join(dir, "grub.cfg"), maxConfig)
	if err != nil || !found {
		return nil, err
	}
	g := &grub{paths: p, dir: dir, text: string(data), env: map[string]string{}}
	path := filepath.Join(dir, "grubenv")
	block, found, err := readFile(path, 64*envSize)
	if err != nil {
		return nil, err
	}
	if found && len(block) > 0 {
		if g.env, err = parseEnv(block); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	return g, nil
}

func (g *grub) cfg() string { return filepath.Join(g.dir, "grub.cfg") }

// run runs grub.cfg with that environment block.
func (g *grub) run(env map[string]string) (*grubScript, error) {
	vars := maps.Clone(env)
	vars["prefix"], vars["config_directory"] = g.dir, g.dir
	vars["feature_menuentry_id"], vars["feature_timeout_style"] = "y", "y"
	top := &entry{submenu: true}
	s := &grubScript{
		scanner: scanner{text: g.text}, dir: g.dir, env: vars, top: top, count: new(int), files: new(int),
		bls: func() ([]*entry, error) { return blsMenu(g.paths) },
	}
	if _, err := s.block(place{run: true, menu: top}); err != nil {
		return nil, fmt.Errorf("reading %s: line %d: %w", g.cfg(), 1+strings.Count(g.text[:min(s.pos, len(g.text))], "\n"), err)
	}
	return s, nil
}

// next finds the entry twice: as the machine is, and without the entry that
// was chosen for one boot only (next_entry, grub-reboot(8)).
func (g *grub) next() (Choice, error) {
	c, err := g.choose(g.env)
	if err != nil || g.env["next_entry"] == "" {
		return c, err
	}
	always, err := g.choose(g.lasting())
	c.OneShot, c.Default = true, always.Release
	c.Why = fmt.Sprintf("%s in %s, for one boot; %s", "next_entry", filepath.Join(g.dir, "grubenv"), c.Why)
	return c, err
}

// lasting is the environment block without next_entry.
func (g *grub) lasting() map[string]string {
	env := maps.Clone(g.env)
	delete(env, "next_entry")
	return env
}

// choose finds the entry that GRUB starts with that environment block.
func (g *grub) choose(env map[string]string) (Choice, error) {
	s, err := g.run(env)
	if err != nil {
		return Choice{}, err
	}
	want := s.env["default"]
	path := follow(s.top, want)
	if len(path) == 0 {
		return Choice{}, fmt.Errorf("finding the kernel that boots next: %s has no menu entries", g.cfg())
	}
	last := path[len(path)-1]
	names := make([]string, len(path))
	for i, e := range path {
		names[i] = escape(e.name())
	}
	r := release(g.paths, last.image, last.version)
	return Choice{
		Release: r, Default: r, Loader: GRUB, Entry: strings.Join(names, ">"),
		Why: fmt.Sprintf("default %q in %s is the entry %q", want, g.cfg(), last.title),
	}, nil
}

// name is the id of an entry, or its title.
func (e *entry) name() string {
	if e.id != "" {
		return e.id
	}
	return e.title
}

// escape writes a title or id as a part of a path: ">" is ">>".
func escape(name string) string { return strings.ReplaceAll(name, ">", ">>") }

// follow finds the entry that the variable default names, and the menus above
// it. What names nothing is the first entry, as in GRUB (grub-core/normal/menu.c).
func follow(top *entry, want string) []*entry {
	var path []*entry
	for m := top; m.submenu && len(m.children) > 0; {
		var first string
		first, want = cutPath(want)
		m = m.children[find(m.children, first)]
		path = append(path, m)
	}
	if len(path) > 0 && path[len(path)-1].submenu {
		return path[:0] // an empty submenu
	}
	return path
}

// cutPath splits the first part off a path; parts are separated by a single
// ">".
func cutPath(path string) (first, rest string) {
	for i := 0; i < len(path); i++ {
		if path[i] != '>' {
			continue
		}
		if i+1 < len(path) && path[i+1] == '>' {
			i++
			continue
		}
		return path[:i], path[i+1:]
	}
	return path, ""
}

// find returns the place of the entry that is meant by a number, a title or an
// id; 0 if there is none.
func find(entries []*entry, want string) int {
	want = strings.TrimLeft(want, " \t")
	n, whole := -1, false
	if want != "" && want[0] >= '0' && want[0] <= '9' {
		n, whole = number(want)
	}
	if !whole {
		// Fedora's ids begin with the digits of a machine-id.
		name := strings.ReplaceAll(want, ">>", ">")
		i := slices.IndexFunc(entries, func(e *entry) bool { return name != "" && (e.title == name || e.id == name) })
		if i >= 0 {
			return i
		}
	}
	if n < 0 || n >= len(entries) {
		return 0
	}
	return n
}

// number reads the digits at the start of s, as strtoul(3) with base 0, and
// tells whether they are all of s. What is too large is maxEntries, which is
// no entry's place.
func number(s string) (n int, whole bool) {
	digits, set := 10, "0123456789"
	switch {
	case len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X"):
		digits, set, s = 16, "0123456789abcdefABCDEF", s[2:]
	case s[0] == '0':
		digits, set = 8, "01234567"
	}
	rest := strings.TrimLeft(s, set)
	value, err := strconv.ParseUint(s[:len(s)-len(rest)], digits, 32)
	if errors.Is(err, strconv.ErrRange) || value > maxEntries {
		value = maxEntries
	}
	return int(value), rest == ""
}

// blsMenu returns the Boot Loader Specification entries as Fedora's command
// blscfg shows them: by file name, the highest version first. Their ids are
// the names of the files without ".conf".
func blsMenu(p host.Paths) ([]*entry, error) {
	found, err := readEntries([]string{p.Boot})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b blsEntry) int { return compareNames(b.file, a.file) })
	menu := make([]*entry, len(found))
	for i, e := range found {
		menu[i] = &entry{title: e.title, id: strings.TrimSuffix(e.file, ".conf"), image: e.linux, version: e.version}
	}
	return menu, nil
}

// compareNames compares names of entries as blscfg does: as names of packages,
// name-version-release, part by part.
func compareNames(a, b string) int {
	cut := func(s string) (parts [3]string) {
		s = strings.TrimSuffix(s, ".conf")
		rest := []string{}
		for range 2 {
			i := strings.LastIndexByte(s, '-')
			if i < 0 {
				break
			}
			s, rest = s[:i], append([]string{s[i+1:]}, rest...)
		}
		parts[0] = s
		copy(parts[1:], rest)
		return parts
	}
	x, y := cut(a), cut(b)
	return cmp.Or(vercmp.RPM(x[0], y[0], '+'), vercmp.RPM(x[1], y[1], '+'), vercmp.RPM(x[2], y[2], '+'))
}
