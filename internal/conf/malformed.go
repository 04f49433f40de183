// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"context"
	"strings"
)

// malformed returns what bash finds wrong with the syntax of the files of e,
// "" for nothing. What stands before an error counts nevertheless, as it does
// for upstream: the caller decides what may be done with it.
func (l *Loader) malformed(ctx context.Context, e *evaluation, p Policy) string {
	for i, s := range e.scripts {
		if strings.ContainsRune(e.files[i].text, 0) {
			return s.path + " is a binary file"
		}
		if s.err == nil {
			continue
		}
		if l.bash(e) == nil || p == NoExec {
			return strings.TrimSpace(s.complaint())
		}
		// The parser at hand knows less of bash than bash.
		said, _ := l.bash(e)(ctx, e.program("exec -a "+quote(s.path)+" bash -O extglob -n 2>&1", e.files[i].text))
		if line, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n"); line != "" {
			return line
		}
	}
	return ""
}
