// SPDX-License-Identifier: Apache-2.0

// Package trust tells whether a kernel takes objects that are signed with a key,
// and whether it takes others: from the keyrings of the running kernel, the
// variables of the firmware and of shim, and the kernel's configuration. Nothing
// is changed, and what can't be read is Unknown.
//
// The kernel's rules are in kernel/module/signing.c (what is enforced),
// certs/system_keyring.c (which keyrings count) and
// security/integrity/platform_certs/load_uefi.c (what comes into them from where).
package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
)

// Answer is yes, no, or neither.
type Answer int

// Unknown is what can't be told.
const (
	Unknown Answer = iota
	No
	Yes
)

// String returns yes, no or unknown.
func (a Answer) String() string { return [...]string{"unknown", "no", "yes"}[a] }

// Machine is what a machine says of keys. The zero value knows nothing.
type Machine struct {
	// UEFI tells whether it was started by UEFI.
	UEFI Answer
	// SecureBoot tells whether kernels count Secure Boot as on: the firmware has
	// it on, and shim hasn't been told not to look (mokutil --disable-validation).
	SecureBoot Answer
	// DB and MOK are the keys of the firmware and of the machine's owner, DBX and
	// MOKX the revoked ones. New is put up for enrolment at the next boot.
	DB, MOK, DBX, MOKX, New List
	// SigEnforce and Lockdown are of the running kernel; Lockdown is "none",
	// "integrity", "confidentiality", or "" if unknown.
	SigEnforce Answer
	Lockdown   string
	// Rings are the running kernel's keyrings by name, nil if they can't be read.
	Rings map[string][]Key
	// Problems tell what couldn't be read.
	Problems []string
}

// Key is one of the running kernel's keys.
type Key struct {
	// Subject is who it belongs to, ID its subject key identifier, or else its
	// certificate's serial number, in hexadecimal.
	Subject, ID string
}

// Keyctl reads the members of a keyring of this machine (keyctl(2), KEYCTL_READ).
func Keyctl(ring int) ([]int, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, ring, buf, len(buf))
	if err != nil {
		return nil, fmt.Errorf("reading the keyring %x: %w", ring, err)
	}
	var members []int
	for i := 0; i+4 <= min(n, len(buf)); i += 4 {
		members = append(members, int(int32(uint32(buf[i])|uint32(buf[i+1])<<8|uint32(buf[i+2])<<16|uint32(buf[i+3])<<24)))
	}
	return members, nil
}

type reader struct {
	paths host.Paths
	Machine
}

func (r *reader) problem(err error) { r.Problems = append(r.Problems, err.Error()) }

// Read reads a machine; members reads a keyring, as Keyctl does.
func Read(p host.Paths, members func(ring int) ([]int, error)) Machine {
	r := &reader{paths: p}
	r.firmware()
	r.kernel()
	if err := r.rings(members); err != nil {
		r.problem(err)
	}
	return r.Machine
}

// firmware reads the variables. Without a directory for them the machine has none
// if other things of the firmware are to be seen; containers often see nothing.
func (r *reader) firmware() {
	if entries, err := os.ReadDir(r.paths.EFIVars); err != nil || len(entries) == 0 {
		if _, err := os.Stat(filepath.Dir(r.paths.EFIVars)); err == nil {
			r.UEFI = Yes
			r.problem(fmt.Errorf("%s has no variables: it isn't mounted", r.paths.EFIVars))
			return
		}
		if entries, err := os.ReadDir(r.paths.Firmware); err == nil && len(entries) > 0 {
			r.UEFI, r.SecureBoot = No, No
		}
		return
	}
	r.UEFI = Yes
	r.SecureBoot = r.flag("SecureBoot", globalGUID)
	for _, off := range [][2]string{{"SetupMode", globalGUID}, {"MokSBStateRT", shimGUID}} {
		if r.SecureBoot == Yes && r.flag(off[0], off[1]) == Yes {
			r.SecureBoot = No
		}
	}
	r.DB, r.DBX = r.list("db", imageGUID), r.list("dbx", imageGUID)
	r.MOK, r.MOKX = r.shimList("MokListRT"), r.shimList("MokListXRT")
	r.New = r.list(newList, shimGUID)
}

// kernel reads what the running kernel enforces.
func (r *reader) kernel() {
	switch data, err := readFile(r.paths.SigEnforce); {
	case err == nil && strings.TrimSpace(string(data)) == "Y":
		r.SigEnforce = Yes
	case err == nil:
		r.SigEnforce = No
	}
	// The word that counts is in brackets: none [integrity] confidentiality.
	if data, err := readFile(r.paths.Lockdown); err == nil {
		_, rest, _ := strings.Cut(string(data), "[")
		r.Lockdown, _, _ = strings.Cut(rest, "]")
	}
}

// rings reads the keyrings that count for modules.
func (r *reader) rings(members func(ring int) ([]int, error)) error {
	data, err := readFile(filepath.Join(r.paths.Proc, "keys"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel or a container without
	}
	if err != nil {
		return err
	}
	keys, rings := parseKeys(string(data))
	found := map[string][]Key{}
	for name, serial := range rings {
		if !slices.Contains(ringNames(), name) {
			continue
		}
		serials, err := members(serial)
		if err != nil {
			return err
		}
		found[name] = []Key{}
		for _, s := range serials {
			if key, ok := keys[s]; ok {
				found[name] = append(found[name], key)
			}
		}
	}
	if len(found) > 0 {
		r.Rings = found
	}
	return nil
}

const platformRing = ".platform"

// ringNames are the keyrings whose keys a kernel may take for objects.
func ringNames() []string {
	return []string{".builtin_trusted_keys", ".secondary_trusted_keys", ".machine", platformRing}
}

// parseKeys reads proc_keys(5): keys with a certificate, and keyrings by name,
// both with their numbers. A line is
//
//	1d3a36ff I------     1 perm 1f030000     0     0 asymmetri <subject>: <id>: X509.rsa 52c2bd3d []
func parseKeys(text string) (keys map[int]Key, rings map[string]int) {
	keys, rings = map[int]Key{}, map[string]int{}
	for line := range strings.Lines(text) {
		rest := line
		var fields [8]string
		for i := range fields {
			rest = strings.TrimLeft(rest, " ")
			fields[i], rest, _ = strings.Cut(rest, " ")
		}
		serial, err := strconv.ParseUint(fields[0], 16, 32)
		if err != nil {
			continue
		}
		number, rest := int(int32(uint32(serial))), strings.TrimSpace(rest)
		switch {
		case fields[7] == "keyring":
			if name, _, ok := strings.Cut(rest, ": "); ok {
				rings[name] = number
			}
		case strings.HasPrefix(fields[7], "asymmetri"):
			if i := strings.LastIndex(rest, ": X509."); i >= 0 {
				subject, id, _ := cutLast(rest[:i], ": ")
				keys[number] = Key{subject, id}
			}
		}
	}
	return keys, rings
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(separator):], true
}

// KeyID returns what the kernel calls the key of a certificate: its subject key
// identifier, or else its serial number, in hexadecimal (x509_key_preparse of
// crypto/asymmetric_keys/x509_public_key.c).
func KeyID(cert *x509.Certificate) string {
	if len(cert.SubjectKeyId) > 0 {
		return hex.EncodeToString(cert.SubjectKeyId)
	}
	der, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return ""
	}
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(der, &raw); err != nil {
		return ""
	}
	return hex.EncodeToString(raw.Bytes)
}
