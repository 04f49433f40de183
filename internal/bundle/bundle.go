// SPDX-License-Identifier: Apache-2.0

// Package bundle writes and reads the tar archives of `dkms mktarball` and
// `dkms ldtarball`. It knows nothing of the module tree: the caller hands in
// directories and gets directories back, and decides what they mean.
//
// An archive of a module holds, below its root "./":
//
//	dkms_main_tree/<kernel>/<arch>/...   one built result each; present but empty for source only
//	dkms_source_tree/...                 the source; absent for binaries only
//	dkms_binaries_only/                  PACKAGE_NAME, PACKAGE_VERSION, dkms.conf; only for binaries only
//
// Reading takes the same layout, and any other source archive that holds a
// dkms.conf (dkms(8), "ldtarball"). What an archive says is not trusted: see
// [Extract].
package bundle

import (
	"errors"
	"fmt"
	"strings"
)

// Names at the root of an archive (dkms(8), "mktarball").
const (
	mainTree     = "dkms_main_tree"
	sourceTree   = "dkms_source_tree"
	binariesOnly = "dkms_binaries_only"
	confName     = "dkms.conf"
)

// Kind says which parts an archive holds.
type Kind int

// The kinds of archive.
const (
	Full         Kind = iota // source and built results
	SourceOnly               // source, no built results
	BinariesOnly             // built results and a dkms.conf, no source
	Generic                  // not written by mktarball: any source tree with a dkms.conf; only read
)

// String names the kind for messages.
func (k Kind) String() string {
	switch k {
	case Full:
		return "full"
	case SourceOnly:
		return "source-only"
	case BinariesOnly:
		return "binaries-only"
	case Generic:
		return "generic"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Result is what one build of the module left for one kernel.
type Result struct {
	Kernel string // kernel release
	Arch   string
	Dir    string // directory holding module/, log/ and the rest
}

// Contents is what [Write] puts in an archive.
type Contents struct {
	Module, Version string
	Kind            Kind     // Full, SourceOnly or BinariesOnly
	SourceDir       string   // may be a symlink to the source; required unless BinariesOnly
	ConfFile        string   // for BinariesOnly; "" takes SourceDir/dkms.conf
	Results         []Result // in the order the user named them; not used for SourceOnly
}

// Archive is an unpacked archive.
type Archive struct {
	Dir       string   // where it was unpacked
	Kind      Kind     // Generic if it has no dkms_main_tree
	ConfFile  string   // dkms.conf of the source, else that of dkms_binaries_only
	SourceDir string   // directory to import as the source; "" for BinariesOnly
	Results   []Result // every kernel and arch, sorted
	// Dropped lists symlinks, as paths in the archive, that were not kept since
	// they point outside SourceDir. Only a Generic archive whose dkms.conf is
	// not at its root can have some.
	Dropped []string
}

// Errors of Extract that say what is wrong with the archive as a whole.
var (
	// ErrNotTar is reported for a file that is no tar archive, plain or compressed.
	ErrNotTar = errors.New("not a tar archive, plain or compressed with gzip, xz, zstd or bzip2")
	// ErrEmpty is reported for an archive without a single entry.
	ErrEmpty = errors.New("the archive is empty")
	// ErrTruncated is reported for an archive that ends too early.
	ErrTruncated = errors.New("the archive is truncated")
	// ErrTooBig is reported for an archive over one of the limits of Extract.
	ErrTooBig = errors.New("the archive is too big")
	// ErrNoConf is reported for a generic archive without a dkms.conf.
	ErrNoConf = errors.New("no dkms.conf in the archive")
	// ErrNoValidConf is reported for an archive of mktarball's layout with a
	// dkms.conf neither in dkms_source_tree nor in dkms_binaries_only.
	ErrNoValidConf = errors.New("no dkms.conf in dkms_source_tree or dkms_binaries_only")
	// ErrFormat is reported by Write for a suffix whose compression can not be written.
	ErrFormat = errors.New("this compression can not be written; use .tar, .tar.gz, .tar.xz or .tar.zst")
)

// EntryError says why Extract refused an archive because of one entry.
type EntryError struct {
	Archive string // path of the archive
	Entry   string // name as it stands in the archive
	Reason  string
}

// Error names the archive, the entry and the reason.
func (e *EntryError) Error() string {
	return fmt.Sprintf("archive %q: entry %q: %s", e.Archive, e.Entry, e.Reason)
}

// maxList is the most characters of a kernel list in a file name. dkms counts
// the newline of its `echo`, so 199 characters of list are the most.
const maxList = 200

// ListName returns the default file name of an archive of c:
// "<module>-<version>-<list>.dkms.tar.gz", where list is "source-only", or
// "kernel<kernel>-<arch>" of each result in the given order joined by "-", or
// "manykernels" where that gets too long. Without results list is empty, as
// dkms has it.
func ListName(c Contents) string {
	list := "source-only"
	if c.Kind != SourceOnly {
		parts := make([]string, len(c.Results))
		for i, r := range c.Results {
			parts[i] = "kernel" + r.Kernel + "-" + r.Arch
		}
		list = strings.Join(parts, "-")
	}
	if len([]rune(list))+1 > maxList {
		list = "manykernels"
	}
	return c.Module + "-" + c.Version + "-" + list + ".dkms.tar.gz"
}
