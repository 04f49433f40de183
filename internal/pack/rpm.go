// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/rpmpack"
)

// Modes of what isn't a regular file, in the header of an rpm (stat(2)).
const (
	modeDir  = 0o040000
	modeLink = 0o120000
)

// Tags of the header that rpmpack has no names for (rpmtag.h).
const (
	tagChangelogTime = 1080
	tagChangelogName = 1081
	tagChangelogText = 1082
)

// rpm returns the content of a .rpm.
func (p *Package) rpm() ([]byte, error) {
	m := rpmpack.RPMMetaData{
		Name: p.Name, Summary: p.Summary, Description: strings.Join(wrap(p.Description, 78), "\n"), Version: p.Version, Release: release,
		Arch: p.Arch, URL: p.Homepage, Packager: p.Maintainer, Licence: p.License, BuildHost: "localhost", Compressor: "xz",
		Epoch: rpmpack.NoEpoch, BuildTime: p.Time, Group: "System/Kernel",
	}
	for _, list := range []struct {
		to   *rpmpack.Relations
		from []string
	}{{&m.Requires, p.Depends}, {&m.Recommends, p.Recommends}, {&m.Conflicts, p.Conflicts}} {
		for _, relation := range list.from {
			if err := list.to.Set(relation); err != nil {
				return nil, fmt.Errorf("packing the dependency %q: %w", relation, err)
			}
		}
	}
	r, err := rpmpack.NewRPM(m)
	if err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	for name, add := range map[string]func(string){"post": r.AddPostin, "preun": r.AddPreun, "postun": r.AddPostun, "posttrans": r.AddPosttrans} {
		if text := p.Scripts[name]; text != "" {
			add(text)
		}
	}
	for _, f := range p.sorted(false) {
		file := rpmpack.RPMFile{Name: "/" + f.Name, Body: f.Body, Mode: uint(f.mode()), Owner: "root", Group: "root", MTime: uint32(p.Time.Unix())}
		switch {
		case f.Dir:
			file.Mode |= modeDir
		case f.Link != "":
			file.Mode, file.Body = file.Mode|modeLink, []byte(f.Link)
		}
		r.AddFile(file)
	}
	r.AddCustomTag(tagChangelogTime, rpmpack.EntryUint32([]uint32{uint32(p.Time.Unix())}))
	r.AddCustomTag(tagChangelogName, rpmpack.EntryStringSlice([]string{fmt.Sprintf("%s - %s-%s", p.Maintainer, p.Version, release)}))
	r.AddCustomTag(tagChangelogText, rpmpack.EntryStringSlice([]string{"- Packaged by dkms"}))
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	return b.Bytes(), nil
}
