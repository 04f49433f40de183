// SPDX-License-Identifier: Apache-2.0

package vercmp

import (
	"cmp"
	"strings"
)

// Natural compares a and b in the order of "sort -V" in the C locale and
// returns -1, 0 or +1. Strings that differ only in leading zeros fall back to
// byte order, so that 0 means equal bytes. Source: GNU coreutils manual,
// "Version sort ordering".
func Natural(a, b string) int {
	if c := naturalName(a, b); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func naturalName(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(a), len(b))
	}
	if c := cmp.Compare(dotRank(a), dotRank(b)); c != 0 {
		return c
	}
	// Names first compare without their file extensions, so that "a.gz" stays
	// beside "a-1.gz".
	if c := compareParts(stem(a), stem(b)); c != 0 {
		return c
	}
	return compareParts(a, b)
}

// dotRank puts ".", "..", other names with a leading dot, and the rest in
// this order.
func dotRank(s string) int {
	switch {
	case s == ".":
		return 0
	case s == "..":
		return 1
	case s[0] == '.':
		return 2
	default:
		return 3
	}
}

// stem cuts the file extensions off a name that isn't empty: the longest tail
// that matches (\.[A-Za-z~][A-Za-z0-9~]*)*, leaving at least one byte.
func stem(s string) string {
	end := len(s)
	for i := len(s) - 1; i > 0; i-- {
		switch {
		case s[i] == '.':
			if i+1 == end || isDigit(s[i+1]) {
				return s[:end]
			}
			end = i
		case !isAlpha(s[i]) && !isDigit(s[i]) && s[i] != '~':
			return s[:end]
		}
	}
	return s[:end]
}
