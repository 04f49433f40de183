// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dkms-go/internal/durable"
)

// asideEnd is how the names of files end that are to become index files.
const asideEnd = ".dkms-new"

func isAside(name string) bool {
	return strings.HasPrefix(name, ".modules.") && strings.HasSuffix(name, asideEnd)
}

// replace gives the index its content: what differs is written aside and
// synced, all files at once, then renamed in their order. It returns how many
// files differed. leftovers, names in the tree, are removed.
func replace(tree string, files []file, leftovers []string) (int, error) {
	aside := make([]string, len(files))
	failed := make([]error, len(files))
	var all sync.WaitGroup
	for i, f := range files {
		all.Go(func() {
			path := filepath.Join(tree, f.name)
			if same(path, f.data) {
				return
			}
			aside[i] = filepath.Join(tree, fmt.Sprintf(".%s.%016x%s", f.name, rand.Uint64(), asideEnd))
			failed[i] = write(aside[i], f.data)
		})
	}
	all.Wait()
	err := errors.Join(failed...)
	written := 0
	for i, f := range files {
		if aside[i] == "" {
			continue
		}
		if err == nil {
			err = os.Rename(aside[i], filepath.Join(tree, f.name))
		}
		if err != nil {
			os.Remove(aside[i])
			continue
		}
		written++
	}
	for _, name := range leftovers {
		os.Remove(filepath.Join(tree, name))
	}
	if err == nil && written > 0 {
		err = durable.Sync(tree)
	}
	if err == nil && aside[0] == "" {
		now := time.Now()
		err = os.Chtimes(filepath.Join(tree, files[0].name), now, now)
	}
	return written, err
}

// write makes a file and waits until it is on the disk.
func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// same reports whether a regular file has that content.
func same(path string, data []byte) bool {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() != int64(len(data)) {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	buf := make([]byte, min(len(data)+1, 64<<10))
	for {
		n, err := f.Read(buf)
		if n > len(data) || !bytes.Equal(buf[:n], data[:n]) {
			return false
		}
		data = data[n:]
		if errors.Is(err, io.EOF) {
			return len(data) == 0
		}
		if err != nil {
			return false
		}
	}
}
