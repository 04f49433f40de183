// SPDX-License-Identifier: Apache-2.0

package corpus_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// digests returns the GNU build ID of an object, "" if it has none, and the
// SHA-256 of the whole. It reads with the system's tools, not with the program
// under test.
func digests(t *testing.T, path string) (id, sum string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".xz") {
		data = []byte(lab.MustExec(t, "xz", "-dc", path).Stdout)
	}
	whole := sha256.Sum256(data)
	sum = hex.EncodeToString(whole[:])
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if note := f.Section(".note.gnu.build-id"); note != nil {
		content, err := note.Data()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		// A header of three words and the name "GNU\0" come first (elf(5)).
		if len(content) > 16 {
			id = hex.EncodeToString(content[16:])
		}
	}
	return id, sum
}
