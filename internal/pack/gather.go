// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"dkms-go/internal/untrusted"
)

// What a package may have at most: files, and bytes of all.
const (
	maxFiles = 200_000
	maxBytes = 1 << 30
)

// LeftOut is a file that isn't packed.
type LeftOut struct {
	Name, Why string
	// Odd says that its author may have meant it to be packed.
	Odd bool
}

// Tree is a module's source, as it is packed.
type Tree struct {
	Files   []File
	LeftOut []LeftOut
	// Newest is the time of the file that was changed last.
	Newest time.Time
}

// Gather reads the source in a directory. It leaves out what version control keeps,
// what builds and editors make, packages, and links that lead out of the directory.
func Gather(dir string) (Tree, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return Tree{}, fmt.Errorf("reading a source: %w", err)
	}
	g := &gatherer{dir: real}
	if g.in, err = untrusted.Open(real); err != nil {
		return Tree{}, err
	}
	defer g.in.Close()
	if err := filepath.WalkDir(real, g.visit); err != nil {
		return Tree{}, fmt.Errorf("reading the source in %s: %w", dir, err)
	}
	return g.tree, nil
}

type gatherer struct {
	dir   string
	in    *untrusted.Dir
	tree  Tree
	bytes int64
}

func (g *gatherer) visit(file string, d fs.DirEntry, err error) error {
	if err != nil || file == g.dir {
		return err
	}
	name, err := filepath.Rel(g.dir, file)
	if err != nil {
		return err
	}
	if why := leftOut(name, d.IsDir()); why != "" {
		g.leave(name, why, false)
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	if len(g.tree.Files) >= maxFiles {
		return fmt.Errorf("there are more than %d files", maxFiles)
	}
	switch {
	case d.IsDir():
		g.tree.Files = append(g.tree.Files, File{Name: name, Dir: true})
		return nil
	case d.Type() == fs.ModeSymlink:
		return g.link(file, name)
	case !d.Type().IsRegular():
		g.leave(name, "it is neither a file, a directory nor a link", true)
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	return g.file(name, info)
}

func (g *gatherer) leave(name, why string, odd bool) {
	g.tree.LeftOut = append(g.tree.LeftOut, LeftOut{name, why, odd})
}

func (g *gatherer) file(name string, info fs.FileInfo) error {
	body, err := g.in.Read(name, maxBytes-g.bytes)
	if err != nil {
		return err
	}
	g.bytes += int64(len(body))
	if info.ModTime().After(g.tree.Newest) {
		g.tree.Newest = info.ModTime()
	}
	g.tree.Files = append(g.tree.Files, File{Name: name, Exec: info.Mode()&0o111 != 0, Body: body})
	return nil
}

func (g *gatherer) link(file, name string) error {
	to, err := os.Readlink(file)
	if err != nil {
		return err
	}
	if path.IsAbs(to) || !filepath.IsLocal(path.Join(path.Dir(name), to)) {
		g.leave(name, "it is a link to "+to+", outside of the source", true)
		return nil
	}
	g.tree.Files = append(g.tree.Files, File{Name: name, Link: to})
	return nil
}

// leftOut returns why a file is no part of a source, "" of one that is. Names that end
// in a digit of a version (libfoo.so.1) and shipped objects (.o_shipped) are parts.
func leftOut(name string, dir bool) string {
	base := path.Base(name)
	if dir {
		switch base {
		case ".git", ".hg", ".svn", ".bzr", "CVS", "_darcs", ".jj":
			return "version control"
		case ".tmp_versions", ".cache", "__pycache__":
			return "a build has made it"
		}
		return ""
	}
	switch base {
	case ".git", ".gitignore", ".gitattributes", ".gitmodules", ".mailmap", ".hgignore", ".hgtags", ".cvsignore":
		return "version control"
	case "modules.order", "Module.symvers", "Module.markers", ".DS_Store":
		return "a build has made it"
	}
	for _, end := range []string{".o", ".ko", ".ko.xz", ".ko.zst", ".ko.gz", ".mod", ".mod.c", ".o.cmd", ".ko.cmd", ".mod.cmd", ".order.cmd", ".symvers.cmd", ".o.d", ".ko.unsigned", ".dwo", ".gcno", ".lto", ".symversions"} {
		if strings.HasSuffix(base, end) && base != end {
			return "a build has made it"
		}
	}
	for _, end := range []string{"~", ".swp", ".swo", ".orig", ".rej"} {
		if strings.HasSuffix(base, end) {
			return "an editor or patch has made it"
		}
	}
	for _, end := range []string{".deb", ".rpm", ".dkms.tar.gz", ".dkms-new"} {
		if strings.HasSuffix(base, end) {
			return "it is a package"
		}
	}
	return ""
}

// Skipped reports whether a path below a source isn't packed, itself or with a
// directory above it.
func Skipped(name string) bool {
	if leftOut(name, false) != "" {
		return true
	}
	for d := path.Dir(name); d != "." && d != "/"; d = path.Dir(d) {
		if leftOut(d, true) != "" {
			return true
		}
	}
	return false
}
