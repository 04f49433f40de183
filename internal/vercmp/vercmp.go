// SPDX-License-Identifier: Apache-2.0

// Package vercmp orders version strings in the ways that dkms meets: by
// padded numbers (dkms itself), by natural order (sort -V) and by Debian's
// rules (dpkg).
package vercmp

import (
	"cmp"
	"strings"
)

// padWidth is the least number of digits that Pad gives a number.
const padWidth = 3

// Pad returns s in the form in which dkms compares versions as strings: every
// run of one or two digits is filled up with zeros to three, longer runs stay
// as they are, and blanks are removed. "6.1.0-50-amd64" becomes
// "006.001.000-050-amd064".
//
// dkms.conf(5) limits such as BUILD_EXCLUSIVE_KERNEL_MIN depend on this exact
// form, its oddities included: numbers of four digits and more are not
// ordered by value.
func Pad(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i := 0; i < len(s); {
		n := digits(s[i:])
		switch {
		case n > 0:
			for range padWidth - n {
				b.WriteByte('0')
			}
			b.WriteString(s[i : i+n])
			i += n
		case s[i] == ' ':
			i++
		default:
			b.WriteByte(s[i])
			i++
		}
	}
	return b.String()
}

// Less reports whether dkms takes a for an older version than b. The padded
// forms are compared byte by byte.
func Less(a, b string) bool { return Pad(a) < Pad(b) }

// digits returns the length of the run of ASCII digits that s starts with.
func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// nondigits returns the length of the run of other bytes that s starts with.
func nondigits(s string) int {
	n := 0
	for n < len(s) && !isDigit(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlpha(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// compareParts compares a and b as alternating runs of text and of numbers
// (deb-version(7), "Sorting algorithm"): text by weight, numbers by value.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		i, j := nondigits(a), nondigits(b)
		if c := compareText(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
		i, j = digits(a), digits(b)
		if c := compareNumber(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

// compareText compares two runs without digits byte by byte; a tilde sorts
// before the end of a run, letters before all other bytes.
func compareText(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(weight(a, i), weight(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

// weight is the rank of byte i of s, or of the end of s.
func weight(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case isAlpha(s[i]):
		return int(s[i])
	default:
		return int(s[i]) + 256
	}
}

// compareNumber compares two runs of digits by value; no digits count as 0.
func compareNumber(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}
