// SPDX-License-Identifier: Apache-2.0

package vercmp

import (
	"cmp"
	"strings"
)

// RPM compares a and b as rpm does a version or a release and returns -1, 0 or
// +1: by runs of digits and of letters, with everything between them left out. A
// number is above letters, a tilde below even the end, and after, which is "^" for
// rpm and "+" for GRUB, above the end and below all else. Source: rpm-version(7);
// the command blscfg of Fedora's GRUB.
func RPM(a, b string, after byte) int {
	between := func(c rune) bool {
		return c > 127 || !isDigit(byte(c)) && !isAlpha(byte(c)) && byte(c) != '~' && byte(c) != after
	}
	for a != "" || b != "" {
		a, b = strings.TrimLeftFunc(a, between), strings.TrimLeftFunc(b, between)
		if mark := marked(a, b, after); mark != 0 {
			inA, inB := begins(a, mark), begins(b, mark)
			switch {
			case inA && inB:
				a, b = a[1:], b[1:]
				continue
			case mark == after && (a == "" || b == ""):
				return cmp.Compare(len(a), len(b))
			case inA:
				return -1
			}
			return 1
		}
		if a == "" || b == "" {
			break
		}
		var c int
		if c, a, b = compareRun(a, b); c != 0 {
			return c
		}
	}
	return cmp.Compare(min(len(a), 1), min(len(b), 1))
}

// marked returns the tilde, or after, that one of a and b begins with; 0 for none.
func marked(a, b string, after byte) byte {
	for _, mark := range []byte{'~', after} {
		if begins(a, mark) || begins(b, mark) {
			return mark
		}
	}
	return 0
}

func begins(s string, c byte) bool { return s != "" && s[0] == c }

// compareRun compares the first runs of a and b, neither of them empty, which are
// of the kind that a begins with, and cuts them off.
func compareRun(a, b string) (c int, restA, restB string) {
	if isDigit(a[0]) {
		i, j := digits(a), digits(b)
		if j == 0 {
			return 1, "", ""
		}
		return compareNumber(a[:i], b[:j]), a[i:], b[j:]
	}
	restA, restB = strings.TrimLeft(a, letters), strings.TrimLeft(b, letters)
	x, y := a[:len(a)-len(restA)], b[:len(b)-len(restB)]
	if y == "" {
		return -1, "", ""
	}
	return strings.Compare(x, y), restA, restB
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
