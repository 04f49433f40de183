// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"dkms-go/internal/host"
)

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 1 << 20

// Listed is a module that a file names for the initramfs.
type Listed struct {
	Name string // normal
	File string
}

// Configured returns the modules that the administrator and packages name for
// the images that a tool makes, whichever kernel they are of:
//
//   - UpdateInitramfs: the first word of each line of modules in
//     /etc/initramfs-tools, and of the files of packages in modules.d
//     (initramfs-tools(7), mkinitramfs(8)). Hook scripts add others; those are
//     known by what an image has.
//   - Dracut: drivers, add_drivers and force_drivers in dracut.conf and
//     dracut.conf.d (dracut.conf(5)).
//   - Mkinitcpio: MODULES in mkinitcpio.conf and mkinitcpio.conf.d
//     (mkinitcpio.conf(5)). A preset may name another file; that isn't read.
//
// The files of the last two are shell scripts. They are read, not executed:
// every assignment counts, and of its value what is written literally.
func Configured(p host.Paths, tool Tool) ([]Listed, error) {
	switch tool {
	case UpdateInitramfs:
		return plainLists(p)
	case Dracut:
		files := confFiles(append([]string{p.DracutConf}, inDirs(p.DracutDirs, ".conf")...))
		return shellLists(files, []string{"drivers", "add_drivers", "force_drivers"})
	case Mkinitcpio:
		files := confFiles(append([]string{p.MkinitcpioConf}, inDirs([]string{p.MkinitcpioConfDir}, ".conf")...))
		return shellLists(files, []string{"MODULES"})
	}
	return nil, nil
}

// plainLists reads the lists of initramfs-tools.
func plainLists(p host.Paths) ([]Listed, error) {
	var all []Listed
	files := append([]string{filepath.Join(p.InitramfsTools, "modules")},
		inDirs([]string{filepath.Join(p.InitramfsToolsShare, "modules.d")}, "")...)
	for _, file := range confFiles(files) {
		text, err := readSmall(file)
		if err != nil {
			return nil, fmt.Errorf("reading the list of modules %s: %w", file, err)
		}
		for line := range strings.Lines(text) {
			if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
				all = append(all, Listed{Normal(fields[0]), file})
			}
		}
	}
	return all, nil
}

// shellLists reads the words that assignments in shell scripts give the
// variables.
func shellLists(files, variables []string) ([]Listed, error) {
	var all []Listed
	for _, file := range files {
		text, err := readSmall(file)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		script, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), file)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		syntax.Walk(script, func(n syntax.Node) bool {
			a, ok := n.(*syntax.Assign)
			if !ok || a.Name == nil || !slices.Contains(variables, a.Name.Value) {
				return true
			}
			for _, w := range assigned(a) {
				if name, ok := moduleWord(w); ok {
					all = append(all, Listed{name, file})
				}
			}
			return true
		})
	}
	return all, nil
}

// assigned returns the words of an assignment's value.
func assigned(a *syntax.Assign) []string {
	var words []string
	if a.Array != nil {
		for _, e := range a.Array.Elems {
			words = append(words, strings.Fields(literal(e.Value))...)
		}
	}
	return append(words, strings.Fields(literal(a.Value))...)
}

// literal returns what is written literally in a word; what is expanded is a
// blank.
func literal(w *syntax.Word) string {
	if w == nil {
		return ""
	}
	var b strings.Builder
	var parts func([]syntax.WordPart)
	parts = func(list []syntax.WordPart) {
		for _, part := range list {
			switch part := part.(type) {
			case *syntax.Lit:
				b.WriteString(strings.ReplaceAll(part.Value, "\\\n", ""))
			case *syntax.SglQuoted:
				b.WriteString(part.Value)
			case *syntax.DblQuoted:
				parts(part.Parts)
			default:
				b.WriteByte(' ')
			}
		}
	}
	parts(w.Parts)
	return b.String()
}

// moduleWord returns the module that a word of a list names. dracut knows
// directories as =path, mkinitcpio a ? behind a module that may be missing.
func moduleWord(w string) (string, bool) {
	w = strings.TrimSuffix(strings.TrimSuffix(w, "?"), ".ko")
	return Normal(w), w != "" && !strings.HasPrefix(w, "=")
}

// inDirs lists the files with an extension in directories, sorted by name; one
// in an earlier directory hides those of the same name in later ones.
func inDirs(dirs []string, ext string) []string {
	byName := map[string]string{}
	var names []string
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // a directory that isn't there has no files
		for _, e := range entries {
			if _, hidden := byName[e.Name()]; hidden || !strings.HasSuffix(e.Name(), ext) {
				continue
			}
			byName[e.Name()] = filepath.Join(dir, e.Name())
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = byName[name]
	}
	return names
}

// confFiles drops what is no file.
func confFiles(paths []string) []string {
	return slices.DeleteFunc(paths, func(path string) bool {
		fi, err := os.Stat(path)
		return err != nil || !fi.Mode().IsRegular()
	})
}

// readSmall reads a configuration file.
func readSmall(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("larger than %d bytes", maxConfig)
	}
	return string(data), err
}
