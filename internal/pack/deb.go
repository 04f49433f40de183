// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

// deb returns the content of a .deb (deb(5)): an ar archive of a format version, the
// control files and the files, both as tar.xz.
func (p *Package) deb() ([]byte, error) {
	whole := *p
	whole.Files = append(slices.Clone(p.Files), p.documents()...)
	files := whole.sorted(true)
	control, err := p.archive(whole.control(files))
	if err != nil {
		return nil, err
	}
	data, err := p.archive(files)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.xz", control}, {"data.tar.xz", data}} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, p.Time.Unix(), 0, 0, "100644", len(m.body))
		b.Write(m.body)
		if len(m.body)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

// archive returns a tar.xz of files. Names begin with ./, and the root comes first.
func (p *Package) archive(files []File) ([]byte, error) {
	var b bytes.Buffer
	z, err := xz.NewWriter(&b)
	if err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	w := tar.NewWriter(z)
	for _, f := range append([]File{{Name: "", Dir: true}}, files...) {
		h := &tar.Header{Format: tar.FormatGNU, Name: "./" + f.Name, Mode: f.mode(), Uname: "root", Gname: "root", ModTime: p.Time, Typeflag: tar.TypeReg}
		switch {
		case f.Dir:
			h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(h.Name, "/")+"/"
		case f.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		default:
			h.Size = int64(len(f.Body))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.Name, err)
		}
		if _, err := w.Write(f.Body); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	return b.Bytes(), nil
}

// control returns the control files: deb-control(5), md5sums and the scripts.
func (p *Package) control(files []File) []File {
	var sums, c strings.Builder
	size := int64(0)
	for _, f := range files {
		size += 1 + int64(len(f.Body))/1024 // in KiB, one for what a file has itself
		if !f.Dir && f.Link == "" {
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.Body), f.Name)
		}
	}
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&c, "%s: %s\n", name, value)
		}
	}
	field("Package", p.Name)
	field("Version", p.Version)
	field("Architecture", p.Arch)
	field("Maintainer", p.Maintainer)
	field("Installed-Size", fmt.Sprint(size))
	field("Depends", strings.Join(p.Depends, ", "))
	field("Recommends", strings.Join(p.Recommends, ", "))
	field("Conflicts", strings.Join(p.Conflicts, ", "))
	field("Section", "kernel")
	field("Priority", "optional")
	field("Homepage", p.Homepage)
	field("Description", p.Summary)
	for _, line := range wrap(p.Description, 78) {
		c.WriteString(" " + line + "\n")
	}
	list := []File{{Name: "control", Body: []byte(c.String())}, {Name: "md5sums", Body: []byte(sums.String())}}
	for _, name := range slices.Sorted(maps.Keys(p.Scripts)) {
		list = append(list, File{Name: name, Exec: true, Body: []byte(p.Scripts[name])})
	}
	slices.SortFunc(list, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// documents are the files that each Debian package has (policy 12.5 and 12.7).
func (p *Package) documents() []File {
	dir := "usr/share/doc/" + p.Name + "/"
	log := fmt.Sprintf("%s (%s) unstable; urgency=medium\n\n  * Packaged by dkms.\n\n -- %s  %s\n",
		p.Name, p.Version, p.Maintainer, p.Time.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000"))
	name := "changelog.gz"
	if strings.Contains(p.Version, "-") { // with a Debian revision
		name = "changelog.Debian.gz"
	}
	return []File{{Name: dir + "copyright", Body: []byte(p.copyright())}, {Name: dir + name, Body: gzipped(log)}}
}

// copyright is in the form of Debian's machine-readable copyright files, 1.0.
func (p *Package) copyright() string {
	var b strings.Builder
	b.WriteString("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n")
	fmt.Fprintf(&b, "Upstream-Name: %s\n", p.Name)
	if p.Homepage != "" {
		fmt.Fprintf(&b, "Source: %s\n", p.Homepage)
	}
	fmt.Fprintf(&b, "\nFiles: *\nCopyright: %d %s\nLicense: %s\n", p.Time.UTC().Year(), p.author(), p.License)
	b.WriteString(" The files of the source name their authors and licences.\n")
	if strings.Contains(p.License, "GPL-2") {
		b.WriteString(" .\n On Debian systems the GNU General Public License, version 2, is in\n /usr/share/common-licenses/GPL-2.\n")
	}
	return b.String()
}

// gzipped compresses without a name and a time.
func gzipped(text string) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil { // neither a buffer nor the level fails
		return nil
	}
	return b.Bytes()
}

// wrap breaks a text into lines of at most width characters.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
