// SPDX-License-Identifier: Apache-2.0

// Package autoload switches the loading of a module's objects at boot on and
// off, by a file of modules-load.d(5) that is dkms's own.
package autoload

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/durable"
	"dkms-go/internal/host"
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 16

// Path returns the file of a module: dkms-<module>.conf in ModulesLoadDir.
func Path(p host.Paths, module string) string {
	return filepath.Join(p.ModulesLoadDir, "dkms-"+module+".conf")
}

// On has a module's objects, named without .ko, loaded at each boot from the
// next one on. Nothing is loaded now. What the file had before is replaced in
// one step: a reader sees the old list or the new one. The directory is made
// if it isn't there.
func On(p host.Paths, module string, objects []string) error {
	if err := check(module, objects); err != nil {
		return fmt.Errorf("switching autoload of %q on: %w", module, err)
	}
	text := "# Written by dkms autoload on; dkms autoload off removes it.\n" + strings.Join(objects, "\n") + "\n"
	if err := replace(Path(p, module), text); err != nil {
		return fmt.Errorf("switching autoload of %q on: %w", module, err)
	}
	return nil
}

// Off removes the file of a module. It is no error if there is none.
func Off(p host.Paths, module string) error {
	err := check(module, []string{module})
	if err == nil {
		err = os.Remove(Path(p, module))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("switching autoload of %q off: %w", module, err)
	}
	if err := durable.Sync(p.ModulesLoadDir); err != nil {
		return fmt.Errorf("switching autoload of %q off: %w", module, err)
	}
	return nil
}

// State returns the objects that the file of a module names, and whether there
// is such a file. Lines that begin with # or ; are comments (modules-load.d(5)).
// Whether another file names them too, or a boot parameter does, isn't looked at.
func State(p host.Paths, module string) (objects []string, on bool, err error) {
	if err := check(module, []string{module}); err != nil {
		return nil, false, fmt.Errorf("looking at autoload of %q: %w", module, err)
	}
	f, err := os.Open(Path(p, module))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("looking at autoload of %q: %w", module, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, false, fmt.Errorf("looking at autoload of %q: %w", module, err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.ContainsAny(line[:1], "#;") {
			objects = append(objects, line)
		}
	}
	return objects, true, nil
}

// check refuses names that can't be one line of the list, or part of the
// file's name.
func check(module string, objects []string) error {
	if len(objects) == 0 {
		return errors.New("it has no objects")
	}
	for _, name := range append([]string{module}, objects...) {
		bad := strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) >= 0
		if name == "" || bad || strings.ContainsAny(name[:1], "#;.") {
			return fmt.Errorf("%q can't be the name of a module", name)
		}
	}
	return nil
}

// replace writes the file and, if needed, its directory.
func replace(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.Replace(path, []byte(text), 0o644)
}
