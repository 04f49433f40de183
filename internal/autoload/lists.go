// SPDX-License-Identifier: Apache-2.0

package autoload

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dkms-go/internal/host"
)

// Listed is a module that a file names.
type Listed struct {
	// Name is as the kernel calls it, with underscores.
	Name string
	File string
}

// Asked returns the modules that are to be loaded at each boot, by the lists of
// all directories of modules-load.d(5). A file in an earlier directory hides those
// of the same name in later ones. What can't be read asks for nothing.
func Asked(p host.Paths) []Listed {
	return lists(p.ModulesLoadDirs, func(line string) string {
		if strings.ContainsAny(line[:1], "#;") {
			return ""
		}
		return line
	})
}

// Blocked returns the modules that the configuration of modprobe(8) doesn't load
// like others: "blacklist" and "install" of modprobe.d(5).
func Blocked(p host.Paths) []Listed {
	return lists(p.ModprobeDirs, func(line string) string {
		words := strings.Fields(line)
		if len(words) > 1 && (words[0] == "blacklist" || words[0] == "install") {
			return words[1]
		}
		return ""
	})
}

// lists reads the files *.conf of directories; name tells of a line that isn't
// empty which module it is about.
func lists(dirs []string, name func(line string) string) []Listed {
	files := map[string]string{}
	for _, dir := range slices.Backward(dirs) {
		entries, _ := os.ReadDir(dir) // one that isn't there has no files
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") {
				files[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	var all []Listed
	for _, file := range files {
		for _, n := range parse(readSmall(file), name) {
			all = append(all, Listed{n, file})
		}
	}
	slices.SortFunc(all, func(a, b Listed) int { return strings.Compare(a.File+"\x00"+a.Name, b.File+"\x00"+b.Name) })
	return all
}

// parse returns the names, with underscores, that the lines of a text give.
func parse(text string, name func(line string) string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if n := name(line); n != "" {
			names = append(names, strings.ReplaceAll(n, "-", "_"))
		}
	}
	return names
}

// readSmall returns the text of a file, "" if it can't be read.
func readSmall(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return ""
	}
	return string(text)
}
