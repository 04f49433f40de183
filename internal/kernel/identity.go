// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"dkms-go/internal/host"
)

// Identity tells one build of a kernel from another of the same release.
// Digests are SHA-256 in hexadecimal; what the machine doesn't have, or what
// can't be read, is empty.
type Identity struct {
	// UTSVersion is what uname -v would print, "#1 SMP ...".
	UTSVersion string `json:"uts_version,omitempty"`
	// Compiler is the version line of the compiler (CONFIG_CC_VERSION_TEXT).
	Compiler string `json:"compiler,omitempty"`
	// ModuleSymvers is the digest of the exported symbols and their CRCs.
	ModuleSymvers string `json:"module_symvers,omitempty"`
	// Config is the digest of the configuration.
	Config string `json:"config,omitempty"`
	// SystemMap is the digest of System.map-<release>, which comes with the
	// kernel's image and so often later than the headers.
	SystemMap string `json:"system_map,omitempty"`
	// SigningCert is the digest of the certificate that the kernel's own
	// objects are signed with.
	SigningCert string `json:"signing_cert,omitempty"`
	// TreeMap and DebugMap are those of the symbol tables that some
	// distributions put into the kernel's tree, or with its debug symbols.
	TreeMap  string `json:"tree_map,omitempty"`
	DebugMap string `json:"debug_map,omitempty"`
	// Image is the digest of vmlinuz.
	Image string `json:"image,omitempty"`
}

// Changed names what tells the kernel from the one that was, by what its result
// depends on: image says that this includes what comes with the image and not
// with the headers. What is gone is no change: a kernel that is being removed is
// no reason to build for it.
func (id Identity) Changed(was Identity, image bool) []string {
	fields := []struct {
		name      string
		was, now  string
		withImage bool
	}{
		{"the kernel's version", was.UTSVersion, id.UTSVersion, false},
		{"the kernel's compiler", was.Compiler, id.Compiler, false},
		{"Module.symvers", was.ModuleSymvers, id.ModuleSymvers, false},
		{"the configuration", was.Config, id.Config, false},
		{"the signing certificate", was.SigningCert, id.SigningCert, false},
		{"System.map", was.SystemMap, id.SystemMap, true},
		{"System.map in the kernel's tree", was.TreeMap, id.TreeMap, true},
		{"System.map among the debug symbols", was.DebugMap, id.DebugMap, true},
		{"the kernel's image", was.Image, id.Image, true},
	}
	var changed []string
	for _, f := range fields {
		if f.now != "" && f.now != f.was && (image || !f.withImage) {
			changed = append(changed, f.name)
		}
	}
	return changed
}

// OfHeaders is the identity without what comes with the kernel's image and not
// with its headers.
func (id Identity) OfHeaders() Identity {
	id.SystemMap, id.TreeMap, id.DebugMap, id.Image = "", "", "", ""
	return id
}

// Reader returns what compute makes of the file at path, "" for nothing; it may
// know that from before. kind names what is computed.
type Reader func(kind, path string, compute func(path string) string) string

// Identity reads the kernel's identity.
func (k Kernel) Identity(p host.Paths) Identity {
	return k.IdentityBy(p, plainly)
}

func plainly(_, path string, compute func(string) string) string { return compute(path) }

// IdentityBy is Identity with each file read by read.
func (k Kernel) IdentityBy(p host.Paths, read Reader) Identity {
	sum := func(path string) string { return read("sha256", path, digest) }
	id := Identity{
		UTSVersion:    k.utsVersion(read),
		Compiler:      read("compiler", k.ConfigFile, compilerText),
		ModuleSymvers: sum(filepath.Join(k.SourceDir, "Module.symvers")),
		Config:        sum(k.ConfigFile),
		SystemMap:     sum(p.SystemMap(k.Release)),
		SigningCert:   sum(filepath.Join(k.SourceDir, "certs", "signing_key.x509")),
		TreeMap:       sum(filepath.Join(k.Tree, "System.map")),
		DebugMap:      sum(filepath.Join(p.DebugBoot, "System.map-"+k.Release)),
	}
	for _, image := range p.Images(k.Release) {
		if id.Image == "" {
			id.Image = sum(image)
		}
	}
	return id
}

func compilerText(path string) string {
	c, err := ReadConfig(path)
	if err != nil {
		return ""
	}
	return c.Text("CONFIG_CC_VERSION_TEXT")
}

// utsVersion takes UTS_VERSION from the header that has it: compile.h, since
// Linux 6.1 utsversion.h (kernel source, init/Makefile).
func (k Kernel) utsVersion(read Reader) string {
	for _, name := range []string{"utsversion.h", "compile.h"} {
		v := read("UTS_VERSION", filepath.Join(k.SourceDir, "include", "generated", name), func(path string) string { return define(path, "UTS_VERSION") })
		if v != "" {
			return v
		}
	}
	return ""
}

// Banner returns what the kernel's headers know of the line that the running
// kernel has in /proc/version: its version, as uname -v prints it, and the
// compiler. Each may be empty.
func (k Kernel) Banner() (version, compiler string) {
	return k.utsVersion(plainly), define(filepath.Join(k.SourceDir, "include", "generated", "compile.h"), "LINUX_COMPILER")
}

// define returns the string that a header defines a name as, or "".
func define(path, name string) string {
	text, err := readText(path)
	if err != nil {
		return ""
	}
	m := regexp.MustCompile(`(?m)^#define[ \t]+` + name + `[ \t]+"([^"\n]*)"`).FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1]
}

// digest returns the SHA-256 of a regular file, or "".
func digest(path string) string {
	if !isFile(path) {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}
