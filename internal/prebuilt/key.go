// SPDX-License-Identifier: Apache-2.0

package prebuilt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"dkms-go/internal/fingerprint"
	"dkms-go/internal/state"
)

// Key is what a prebuilt is looked up by: what makes another build of it. Machines with
// the kernel's headers and those with its image only come to the same.
type Key struct {
	ID state.ID
	// Source and Options are as in Manifest.
	Source, Options string
	Kernel          fingerprint.Kernel
}

// KeyOf returns the key of a manifest.
func KeyOf(m Manifest) Key { return Key{m.ID(), m.Source, m.Options, m.Kernel} }

// Digest returns the name of the key: the SHA-256, in hexadecimal, of its JSON. The
// error names what isn't known of the kernel or of the source, without which nothing
// can be looked up.
func (k Key) Digest() (string, error) {
	var missing []string
	for _, f := range []struct{ what, value string }{
		{"the digest of its source", k.Source}, {"the kernel's version (uname -v)", k.Kernel.UTSVersion},
		{"the kernel's configuration", k.Kernel.Options}, {"the kernel's exported symbols", k.Kernel.Exports},
	} {
		if f.value == "" {
			missing = append(missing, f.what)
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("a prebuilt of %s for kernel %s can't be looked up: not known here is %s", k.ID, k.Kernel.Release, strings.Join(missing, ", "))
	}
	text, err := json.Marshal(struct {
		Schema                                          string
		Module, Version, Source, Options, Arch, Release string
		UTSVersion, Config, Exports                     string
	}{
		"dkms-prebuilt-key/1", k.ID.Module, k.ID.Version, k.Source, k.Options, k.Kernel.Arch, k.Kernel.Release,
		k.Kernel.UTSVersion, k.Kernel.Options, k.Kernel.Exports,
	})
	if err != nil {
		return "", fmt.Errorf("making a key: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
