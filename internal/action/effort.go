// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"dkms-go/internal/capacity"
	"dkms-go/internal/jobserver"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
)

const (
	// usualPeak is what one compiler of a module may need where no earlier build
	// tells, in bytes: a guess on the safe side.
	usualPeak = 256 << 20
	// buildFloor and bytesPerSecond guess at a build that was never done, in CPU
	// seconds and bytes of C source for each. Only the order of builds hangs on it.
	buildFloor     = 2
	bytesPerSecond = 40 << 10
	// refreshCost is a guess at an index and an initramfs, in CPU seconds.
	refreshCost = 5
)

// effort is what the builds of a module are expected to take.
type effort struct {
	seconds float64 // of one CPU
	peak    int64   // the largest process, in bytes; 0 is unknown
}

// weigh tells the steps of a plan what they will cost, by earlier builds of the
// same modules for any kernel, and returns the largest process to be expected.
func (e *Engine) weigh(p *plan.Plan) (peak int64) {
	known := map[state.ID]effort{}
	for i := range p.Steps {
		s := &p.Steps[i]
		switch s.Kind {
		case plan.Refresh:
			s.Cost = refreshCost
		case plan.Build:
			id := s.Key.ID
			if _, ok := known[id]; !ok {
				known[id] = e.effort(id)
			}
			s.Cost = known[id].seconds
			peak = max(peak, known[id].peak)
			if known[id].peak == 0 {
				peak = max(peak, usualPeak)
			}
		}
	}
	return peak
}

// effort looks at a result of the module, in this version or another, and where
// there is none at the size of its source.
func (e *Engine) effort(id state.ID) effort {
	for _, other := range append([]state.ID{id}, e.tree.Modules(id.Module, "")...) {
		for _, key := range e.tree.Results(other, "", "") {
			if r, err := e.tree.Record(key); err == nil && r.CPUSeconds > 0 {
				return effort{r.CPUSeconds, r.PeakBytes}
			}
		}
	}
	var size int64
	filepath.WalkDir(e.tree.SourceLink(id)+"/.", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".c") {
			if fi, err := d.Info(); err == nil {
				size += fi.Size()
			}
		}
		return nil
	})
	return effort{seconds: buildFloor + float64(size)/bytesPerSecond}
}

// fit lowers the number of jobs to those that the memory has room for, unless
// the number was given.
func (e *Engine) fit(peak int64) {
	if e.JobsGiven || e.Tokens < 2 {
		return
	}
	m, ok := capacity.Free(e.Paths)
	n := m.Jobs(e.Tokens, peak)
	if !ok || n == e.Tokens {
		return
	}
	if e.Verbose {
		fmt.Fprintf(e.Err, "Running %d jobs at once, not %d: %v, and a compiler may need %d MiB\n", n, e.Tokens, m, peak>>20)
	}
	e.Tokens, e.Jobs = n, strconv.Itoa(n)
}

// server makes the job server of several builds, in the form that make reads.
func (e *Engine) server(ctx context.Context) (*jobserver.Server, error) {
	proc := ""
	out, err := run.Cmd{Argv: []string{"make", "--version"}, Env: e.baseEnv()}.Output(ctx)
	if err == nil && jobserver.CanName(string(out)) && readable(filepath.Join(e.Paths.Proc, "self", "fd")) {
		proc = e.Paths.Proc
	}
	s, err := jobserver.New(e.Tokens, proc)
	if err != nil {
		return nil, fail(Internal, err)
	}
	return s, nil
}
