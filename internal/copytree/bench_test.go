// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// sourceOf makes a tree like a module's source of 200 files.
func sourceOf(b *testing.B) string {
	dir := b.TempDir()
	for i := range 200 {
		path := filepath.Join(dir, fmt.Sprintf("part%d", i%8), fmt.Sprintf("file%d.c", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 8<<10), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

func BenchmarkCopy(b *testing.B) {
	from, to := sourceOf(b), filepath.Join(b.TempDir(), "to")
	for b.Loop() {
		if err := Copy(from, to); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := os.RemoveAll(to); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkDigest(b *testing.B) {
	dir := sourceOf(b)
	for b.Loop() {
		if _, err := Digest(dir); err != nil {
			b.Fatal(err)
		}
	}
}
