// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// maxVariable bounds what is read of one variable, in bytes; dbx, the largest, has
// some 30 KiB.
const maxVariable = 4 << 20

// newList is what mokutil has put up; only root may read it.
const newList = "MokNew"

// Variables and their vendors' GUIDs, as efivarfs has them in its names: those of
// UEFI (UEFI 2.10, 3.3 and 32.3) and those of shim (MokVars.txt of its source).
const (
	globalGUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	imageGUID  = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
	shimGUID   = "605dab50-e046-4300-abb6-3dd810dd8b23"
)

// List is what a variable says of keys.
type List struct {
	Certificates []*x509.Certificate
	// Hashes are SHA-256 digests of what a certificate's signature covers, which
	// dbx may have in place of the certificate.
	Hashes [][32]byte
}

// Has reports whether a certificate is in the list.
func (l List) Has(cert *x509.Certificate) bool {
	for _, c := range l.Certificates {
		if c.Equal(cert) {
			return true
		}
	}
	sum := sha256.Sum256(cert.RawTBSCertificate)
	for _, h := range l.Hashes {
		if h == sum {
			return true
		}
	}
	return false
}

// The types of signatures that are looked at, as they are on disk
// (EFI_CERT_X509_GUID, EFI_CERT_X509_SHA256_GUID; UEFI 2.10, 32.4.1).
func typeX509() []byte {
	return []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
}

func typeX509SHA256() []byte {
	return []byte{0x92, 0xa4, 0xd2, 0x3b, 0xc0, 0x96, 0x79, 0x40, 0xb4, 0x20, 0xfc, 0xf9, 0x8e, 0xf1, 0x03, 0xed}
}

// ParseList reads EFI_SIGNATURE_LISTs one after the other (UEFI 2.10, 32.4.1):
// type, size of the list, of its header and of each entry, the header, then the
// entries, each with the GUID of its owner before it. Types that aren't known, and
// certificates that can't be read, are passed over.
func ParseList(data []byte) (List, error) {
	const head, owner = 28, 16
	var l List
	for rest := data; len(rest) > 0; {
		if len(rest) < head {
			return l, fmt.Errorf("a list of keys is cut short: %d bytes", len(rest))
		}
		size, header, entry := uint64(binary.LittleEndian.Uint32(rest[16:])), uint64(binary.LittleEndian.Uint32(rest[20:])), uint64(binary.LittleEndian.Uint32(rest[24:]))
		if size < head || size > uint64(len(rest)) || header > size-head || entry <= owner {
			return l, fmt.Errorf("a list of keys has %d bytes, a header of %d and entries of %d, in %d", size, header, entry, len(rest))
		}
		kind, entries := rest[:16], rest[head+header:size]
		if uint64(len(entries))%entry != 0 {
			return l, fmt.Errorf("entries of %d bytes in %d", entry, len(entries))
		}
		for ; len(entries) > 0; entries = entries[entry:] {
			l.add(kind, entries[owner:entry])
		}
		rest = rest[size:]
	}
	return l, nil
}

func (l *List) add(kind, data []byte) {
	switch {
	case bytes.Equal(kind, typeX509()):
		if cert, err := x509.ParseCertificate(data); err == nil {
			l.Certificates = append(l.Certificates, cert)
		}
	case bytes.Equal(kind, typeX509SHA256()) && len(data) >= sha256.Size: // the time of revocation follows
		l.Hashes = append(l.Hashes, [32]byte(data))
	}
}

// variable reads one of efivarfs, without the four bytes of attributes before the
// content.
func (r *reader) variable(name, guid string) ([]byte, error) {
	data, err := readFile(filepath.Join(r.paths.EFIVars, name+"-"+guid))
	if err != nil {
		return nil, err
	}
	if len(data) < 4 {
		return nil, fmt.Errorf("the variable %s has %d bytes", name, len(data))
	}
	return data[4:], nil
}

// flag reads a variable that is a yes or no; one that isn't there is a no.
func (r *reader) flag(name, guid string) Answer {
	data, err := r.variable(name, guid)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return No
	case err != nil:
		r.problem(err)
		return Unknown
	case len(data) > 0 && data[0] == 1:
		return Yes
	}
	return No
}

// list reads a variable with keys; one that isn't there has none.
func (r *reader) list(name, guid string) List {
	data, err := r.variable(name, guid)
	return r.parsed(name, data, err)
}

// shimList reads a list that shim has made of its own. It may be longer than a
// variable of the firmware: then it goes on in others, with numbers behind the
// name, and the kernel has the whole as a file.
func (r *reader) shimList(name string) List {
	whole, err := readFile(filepath.Join(r.paths.MOKVars, name))
	if err == nil {
		return r.parsed(name, whole, nil)
	}
	l := r.list(name, shimGUID)
	for i := 1; i < 100; i++ {
		data, err := r.variable(name+strconv.Itoa(i), shimGUID)
		if err != nil {
			break
		}
		more := r.parsed(name, data, nil)
		l.Certificates, l.Hashes = append(l.Certificates, more.Certificates...), append(l.Hashes, more.Hashes...)
	}
	return l
}

func (r *reader) parsed(name string, data []byte, err error) List {
	if errors.Is(err, fs.ErrNotExist) || name == newList && errors.Is(err, fs.ErrPermission) {
		return List{}
	}
	var l List
	if err == nil {
		l, err = ParseList(data)
	}
	if err != nil {
		r.problem(fmt.Errorf("reading the variable %s: %w", name, err))
	}
	return l
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxVariable+1))
	if err == nil && len(data) > maxVariable {
		err = fmt.Errorf("%s has more than %d bytes", path, maxVariable)
	}
	return data, err
}
