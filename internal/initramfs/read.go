// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"dkms-go/internal/ko"
)

const (
	// maxUnpacked bounds what is unpacked of one image, in bytes. Usual images
	// have 50 to 300 MiB.
	maxUnpacked = 8 << 30
	// maxObject bounds one object in an image, maxObjects all that are kept.
	maxObject  = 256 << 20
	maxObjects = 512 << 20
)

// Object is a kernel module in an image.
type Object struct {
	// Name is its file name without .ko and compression, with each - as _:
	// that is how the kernel knows it.
	Name string
	// Path is where it is in the image, without a leading slash.
	Path string
	// Data is the object itself, uncompressed.
	Data []byte
}

// Normal returns the name of a module as the kernel writes it, with each - as _
// (modprobe(8) treats both alike).
func Normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Read returns the objects of an image that are wanted, by their normal name;
// the content of others is passed over. The image is read as a stream: memory
// is taken for the wanted objects (at most 512 MiB) and for the window of the
// decompressor (at most 128 MiB). What a later archive puts in place of an
// earlier one's counts, as for the kernel.
//
// A damaged image, and one with a compression that isn't known, is an error
// that names it; errors.ErrUnsupported is wrapped for a known one that isn't
// read (lzo).
func Read(image string, want func(name string) bool) ([]Object, error) {
	var objects []Object
	room := int64(maxObjects)
	err := open(image, func(e entry) error {
		name, compression, ok := objectName(e.name)
		if !ok || !e.regular || e.size == 0 || !want(name) {
			return nil
		}
		if e.size > maxObject || e.size > room {
			return fmt.Errorf("object %q: %w", e.name, ko.ErrTooLarge)
		}
		data := make([]byte, e.size)
		if _, err := io.ReadFull(e.content, data); err != nil {
			return fmt.Errorf("object %q: %w", e.name, err)
		}
		if compression != ko.None {
			var err error
			if data, err = ko.Decompress(data); err != nil {
				return fmt.Errorf("object %q: %w", e.name, err)
			}
		}
		room -= int64(len(data))
		o := Object{name, strings.TrimPrefix(path.Clean(e.name), "/"), data}
		if i := slices.IndexFunc(objects, func(have Object) bool { return have.Path == o.Path }); i >= 0 {
			objects[i] = o
			return nil
		}
		objects = append(objects, o)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the initramfs %s: %w", image, err)
	}
	return objects, nil
}

// Names returns the normal names of all objects in an image, sorted.
func Names(image string) ([]string, error) {
	var names []string
	err := open(image, func(e entry) error {
		if name, _, ok := objectName(e.name); ok {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the initramfs %s: %w", image, err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Held is what an image has of an object.
type Held int

// Missing: nothing of that name; Other: another object of that name; Same: the
// object itself.
const (
	Missing Held = iota
	Other
	Same
)

func (h Held) String() string { return [...]string{"missing", "other", "same"}[h] }

// Holds tells whether an image has the object want, uncompressed, under a name.
func Holds(image, name string, want []byte) (Held, error) {
	name = Normal(name)
	objects, err := Read(image, func(n string) bool { return n == name })
	if err != nil {
		return Missing, err
	}
	return Compare(objects, name, want), nil
}

// Compare is Holds for objects that were read. Tools may strip an object on its
// way into the image (dracut's do_strip), which also drops the signature: one
// that isn't the same byte for byte still is if it tells the same of itself,
// has the same symbol versions, and is the same without debugging sections.
func Compare(objects []Object, name string, want []byte) Held {
	held := Missing
	for _, o := range objects {
		switch {
		case o.Name != Normal(name):
		case sameObject(o.Data, want):
			return Same
		default:
			held = Other
		}
	}
	return held
}

func sameObject(a, b []byte) bool {
	if bytes.Equal(a, b) || bytes.Equal(ko.Unsigned(a), ko.Unsigned(b)) {
		return true
	}
	x, errX := ko.Strip(ko.Unsigned(a))
	y, errY := ko.Strip(ko.Unsigned(b))
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// objectName returns the normal name of the object at a path of an image.
func objectName(file string) (string, ko.Compression, bool) {
	name, c, ok := ko.SplitName(path.Base(file))
	return Normal(name), c, ok
}

// open reads an image and calls visit for each entry of its archives.
func open(image string, visit func(entry) error) error {
	f, err := os.OpenFile(image, os.O_RDONLY|syscall.O_NONBLOCK, 0) // do not wait for a pipe's writer
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return errors.Join(errors.New("not a regular file"), err)
	}
	return walk(f, visit)
}

// walk reads an image: cpio archives, plain ones first as a rule (processor
// microcode), each followed by zeros or not, then compressed ones.
func walk(r io.Reader, visit func(entry) error) error {
	br := bufio.NewReaderSize(r, bufferSize)
	left := int64(maxUnpacked)
	for {
		if err := walkArchives(br, visit, &left); err != nil {
			return err
		}
		if _, err := br.Peek(1); err == io.EOF {
			return nil
		}
		in, name, err := decompressor(br)
		if err == nil {
			err = walkPart(in, visit, &left)
		}
		if err != nil && name != "" {
			return fmt.Errorf("the part compressed with %s: %w", name, err)
		}
		if err != nil {
			return err
		}
	}
}

// walkPart reads the archives of a compressed part, which has to end with them.
func walkPart(in io.Reader, visit func(entry) error, left *int64) error {
	br := bufio.NewReaderSize(in, bufferSize)
	if err := walkArchives(br, visit, left); err != nil {
		return err
	}
	switch _, err := br.Peek(1); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: something else follows its trailer", errCpio)
	default:
		return err
	}
}

func walkArchives(br *bufio.Reader, visit func(entry) error, left *int64) error {
	a := newArchives(br)
	for {
		e, err := a.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if *left -= headerSize + e.size; *left < 0 {
			return fmt.Errorf("it unpacks to more than %d bytes", int64(maxUnpacked))
		}
		if err := visit(e); err != nil {
			return err
		}
	}
}
