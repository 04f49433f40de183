// SPDX-License-Identifier: Apache-2.0

// Package fingerprint tells one build of a kernel from another of the same release
// in a way that machines can compare of which one has the kernel's headers and the
// other only its image.
//
// kernel.Identity has digests of files, and the headers have other files than the
// image. What both tell, each in its own form, is here: uname -v, the values of the
// configuration, the exported symbols with their CRCs, the compiler, and who has
// signed the kernel's own objects.
package fingerprint

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dkms-go/internal/abi"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
)

// Kernel is a build of a kernel. What the machine doesn't tell is empty; digests are
// SHA-256 in hexadecimal.
type Kernel struct {
	Release string `json:"release"`
	Arch    string `json:"arch"`
	// UTSVersion is what uname -v prints.
	UTSVersion string `json:"uts_version,omitempty"`
	// Compiler is CONFIG_CC_VERSION_TEXT, the first line of the compiler's version.
	Compiler string `json:"compiler,omitempty"`
	// Options is the digest of the configuration's values, see OptionsOf.
	Options string `json:"options,omitempty"`
	// Exports is the digest of the symbols that the kernel itself exports, with their
	// CRCs. HasCRCs says that it has some (CONFIG_MODVERSIONS).
	Exports string `json:"exports,omitempty"`
	HasCRCs bool   `json:"has_crcs,omitempty"`
	// Signer names the certificate that the kernel's own objects are signed with, by
	// its serial number.
	Signer string `json:"signer,omitempty"`
}

// Of reads a kernel. files is its identity by files, of which the headers' version
// of the kernel is taken.
func Of(a *abi.Kernel, files kernel.Identity) Kernel {
	k := Kernel{Release: a.Release, Arch: a.Arch, UTSVersion: files.UTSVersion}
	if k.UTSVersion == "" {
		k.UTSVersion = a.UTSVersion()
	}
	if c := a.Config(); len(c) > 0 {
		k.Compiler, k.Options = c.Text("CONFIG_CC_VERSION_TEXT"), OptionsOf(c)
	}
	if exports, _ := a.Exports(); exports != nil {
		k.Exports, k.HasCRCs = exportsOf(exports)
	}
	k.Signer = signerOf(a.Sample())
	return k
}

// OptionsOf returns the digest of a configuration: of each symbol that is set and not
// empty its name and value without quotes, since the headers' auto.conf has none
// (scripts/kconfig/confdata.c). Left out are those that distributions take out of the
// configuration that comes with the image, since they tell of the build's machine
// (Debian's debian/rules.real).
func OptionsOf(c kernel.Config) string {
	private := []string{"CONFIG_BUILD_SALT", "CONFIG_MODULE_SIG_ALL", "CONFIG_MODULE_SIG_KEY", "CONFIG_SYSTEM_TRUSTED_KEYS"}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(c)) {
		value := strings.NewReplacer(`"`, "", `\`, "").Replace(c[name])
		if value != "" && value != "n" && !slices.Contains(private, name) {
			fmt.Fprintf(sum, "%s=%s\n", name, value)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// exportsOf digests what the kernel itself exports: its modules' symbols are in the
// headers' list only.
func exportsOf(exports abi.Exports) (digest string, crcs bool) {
	var lines []string
	for e := range exports.All() {
		if e.Module != "vmlinux" {
			continue
		}
		lines = append(lines, fmt.Sprintf("%08x %s\n", e.CRC, e.Symbol))
		crcs = crcs || e.CRC != 0
	}
	if len(lines) == 0 {
		return "", false
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:]), crcs
}

func signerOf(s *abi.Sample) string {
	if s == nil {
		return ""
	}
	data, err := ko.Read(s.Path)
	if err != nil {
		return ""
	}
	sig, signed, err := ko.ParseSignature(data)
	if err != nil || !signed {
		return ""
	}
	return sig.KeyID
}

// Differences names, with both values, what tells the kernel from another one, of
// what both tell. None means that they are the same as far as that shows, see Enough.
func (k Kernel) Differences(other Kernel) []string {
	var list []string
	for _, f := range []struct{ name, mine, theirs string }{
		{"the release", k.Release, other.Release},
		{"the architecture", k.Arch, other.Arch},
		{"the version (uname -v)", k.UTSVersion, other.UTSVersion},
		{"the compiler", k.Compiler, other.Compiler},
		{"the configuration", short(k.Options), short(other.Options)},
		{"the exported symbols or their CRCs", short(k.Exports), short(other.Exports)},
		{"the signer of the kernel's own objects", k.Signer, other.Signer},
	} {
		if f.mine != "" && f.theirs != "" && f.mine != f.theirs {
			list = append(list, fmt.Sprintf("%s: %s here, %s there", f.name, f.mine, f.theirs))
		}
	}
	return list
}

// short is enough of a digest to be told from another by eye.
func short(digest string) string { return digest[:min(12, len(digest))] }

// Enough reports whether what both kernels tell suffices to tell two builds of one
// release apart: at least two of version, configuration and exported symbols with
// CRCs, each of which nearly always differs between two builds. missing names what
// the first one lacks of these.
func (k Kernel) Enough(other Kernel) (missing []string, ok bool) {
	both := 0
	for _, f := range []struct {
		name         string
		mine, theirs bool
	}{
		{"its version (uname -v)", k.UTSVersion != "", other.UTSVersion != ""},
		{"its configuration", k.Options != "", other.Options != ""},
		{"its exported symbols", k.Exports != "" && k.HasCRCs, other.Exports != "" && other.HasCRCs},
	} {
		if f.mine && f.theirs {
			both++
		}
		if !f.mine {
			missing = append(missing, f.name)
		}
	}
	return missing, both >= 2
}
