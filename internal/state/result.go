// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dkms-go/internal/kernel"
	"dkms-go/internal/untrusted"
)

// RecordFile is the name of the record in a result's directory. Upstream
// neither writes nor reads it.
const RecordFile = "build.json"

// RecordFormat is the version of the record's format.
const RecordFormat = 1

// Record tells how a result came to be. It is written once, with the result.
type Record struct {
	Format  int       `json:"format"`
	Module  string    `json:"module"`
	Version string    `json:"version"`
	Kernel  string    `json:"kernel"`
	Arch    string    `json:"arch"`
	Origin  string    `json:"origin"`
	Built   time.Time `json:"built"`
	Seconds float64   `json:"seconds"`
	// CPUSeconds is the time of all commands on all CPUs, PeakBytes the largest
	// resident set of one of their processes.
	CPUSeconds float64         `json:"cpu_seconds,omitempty"`
	PeakBytes  int64           `json:"peak_bytes,omitempty"`
	Tool       string          `json:"tool"`
	Make       string          `json:"make"`
	Identity   kernel.Identity `json:"kernel_identity,omitzero"`
	// Signed says that objects are signed, Unsigned why some or all aren't.
	Signed   bool     `json:"signed"`
	Unsigned string   `json:"unsigned,omitempty"`
	Depends  []string `json:"build_depends,omitempty"`
	// Source and Settings are digests: of the source, and of the evaluated
	// conf with what the administrator lays over the source.
	Source   string `json:"source,omitempty"`
	Settings string `json:"settings,omitempty"`
	// WatchesImage says that the build may have read what comes with the
	// kernel's image and not with its headers.
	WatchesImage bool `json:"watches_image,omitempty"`
	// Compiler is the program that compiled.
	Compiler *Program `json:"compiler_file,omitempty"`
	// Verified lists what the objects were held against.
	Verified []string      `json:"verified,omitempty"`
	Objects  []ObjectEntry `json:"objects"`
	// Prebuilt tells where a result came from that was built elsewhere, Tried which
	// sources of prebuilts were asked before, in their order.
	Prebuilt *Prebuilt `json:"prebuilt,omitempty"`
	Tried    []Tried   `json:"tried,omitempty"`
}

// Prebuilt tells where a result came from.
type Prebuilt struct {
	// Source is a file, or a source of framework.conf's prebuilt_sources.
	Source string `json:"source"`
	// Key is what it is looked up by, SignedBy the ID of the trusted key that has signed
	// it, TrustedBy that key's file.
	Key       string `json:"key,omitempty"`
	SignedBy  string `json:"signed_by"`
	TrustedBy string `json:"trusted_by"`
	// BuiltWith is the version of dkms that built it.
	BuiltWith string `json:"built_with"`
}

// Tried is one source of prebuilts that was asked for a result.
type Tried struct {
	Source string `json:"source"`
	Key    string `json:"key"`
	// Outcome is why nothing came of it, one line.
	Outcome string `json:"outcome"`
}

// Program tells whether a program is still the same without running it.
type Program struct {
	Path string `json:"path"`
	// Size is in bytes, ModTime in nanoseconds since 1970.
	Size    int64 `json:"size"`
	ModTime int64 `json:"mtime"`
	// Banner is the first line that it prints of its version.
	Banner string `json:"banner"`
}

// ObjectEntry is one object of a result.
type ObjectEntry struct {
	Index int    `json:"index"`
	Name  string `json:"name"`
	File  string `json:"file"`
	// Location is DEST_MODULE_LOCATION of the conf.
	Location   string `json:"location"`
	SHA256     string `json:"sha256"`
	Vermagic   string `json:"vermagic"`
	SrcVersion string `json:"srcversion,omitempty"`
}

// WriteRecord puts the record into a directory that is being prepared to
// become a result; the change syncs it.
func WriteRecord(dir string, r Record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", RecordFile, err)
	}
	if err := write(filepath.Join(dir, RecordFile), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", RecordFile, err)
	}
	return nil
}

// maxRecord bounds what is read of a record, in bytes.
const maxRecord = 4 << 20

// BadRecord is the error of what lies in the place of a record and is none that any
// dkms has written, or not for this result. Such a result counts as if it had none.
type BadRecord struct {
	Path string
	Err  error
}

func (b *BadRecord) Error() string { return fmt.Sprintf("the record %s is damaged: %v", b.Path, b.Err) }

// Unwrap returns what is wrong with it.
func (b *BadRecord) Unwrap() error { return b.Err }

// Record reads the record of a result; one made by upstream has none. With an error
// it is empty. The error is a *BadRecord unless there is no record, it may not be
// read, or is of a later dkms.
func (t Tree) Record(k Key) (Record, error) {
	path := filepath.Join(t.Result(k), RecordFile)
	text, err := untrusted.ReadFile(path, maxRecord)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return Record{}, fmt.Errorf("reading the record of %s: %w", k, err)
	}
	var r Record
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && r.Format > RecordFormat {
		return Record{}, fmt.Errorf("the record of %s has format %d, this dkms knows %d", k, r.Format, RecordFormat)
	}
	if err == nil {
		err = t.fits(r, k)
	}
	if fi, e := os.Lstat(path); e == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err != nil {
		return Record{}, &BadRecord{path, err}
	}
	return r, nil
}

// fits tells what a record lacks of what each has that was written for k.
func (t Tree) fits(r Record, k Key) error {
	switch {
	case r.Format == 0:
		return errors.New("it doesn't tell its format")
	case r.Format != RecordFormat:
		return fmt.Errorf("it has the format %d", r.Format)
	case (Key{ID{r.Module, r.Version}, r.Kernel, r.Arch}) != k:
		return errors.New("it is not about this result")
	case len(r.Objects) == 0 && hasFiles(t.Objects(k)):
		return errors.New("it names no objects")
	}
	for _, o := range r.Objects {
		if o.Name == "" || o.File == "" || o.Location == "" || strings.Contains(o.Name+o.File, "/") || o.SHA256 == "" {
			return errors.New("an object lacks its name, file, location or digest")
		}
	}
	return nil
}

// WriteLog puts the build's log into its result, replacing an older one.
func (t Tree) WriteLog(k Key, text []byte) error {
	return replaceFile(filepath.Join(t.Result(k), "log", "make.log"), text)
}

// KeepLog keeps the log of the last build for k apart from its result.
func (t Tree) KeepLog(k Key, text []byte) error {
	return replaceFile(t.KeptLog(k), text)
}

// replaceFile writes a file beside path and renames it there, unless it is the
// same already. Logs are not synced: losing one in a power cut loses nothing
// else.
func replaceFile(path string, text []byte) error {
	if there, err := untrusted.ReadFile(path, int64(len(text))); err == nil && bytes.Equal(there, text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	tmp := stagedName(path + ".alone") // a change may have prepared another
	err := os.WriteFile(tmp, text, 0o644)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
