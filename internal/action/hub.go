// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"dkms-go/internal/boot"
	"dkms-go/internal/distro"
	"dkms-go/internal/doctor"
	"dkms-go/internal/fleet"
	"dkms-go/internal/kernel"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// Enrol makes this host one of a hub's, by a one-time code. authority is the file with
// the certificate that the hub's must be signed by, "" for those that the machine
// trusts; name is the host's, "" for that of the machine. Afterwards the hub has the
// first report, and hub.json in ConfDir, which only root may read, how to speak to it.
// Nothing is written unless the hub has taken the code.
func (e *Engine) Enrol(ctx context.Context, m fleet.Membership, code, authority string) error {
	if err := e.RequireRoot(); err != nil {
		return err
	}
	if m.Name == "" {
		var err error
		if m.Name, err = os.Hostname(); err != nil {
			return fail(HubFailed, err)
		}
	}
	if authority != "" {
		text, err := os.ReadFile(authority)
		if err != nil {
			return fail(HubFailed, fmt.Errorf("reading the certificate of the hub's authority: %w", err))
		}
		m.Authority = string(text)
	}
	if err := m.Enrol(ctx, code); err != nil {
		return hubFailure(err, "`dkms-hub code`, where the hub is, gives a code.")
	}
	if err := os.MkdirAll(e.Paths.ConfDir, 0o755); err != nil {
		return fail(NotWritable, err)
	}
	if err := m.Save(e.Paths.HubFile); err != nil {
		return fail(NotWritable, err)
	}
	fmt.Fprintf(e.Out, "This host is %s at %s.\n", m.Name, m.URL)
	return e.Report(ctx)
}

// Membership returns how this host speaks to its hub.
func (e *Engine) Membership() (fleet.Membership, error) {
	m, err := fleet.Load(e.Paths.HubFile)
	switch {
	case errors.Is(err, fleet.ErrNoHub):
		err = fail(HubFailed, err, "`dkms hub enrol URL CODE` enrols it; `dkms-hub code`, where the hub is, gives the code.")
	case errors.Is(err, os.ErrPermission):
		err = e.RequireRoot()
	case err != nil:
		err = fail(HubFailed, err)
	}
	return m, err
}

// Report tells the hub which kernels this host has, and how modules stand for them.
func (e *Engine) Report(ctx context.Context) error {
	m, err := e.Membership()
	if err != nil {
		return err
	}
	r, err := e.fleetReport(ctx)
	if err != nil {
		return err
	}
	if err := m.Report(ctx, r); err != nil {
		return hubFailure(err, "`dkms-hub code "+m.Name+"`, where the hub is, gives a code by which it can enrol again.")
	}
	return nil
}

// hubFailure is that of a call of the hub; hint is for when it has said no.
func hubFailure(err error, hint string) *Failure {
	f := fail(HubFailed, err)
	var r *fleet.Refusal
	if errors.As(err, &r) {
		f.Hint = []string{hint}
	}
	return f
}

// reportTime bounds how long a change waits for the hub that is told of it.
const reportTime = 10 * time.Second

// TellHub reports after a change, if there is a hub. That it can't be reached is told,
// and keeps nothing from succeeding.
func (e *Engine) TellHub(ctx context.Context) {
	if e.DryRun || ctx.Err() != nil || os.Geteuid() != 0 {
		return
	}
	if _, err := fleet.Load(e.Paths.HubFile); errors.Is(err, fleet.ErrNoHub) {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	if err := e.Report(bounded); err != nil {
		fmt.Fprintf(e.Err, "Warning: the hub was not told: %v\n", err)
	}
}

// fleetReport gathers what a hub wants to know.
func (e *Engine) fleetReport(ctx context.Context) (fleet.Report, error) {
	r := fleet.Report{Schema: fleet.ReportSchema, Time: time.Now().UTC(), Distribution: e.release(), Kernels: []fleet.Kernel{}, Modules: []fleet.Module{}}
	running, _, err := e.Running()
	if err != nil {
		return r, fail(Internal, err)
	}
	next, _ := boot.Next(e.Paths) // unknown: none is marked
	releases := kernel.Installed(e.Paths)
	if len(releases) == 0 {
		return r, nil
	}
	targets, err := e.Targets(releases, nil, true)
	if err != nil {
		return r, err
	}
	for _, t := range targets {
		k := e.kernel(t)
		r.Kernels = append(r.Kernels, fleet.Kernel{
			Release: t.Kernel, Arch: t.Arch, Running: t.Kernel == running && e.Root == "", NextBoot: t.Kernel == next.Release,
			Buildable: k.HasHeaders() && len(k.HeadersMissing()) == 0,
		})
		f := &doctor.Facts{}
		for _, id := range e.patientModules(f, t) {
			if m, ok := e.fleetModule(ctx, f, id, t); ok {
				r.Modules = append(r.Modules, m)
			}
		}
	}
	return r, nil
}

// release names the distribution, as os-release(5) does.
func (e *Engine) release() string {
	for _, path := range e.Paths.OSRelease {
		if values, err := distro.ReadAssignments(path); err == nil {
			return clip(strings.TrimSpace(values["ID"] + " " + values["VERSION_ID"]))
		}
	}
	return ""
}

// fleetModule is how a module stands for a kernel; ok is false if nobody wants it there.
func (e *Engine) fleetModule(ctx context.Context, f *doctor.Facts, id state.ID, t plan.Target) (m fleet.Module, ok bool) {
	s := e.standingFor(ctx, f, &doctor.Kernel{}, id, t)
	m = fleet.Module{Name: id.Module, Version: id.Version, Kernel: t.Kernel, Arch: t.Arch}
	if s.Active != "" {
		ready := ModuleReadiness{Module: id.Module}
		if err := e.moduleReady(ctx, t, &ready); err != nil {
			ready.Reasons = []string{err.Error()}
		}
		m.Version, m.State, m.Origin = s.Active, fleet.Ready, e.origin(t.Key(state.ID{Module: id.Module, Version: s.Active}))
		if len(ready.Reasons) > 0 {
			m.State, m.Reason = fleet.Waiting, clip(ready.Reasons[0])
		}
		return m, true
	}
	switch {
	case s.Excluded != "":
		m.State, m.Reason = fleet.Excluded, s.Excluded
	case s.ConfError != "":
		m.State, m.Reason = fleet.Failed, s.ConfError
	case s.Outcome != nil && s.Outcome.State == state.OutcomeFailed:
		m.State, m.Reason = fleet.Failed, s.Outcome.Error
	case s.Outcome != nil:
		m.State, m.Reason = fleet.Waiting, s.Outcome.Error
	case s.Auto || s.Needed != "":
		m.State, m.Reason = fleet.Waiting, "not installed"
	default:
		return m, false
	}
	m.Reason = clip(m.Reason)
	return m, true
}

// clip keeps a reason to a line that a hub takes.
func clip(reason string) string {
	const most = 900 // bytes; fleet takes 1000
	reason, _, _ = strings.Cut(reason, "\n")
	return strings.ToValidUTF8(reason[:min(len(reason), most)], "")
}

// origin is where an installed result came from, "" if that isn't recorded.
func (e *Engine) origin(key state.Key) string {
	r, err := e.tree.Record(key)
	if err != nil {
		return ""
	}
	return r.Origin
}
