// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"cmp"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// readUnified reads the unified kernel images EFI/Linux/*.efi below the
// directories: entries of type 2. One that isn't a PE file with a section
// .osrel is none, as for systemd-boot.
func readUnified(roots []string) ([]blsEntry, error) {
	var all []blsEntry
	seen := map[string]bool{}
	for _, root := range roots {
		dir := filepath.Join(root, "EFI", "Linux")
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return nil, fmt.Errorf("listing unified kernel images: %w", err)
		}
		for _, f := range files {
			name := f.Name()
			if !strings.EqualFold(filepath.Ext(name), ".efi") || seen[name] || !isFile(filepath.Join(dir, name)) {
				continue
			}
			if seen[name] = true; len(seen) > maxEntries {
				return nil, fmt.Errorf("reading unified kernel images: more than %d in %s", maxEntries, dir)
			}
			file, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				return nil, fmt.Errorf("reading a unified kernel image: %w", err)
			}
			if e, ok := parseUnified(name, file); ok {
				all = append(all, e)
			}
			file.Close()
		}
	}
	return all, nil
}

// parseUnified reads the sections .osrel, an os-release(5) file, and .uname.
// Which of its words are title, version and sort key is said in the Boot
// Loader Specification, "Type #2".
func parseUnified(name string, r io.ReaderAt) (blsEntry, bool) {
	e := blsEntry{file: name, efi: name, triesLeft: -1, triesDone: -1}
	e.count()
	image, err := pe.NewFile(r)
	if err != nil {
		return e, false
	}
	section := func(name string) string {
		s := image.Section(name)
		if s == nil {
			return ""
		}
		data, _ := io.ReadAll(io.LimitReader(s.Open(), maxEntryFile))
		return string(bytes.TrimRight(data, "\x00"))
	}
	osrel := map[string]string{}
	text := section(".osrel")
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			osrel[key] = strings.Trim(value, `"'`)
		}
	}
	e.title = cmp.Or(osrel["PRETTY_NAME"], osrel["IMAGE_ID"], osrel["NAME"], osrel["ID"])
	e.version = cmp.Or(osrel["IMAGE_VERSION"], osrel["VERSION"], osrel["VERSION_ID"], osrel["BUILD_ID"])
	e.sortKey = cmp.Or(osrel["IMAGE_ID"], osrel["ID"])
	e.uname = strings.TrimSpace(section(".uname"))
	return e, text != "" && e.title != "" && e.sortKey != ""
}
