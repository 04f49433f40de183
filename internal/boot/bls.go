// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxEntryFile bounds one entry's file in bytes.
const maxEntryFile = 64 << 10

// blsEntry is one entry of the Boot Loader Specification
// (https://uapi-group.org/specifications/specs/boot_loader_specification/).
type blsEntry struct {
	file string // its name
	// id is file without the counters of boot attempts, in lower case, as
	// systemd-boot compares it.
	id                                            string
	title, version, machine, sortKey, linux, arch string
	efi, uname                                    string // uname is the release in a unified kernel image
	triesLeft, triesDone                          int    // -1 without counters
}

// readEntries reads loader/entries/*.conf below the directories. Of two files
// with one name the first counts.
func readEntries(roots []string) ([]blsEntry, error) {
	var all []blsEntry
	seen := map[string]bool{}
	for _, root := range roots {
		dir := filepath.Join(root, "loader", "entries")
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return nil, fmt.Errorf("listing boot entries: %w", err)
		}
		for _, f := range files {
			name := f.Name()
			if !strings.HasSuffix(name, ".conf") || seen[name] || strings.HasPrefix(name, ".") {
				continue
			}
			data, found, err := readFile(filepath.Join(dir, name), maxEntryFile)
			if err != nil {
				return nil, err
			}
			if e, ok := parseEntry(name, string(data)); found && ok {
				all = append(all, e)
			}
			if seen[name] = true; len(seen) > maxEntries {
				return nil, fmt.Errorf("reading boot entries: more than %d in %s", maxEntries, dir)
			}
		}
	}
	return all, nil
}

// parseEntry reads an entry's file; false if it is none for this machine.
func parseEntry(name, text string) (blsEntry, bool) {
	e := blsEntry{file: name, triesLeft: -1, triesDone: -1}
	e.count()
	for key, value := range settings(text) {
		switch key {
		case "title":
			e.title = value
		case "version":
			e.version = value
		case "machine-id":
			e.machine = value
		case "sort-key":
			e.sortKey = value
		case "linux":
			e.linux = value
		case "efi", "uki":
			e.efi = value
		case "architecture":
			e.arch = value
		}
	}
	if e.title == "" {
		e.title = name
	}
	own := efiArch(runtime.GOARCH)
	return e, (e.linux != "" || e.efi != "") && (e.arch == "" || own == "" || strings.EqualFold(e.arch, own))
}

// count takes the counters of boot attempts out of the file's name:
// "name+LEFT-DONE.conf" or "name+LEFT.conf", or the same with ".efi".
func (e *blsEntry) count() {
	e.id = strings.ToLower(e.file)
	ext := filepath.Ext(e.id)
	stem := strings.TrimSuffix(e.id, ext)
	i := strings.LastIndexByte(stem, '+')
	if i < 0 {
		return
	}
	left, done, both := strings.Cut(stem[i+1:], "-")
	l, err := strconv.ParseUint(left, 10, 31)
	if err != nil {
		return
	}
	d := uint64(0)
	if both {
		if d, err = strconv.ParseUint(done, 10, 31); err != nil {
			return
		}
	}
	e.id, e.triesLeft, e.triesDone = stem[:i]+ext, int(l), int(d)
}

// efiArch is the name that UEFI has for an architecture, or "".
func efiArch(goarch string) string {
	switch goarch {
	case "amd64":
		return "x64"
	case "386":
		return "ia32"
	case "arm64":
		return "aa64"
	case "riscv64", "loong64", "arm":
		return strings.Replace(goarch, "loong64", "loongarch64", 1)
	}
	return ""
}

// settings yields key and value of the lines of an entry or loader.conf:
// separated by blanks, "#" begins a comment line.
func settings(text string) func(yield func(key, value string) bool) {
	return func(yield func(key, value string) bool) {
		for line := range strings.Lines(text) {
			line = strings.Trim(line, " \t\r\n")
			if line == "" || line[0] == '#' {
				continue
			}
			key, value := line, ""
			if i := strings.IndexAny(line, " \t"); i >= 0 {
				key, value = line[:i], strings.Trim(line[i:], " \t")
			}
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			if !yield(key, value) {
				return
			}
		}
	}
}

// compareEntries is the order of systemd-boot's menu, the Boot Loader
// Specification's "Sorting".
func compareEntries(a, b blsEntry) int {
	spent := func(e blsEntry) int { return bit(e.triesLeft == 0) }
	c := cmp.Or(cmp.Compare(spent(a), spent(b)), cmp.Compare(bit(a.sortKey == ""), bit(b.sortKey == "")))
	if c == 0 && a.sortKey != "" {
		c = cmp.Or(
			strings.Compare(a.sortKey, b.sortKey),
			strings.Compare(a.machine, b.machine),
			compareVersions(b.version, a.version),
		)
	}
	if c = cmp.Or(c, compareVersions(b.id, a.id)); c != 0 || a.triesLeft < 0 || b.triesLeft < 0 {
		return c
	}
	return cmp.Or(cmp.Compare(b.triesLeft, a.triesLeft), cmp.Compare(a.triesDone, b.triesDone))
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// sortEntries puts entries into the order of the menu.
func sortEntries(entries []blsEntry) { slices.SortStableFunc(entries, compareEntries) }

// compareVersions is the version format's comparison
// (https://uapi-group.org/specifications/specs/version_format_specification/),
// which the Boot Loader Specification asks for.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		a, b = strings.TrimLeftFunc(a, foreign), strings.TrimLeftFunc(b, foreign)
		for _, sep := range []byte{'~', 0, '-', '^', '.'} {
			inA, inB := begins(a, sep), begins(b, sep)
			if inA != inB {
				// "~" and the end and "-" and "^" and "." come before what
				// doesn't have them.
				return bit(inB) - bit(inA)
			}
			if !inA {
				continue
			}
			if sep == 0 {
				return 0
			}
			a, b = a[1:], b[1:]
			break
		}
		var c int
		if digit(a) || digit(b) {
			c, a, b = compareRun(a, b, digit)
		} else {
			c, a, b = compareRun(a, b, letter)
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// begins reports whether s begins with c; 0 stands for the end of s.
func begins(s string, c byte) bool {
	if c == 0 {
		return s == ""
	}
	return s != "" && s[0] == c
}

// compareRun compares the parts of a and b that have only bytes of a kind,
// numbers by value, and cuts them off.
func compareRun(a, b string, kind func(string) bool) (c int, restA, restB string) {
	i, j := 0, 0
	for i < len(a) && kind(a[i:]) {
		i++
	}
	for j < len(b) && kind(b[j:]) {
		j++
	}
	x, y := a[:i], b[:j]
	if digit(a) || digit(b) {
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if c = cmp.Compare(len(x), len(y)); c == 0 && i != j && (i == 0 || j == 0) {
			c = cmp.Compare(i, j)
		}
	}
	return cmp.Or(c, strings.Compare(x, y)), a[i:], b[j:]
}

func digit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

func letter(s string) bool { return s != "" && (s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z') }

// foreign is what the version format passes over.
func foreign(r rune) bool {
	return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("~-^.", r))
}
