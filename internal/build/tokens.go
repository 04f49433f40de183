// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// ownJobs matches the number of jobs that a shell command gives to make, as a
// word of its own: "-j", "-j4", "-j 4", "--jobs=4", "-j$(nproc)".
var ownJobs = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("(^|\\s)(?:-j|--jobs)[ =]?([0-9]+|\\$\\(nproc\\)|`nproc`)?(\\s|$)")
})

// shared returns the arguments of a make without a number of jobs: with one a
// make leaves the job server, and brings its own (GNU make manual, "Options/
// Recursion"). Text with quotes is left as it is.
func shared(arguments string) string {
	if strings.ContainsAny(arguments, `'"`) {
		return arguments
	}
	return ownJobs().ReplaceAllString(arguments, "$1$3")
}

// tokens returns how many jobs a command runs without asking the job server: one,
// or as many as it says itself. A number that only the shell knows counts as all.
func tokens(line string) int {
	n := 1
	for _, m := range ownJobs().FindAllStringSubmatch(line, -1) {
		jobs, err := strconv.Atoi(m[2])
		if err != nil || jobs == 0 {
			return everything
		}
		n = max(n, jobs)
	}
	return n
}

// everything is more than any job server has.
const everything = 1 << 20

// acquire waits until the job server lets a command run; release must be called
// when it has ended.
func (w *work) acquire(ctx context.Context, line string) (release func() error, err error) {
	if w.Server == nil {
		return func() error { return nil }, nil
	}
	return w.Server.Acquire(ctx, tokens(line))
}

// maxScript bounds what is read of a hook script, in bytes.
const maxScript = 64 << 10

// scriptText returns a hook's line with the beginning of the script that it runs,
// if that is a text: makes that it starts may say their number of jobs there.
func (w *work) scriptText(line, directive string) string {
	name, _, _ := strings.Cut(directive, " ")
	text, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil || !strings.HasPrefix(string(text), "#!") {
		return line
	}
	return line + "\n" + string(text[:min(len(text), maxScript)])
}
