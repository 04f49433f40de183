// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"dkms-go/internal/conf"
	"dkms-go/internal/state"
)

var k1, k2 = Target{"6.1", "x"}, Target{"6.2", "x"}

// parse reads an ID as people write it.
func parse(s string) state.ID {
	m, v, _ := strings.Cut(s, "/")
	return state.ID{Module: m, Version: v}
}

// world makes facts of lines: a module, then words for both kernels, or behind
// an @ for one: built, installed, nobuild (no AUTOINSTALL), rebuild,
// needs=a,b, had=a:1, excluded, badconf, noconf; and for the module: absent,
// broken, hidden, bare.
func world(lines ...string) *Facts {
	f := &Facts{Kernels: map[Target]Kernel{k1: {true}, k2: {true}}, Results: map[state.Key]Result{}}
	for _, line := range lines {
		words := strings.Fields(line)
		m := Module{ID: parse(words[0]), Condition: state.Added}
		rs := map[Target]*Result{}
		for _, t := range []Target{k1, k2} {
			rs[t] = &Result{Conf: &conf.Module{Autoinstall: true}, Applies: conf.Verdict{OK: true}, Recorded: map[string]string{}}
		}
		for _, w := range words[1:] {
			word, kernel, one := strings.Cut(w, "@")
			for t, r := range rs {
				if !one || kernel == t.Kernel {
					describe(&m, r, word)
				}
			}
		}
		f.Modules = append(f.Modules, m)
		for t, r := range rs {
			f.Results[t.Key(m.ID)] = *r
		}
	}
	return f
}

func describe(m *Module, r *Result, word string) {
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "built":
		r.Built = true
	case "installed":
		r.Built, r.Installed = true, true
	case "noauto":
		r.Conf.Autoinstall = false
	case "rebuild":
		r.Conf.BuildDependsRebuild = true
	case "needs":
		r.Conf.BuildDepends = strings.Split(value, ",")
	case "had":
		d, v, _ := strings.Cut(value, ":")
		r.Recorded[d] = v
	case "excluded":
		r.Applies = conf.Verdict{Reason: "not for this one"}
	case "badconf":
		r.Conf, r.Err = nil, errors.New("MAKE is broken")
	case "noconf":
		r.Conf, r.Err = nil, &conf.Unreadable{File: "dkms.conf", Err: errors.New("is gone")}
	case "absent":
		m.Condition = state.Absent
	case "broken":
		m.Condition = state.Broken
	case "hidden":
		m.Condition = state.Hidden
	case "bare":
		m.Bare = true
	default:
		panic(word)
	}
}

// brief writes a plan's steps, a line each, with all that orders them.
func brief(p *Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%d %s", s.N, s.Kind)
		if s.Key.Module != "" {
			fmt.Fprintf(&b, " %s", s.Key.ID)
		}
		if s.Key.Kernel != "" {
			fmt.Fprintf(&b, " %s", s.Key.Kernel)
		}
		if len(s.After) > 0 {
			fmt.Fprintf(&b, " after %s", numbers(s.After))
		}
		if len(s.Behind) > 0 {
			fmt.Fprintf(&b, " behind %s", numbers(s.Behind))
		}
		if s.Replace {
			b.WriteString(" again")
		}
		if len(s.Missing) > 0 {
			fmt.Fprintf(&b, " without %s", s.Missing)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// check compares a plan with lines indented in the source.
func check(t *testing.T, p *Plan, want string) {
	t.Helper()
	want = strings.ReplaceAll(strings.TrimSpace(want), "\t", "")
	if got := strings.TrimSpace(brief(p)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	sound(t, p)
}

// sound fails for a plan that no Execute could carry out.
func sound(t *testing.T, p *Plan) {
	t.Helper()
	for i, s := range p.Steps {
		if s.N != i+1 || s.Group < 0 || s.Group >= p.Groups {
			t.Errorf("step %d has the number %d and group %d of %d", i+1, s.N, s.Group, p.Groups)
		}
		for _, n := range append(append([]int{}, s.After...), s.Behind...) {
			if n < 1 || n >= s.N {
				t.Errorf("step %d waits for step %d", s.N, n)
			}
		}
	}
}

func TestBuild(t *testing.T) {
	cases := []struct {
		name, facts string
		o           Options
		want        string
	}{
		{"added", "m/1", Options{}, "1 prepare 6.1\n2 build m/1 6.1 after 1\n3 prepare 6.2\n4 build m/1 6.2 after 3"},
		{"built for one", "m/1 built@6.1", Options{}, "1 note m/1 6.1\n2 prepare 6.2\n3 build m/1 6.2 after 2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { check(t, BuildAll(parse("m/1"), []Target{k1, k2}, world(c.facts), c.o), c.want) })
	}
	one := []struct {
		name, facts string
		o           Options
		want        string
	}{
		{"absent", "m/1 absent", Options{}, "1 add m/1\n2 prepare 6.1 after 1\n3 build m/1 6.1 after 1, 2"},
		{"hidden", "m/1 hidden", Options{}, "1 add m/1\n2 prepare 6.1 after 1\n3 build m/1 6.1 after 1, 2"},
		{"built", "m/1 built", Options{}, "1 note m/1 6.1"},
		{"forced", "m/1 built", Options{Force: true}, "1 prepare 6.1\n2 build m/1 6.1 after 1 again"},
		{"excluded", "m/1 excluded", Options{}, "1 refuse m/1 6.1"},
		{"excluded, forced", "m/1 excluded", Options{Force: true}, "1 refuse m/1 6.1"},
		{"broken", "m/1 broken", Options{}, "1 refuse m/1 6.1"},
		{"bare", "m/1 bare", Options{}, "1 refuse m/1 6.1"},
		{"bad conf", "m/1 badconf", Options{}, "1 refuse m/1 6.1"},
		{"no conf", "m/1 noconf", Options{}, "1 refuse m/1 6.1"},
		{"missing", "m/1 needs=d,e\nd/1 built", Options{}, "1 prepare 6.1\n2 refuse m/1 6.1 after 1"},
		{"missing, forced", "m/1 needs=d,e\nd/1 built", Options{Force: true}, "1 prepare 6.1\n2 build m/1 6.1 after 1 without [d e]"},
		{"there", "m/1 needs=d\nd/1\nd/0 installed", Options{}, "1 prepare 6.1\n2 build m/1 6.1 after 1"},
	}
	for _, c := range one {
		t.Run(c.name, func(t *testing.T) {
			check(t, BuildAll(parse("m/1"), []Target{k1}, world(strings.Split(c.facts, "\n")...), c.o), c.want)
		})
	}
}

func TestReasonsInOrder(t *testing.T) {
	headless := func(f *Facts) *Facts { f.Kernels = map[Target]Kernel{k1: {}}; return f }
	for _, c := range []struct {
		facts *Facts
		want  Reason
	}{
		{world("m/1 broken badconf"), BrokenModule},
		{headless(world("m/1 noconf bare")), NoConf},
		{headless(world("m/1 badconf bare")), BadConf},
		{headless(world("m/1 excluded bare")), Excluded},
		{headless(world("m/1 bare")), NoSource},
		{headless(world("m/1 needs=d")), NoHeaders},
		{world("m/1 needs=d"), MissingDepends},
	} {
		p := BuildAll(parse("m/1"), []Target{k1}, c.facts, Options{})
		if s := p.Steps[len(p.Steps)-1]; s.Kind != Refuse || s.Reason != c.want {
			t.Errorf("got %v %d, want reason %d", s.Kind, s.Reason, c.want)
		}
	}
}

func TestInstall(t *testing.T) {
	cases := []struct {
		name, facts string
		targets     []Target
		o           Options
		want        string
	}{
		{"absent, two kernels", "m/1 absent", []Target{k1, k2}, Options{}, `1 add m/1
			2 prepare 6.1 after 1
			3 build m/1 6.1 after 1, 2
			4 install m/1 6.1 after 3
			5 prepare 6.2 after 1
			6 build m/1 6.2 after 1, 5
			7 install m/1 6.2 after 6
			8 refresh 6.1 behind 4
			9 refresh 6.2 behind 7`},
		{"built", "m/1 built", []Target{k1}, Options{}, "1 install m/1 6.1\n2 refresh 6.1 behind 1"},
		{"no depmod", "m/1 built", []Target{k1}, Options{NoRefresh: true}, "1 install m/1 6.1"},
		{"installed", "m/1 installed", []Target{k1}, Options{}, "1 note m/1 6.1"},
		{"installed, forced", "m/1 installed", []Target{k1}, Options{Force: true},
			"1 install m/1 6.1 again\n2 refresh 6.1 behind 1"},
		{"excluded for one", "m/1 excluded@6.1", []Target{k1, k2}, Options{}, `1 refuse m/1 6.1
			2 install m/1 6.1 after 1
			3 prepare 6.2
			4 build m/1 6.2 after 3
			5 install m/1 6.2 after 4
			6 refresh 6.1 behind 2
			7 refresh 6.2 behind 5`},
		{"missing", "m/1 needs=d", []Target{k1}, Options{}, `1 prepare 6.1
			2 refuse m/1 6.1 after 1
			3 install m/1 6.1 after 2
			4 refresh 6.1 behind 3`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			check(t, InstallAll(parse("m/1"), c.targets, world(strings.Split(c.facts, "\n")...), c.o), c.want)
		})
	}
}

func TestRebuild(t *testing.T) {
	cases := []struct{ name, facts, want string }{
		{"other version recorded", "m/1 built\nuser/1 installed needs=m rebuild had=m:0", `1 install m/1 6.1
			2 prepare 6.1 after 1
			3 build user/1 6.1 after 1, 2 again
			4 install user/1 6.1 after 3 again
			5 refresh 6.1 behind 1, 4`},
		{"same version recorded", "m/1 built\nuser/1 installed needs=m rebuild had=m:1", "1 install m/1 6.1\n2 refresh 6.1 behind 1"},
		{"not wanted", "m/1 built\nuser/1 installed needs=m had=m:0", "1 install m/1 6.1\n2 refresh 6.1 behind 1"},
		{"not built", "m/1 built\nuser/1 needs=m rebuild", "1 install m/1 6.1\n2 refresh 6.1 behind 1"},
		{"nothing recorded", "m/1 built\nuser/1 built needs=m rebuild", `1 install m/1 6.1
			2 prepare 6.1 after 1
			3 build user/1 6.1 after 1, 2 again
			4 install user/1 6.1 after 3 again
			5 refresh 6.1 behind 1, 4`},
		{"the installed version, not another", "m/1 built\nuser/1 installed needs=m rebuild\nuser/2 built needs=m rebuild\nuser/0 built needs=m rebuild", `1 install m/1 6.1
			2 prepare 6.1 after 1
			3 build user/1 6.1 after 1, 2 again
			4 install user/1 6.1 after 3 again
			5 refresh 6.1 behind 1, 4`},
		{"the highest of those built", "m/1 built\nuser/10 built needs=m rebuild\nuser/9 built needs=m rebuild", `1 install m/1 6.1
			2 prepare 6.1 after 1
			3 build user/10 6.1 after 1, 2 again
			4 install user/10 6.1 after 3 again
			5 refresh 6.1 behind 1, 4`},
		{"a dependency before what depends on it", "m/1 built\na/1 installed needs=z,m rebuild\nz/1 installed needs=m rebuild", `1 install m/1 6.1
			2 prepare 6.1 after 1
			3 build z/1 6.1 after 1, 2 again
			4 install z/1 6.1 after 3 again
			5 prepare 6.1 after 4, 1
			6 build a/1 6.1 after 4, 1, 5 again
			7 install a/1 6.1 after 6 again
			8 refresh 6.1 behind 1, 4, 7`},
		{"a chain", "m/1 built\na/1 built needs=b rebuild\nb/1 built needs=m rebuild", `1 install m/1 6.1
			2 prepare 6.1 after 1
			3 build b/1 6.1 after 1, 2 again
			4 install b/1 6.1 after 3 again
			5 prepare 6.1 after 4
			6 build a/1 6.1 after 4, 5 again
			7 install a/1 6.1 after 6 again
			8 refresh 6.1 behind 1, 4, 7`},
		{"a circle", "m/1 built needs=b rebuild\na/1 built needs=m,b rebuild\nb/1 built needs=a,m rebuild", `1 install m/1 6.1
			2 prepare 6.1 after 1
			3 build a/1 6.1 after 1, 2 again
			4 install a/1 6.1 after 3 again
			5 prepare 6.1 after 4, 1
			6 build b/1 6.1 after 4, 1, 5 again
			7 install b/1 6.1 after 6 again
			8 refresh 6.1 behind 1, 4, 7`},
		{"itself", "m/1 built needs=m rebuild", "1 install m/1 6.1\n2 refresh 6.1 behind 1"},
		{"no source any more", "m/1 built\nuser/1 installed needs=m rebuild bare", `1 install m/1 6.1
			2 refuse user/1 6.1 after 1
			3 refresh 6.1 behind 1, 2`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			check(t, InstallAll(parse("m/1"), []Target{k1}, world(strings.Split(c.facts, "\n")...), Options{}), c.want)
		})
	}
	forced := InstallAll(parse("m/1"), []Target{k1}, world("m/1 built", "user/1 installed needs=m rebuild"), Options{Force: true})
	check(t, forced, "1 install m/1 6.1\n2 refresh 6.1 behind 1")
}

func TestAutoinstall(t *testing.T) {
	cases := []struct {
		name, facts, want string
		rest              string // what is told of the others
	}{
		{"nothing", "m/1 installed\nn/1 noauto", "", "installed m/1"},
		{"latest only", "m/1\nm/10\nm/9\nn/1 installed\nn/2 noauto", `1 prepare 6.1
			2 build m/10 6.1 after 1
			3 install m/10 6.1 after 2
			4 refresh 6.1 behind 3`, "due m/10@3"},
		{"dependencies first", "a/1 needs=b\nb/1 needs=c\nc/1\nd/1 installed", `1 prepare 6.1
			2 build c/1 6.1 after 1
			3 install c/1 6.1 after 2
			4 build b/1 6.1 after 3, 1
			5 install b/1 6.1 after 3, 4
			6 build a/1 6.1 after 5, 1
			7 install a/1 6.1 after 5, 6
			8 refresh 6.1 behind 3, 5, 7`, "installed d/1 due c/1@3 due b/1@5 due a/1@7"},
		{"a failed dependency doesn't keep others from the preparation", "a/1 built\nb/1 needs=a\nc/1 needs=d\nd/1 built", `1 install a/1 6.1
			2 install d/1 6.1
			3 prepare 6.1
			4 build b/1 6.1 after 1, 3
			5 install b/1 6.1 after 1, 4
			6 build c/1 6.1 after 2, 3
			7 install c/1 6.1 after 2, 6
			8 refresh 6.1 behind 1, 2, 5, 7`, "due a/1@1 due d/1@2 due b/1@5 due c/1@7"},
		{"a circle", "a/1 needs=b\nb/1 needs=a", "", "unmet a/1:b unmet b/1:a"},
		{"on itself", "a/1 needs=a", "", "unmet a/1:a"},
		{"unknown", "a/1 needs=x,y", "", "deferred a/1:x,y"},
		{"unknown and known", "a/1 needs=x,b\nb/1 noauto", "", "unmet a/1:b"},
		{"no autoinstall, but installed", "a/1 needs=b\nb/1 noauto installed", `1 prepare 6.1
			2 build a/1 6.1 after 1
			3 install a/1 6.1 after 2
			4 refresh 6.1 behind 3`, "installed b/1 due a/1@3"},
		{"behind what is deferred", "a/1 needs=b\nb/1 needs=x", "", "unmet a/1:b deferred b/1:x"},
		{"bad conf", "a/1 badconf\nb/1 built", "1 install b/1 6.1\n2 refresh 6.1 behind 1", "due b/1@1 bad a/1"},
		{"behind a bad conf", "a/1 badconf\nb/1 needs=a", "", "bad a/1 unmet b/1:a"},
		{"broken and hidden ones", "a/1 broken\nb/1 hidden", "", ""},
		{"rebuild", "a/1 built\nb/1 installed needs=a rebuild had=a:0", `1 install a/1 6.1
			2 prepare 6.1 after 1
			3 build b/1 6.1 after 1, 2 again
			4 install b/1 6.1 after 3 again
			5 refresh 6.1 behind 1, 4`, "installed b/1 due a/1@1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := Autoinstall(k1, state.ID{}, world(strings.Split(c.facts, "\n")...), Options{Force: true})
			check(t, &a.Plan, c.want)
			if got := told(a); got != c.rest {
				t.Errorf("told %q, want %q", got, c.rest)
			}
		})
	}
}

func told(a *Auto) string {
	var parts []string
	for _, id := range a.Installed {
		parts = append(parts, "installed "+id.String())
	}
	for _, d := range a.Due {
		parts = append(parts, fmt.Sprintf("due %s@%d", d.ID, d.Step))
	}
	for _, d := range a.Bad {
		parts = append(parts, "bad "+d.ID.String())
	}
	for _, w := range a.Unmet {
		parts = append(parts, "unmet "+w.ID.String()+":"+strings.Join(w.Depends, ","))
	}
	for _, w := range a.Deferred {
		parts = append(parts, "deferred "+w.ID.String()+":"+strings.Join(w.Depends, ","))
	}
	return strings.Join(parts, " ")
}

func TestAutoinstallOfOneModule(t *testing.T) {
	f := world("a/1 built", "a/2 built", "b/1", "c/1 installed")
	a := Autoinstall(k1, state.ID{Module: "a"}, f, Options{})
	check(t, &a.Plan, "1 install a/2 6.1\n2 refresh 6.1 behind 1")
	a = Autoinstall(k1, parse("a/1"), f, Options{NoRefresh: true})
	check(t, &a.Plan, "1 install a/1 6.1")
	if got := told(a); got != "installed c/1 due a/1@1" {
		t.Error(got)
	}
}

func TestBack(t *testing.T) {
	cases := []struct {
		name, facts string
		targets     []Target
		d           Depth
		want        string
	}{
		{"uninstall", "m/1 installed", []Target{k1}, ToBuilt, "1 uninstall m/1 6.1\n2 refresh 6.1 behind 1"},
		{"uninstall of built", "m/1 built", []Target{k1}, ToBuilt, "1 note m/1 6.1"},
		{"unbuild", "m/1 installed@6.1 built@6.2", []Target{k1, k2}, ToAdded, `1 uninstall m/1 6.1
			2 unbuild m/1 6.1 after 1
			3 note m/1 6.2 behind 2
			4 unbuild m/1 6.2 behind 3
			5 refresh 6.1 behind 1`},
		{"remove", "m/1 installed@6.1", []Target{k2, k1}, ToNothing, `1 note m/1 6.2
			2 note m/1 6.2 behind 1
			3 uninstall m/1 6.1 behind 2
			4 unbuild m/1 6.1 after 3
			5 refresh 6.1 behind 3
			6 forget m/1 behind 4`},
		{"remove, nothing built", "m/1", nil, ToNothing, "1 forget m/1"},
		{"uninstall, nothing built", "m/1", nil, ToBuilt, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { check(t, Back(parse("m/1"), c.targets, c.d, world(c.facts), Options{}), c.want) })
	}
}

func TestClearAndMatch(t *testing.T) {
	f := world("a/1 installed", "b/1 built", "c/1 excluded")
	check(t, Clear([]state.ID{parse("a/1"), parse("b/1")}, k1, true, f, Options{}), `1 uninstall a/1 6.1
		2 unbuild a/1 6.1 after 1
		3 note b/1 6.1 behind 2
		4 unbuild b/1 6.1 behind 3
		5 refresh 6.1 behind 1`)
	check(t, Match([]state.ID{parse("a/1"), parse("b/1"), parse("c/1")}, k1, f, Options{}), `1 note a/1 6.1
		2 install b/1 6.1
		3 refuse c/1 6.1
		4 install c/1 6.1 after 3
		5 refresh 6.1 behind 2, 4`)
	check(t, Clear(nil, k1, true, f, Options{}), "")
	check(t, Match(nil, k1, f, Options{}), "")
}

func TestPrinted(t *testing.T) {
	p := InstallAll(parse("m/1"), []Target{k1}, world("m/1 absent needs=d", "d/2 installed"), Options{})
	want := `  1 add       m/1: not in the DKMS tree
  2 prepare   for kernel 6.1 (x): signing key and tools [after 1]
  3 build     m/1 for kernel 6.1 (x): not built yet [after 1, 2]
  4 install   m/1 for kernel 6.1 (x): not installed [after 3]
  5 refresh   for kernel 6.1 (x): objects changed [after 4]
`
	if got := p.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	left := world("m/1")
	left.IndexDue = []string{"6.9"}
	if got := Back(parse("m/1"), nil, ToBuilt, left, Options{}).String(); got != "  1 refresh   for kernel 6.9: an earlier run was ended before it\n" {
		t.Error(got)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Steps []struct {
			N     int    `json:"n"`
			Do    string `json:"do"`
			Key   struct{ Module, Version, Kernel, Arch string }
			Why   string `json:"why"`
			After []int  `json:"after"`
		} `json:"steps"`
	}
	if err := json.Unmarshal(text, &back); err != nil || len(back.Steps) != 5 {
		t.Fatalf("%v\n%s", err, text)
	}
	if s := back.Steps[2]; s.N != 3 || s.Do != "build" || s.Key.Module != "m" || s.Key.Kernel != "6.1" || s.Why == "" || fmt.Sprint(s.After) != "[1 2]" {
		t.Errorf("%+v", s)
	}
	if p.Counts(Build) != 1 || p.Counts(Forget) != 0 {
		t.Error("miscounted")
	}
}

// A module index that an earlier run left behind is brought up to date by the
// next plan, once, unless the plan leaves indexes alone.
func TestIndexLeftBehind(t *testing.T) {
	m := parse("m/1")
	plans := []struct {
		name, facts, want string
		make              func(f *Facts, o Options) *Plan
	}{
		{"install of another kernel", "m/1 built", "1 install m/1 6.1\n2 refresh 6.1 behind 1\n3 refresh 6.9",
			func(f *Facts, o Options) *Plan { return InstallAll(m, []Target{k1}, f, o) }},
		{"installed already", "m/1 installed", "1 note m/1 6.1\n2 refresh 6.1\n3 refresh 6.9",
			func(f *Facts, o Options) *Plan { return InstallAll(m, []Target{k1}, f, o) }},
		{"refused", "m/1 excluded", "1 refuse m/1 6.1\n2 install m/1 6.1 after 1\n3 refresh 6.1 behind 2\n4 refresh 6.9",
			func(f *Facts, o Options) *Plan { return InstallAll(m, []Target{k1}, f, o) }},
		{"uninstall", "m/1 installed", "1 uninstall m/1 6.1\n2 refresh 6.1 behind 1\n3 refresh 6.9",
			func(f *Facts, o Options) *Plan { return Back(m, []Target{k1}, ToBuilt, f, o) }},
		{"unbuild", "m/1 built", "1 note m/1 6.1\n2 unbuild m/1 6.1 behind 1\n3 refresh 6.1\n4 refresh 6.9",
			func(f *Facts, o Options) *Plan { return Back(m, []Target{k1}, ToAdded, f, o) }},
		{"remove", "m/1", "1 refresh 6.1\n2 refresh 6.9\n3 forget m/1",
			func(f *Facts, o Options) *Plan { return Back(m, nil, ToNothing, f, o) }},
		{"autoinstall", "m/1 installed", "1 refresh 6.1\n2 refresh 6.9",
			func(f *Facts, o Options) *Plan { return &Autoinstall(k1, state.ID{}, f, o).Plan }},
		{"kernel_prerm", "m/1", "1 refresh 6.1\n2 refresh 6.9",
			func(f *Facts, o Options) *Plan { return Clear(nil, k1, true, f, o) }},
		{"match", "m/1 built", "1 install m/1 6.1\n2 refresh 6.1 behind 1\n3 refresh 6.9",
			func(f *Facts, o Options) *Plan { return Match([]state.ID{m}, k1, f, o) }},
		{"build", "m/1 built", "1 note m/1 6.1",
			func(f *Facts, o Options) *Plan { return BuildAll(m, []Target{k1}, f, o) }},
	}
	for _, c := range plans {
		t.Run(c.name, func(t *testing.T) {
			f := world(c.facts)
			f.IndexDue = []string{"6.1", "6.9"}
			check(t, c.make(f, Options{}), c.want)
			if n := c.make(f, Options{NoRefresh: true}).Counts(Refresh); n > 0 {
				t.Errorf("%d module indexes are touched", n)
			}
		})
	}
}
