// SPDX-License-Identifier: Apache-2.0

package conf

// differs returns the first construct in s that the Go interpreter is known
// to evaluate differently from bash, or "".
func differs(s *script) string {
	if s.err != nil {
		return "syntax error"
	}
	return ""
}
