// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"dkms-go/internal/build"
	"dkms-go/internal/ko"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// checkUses is how often a check of reproducibility uses the build directory:
// for two builds, and for putting the result in its place.
const checkUses = 3

// uses is how often one build step uses its build directory.
func (w *performance) uses() int {
	if w.CheckReproducible {
		return checkUses
	}
	return 1
}

// forgo counts uses of the build directory out that never come.
func (w *performance) forgo(id state.ID, times int) (err error) {
	for range times {
		err = errors.Join(err, w.rooms[id].Leave())
	}
	return err
}

// checkStep builds twice, in different circumstances and not from the cache, and
// compares. If the objects have the same bytes they become the result, unless
// there is one already, which stays without --force; if not, nothing changes.
func (w *performance) checkStep(ctx context.Context, s plan.Step, t plan.Target, job build.Job) error {
	uses := w.uses()
	id := s.Key.ID
	defer func() { w.forgo(id, uses) }()
	chain, err := w.equip(ctx, t, &job)
	if err != nil {
		return err
	}
	uses--
	begun := time.Now()
	first, err := job.Try(ctx, w.rooms[id])
	if err != nil {
		return w.explained(ctx, s.Key, job.Conf, err)
	}
	if err := waitUntil(ctx, begun.Add(time.Second)); err != nil {
		return err
	}
	uses--
	second, err := otherwise(job).Try(ctx, w.rooms[id])
	if err != nil {
		return w.explained(ctx, s.Key, job.Conf, err)
	}
	if what := difference(first, second); what != "" {
		return failf(NotReproducible, "two builds of %s for kernel %s (%s) gave different bytes: %s", id, t.Kernel, t.Arch, what).
			hint("They differed in the time, the time zone, the user's name, the number of jobs and the directory behind the build directory's path.").
			hint("Nothing was kept of them. `dkms build` builds the module nevertheless.")
	}
	fmt.Fprintf(job.Out, "%s for kernel %s (%s) is reproducible: two builds gave the same bytes.\n", id, t.Kernel, t.Arch)
	if r := w.reusable(ctx, s, t, job.Conf, job.Err); r != nil {
		r.keeper(chain)(first)
	}
	if w.tree.Built(s.Key) && !w.Force {
		return nil
	}
	uses--
	if job.Conf.PostBuild != "" { // only a build runs it
		return w.explained(ctx, s.Key, job.Conf, job.Run(ctx, w.rooms[id]))
	}
	if err := job.Restore(ctx, w.rooms[id], first, build.Local, ""); err != nil {
		return errors.Join(w.explained(ctx, s.Key, job.Conf, err), w.rooms[id].Leave())
	}
	return nil
}

// waitUntil waits for a time: what is stamped with seconds differs then.
func waitUntil(ctx context.Context, then time.Time) error {
	timer := time.NewTimer(time.Until(then))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// otherwise is the same build in circumstances that must not matter.
func otherwise(job build.Job) build.Job {
	job.Server = nil
	if job.Jobs != "1" {
		job.Jobs = "1"
	} else {
		job.Jobs = "2"
	}
	job.Env = append(job.Env[:len(job.Env):len(job.Env)], "TZ=DKMS-13", "USER=dkms-check", "LOGNAME=dkms-check", "HOSTNAME=dkms-check", "COLUMNS=79")
	return job
}

// difference names the first object, and the part of it, that isn't the same in
// both products; "" if all are.
func difference(a, b build.Product) string {
	if len(a.Objects) != len(b.Objects) {
		return fmt.Sprintf("%d objects, then %d", len(a.Objects), len(b.Objects))
	}
	for i, o := range a.Objects {
		if part := ko.Difference(o.Data, b.Objects[i].Data); part != "" {
			return fmt.Sprintf("%s differs in %s", o.Path, part)
		}
	}
	if !bytes.Equal(a.Symvers, b.Symvers) {
		return "Module.symvers differs"
	}
	return ""
}
