// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"dkms-go/internal/state"
)

func TestJoin(t *testing.T) {
	kernel := func(k string) state.Key { return state.Key{Kernel: k} }
	one := scripted(Step{Kind: Build}, Step{Kind: Install, After: []int{1}}, Step{Kind: Refresh, Key: kernel("a"), Behind: []int{2}},
		Step{Kind: Refresh, Key: kernel("b")}, Step{Kind: Refresh, Key: kernel("c")})
	two := scripted(Step{Kind: Build, Group: 1}, Step{Kind: Refresh, Key: kernel("b"), Behind: []int{1}}, Step{Kind: Refresh, Key: kernel("c")})
	one.Groups, two.Groups = 1, 2
	p, parts := Join([]*Plan{one, two})
	var got []string
	for _, s := range p.Steps {
		got = append(got, fmt.Sprint(s.N, s.Kind, s.Key.Kernel, s.After, s.Behind, s.Group))
	}
	want := []string{"1 build  [] [] 1", "2 install  [1] [] 1", "3 refresh a [] [2] 1", "4 refresh c [] [] 1", "5 build  [] [] 5", "6 refresh b [] [5] 4"}
	clean := func(l []string) string { return fmt.Sprintf("%q", l) }
	for i := range got {
		s := p.Steps[i]
		got[i] = fmt.Sprintf("%d %s %s %v %v %d", s.N, s.Kind, s.Key.Kernel, s.After, s.Behind, s.Group)
	}
	if clean(got) != clean(want) {
		t.Errorf("got  %s\nwant %s", clean(got), clean(want))
	}
	if fmt.Sprint(parts) != "[{0 4 0 2} {4 6 3 6}]" || p.Groups != 7 {
		t.Error(parts, p.Groups)
	}
	if two.Steps[1].Behind[0] != 1 {
		t.Error("a joined plan has changed")
	}
}

// The longest chain of builds is begun first, what isn't a build before builds.
func TestExecuteLongestFirst(t *testing.T) {
	p := scripted(Step{Kind: Build, Cost: 3}, Step{Kind: Build, Cost: 2}, Step{Kind: Build, Cost: 2, After: []int{2}},
		Step{Kind: Build, Cost: 5}, Step{Kind: Note})
	var begun []int
	gate := make(chan bool)
	Execute(context.Background(), p, 2, func(_ context.Context, s Step) error {
		if s.Kind == Note {
			close(gate)
		} else {
			<-gate
		}
		return nil
	}, func(s Step, _ error) { begun = append(begun, s.N) })
	x := newExecution(p, 2, func(Step, error) {})
	if !slices.Equal(x.ready, []int{4, 3, 1, 0}) {
		t.Error(x.ready)
	}
	if x = newExecution(p, 1, func(Step, error) {}); !slices.Equal(x.ready, []int{0, 1, 3, 4}) {
		t.Error(x.ready)
	}
	if len(begun) != 5 {
		t.Error(begun)
	}
}

// Of the steps that share directories one runs at a time, and none of those that
// wait keeps a build from running.
func TestExecuteTakesTurns(t *testing.T) {
	p := scripted(Step{Kind: Install}, Step{Kind: Install}, Step{Kind: Install}, Step{Kind: Build})
	built := make(chan bool)
	var installing int
	Execute(context.Background(), p, 2, func(_ context.Context, s Step) error {
		if s.Kind == Build {
			close(built)
			return nil
		}
		if installing++; installing > 1 { // the race detector watches too
			t.Error("two installs at once")
		}
		<-built
		installing--
		return nil
	}, func(Step, error) {})
}

func BenchmarkExecute(b *testing.B) {
	p := &Plan{}
	for range 30 {
		var installs []int
		for m := range 200 {
			n := p.add(Step{Kind: Build, Cost: float64(m)})
			installs = append(installs, p.add(Step{Kind: Install, After: []int{n}}))
		}
		p.add(Step{Kind: Refresh, Behind: installs})
	}
	for b.Loop() {
		Execute(context.Background(), p, 3, func(context.Context, Step) error { return nil }, func(Step, error) {})
	}
}
