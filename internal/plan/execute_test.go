// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"dkms-go/internal/state"
)

type soft struct{ error }

func (soft) Soft() bool      { return true }
func (s soft) Unwrap() error { return s.error }

// scripted is a plan whose steps are named, each with an outcome of its own.
func scripted(steps ...Step) *Plan {
	p := &Plan{}
	for _, s := range steps {
		if s.Key.Module == "" {
			s.Key.Module = fmt.Sprint("m", len(p.Steps)+1)
		}
		p.add(s)
	}
	return p
}

// outcome names what became of a step.
func outcome(err error) string {
	var c *Cancelled
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &c):
		return "cancelled"
	}
	return "failed"
}

func outcomesOf(errs []error) string {
	var names []string
	for _, err := range errs {
		names = append(names, outcome(err))
	}
	return strings.Join(names, " ")
}

func TestExecuteAfterAndBehind(t *testing.T) {
	boom := errors.New("boom")
	id := func(m string) state.Key { return state.Key{ID: state.ID{Module: m}} }
	cases := []struct {
		name  string
		steps []Step
		fails map[int]error
		want  string
	}{
		{"all well", []Step{{}, {After: []int{1}}, {Behind: []int{2}}}, nil, "done done done"},
		{"after a failure", []Step{{}, {After: []int{1}}, {After: []int{2}}, {}}, map[int]error{1: boom}, "failed cancelled cancelled done"},
		{"behind a failure", []Step{{}, {Behind: []int{1}}, {After: []int{2}}}, map[int]error{1: boom}, "failed done done"},
		{"refresh behind failures only", []Step{{}, {}, {Kind: Refresh, Behind: []int{1, 2}}}, map[int]error{1: boom, 2: boom}, "failed failed cancelled"},
		{"refresh behind one success", []Step{{}, {}, {Kind: Refresh, Behind: []int{1, 2}}}, map[int]error{2: boom}, "done failed done"},
		{"refresh behind nothing", []Step{{Kind: Refresh}}, nil, "done"},
		{"soft for another module", []Step{{Key: id("a")}, {Key: id("b"), After: []int{1}}}, map[int]error{1: soft{boom}}, "failed done"},
		{"soft for its own", []Step{{Key: id("a")}, {Key: id("a"), After: []int{1}}}, map[int]error{1: soft{boom}}, "failed cancelled"},
		{"soft through a cancelled step", []Step{{Key: id("a")}, {Key: id("a"), After: []int{1}}, {Key: id("b"), After: []int{2}}},
			map[int]error{1: soft{boom}}, "failed cancelled done"},
		{"soft and wrapped", []Step{{Key: id("a")}, {Key: id("b"), After: []int{1}}}, map[int]error{1: fmt.Errorf("x: %w", soft{boom})}, "failed done"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var order []int
			got := Execute(context.Background(), scripted(c.steps...), 2, func(_ context.Context, s Step) error { return c.fails[s.N] },
				func(s Step, _ error) { order = append(order, s.N) })
			if outcomesOf(got) != c.want {
				t.Errorf("got %s, want %s", outcomesOf(got), c.want)
			}
			slices.Sort(order)
			if len(slices.Compact(order)) != len(c.steps) {
				t.Errorf("ended was called for %v", order)
			}
			for i, err := range got {
				var cancelled *Cancelled
				if errors.As(err, &cancelled) && !errors.Is(err, boom) {
					t.Errorf("step %d doesn't tell why: %v", i+1, err)
				}
			}
		})
	}
}

func TestExecuteNothing(t *testing.T) {
	if got := Execute(context.Background(), &Plan{}, 4, nil, nil); len(got) != 0 {
		t.Error(got)
	}
}

func TestExecuteStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p := scripted(Step{}, Step{After: []int{1}}, Step{}, Step{Behind: []int{3}})
	got := Execute(ctx, p, 1, func(ctx context.Context, s Step) error {
		if s.N != 1 {
			t.Errorf("step %d was begun", s.N)
		}
		cancel()
		return nil
	}, func(Step, error) {})
	if outcomesOf(got) != "done cancelled cancelled cancelled" || !errors.Is(got[3], context.Canceled) {
		t.Error(outcomesOf(got), got[3])
	}
}

// In plans of any shape and at any width every step ends, none begins before
// those it waits for have ended, what comes after a failure is not attempted,
// and never do more steps run than were asked for.
func TestExecuteAnyPlan(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := &Plan{}
		for range 1 + r.IntN(30) {
			s := Step{Key: state.Key{ID: state.ID{Module: string(rune('a' + r.IntN(4)))}}}
			for n := 1; n <= len(p.Steps); n++ {
				switch r.IntN(8) {
				case 0:
					s.After = append(s.After, n)
				case 1:
					s.Behind = append(s.Behind, n)
				}
			}
			p.add(s)
		}
		fails := make([]error, len(p.Steps))
		for i := range fails {
			switch r.IntN(6) {
			case 0:
				fails[i] = errors.New("boom")
			case 1:
				fails[i] = soft{errors.New("soft")}
			}
		}
		observe(t, p, 1+r.IntN(5), fails)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// observe executes a plan and watches its rules.
func observe(t *testing.T, p *Plan, width int, fails []error) {
	var mu sync.Mutex
	ended, became := map[int]bool{}, map[int]error{}
	running := 0
	do := func(_ context.Context, s Step) error {
		mu.Lock()
		defer mu.Unlock()
		if running++; running > width {
			t.Errorf("%d steps at once, %d were asked for", running, width)
		}
		for _, n := range append(slices.Clone(s.After), s.Behind...) {
			if !ended[n] {
				t.Errorf("step %d began before step %d had ended", s.N, n)
			}
		}
		for _, n := range s.After {
			if err := became[n]; err != nil && !errors.As(err, new(soft)) {
				t.Errorf("step %d began although step %d had failed", s.N, n)
			}
		}
		running--
		return fails[s.N-1]
	}
	outcomes := Execute(context.Background(), p, width, do, func(s Step, err error) {
		mu.Lock()
		defer mu.Unlock()
		became[s.N] = err
		if ended[s.N] {
			t.Errorf("step %d ended twice, or with another", s.N)
		}
		ended[s.N] = true
	})
	if len(ended) != len(p.Steps) || len(outcomes) != len(p.Steps) {
		t.Errorf("%d of %d steps have ended", len(ended), len(p.Steps))
	}
}

// Independent steps do run side by side: each waits for the other.
func TestExecuteSideBySide(t *testing.T) {
	a, b := make(chan bool), make(chan bool)
	Execute(context.Background(), scripted(Step{}, Step{}), 2, func(_ context.Context, s Step) error {
		if s.N == 1 {
			close(a)
			<-b
		} else {
			close(b)
			<-a
		}
		return nil
	}, func(Step, error) {})
}
