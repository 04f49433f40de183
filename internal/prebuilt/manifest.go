// SPDX-License-Identifier: Apache-2.0

// Package prebuilt holds objects that were built on another machine, for one build of
// one kernel: what is said of them (Manifest), the file that carries them (Write, Read),
// the key that they are looked up by (Key), and what can be asked for them (Source).
//
// Whoever reads one checks the signature of the manifest first, and takes only what
// the manifest lists, by its size and digest. docs/prebuilt.md describes the format.
package prebuilt

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"dkms-go/internal/fingerprint"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
	"dkms-go/internal/state"
)

// Schema names the form of a manifest.
const Schema = "dkms-bundle/1"

// PayloadType is what a manifest is signed as.
const PayloadType = "application/vnd.dkms.bundle.v1+json"

// The bounds of a bundle: of the manifest, of all contents together, and of what isn't
// an object, in bytes; and of the number of contents.
const (
	MaxManifest = 4 << 20
	MaxTotal    = 2 << 30
	maxOther    = 512 << 20
	maxContents = 4096
)

// Where contents are: objects, the conf with the scripts that it names, the log of the
// build, and the source.
const (
	objectsDir = "objects/"
	confDir    = "conf/"
	ConfPath   = confDir + "dkms.conf"
	LogPath    = "make.log"
	SourcePath = "source.tar"
)

// ErrFormat is that of a bundle that isn't as docs/prebuilt.md says.
var ErrFormat = errors.New("not a bundle")

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrFormat, fmt.Errorf(format, args...))
}

// Manifest tells of one result all that another machine needs to use it.
type Manifest struct {
	Schema  string             `json:"schema"`
	Module  string             `json:"module"`
	Version string             `json:"version"`
	Kernel  fingerprint.Kernel `json:"kernel"`
	// KernelFiles is the kernel's identity by the builder's files, which becomes that of
	// the result as far as the other machine lacks them.
	KernelFiles kernel.Identity `json:"kernel_files,omitzero"`
	// Source is the digest of the module's source, Options that of what the builder's
	// administrator laid over it, "" for nothing.
	Source  string   `json:"source"`
	Options string   `json:"options,omitempty"`
	Objects []Object `json:"objects"`
	Files   []File   `json:"files"`
	Build   Build    `json:"build"`
}

// Object is one object.
type Object struct {
	File
	// Name is the installed name without .ko, Location DEST_MODULE_LOCATION.
	Name       string `json:"name"`
	Location   string `json:"location"`
	Vermagic   string `json:"vermagic"`
	SrcVersion string `json:"srcversion,omitempty"`
}

// File is one content of a bundle.
type File struct {
	Path string `json:"path"`
	// Size is in bytes, SHA256 in hexadecimal.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Executable is set for scripts.
	Executable bool `json:"executable,omitempty"`
}

// Build tells how the objects came to be. All of it is for people, and for status.
type Build struct {
	// Date is when the build began, UTC.
	Date     time.Time `json:"date"`
	Tool     string    `json:"tool"`
	Compiler string    `json:"compiler,omitempty"`
	Make     string    `json:"make,omitempty"`
	// Origin is that of the builder's result, such as "local".
	Origin   string   `json:"origin"`
	Settings string   `json:"settings,omitempty"`
	Depends  []string `json:"build_depends,omitempty"`
	// WatchesImage is as in state.Record.
	WatchesImage bool   `json:"watches_image,omitempty"`
	Signed       bool   `json:"signed"`
	Unsigned     string `json:"unsigned,omitempty"`
}

// ID returns the module.
func (m Manifest) ID() state.ID { return state.ID{Module: m.Module, Version: m.Version} }

// StateKey names the result.
func (m Manifest) StateKey() state.Key {
	return state.Key{ID: m.ID(), Kernel: m.Kernel.Release, Arch: m.Kernel.Arch}
}

// FileName returns the name of the file that export writes.
func (m Manifest) FileName() string {
	return m.Module + "-" + m.Kernel.Release + "-" + m.Version + ".tar.gz"
}

// Contents returns all contents in the order of the bundle.
func (m Manifest) Contents() []File {
	var all []File
	for _, f := range m.Files {
		if f.Path == ConfPath {
			all = append(all, f)
		}
	}
	for _, o := range m.Objects {
		all = append(all, o.File)
	}
	for _, f := range m.Files {
		if f.Path != ConfPath {
			all = append(all, f)
		}
	}
	return all
}

// Encode returns the bytes of a manifest, which are what is signed.
func (m Manifest) Encode() ([]byte, error) {
	m.Schema = Schema
	if err := m.check(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing a manifest: %w", err)
	}
	return append(text, '\n'), nil
}

// Parse reads a manifest strictly: a field that isn't known, a name or path that could
// lead elsewhere, or a content without size or digest is an error, which wraps
// ErrFormat.
func Parse(text []byte) (Manifest, error) {
	var m Manifest
	if len(text) > MaxManifest {
		return m, formatError("the manifest has more than %d bytes", MaxManifest)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		var named struct {
			Schema string `json:"schema"`
		}
		if json.Unmarshal(text, &named) == nil && named.Schema != Schema && strings.HasPrefix(named.Schema, "dkms-bundle/") {
			return m, formatError("the manifest has the form %q, this dkms knows %q", named.Schema, Schema)
		}
		return m, formatError("the manifest: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return m, formatError("there is more behind the manifest")
	}
	return m, m.check()
}

func (m Manifest) check() error {
	if m.Schema != Schema {
		return formatError("the manifest has the form %.40q, this dkms knows %q", m.Schema, Schema)
	}
	if err := m.ID().Check(); err != nil {
		return formatError("%w", err)
	}
	for what, name := range map[string]string{"kernel release": m.Kernel.Release, "architecture": m.Kernel.Arch} {
		if err := state.CheckName(what, name); err != nil {
			return formatError("%w", err)
		}
	}
	if !isDigest(m.Source) || m.Options != "" && !isDigest(m.Options) {
		return formatError("the digest of the source or of the options is none")
	}
	for i := range m.Objects {
		if err := m.Objects[i].check(); err != nil {
			return err
		}
	}
	return m.checkContents()
}

// check tells what an object lacks.
func (o Object) check() error {
	file, ok := strings.CutPrefix(o.Path, objectsDir)
	name, _, object := ko.SplitName(file)
	switch {
	case !ok || !object || name != o.Name || state.CheckName("object name", name) != nil:
		return formatError("the path %.200q is not that of the object %.200q", o.Path, o.Name)
	case !strings.HasPrefix(o.Location, "/") || path.Clean(o.Location) != strings.TrimRight(o.Location, "/") || strings.ContainsFunc(o.Location, isControl):
		return formatError("the location %.200q of the object %q is no directory", o.Location, o.Name)
	case o.Size == 0 || o.Size > ko.MaxSize:
		return formatError("the object %q has %d bytes", o.Name, o.Size)
	case o.Vermagic == "":
		return formatError("the object %q has no vermagic", o.Name)
	}
	return nil
}

// checkContents holds all contents against the bounds.
func (m Manifest) checkContents() error {
	seen, total := map[string]bool{}, int64(0)
	all := m.Contents()
	if len(m.Objects) == 0 || len(all) > maxContents {
		return formatError("it has %d objects, %d contents", len(m.Objects), len(all))
	}
	for _, f := range m.Files {
		if err := f.check(); err != nil {
			return err
		}
	}
	for _, f := range all {
		if seen[f.Path] {
			return formatError("%q is there twice", f.Path)
		}
		seen[f.Path] = true
		if !isDigest(f.SHA256) || f.Size < 0 {
			return formatError("%q has no size or digest", f.Path)
		}
		if total += f.Size; total > MaxTotal {
			return formatError("it has more than %d bytes", int64(MaxTotal))
		}
	}
	if !seen[ConfPath] {
		return formatError("it has no dkms.conf")
	}
	return nil
}

// check tells what is wrong with a content that is no object.
func (f File) check() error {
	inside, isConf := strings.CutPrefix(f.Path, confDir)
	switch {
	case isConf && (!local(inside) || strings.HasPrefix(inside, ".")):
		return formatError("the path %.200q is not one below %q", f.Path, confDir)
	case !isConf && f.Path != LogPath && f.Path != SourcePath:
		return formatError("the path %.200q has no place in a bundle", f.Path)
	case f.Size > maxOther:
		return formatError("%q has %d bytes", f.Path, f.Size)
	}
	return nil
}

// local reports whether a path with slashes stays below its directory and is written
// in one way only.
func local(p string) bool {
	return p != "" && p == path.Clean(p) && !path.IsAbs(p) && p != ".." && !strings.HasPrefix(p, "../") && !strings.ContainsFunc(p, isControl) && len(p) < 1024
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && strings.ToLower(s) == s
}
