// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"strings"
	"testing"
)

func TestBlocks(t *testing.T) {
	const page = `# Title

Words
    not a block

    dkms doctor   # exits 27: a warning
    dkms status

Words:

    # hello/Makefile
    obj-m := hello.o

    all:
    	make

` + "```text\nhello/1.0: added\n```" + `
1. a list
   goes on
`
	var got strings.Builder
	for _, b := range blocks("x.md", page) {
		path, content := b.File()
		fmt.Fprintf(&got, "%q %q %q\n", b.Info, path, content)
		if path != "" {
			continue
		}
		for _, l := range b.Lines {
			fmt.Fprintf(&got, "  %s %q %d\n", l.At, l.Command(), l.Exit())
		}
	}
	const want = `"" "" ""
  x.md:6 "dkms doctor" 27
  x.md:7 "dkms status" 0
"" "hello/Makefile" "obj-m := hello.o\n\nall:\n\tmake\n"
"text" "" ""
  x.md:18 "hello/1.0: added" 0
`
	if got.String() != want {
		t.Errorf("the blocks are\n%swant\n%s", got.String(), want)
	}
	man := blocks("x.8.scd", "*a*\n\tb\n\n    c\n\n```\ndkms status\n```\n")
	if len(man) != 1 || man[0].Lines[0].Text != "dkms status" {
		t.Errorf("the blocks of a manual page are %v", man)
	}
}
