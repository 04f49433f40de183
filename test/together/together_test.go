// SPDX-License-Identifier: Apache-2.0

package together

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// together is how many are started at once, and readers how many of them only
	// read, each again and again until no writer is left.
	together, readers = 50, 10
	// bound is the longest that all of it may take: else they wait for each other.
	bound = 10 * time.Minute
)

// seed returns what the commands are drawn from: $TOGETHER_SEED, or another one each
// time.
func seed(t *testing.T) uint64 {
	text := os.Getenv("TOGETHER_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Fifty at once on one tree: each ends as it should, those that wait say for whom,
// those that only read see no half state, and all that is there in the end agrees.
func TestTogether(t *testing.T) {
	n := seed(t)
	t.Logf("the seed is %d; once more: TOGETHER_SEED=%d", n, n)
	w := newWorld(t)
	r := rand.New(rand.NewPCG(n, 0))
	// The first holds the lock until all others have come.
	writers := []*invocation{{name: "install", args: []string{"install", slow, "-k", kernels[0]}, codes: map[int]string{0: ""}}}
	for len(writers) < together-readers {
		writers = append(writers, random(r))
	}
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	begun := time.Now()
	var writing, reading sync.WaitGroup
	for n, i := range writers {
		if err := i.start(ctx, w.root.Dir); err != nil {
			t.Fatal(err)
		}
		writing.Go(i.end)
		for n == 0 && !strings.Contains(i.stdout(), "Building") && ctx.Err() == nil {
			time.Sleep(pause)
		}
	}
	done := make(chan struct{})
	reads := make([]int, readers)
	for i := range reads {
		reading.Go(func() { reads[i] = w.read(ctx, i, done) })
	}
	for _, i := range writers[1:] {
		for !strings.Contains(i.stderr(), "Waiting for ") && !i.over() && ctx.Err() == nil {
			time.Sleep(pause)
		}
	}
	w.put(goFile, "")
	writing.Wait()
	close(done)
	reading.Wait()
	if ctx.Err() != nil {
		t.Errorf("not at the end after %s", bound)
	}
	total := 0
	for _, n := range reads {
		total += n
	}
	t.Logf("%d writers and %d readers at once, who read the status %d times: %.0f s", len(writers), readers, total, time.Since(begun).Seconds())
	w.judge(writers)
	w.consistent()
	w.settles()
}

// rest is between two looks of a reader at the status.
const rest = 100 * time.Millisecond

// pause is between two looks at what a process does.
const pause = 20 * time.Millisecond

func (i *invocation) over() bool {
	select {
	case <-i.ended:
		return true
	default:
		return false
	}
}

var (
	waitingFor = regexp.MustCompile(`(?m)^Waiting for (.+) \(process ([0-9]+), at work for [0-9]+ s\)(; giving up in [0-9]+ s)?$`)
	waited     = regexp.MustCompile(`(?m)^Waited ([0-9]+) s$`)
)

// judge looks at what each writer did, and prints the numbers.
func (w *world) judge(writers []*invocation) {
	w.t.Helper()
	processes := map[string]string{}
	for _, i := range writers {
		processes[strconv.Itoa(i.cmd.Process.Pid)] = i.line()
	}
	outcomes := map[string]int{}
	waits, longest, told := 0, 0, 0
	for n, i := range writers {
		outcomes[fmt.Sprintf("%s: %d", i.name, i.code)]++
		text := i.stderr()
		if !i.explained() {
			w.t.Errorf("%s ends with %d:\n%s%s", i.line(), i.code, i.stdout(), text)
		}
		lines := waitingFor.FindAllStringSubmatch(text, -1)
		told += len(lines)
		for _, m := range lines {
			if want, ok := processes[m[2]]; !ok || m[1] != want {
				w.t.Errorf("%s waits for %q, process %s, which is %q", i.line(), m[1], m[2], want)
			}
		}
		ends := waited.FindAllStringSubmatch(text, -1)
		if (len(lines) == 0) != (len(ends) == 0) || strings.Contains(text, "another process") {
			w.t.Errorf("%s tells of the begin of %d waits and of the end of %d:\n%s", i.line(), len(lines), len(ends), text)
		}
		if len(ends) > 0 {
			waits++
		} else if n > 0 && i.code == 0 {
			w.t.Errorf("%s didn't wait for the first:\n%s%s", i.line(), i.stdout(), text)
		}
		for _, m := range ends {
			s, _ := strconv.Atoi(m[1])
			longest = max(longest, s)
		}
	}
	w.t.Logf("%d of them waited, the longest %d s; %d times they said for whom", waits, longest, told)
	for _, key := range slices.Sorted(maps.Keys(outcomes)) {
		w.t.Logf("%4d x %s", outcomes[key], key)
	}
}

// settles fails the test unless an autoinstall afterwards installs all that can be.
func (w *world) settles() {
	w.t.Helper()
	for _, id := range []string{"base/1.0", "upper/1.0", "plain/1.0", "two/2.0", "script/1.0", slow} {
		w.root.Run("dkms", "add", id)
	}
	for _, k := range kernels {
		w.root.Run("dkms", "autoinstall", "-k", k)
	}
	status := w.root.Run("dkms", "status").Stdout
	for _, k := range kernels {
		for _, id := range []string{steady, slow, base, upper, "plain/1.0", "two/2.0", "script/1.0"} {
			if want := fmt.Sprintf("%s, %s, %s: installed\n", id, k, arch); !strings.Contains(status, want) {
				w.t.Errorf("in the end there is no %sin\n%s", want, status)
			}
		}
	}
	w.consistent()
}

// read asks for the status until done is closed, and returns how often.
func (w *world) read(ctx context.Context, reader int, done <-chan struct{}) int {
	for n := 1; ; n++ {
		i := &invocation{args: []string{"status"}}
		if (n+reader)%4 == 0 {
			i.args = append(i.args, "--json")
		}
		if err := i.start(ctx, w.root.Dir); err != nil {
			w.t.Error(err)
			return n
		}
		i.end()
		var rows any
		switch {
		case ctx.Err() != nil:
			return n
		case i.code != 0, strings.Contains(i.stderr(), "Error!"), strings.Contains(i.stderr(), "Wait"):
			w.t.Errorf("a reader ends with %d:\n%s%s", i.code, i.stdout(), i.stderr())
		case len(i.args) > 1:
			if err := json.Unmarshal([]byte(i.stdout()), &rows); err != nil {
				w.t.Errorf("a reader's JSON: %v\n%s", err, i.stdout())
			}
		default:
			if bad := badLines(i.stdout()); len(bad) > 0 {
				w.t.Errorf("a reader sees %q in\n%s", bad, i.stdout())
			}
		}
		select {
		case <-done:
			return n
		case <-time.After(rest):
		}
	}
}
