// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"os"
	"strings"
	"testing"
)

// archived is one file of a text archive: a comment, then files that each
// start with a line "-- NAME --".
type archived struct{ Name, Data string }

func readArchive(t testing.TB, path string) (comment string, files []archived) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		name, isName := strings.CutPrefix(strings.TrimSuffix(line, " --\n"), "-- ")
		switch {
		case isName && strings.HasSuffix(line, " --\n"):
			files = append(files, archived{Name: name})
		case len(files) == 0:
			comment += line
		default:
			files[len(files)-1].Data += line
		}
	}
	return comment, files
}

func writeArchive(t testing.TB, path, comment string, files []archived) {
	t.Helper()
	text := comment
	for _, f := range files {
		text += "-- " + f.Name + " --\n" + f.Data
	}
	writeFile(t, path, text)
}
