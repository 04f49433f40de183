// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"testing"

	"dkms-go/internal/conf"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
	"dkms-go/test/crowd"
)

// BenchmarkStatus is a status of 30 modules x 4 kernels, with and without memory.
func BenchmarkStatus(b *testing.B) {
	m := crowded(b, 30, 4)
	settle()
	m.rows(true)
	for name, cache := range map[string]bool{"memory": true, "none": false} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m.rows(cache)
			}
		})
	}
}

// BenchmarkNothingDue is an autoinstall with nothing to do for 30 modules.
func BenchmarkNothingDue(b *testing.B) {
	m := crowded(b, 30, 1)
	settle()
	run := func() {
		e := m.engine()
		if err := e.Autoinstall(context.Background(), []plan.Target{{Kernel: crowd.Kernel(0), Arch: crowd.Arch}}, state.ID{}); err != nil {
			b.Fatal(err)
		}
		e.Remember()
	}
	run()
	for b.Loop() {
		run()
	}
}

// BenchmarkPlan makes the plan of an autoinstall for 30 modules from facts.
func BenchmarkPlan(b *testing.B) {
	m := crowded(b, 30, 1)
	t := plan.Target{Kernel: crowd.Kernel(0), Arch: crowd.Arch}
	f := m.engine().facts(context.Background(), nil, []plan.Target{t}, func(state.ID, plan.Result) bool { return true })
	for b.Loop() {
		plan.Autoinstall(t, state.ID{}, f, plan.Options{})
	}
}

// BenchmarkConf evaluates one module's conf.
func BenchmarkConf(b *testing.B) {
	m := crowded(b, 1, 1)
	e := m.engine()
	for b.Loop() {
		if _, err := e.load(context.Background(), crowd.Module(0), plan.Target{Kernel: crowd.Kernel(0), Arch: crowd.Arch}, conf.Auto, e.Err); err != nil {
			b.Fatal(err)
		}
	}
}
