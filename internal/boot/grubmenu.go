// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// entry is one entry of a boot menu.
type entry struct {
	title string
	id    string // "" if it has none
	// image is the kernel's file as the boot loader names it, and version
	// the entry's own word on it (Boot Loader Specification).
	image, version string
	// submenu is set for a menu with children.
	submenu  bool
	children []*entry
}

// grubScript runs grub.cfg as far as the menu depends on it: variables, if,
// source, menuentry, submenu and blscfg. Every other command does nothing and
// counts as unsuccessful where it is a condition.
type grubScript struct {
	scanner
	dir    string            // $prefix: the directory of grub.cfg
	env    map[string]string // variables
	top    *entry            // the menu
	bls    func() ([]*entry, error)
	usedIt bool // blscfg was called
	count  *int // entries so far
	files  *int // files that were sourced so far
}

// errTooDeep is returned for a script that is nested more than maxDepth deep.
var errTooDeep = fmt.Errorf("nested more than %d deep", maxDepth)

// block runs commands, or passes over them unless run is set, until one of the
// words ends stands where a command begins, and returns that word; "" is the
// end of the file. Commands act on menu; inside is set in a menuentry.
func (g *grubScript) block(at place, ends ...string) (string, error) {
	if at.depth > maxDepth {
		return "", errTooDeep
	}
	for {
		g.separators()
		w, ok, err := g.word()
		if err != nil {
			return "", err
		}
		if !ok {
			if g.pos >= len(g.text) {
				return "", nil
			}
			continue
		}
		keyword := w.literal()
		for _, end := range ends {
			if keyword == end {
				return end, nil
			}
		}
		if err := g.statement(keyword, w, at); err != nil {
			return "", err
		}
	}
}

// place is where a command stands.
type place struct {
	run   bool   // its effects count
	menu  *entry // the menu, or the menuentry, that it belongs to
	depth int
}

// in is a place one block deeper.
func (p place) in(run bool, menu *entry) place {
	return place{run: p.run && run, menu: menu, depth: p.depth + 1}
}

// statement reads the rest of one command that begins with first.
func (g *grubScript) statement(keyword string, first word, at place) error {
	switch keyword {
	case "if":
		return g.conditional(at)
	case "while", "until", "for":
		if _, _, err := g.command(); err != nil {
			return err
		}
		return g.pass(at, "done")
	case "function":
		if _, _, err := g.command(); err != nil {
			return err
		}
		return g.pass(at, "}")
	case "menuentry", "submenu":
		return g.entry(keyword == "submenu", at)
	case "then", "do", "{", "}", "fi", "else", "elif", "done":
		return fmt.Errorf("%q without its beginning", keyword)
	}
	words, _, err := g.command()
	if err != nil {
		return err
	}
	if !at.run {
		return nil
	}
	return g.simple(append([]word{first}, words...), at)
}

// pass skips a block that ends with the word end.
func (g *grubScript) pass(at place, end string) error {
	ends := []string{end}
	if end == "done" {
		g.separators()
		switch w, _, err := g.word(); {
		case err != nil:
			return err
		case w.literal() != "do":
			return errors.New("a loop without do")
		}
	}
	got, err := g.block(at.in(false, at.menu), ends...)
	if err == nil && got != end {
		err = fmt.Errorf("no %q at the end of a block", end)
	}
	return err
}

// conditional runs if … then … elif … else … fi; "if" has been read.
func (g *grubScript) conditional(at place) error {
	done := false
	for end := "elif"; end != "fi"; {
		run := !done
		if end == "elif" {
			words, _, err := g.command()
			if err != nil {
				return err
			}
			run = run && at.run && g.test(g.expandAll(words))
			g.separators()
			switch w, _, err := g.word(); {
			case err != nil:
				return err
			case w.literal() != "then":
				return errors.New("if without then")
			}
		}
		ends := []string{"fi", "elif", "else"}
		if end == "else" {
			ends = ends[:1]
		}
		done = done || run
		var err error
		if end, err = g.block(at.in(run, at.menu), ends...); err != nil {
			return err
		}
		if end == "" {
			return errors.New("if without fi")
		}
	}
	return nil
}

// entry reads a menuentry or submenu with its block.
func (g *grubScript) entry(submenu bool, at place) error {
	words, brace, err := g.command()
	if err != nil {
		return err
	}
	if !brace {
		return errors.New("a menu entry without a block")
	}
	e := &entry{submenu: submenu}
	args := g.expandAll(words)
	for i := 0; i < len(args); i++ {
		switch name, value, joined := strings.Cut(args[i], "="); {
		case name == "--unrestricted":
		case name == "--id" || name == "--class" || name == "--users" || name == "--hotkey" || name == "--source":
			if !joined && i+1 < len(args) {
				i++
				value = args[i]
			}
			if name == "--id" {
				e.id = value
			}
		case e.title == "":
			e.title = args[i]
		}
	}
	inner := at.in(true, e)
	if at.run && (at.menu == g.top || at.menu.submenu) {
		if *g.count++; *g.count > maxEntries {
			return fmt.Errorf("more than %d menu entries", maxEntries)
		}
		at.menu.children = append(at.menu.children, e)
	}
	end, err := g.block(inner, "}")
	if err == nil && end == "" {
		err = fmt.Errorf("the menu entry %q has no end", e.title)
	}
	return err
}

// simple carries out one simple command.
func (g *grubScript) simple(words []word, at place) error {
	args := g.expandAll(words)
	if len(args) == 0 {
		return nil
	}
	if !at.menu.submenu { // in a menuentry
		switch args[0] {
		case "linux", "linux16", "linuxefi":
			if len(args) > 1 && at.menu.image == "" {
				at.menu.image = args[1]
			}
		}
		return nil
	}
	switch args[0] {
	case "set":
		if len(args) > 1 {
			g.assign(args[1], at)
		}
	case "unset":
		if len(args) > 1 && at.menu == g.top {
			delete(g.env, args[1])
		}
	case "source", ".", "configfile":
		if len(args) > 1 {
			return g.source(args[1], at)
		}
	case "blscfg":
		if g.usedIt {
			return nil
		}
		g.usedIt = true
		more, err := g.bls()
		at.menu.children = append(at.menu.children, more...)
		return err
	default:
		if strings.Contains(words[0].head(), "=") {
			g.assign(args[0], at)
		}
	}
	return nil
}

// head is the unquoted text at the start of a word.
func (w word) head() string {
	if len(w.pieces) == 0 || w.pieces[0].variable {
		return ""
	}
	return string(w.pieces[0].text)
}

// assign carries out name=value. What a submenu sets doesn't count: it is run
// when it is opened.
func (g *grubScript) assign(arg string, at place) {
	name, value, ok := strings.Cut(arg, "=")
	if !ok || name == "" || at.menu != g.top || len(value) > maxWord || len(g.env) > maxWords {
		return
	}
	for i := range len(name) {
		if !isName(name[i]) {
			return
		}
	}
	g.env[name] = value
}

// inside returns path if it is below the directory of grub.cfg: GRUB's view of
// other file systems isn't ours.
func (g *grubScript) inside(path string) (string, bool) {
	path = filepath.Clean(path)
	return path, strings.HasPrefix(path, g.dir+"/")
}

// source runs another script of the same directory, such as custom.cfg.
func (g *grubScript) source(path string, at place) error {
	path, ok := g.inside(path)
	if !ok {
		return nil
	}
	if *g.files++; *g.files > maxFiles {
		return fmt.Errorf("more than %d files are sourced", maxFiles)
	}
	data, found, err := readFile(path, maxConfig)
	if err != nil || !found {
		return err
	}
	inner := *g
	inner.scanner = scanner{text: string(data)}
	_, err = inner.block(at)
	g.usedIt = inner.usedIt
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// expandAll replaces variables; an unquoted word that comes to nothing goes.
func (g *grubScript) expandAll(words []word) []string {
	out := make([]string, 0, len(words))
	size := 0
	for _, w := range words {
		var b strings.Builder
		for _, p := range w.pieces {
			text := string(p.text)
			if p.variable {
				text = g.env[text]
			}
			if size += len(text); size <= maxConfig {
				b.WriteString(text)
			}
		}
		if b.Len() > 0 || w.quoted {
			out = append(out, b.String())
		}
	}
	return out
}

// test evaluates a condition: the commands [ and test, and true. The grammar
// is GRUB's: "!", -a and -o, no precedence that grub-mkconfig depends on.
func (g *grubScript) test(args []string) bool {
	switch {
	case len(args) == 0:
		return false
	case args[0] == "[" && args[len(args)-1] == "]":
		args = args[1 : len(args)-1]
	case args[0] == "test":
		args = args[1:]
	default:
		return args[0] == "true"
	}
	all, any := len(args) > 0, false
	for len(args) > 0 {
		value, used := g.term(args)
		all = all && value
		args = args[used:]
		if len(args) == 0 {
			break
		}
		switch args[0] {
		case "-a":
		case "-o":
			any, all = any || all, true
		default:
			return false
		}
		args = args[1:]
	}
	return any || all
}

// term evaluates one primary of a test at the start of args, and returns how
// many words it has.
func (g *grubScript) term(args []string) (value bool, used int) {
	if args[0] == "!" && len(args) > 1 {
		value, used = g.term(args[1:])
		return !value, used + 1
	}
	if len(args) >= 3 {
		switch args[1] {
		case "=", "==":
			return args[0] == args[2], 3
		case "!=":
			return args[0] != args[2], 3
		}
	}
	if len(args) >= 2 {
		switch args[0] {
		case "-n":
			return args[1] != "", 2
		case "-z":
			return args[1] == "", 2
		case "-e", "-f", "-s":
			path, ok := g.inside(args[1])
			return ok && isFile(path), 2
		}
	}
	return args[0] != "", 1
}
