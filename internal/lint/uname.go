// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// unames tells of the lines of a makefile that ask uname for the running kernel, and
// count where dkms builds. They don't count in what is only for people
// (ifeq ($(KERNELRELEASE),)), in a variable that MAKE of dkms.conf sets, in one that
// only such things use, and in the recipes of targets that MAKE doesn't ask for: where
// it calls kbuild with M=, those of all (Documentation/kbuild/modules.rst).
func (c *checker) unames(file string, lines []mkLine) {
	live := c.live(file, lines)
	for i, l := range lines {
		if !live[i] || !callsUname().MatchString(l.text) {
			continue
		}
		what := "uname tells of the running kernel, which need not be the one to build for"
		if l.name != "" {
			what = l.name + " comes from uname, which tells of the running kernel; MAKE of dkms.conf sets no " + l.name
		}
		c.add("uname", file, l.line, "%s", what)
	}
}

// live tells of each line whether it counts where dkms builds.
func (c *checker) live(file string, lines []mkLine) []bool {
	live := make([]bool, len(lines))
	wanted := c.wantedTargets(file, lines)
	rule := ""
	for i, l := range lines {
		switch {
		case l.byHand:
		case l.recipe:
			live[i] = wanted(rule)
		case l.name != "":
			live[i] = kbuildReads().MatchString(l.name) && !c.given[l.name] || l.op == "!="
		default:
			if target, _, ok := strings.Cut(l.text, ":"); ok && !l.condition {
				rule = target
				live[i] = !c.kbuildOnly() && wanted(rule)
				continue
			}
			live[i] = true
		}
	}
	for changed := true; changed; { // variables that live lines use live too
		changed = false
		used := map[string]bool{}
		for i, l := range lines {
			for _, m := range reference().FindAllStringSubmatch(l.text, -1) {
				used[m[1]] = used[m[1]] || live[i]
			}
		}
		for i, l := range lines {
			if l.name != "" && !l.byHand && !live[i] && used[l.name] && !c.given[l.name] {
				live[i], changed = true, true
			}
		}
	}
	return live
}

// kbuildOnly reports whether all that MAKE calls is kbuild itself.
func (c *checker) kbuildOnly() bool { return c.direct && !c.own }

// wantedTargets tells of a rule's targets whether MAKE asks for them: those that it
// names or else the first, and what they need. Of makefiles elsewhere it isn't known.
func (c *checker) wantedTargets(file string, lines []mkLine) func(targets string) bool {
	if c.kbuildOnly() {
		return func(string) bool { return false }
	}
	if path.Dir(file) != "." || len(c.goals) == 0 && c.vague {
		return func(string) bool { return true }
	}
	needs := map[string][]string{}
	goals := slices.Clone(c.goals)
	rule := ""
	for _, l := range lines {
		if l.recipe {
			for _, m := range remake().FindAllStringSubmatch(l.text, -1) {
				needs[rule] = append(needs[rule], strings.Fields(m[1])...)
			}
			continue
		}
		targets, after, ok := strings.Cut(l.text, ":")
		if l.name != "" || l.condition || l.byHand || !ok {
			continue
		}
		rule = strings.TrimSpace(targets)
		for _, t := range strings.Fields(targets) {
			if len(goals) == 0 && !strings.HasPrefix(t, ".") {
				goals = []string{t}
			}
			needs[t] = append(needs[t], strings.Fields(after)...)
			needs[t] = append(needs[t], rule)
		}
	}
	reached := map[string]bool{}
	for len(goals) > 0 {
		goal := goals[0]
		goals = goals[1:]
		if !reached[goal] {
			reached[goal] = true
			goals = append(goals, needs[goal]...)
		}
	}
	return func(targets string) bool {
		return strings.ContainsAny(targets, "%$") || slices.ContainsFunc(strings.Fields(targets), func(t string) bool { return reached[t] })
	}
}

// kbuildReads matches the variables that kbuild or make reads by itself.
var kbuildReads = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\$|^(obj|lib|always|subdir|hostprogs|targets|extra|src)-?|-(objs|y|m)$|^(EXTRA_|KBUILD_|K?[ACR]FLAGS|CPPFLAGS|LDFLAGS|(cc|as|ld|rust)flags|MAKEFLAGS$|ARCH$|CROSS_COMPILE$|CC$|LD$|VPATH$)`)
})

// remake matches the goals that a recipe gives to another make in the same directory.
var remake = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\$[({]MAKE[)}]((?: +[A-Za-z0-9_.-]+)+) *(?:$|[;&|])`)
})
