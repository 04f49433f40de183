// SPDX-License-Identifier: Apache-2.0

package plan

import "slices"

// Part is the share of one kernel in a joined plan.
type Part struct {
	// From and To are its steps: Steps[From:To].
	From, To int
	// Opening and Closing are blocks of output before and behind those of its
	// steps. No step writes to them.
	Opening, Closing int
}

// Join makes one plan of those of several kernels, whose steps then run side by
// side: no step waits for one of another kernel. Blocks of output stay in the
// order of the kernels. A module index is brought up to date once: a Refresh
// because of an earlier run is left out if there is one because of changes.
func Join(plans []*Plan) (*Plan, []Part) {
	planned := map[string]bool{}
	for _, p := range plans {
		for _, s := range p.Steps {
			if s.Kind == Refresh && len(s.Behind) > 0 {
				planned[s.Key.Kernel] = true
			}
		}
	}
	all, parts := &Plan{}, make([]Part, len(plans))
	for i, p := range plans {
		parts[i] = Part{From: len(all.Steps), Opening: all.group()}
		first := all.Groups
		all.Groups += p.Groups
		for _, s := range p.Steps {
			if s.Kind == Refresh && len(s.Behind) == 0 {
				if planned[s.Key.Kernel] {
					continue // the last steps of p: no other is behind them
				}
				planned[s.Key.Kernel] = true
			}
			s.Group += first
			s.After, s.Behind = shifted(s.After, parts[i].From), shifted(s.Behind, parts[i].From)
			all.add(s)
		}
		parts[i].To, parts[i].Closing = len(all.Steps), all.group()
	}
	return all, parts
}

// shifted returns the numbers of steps in a plan that by others come before.
func shifted(steps []int, by int) []int {
	steps = slices.Clone(steps)
	for i := range steps {
		steps[i] += by
	}
	return steps
}
