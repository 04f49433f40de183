// SPDX-License-Identifier: Apache-2.0

package vercmp

import "strings"

// Deb compares two Debian package versions, [epoch:]upstream[-revision], as
// "dpkg --compare-versions" does and returns -1, 0 or +1. No epoch counts as
// 0, and no revision as an empty one, which equals 0. Strings that aren't
// valid versions still get a fixed order. Source: deb-version(7).
func Deb(a, b string) int {
	aEpoch, aUpstream, aRevision := splitDeb(a)
	bEpoch, bUpstream, bRevision := splitDeb(b)
	if c := compareParts(aEpoch, bEpoch); c != 0 {
		return c
	}
	if c := compareParts(aUpstream, bUpstream); c != 0 {
		return c
	}
	return compareParts(aRevision, bRevision)
}

// splitDeb cuts a version at its first colon and its last hyphen.
func splitDeb(s string) (epoch, upstream, revision string) {
	s = strings.TrimSpace(s)
	if before, after, found := strings.Cut(s, ":"); found {
		epoch, s = before, after
	}
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		return epoch, s[:i], s[i+1:]
	}
	return epoch, s, ""
}
