// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// maxConfig bounds a file of depmod.d in bytes.
const maxConfig = 1 << 20

// searchKind says what an entry of a search list stands for.
type searchKind int

const (
	searchPath searchKind = iota
	searchBuiltin
	searchExternal
)

type search struct {
	kind searchKind
	dir  string
}

// config is depmod.d(5) for one kernel. Lists are in depmod's order, which
// puts each entry before those that came earlier.
type config struct {
	overrides []string // directory/name, relative to the kernel's tree
	searches  []search // the last one counts most
	externals []string
	excludes  []string // names of directories and files
}

// readConfig reads the files NAME.conf of all directories, sorted by their
// names; of two with one name that in the earlier directory counts.
func readConfig(req Request) (*config, error) {
	files, err := configFiles(req.Config)
	if err != nil {
		return nil, err
	}
	cfg := &config{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || len(data) > maxConfig {
			return nil, unsure("%s can't be read", file)
		}
		if err := cfg.parse(file, data, req.Release); err != nil {
			return nil, err
		}
	}
	if len(cfg.searches) == 0 {
		cfg.searches = []search{{dir: "updates"}}
	}
	return cfg, nil
}

func configFiles(dirs []string) ([]string, error) {
	var files []string
	seen := map[string]bool{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, unsure("%s can't be read", dir)
		}
		for _, e := range entries {
			name := e.Name()
			if strings.HasPrefix(name, ".") || len(name) < 6 || !strings.HasSuffix(name, ".conf") {
				continue
			}
			st, err := os.Stat(filepath.Join(dir, name))
			if err != nil || !st.Mode().IsRegular() {
				return nil, unsure("%s isn't a file", filepath.Join(dir, name))
			}
			if !seen[name] {
				seen[name] = true
				files = append(files, filepath.Join(dir, name))
			}
		}
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Compare(filepath.Base(a), filepath.Base(b)) })
	return files, nil
}

// parse reads one file (depmod.d(5)). A backslash before the end of a line
// joins it with the next.
func (cfg *config) parse(file string, data []byte, release string) error {
	data = bytes.ReplaceAll(data, []byte("\\\n"), nil)
	if bytes.ContainsAny(data, "\\\x00") {
		return unsure("%s has a backslash", file)
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(words) == 0 || line[0] == '#' {
			continue
		}
		if err := cfg.command(words, release); err != nil {
			return unsure("%s: %q: %v", file, line, err)
		}
	}
	return nil
}

var errNotKnown = errors.New("isn't understood")

func (cfg *config) command(words []string, release string) error {
	switch args := words[1:]; words[0] {
	case "search":
		for _, dir := range args {
			kind := map[string]searchKind{"built-in": searchBuiltin, "external": searchExternal}[dir]
			cfg.searches = slices.Insert(cfg.searches, 0, search{kind, dir})
		}
	case "override":
		if len(args) < 3 {
			return errNotKnown
		}
		ok, err := kernelMatches(args[1], release)
		if ok {
			cfg.overrides = slices.Insert(cfg.overrides, 0, args[2]+"/"+args[0])
		}
		return err
	case "external":
		if len(args) < 2 {
			return errNotKnown
		}
		ok, err := kernelMatches(args[0], release)
		if ok {
			cfg.externals = slices.Insert(cfg.externals, 0, args[1])
		}
		return err
	case "exclude":
		cfg.excludes = append(cfg.excludes, args...)
	case "include", "make_map_files": // depmod passes them over as well
	default:
		return errNotKnown
	}
	return nil
}

// kernelMatches matches a kernel's release with an extended regular expression,
// anywhere in it; "*" is any kernel. Only those are taken that mean the same
// to regcomp(3) and to Go.
func kernelMatches(pattern, release string) (bool, error) {
	if pattern == "*" {
		return true, nil
	}
	if !regexp.MustCompile(`^\^?[A-Za-z0-9._~-][A-Za-z0-9._~+*-]*\$?$`).MatchString(pattern) || regexp.MustCompile(`[+*]{2}`).MatchString(pattern) {
		return false, errNotKnown
	}
	re, err := regexp.CompilePOSIX(pattern)
	if err != nil {
		return false, errNotKnown
	}
	return re.MatchString(release), nil
}
