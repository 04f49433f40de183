// SPDX-License-Identifier: Apache-2.0

// Package nearmiss finds the word that a misspelt one was probably meant to be.
package nearmiss

// Find returns that of the words which differs from word by the fewest
// letters, or "" when none differs by fewer than limit letters.
func Find(word string, words []string, limit int) string {
	best := ""
	for _, w := range words {
		if d := distance(word, w); d < limit {
			best, limit = w, d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b: the insertions, deletions
// and replacements of single bytes that turn one into the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
