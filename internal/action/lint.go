// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"dkms-go/internal/conf"
	"dkms-go/internal/finding"
	"dkms-go/internal/lint"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
)

// What lint reads at most: files in a directory, bytes of a file and of all.
const (
	lintFiles = 100_000
	lintFile  = 2 << 20
	lintAll   = 256 << 20
)

// Lint looks at a module's source in a directory. Nothing of the module is
// executed, and nothing outside of the directory is read. The error is that of the
// worst finding.
func (e *Engine) Lint(ctx context.Context, dir string) ([]finding.Finding, error) {
	file := filepath.Join(dir, lint.ConfFile)
	if fi, err := os.Stat(file); err != nil || !fi.Mode().IsRegular() {
		return nil, failf(NotSourceTree, "the directory %s has no dkms.conf", dir).hint("Name the directory of a module's source: dkms lint <directory>")
	}
	s, err := e.lintSource(ctx, dir)
	if err != nil {
		return nil, err
	}
	list := lint.Check(s)
	return list, worstFinding(list)
}

// lintSource reads what lint looks at.
func (e *Engine) lintSource(ctx context.Context, dir string) (lint.Source, error) {
	var s lint.Source
	v := &survey{Engine: e, ctx: ctx}
	t := v.anyTarget()
	file := filepath.Join(dir, lint.ConfFile)
	m, err := e.loadFile(ctx, state.ID{}, t, file, conf.NoExec, io.Discard)
	var unreadable *conf.Unreadable
	var invalid *conf.Invalid
	switch {
	case errors.As(err, &unreadable):
		return s, fail(NoConf, err)
	case errors.As(err, &invalid) && !m.Incomplete:
		s.Invalid = invalid.Problems
	case err == nil:
		if m.Strict() != nil && errors.As(m.Strict(), &invalid) && !m.Incomplete {
			s.Invalid = invalid.Problems
		}
	case ctx.Err() != nil:
		return s, fail(Interrupted, context.Cause(ctx))
	}
	if s.Module = m; m != nil && m.Malformed != "" {
		s.Invalid = nil
		if v.bashRefuses(ctx, file) {
			s.Syntax = m.Malformed
		}
	}
	s.Variables = append(conf.Variables(), "parallel_jobs")
	return s, e.lintTexts(dir, &s)
}

// lintTexts reads the files of a module's directory. Links are not followed.
func (e *Engine) lintTexts(dir string, s *lint.Source) error {
	s.Texts, s.Executable = map[string]string{}, map[string]bool{}
	wanted := map[string]bool{}
	for _, script := range lint.Scripts(s.Module) {
		wanted[script.File] = true
	}
	total := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && name == ".git":
			return fs.SkipDir
		case d.IsDir():
			return nil
		case len(s.Names) >= lintFiles:
			return fs.SkipAll
		}
		s.Names = append(s.Names, name)
		fi, err := os.Stat(path)
		if err != nil || !fi.Mode().IsRegular() {
			return nil
		}
		s.Executable[name] = fi.Mode()&0o111 != 0
		if (lint.IsRead(name) || wanted[name]) && total < lintAll {
			if text, err := untrusted.ReadFile(path, lintFile); err == nil {
				s.Texts[name] = string(text)
				total += int64(len(text))
			}
		}
		return nil
	})
	if err != nil {
		return fail(NoConf, err)
	}
	return nil
}
