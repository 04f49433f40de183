// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"regexp"
	"strings"
	"sync"
)

// judge finds the line that tells why the command failed.
func (t *text) judge(facts Facts) Diagnosis {
	if d, ok := t.verdictAlone(); ok {
		return d
	}
	d, found := t.search(facts)
	if limit, class := limits(t.why); limit {
		return t.byVerdict(class)
	}
	switch {
	case t.stage == StagePatch || t.stage == StagePatchPath:
		if found && d.rank == rankMachine {
			return d.Diagnosis
		}
		return t.patch()
	case found && !(t.stage == StageMissing && d.rank > rankMake):
		return d.Diagnosis
	case t.stage == StageMissing || t.stage == StageCollect:
		return t.missing(facts)
	}
	return t.guess()
}

// ruled is what a rule made of a line.
type ruled struct {
	Diagnosis
	rank int
}

// search applies the rules to each line: the one with the lowest rank counts, of
// several the first.
func (t *text) search(facts Facts) (best ruled, found bool) {
	best.rank = rankNothing
	for i, l := range t.lines {
		if !eventful(l.text) {
			continue
		}
		for _, r := range ruleTable() {
			if r.rank >= best.rank {
				continue
			}
			g := r.form.FindStringSubmatch(l.text)
			if g == nil {
				continue
			}
			if Harmless(l.text) {
				break
			}
			rank := r.rank
			if probe().MatchString(l.text) && rank > rankMachine {
				rank = rankProbe
			}
			if rank >= best.rank {
				break
			}
			if d := r.judge(t, i, g, facts); !d.Guess {
				if best = (ruled{d, rank}); d.Error == "" {
					best.Error, best.LogLine = Printable(l.shown), l.no
				}
			}
			break
		}
	}
	return best, best.rank < rankNothing
}

// eventful reports whether a line may match a rule at all, which most don't.
func eventful(s string) bool {
	for _, word := range []string{"rror", "***", "ound", "No ", "Killed", "Stop.", "undefined", "ERROR", "FATAL", "FAILED", "failed", "ermission denied", "not permitted", "Read-only", "emory", "exhausted", "exceeded", "ork", "unavailable", "esol", "onnect", "tcp", "too large", "multiple definition", "cannot", "Can't", "can't", "ld: ", "route", "Unterminated", "unexpected", "not known", "hostname", "bad_alloc", "signal", "ownload", "unable", "apply"} {
		if strings.Contains(s, word) {
			return true
		}
	}
	return false
}

// probe matches lines about files that configure scripts compile to see whether
// they can be.
var probe = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\bconftest|configure-tests?/|feature-tests?/|compat-tests?/|/kcompat-probe|\bprobe[-_.][\w.]*\.c:|/try-?compile|/CMakeFiles/CMakeTmp|^<stdin>:\d+`)
})

// byVerdict takes what dkms itself wrote for the error.
func (t *text) byVerdict(c Class) Diagnosis {
	return Diagnosis{Class: c, Error: Printable(t.verdict.shown), LogLine: t.verdict.no}
}

// verdictAlone is for failures that no command has said anything of.
func (t *text) verdictAlone() (Diagnosis, bool) {
	if t.stage != StageVerify {
		return Diagnosis{}, false
	}
	switch {
	case strings.Contains(t.why, "vermagic"), strings.Contains(t.why, "CRC"), strings.Contains(t.why, "version magic"):
		return t.byVerdict(Headers), true
	case strings.Contains(t.why, "symbol"):
		return t.byVerdict(Dependency), true
	}
	return t.byVerdict(Headers), true
}

// limits tells by what dkms wrote whether it has stopped the command.
func limits(why string) (bool, Class) {
	switch {
	case strings.Contains(why, "build_time_limit"):
		return true, Timeout
	case strings.Contains(why, "build_disk_reserve"), strings.Contains(why, "build_file_limit"):
		return true, Disk
	case strings.Contains(why, "to make.log"):
		return true, Code
	}
	return false, Unknown
}

var patchWords = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:Hunk #(\d+) FAILED at (\d+)|\d+ out of \d+ hunks? (?:FAILED|failed|ignored)|patch: \*\*\*\* |can't find file to patch|Reversed \(or previously applied\) patch|The next patch would|File .* is not empty after patch|error: |.*: No such file)`)
})

// patch finds what patch(1) says of the first part that it can't apply.
func (t *text) patch() Diagnosis {
	d := t.byVerdict(Patch)
	file := ""
	for _, l := range t.lines {
		if name, ok := strings.CutPrefix(l.text, "patching file "); ok {
			file = strings.Trim(name, "'")
			continue
		}
		if g := patchWords().FindStringSubmatch(l.text); g != nil {
			d.Error, d.LogLine = Printable(l.shown), l.no
			if g[2] != "" {
				d.File, d.Line = file, number(g[2])
			}
			return d
		}
	}
	return d
}

func number(s string) int {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' || n > 1<<24 {
			return n
		}
		n = n*10 + int(c-'0')
	}
	return n
}

var conditional = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^[ \t]*(?:obj|[\w-]+-objs|[\w-]+)-\$\((CONFIG_[A-Z0-9_]+)\)[ \t]*[:+]?=`)
})

// missing is for commands that ended well, but without the object, or not with a
// whole one.
func (t *text) missing(facts Facts) Diagnosis {
	if strings.Contains(t.why, "but the object is ") {
		return t.byVerdict(Object)
	}
	d := t.byVerdict(Name)
	if !strings.Contains(t.why, "nor any other object") || facts.Config == nil {
		return d
	}
	for _, g := range conditional().FindAllStringSubmatch(facts.Makefiles, -1) {
		if v, _ := facts.Config(g[1]); v != "y" && v != "m" && !regexp.MustCompile(`(?m)^\s*(?:export\s+|override\s+)*`+g[1]+`\s*[:?]?=`).MatchString(facts.Makefiles) {
			d.Class, d.Subject = Config, &Subject{Kind: Option, Name: g[1]}
			return d
		}
	}
	return d
}

// guess takes what the command said last.
func (t *text) guess() Diagnosis {
	if l, ok := t.lastWords(); ok {
		class, subject := byWords(l.text, Unknown)
		return Diagnosis{Class: class, Subject: subject, Error: Printable(l.shown), LogLine: l.no, Guess: true}
	}
	return t.byVerdict(Unknown)
}
