// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/draft"
	"dkms-go/internal/durable"
	"dkms-go/internal/lint"
	"dkms-go/internal/pack"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// Drafted is a file that Init wrote, or found.
type Drafted struct {
	Path string
	// Written says that it was not there before; with DryRun nothing is written.
	Written bool
	Text    string
}

// Init writes a dkms.conf to begin with, and dkms.mk, into a module's directory. A
// file that is there stays as it is, and is in the list without a text. id is the name
// and version asked for; what is empty is found out.
func (e *Engine) Init(_ context.Context, dir string, id state.ID) (files []Drafted, notes []string, err error) {
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return nil, nil, failf(NotSourceTree, "there is no directory %s", dir)
	}
	file := Drafted{Path: filepath.Join(dir, draft.ConfFile)}
	if !thereAtAll(file.Path) {
		s, err := e.draftSource(dir)
		if err != nil {
			return nil, nil, err
		}
		s.Name, s.Version = id.Module, id.Version
		d, err := draft.Read(s)
		if err != nil {
			return nil, nil, failf(NotSourceTree, "drafting a dkms.conf for %s: %w", dir, err).
				hint("Name the directory whose Makefile or Kbuild has obj-m, and with -m and -v what can't be found out.")
		}
		notes = d.Notes
		author := e.maintainer()
		if author == "" {
			author = withAddress(d.Author)
		}
		file.Text = d.Conf(author)
	}
	files = []Drafted{file, {Path: filepath.Join(dir, draft.MakeFile)}}
	if !thereAtAll(files[1].Path) {
		files[1].Text = draft.Makefile()
	}
	for i, f := range files {
		if f.Text == "" || e.DryRun {
			continue
		}
		err := durable.Create(f.Path, []byte(f.Text), 0o644)
		switch {
		case errors.Is(err, fs.ErrExist): // it has come meanwhile
			files[i].Text = ""
		case err != nil:
			return nil, nil, fail(NotWritable, fmt.Errorf("writing %s: %w", f.Path, err))
		default:
			files[i].Written = true
		}
	}
	return files, notes, nil
}

// thereAtAll reports whether anything has a name, also a link to nothing.
func thereAtAll(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// draftSource reads what a draft is made of.
func (e *Engine) draftSource(dir string) (draft.Source, error) {
	full, err := filepath.Abs(dir)
	if err != nil {
		return draft.Source{}, fail(NoSource, err)
	}
	s := lint.Source{}
	if err := e.lintTexts(full, &s); err != nil {
		return draft.Source{}, err
	}
	for name := range s.Texts {
		if pack.Skipped(name) {
			delete(s.Texts, name)
		}
	}
	return draft.Source{Dir: filepath.Base(full), Texts: s.Texts, Tags: gitTags(full)}, nil
}

// What is read of git's files at most: bytes of packed-refs, tags in files.
const (
	maxPackedRefs = 4 << 20
	maxLooseTags  = 10_000
)

// gitTags returns the tags of a git repository at dir. git isn't run: a repository's
// settings can name commands (git-config(1)).
func gitTags(dir string) []string {
	packed, _ := untrusted.ReadFile(filepath.Join(dir, ".git", "packed-refs"), maxPackedRefs)
	tags := draft.Tags(string(packed))
	loose := filepath.Join(dir, ".git", "refs", "tags")
	_ = filepath.WalkDir(loose, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if tags = append(tags, strings.TrimPrefix(path, loose+"/")); len(tags) > maxLooseTags {
			return fs.SkipAll
		}
		return nil
	})
	return tags
}
