// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// The ranks of lines: a line of a lower one tells more, whatever came first.
const (
	rankMachine = iota // memory and disk: what else is said follows from it
	rankError          // of a compiler, a linker, modpost, configure
	rankMake           // make can't go on
	rankCommand        // a command is not there, or is refused something
	rankProbe          // errors of probes, which are meant to fail
	rankNothing        // no error
)

// rule judges lines of one form; g are the groups of the expression.
type rule struct {
	form  *regexp.Regexp
	rank  int
	judge func(t *text, i int, g []string, facts Facts) Diagnosis
}

// fixed judges each line of a form alike.
func fixed(c Class) func(*text, int, []string, Facts) Diagnosis {
	return func(*text, int, []string, Facts) Diagnosis { return Diagnosis{Class: c} }
}

// ruleTable is in order: the first form that a line has counts.
var ruleTable = sync.OnceValue(func() []rule {
	var table []rule
	add := func(rank int, form string, judge func(*text, int, []string, Facts) Diagnosis) {
		table = append(table, rule{regexp.MustCompile(form), rank, judge})
	}
	add(rankMachine, diskFull().String(), diskLine)
	add(rankMachine, outOfMemory().String(), placed(Memory))
	add(rankError, `^(?:[A-Za-z]:)?[^ :][^:]*:\d+:(?:\d+:)? (?:fatal )?error: `, (*text).compilerLine)
	add(rankError, `^(<command-line>|<built-in>): (?:fatal )?error: (.*)`, driver)
	add(rankError, `^(\S*(?:gcc|g\+\+|cc1|cc1plus|clang|clang\+\+|cc|c\+\+)(?:-[0-9.]+)?): (?:fatal )?error: (.*)`, driver)
	add(rankError, `^(?:\S+): internal compiler error: `, fixed(Compiler))
	add(rankError, `^([^ :]+):(\d+): (?:Error|Fatal error): (.*)`, assembler)
	add(rankError, `^(?:ERROR|FATAL): (?:modpost: )?"?([^"]+)"? \[([^\]]+)\] undefined!`, undefined)
	add(rankError, `^(?:ERROR|FATAL): (?:modpost: )?GPL-incompatible module (\S+) uses GPL-only symbol '([^']+)'`, exported)
	add(rankError, `^ERROR: (?:modpost: )?module (\S+) uses symbol (\S+) from namespace (\S+), but does not import it`, exported)
	add(rankError, `^(?:ERROR|FATAL): (?:modpost: )?missing MODULE_LICENSE`, fixed(Code))
	add(rankError, `^ERROR: Kernel configuration is invalid`, fixed(Headers))
	add(rankError, `^(?:\*\*\*|  ERROR:) .*(?:Configuration file "\.config" not found|configuration is invalid)`, fixed(Headers))
	add(rankError, `^\*\*\* The present kernel (?:configuration )?(?:has modules )?disabled`, fixed(Config))
	add(rankError, `^(?:ERROR|FATAL): modpost: .*(?:parse error in symbol dump|Module\.symvers)`, fixed(Headers))
	add(rankError, `^(?:ERROR|FATAL): modpost: `, fixed(Code))
	add(rankError, `^(?:\S*ld(?:\.\w+)?(?:-[0-9.]+)?|collect2|\S*lld|(?:\S*[-/])?as): (?:fatal )?(?:error: )?(.*)`, linker)
	add(rankError, `^(\S+\.[cSo]):\S* (?:undefined reference to|multiple definition of) `, fixed(Code))
	add(rankError, `: (?:error: )objtool: |^error: objtool: `, fixed(Code))
	add(rankError, `^(?:\S*/)?(?:configure|configure\.\w+|config\.status): error:(.*)`, configure)
	add(rankError, `^(?:configure: )?error: (.*)`, ownWords)
	add(rankError, `^(?:BTF|FAILED): .*(?:[Ff]ailed|load BTF)`, fixed(Compiler))
	add(rankMake, `^(?:make(?:\[\d+\])?|([^ :]+):(\d+)): \*\*\* (.*?)\.? +Stop\.$`, stop)
	add(rankMake, `^make(?:\[\d+\])?: \*\*\* ()()(No rule to make target .*)`, stop)
	add(rankMake, `^([^ :]+):(\d+): (\S+): No such file or directory$`, included)
	add(rankCommand, `^(?:Hunk #\d+ FAILED|\d+ out of \d+ hunks? (?:FAILED|failed)|patch: \*\*\*\* )|^error: (?:patch failed|corrupt patch)|: patch does not apply$`, fixed(Patch))
	add(rankCommand, noNetwork().String(), networkLine)
	add(rankCommand, `(?:[Ss]yntax error[: ]|unexpected EOF|[Uu]nterminated quoted string)`, scriptLine)
	add(rankCommand, `^(?:.*: )?([^:]+): (?:command not found|not found|Command not found)$`, program)
	add(rankCommand, `^make(?:\[\d+\])?: ([^:]+): (?:No such file or directory|Permission denied|Exec format error)$`, program)
	add(rankCommand, `(?:^|/)env: '?([^':]+)'?: (?:No such file or directory|Permission denied)$`, program)
	add(rankCommand, `(?::|^) ?(?:\S+: )?(\S+): bad interpreter: (?:No such file or directory|Permission denied)$`, program)
	add(rankCommand, `(?i)error while loading shared libraries: (\S+):|version .GLIBC\S+ not found|cannot execute binary file|Exec format error$`, unloadable)
	add(rankCommand, `(?:Can't|cannot) open (?:file )?'?([^' :]+)'?(?:: |$)`, program)
	add(rankCommand, `^make(?:\[\d+\])?: \*\*\* \[.*\] Killed$`, fixed(Memory))
	add(rankCommand, refused().String(), refusal)
	add(rankCommand, `^(.*: )?((?:\S*/)?[^ :]+): No such file or directory$`, program2)
	return table
})

// placed gives a line its place, if it has one.
func placed(c Class) func(*text, int, []string, Facts) Diagnosis {
	return func(t *text, i int, _ []string, _ Facts) Diagnosis {
		d := Diagnosis{Class: c}
		if p, _, _, _, ok := diagnostic(t.lines[i].text); ok {
			d.File, d.Line = p.file, p.line
		}
		return d
	}
}

func diskLine(t *text, i int, g []string, facts Facts) Diagnosis { return placed(Disk)(t, i, g, facts) }

func (t *text) compilerLine(i int, _ []string, facts Facts) Diagnosis { return t.compiler(i, facts) }

// driver judges what a compiler says of its arguments.
func driver(t *text, i int, g []string, facts Facts) Diagnosis {
	words := g[2]
	if h := regexp.MustCompile(`^'?([^ ']+\.h)'?: No such file|^'([^']+\.h)' file not found`).FindStringSubmatch(words); h != nil {
		name := h[1] + h[2]
		return Diagnosis{Class: headerClass(name, facts), Subject: &Subject{Kind: Header, Name: name}}
	}
	switch {
	case toolWords().MatchString(words):
		return Diagnosis{Class: Compiler}
	case outOfMemory().MatchString(words):
		return Diagnosis{Class: Memory}
	}
	return Diagnosis{Class: Code}
}

func assembler(_ *text, _ int, g []string, _ Facts) Diagnosis {
	d := Diagnosis{Class: Code, File: g[1]}
	d.Line, _ = strconv.Atoi(g[2])
	if toolWords().MatchString(g[3]) && strings.HasSuffix(g[1], ".s") {
		d.Class = Compiler
	}
	return d
}

// undefined judges a symbol that nothing exports. Who should have done so shows
// only by what kernels export.
func undefined(t *text, _ int, g []string, facts Facts) Diagnosis {
	d := Diagnosis{Class: Dependency, Subject: &Subject{Kind: Symbol, Name: g[1]}}
	if basicSymbol().MatchString(g[1]) || t.says(`(?i)Symbol version dump "?[^ ]*Module\.symvers"? is missing|Module\.symvers.* is missing`) && len(facts.Depends) == 0 {
		d.Class = Headers
	}
	return d
}

// basicSymbol are symbols that every kernel exports (Linux 2.6 to 6).
var basicSymbol = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:_?printk|module_layout|__fentry__|mcount|kfree|__kmalloc|memcpy|memset|param_ops_int|__stack_chk_fail|__x86_return_thunk|jiffies|strcmp|strlen)$`)
})

// says reports whether a line of the log is of a form.
func (t *text) says(form string) bool {
	p := regexp.MustCompile(form)
	for _, l := range t.lines {
		if p.MatchString(l.text) {
			return true
		}
	}
	return false
}

// exported judges a symbol that is there for other modules only.
func exported(_ *text, _ int, g []string, _ Facts) Diagnosis {
	s := &Subject{Kind: Symbol, Name: g[2], changed: true, note: "the kernel exports it to GPL modules only"}
	if len(g) > 3 {
		s.note = fmt.Sprintf("the kernel exports it in the namespace %s, which the module doesn't import", g[3])
	}
	return Diagnosis{Class: API, Subject: s}
}

func linker(t *text, i int, g []string, facts Facts) Diagnosis {
	words := g[1]
	switch {
	case strings.Contains(words, "warning:") || strings.HasPrefix(words, "NOTE:"):
		return Diagnosis{Class: Unknown, Guess: true}
	case outOfMemory().MatchString(words):
		return Diagnosis{Class: Memory}
	case toolWords().MatchString(words), strings.Contains(words, "cannot find -l"), strings.Contains(words, "unrecognised emulation mode"):
		return Diagnosis{Class: Compiler}
	}
	if h := regexp.MustCompile(`cannot (?:find|open(?: linker script file)?) (\S+?):`).FindStringSubmatch(words); h != nil && facts.inHeaders(h[1]) {
		return Diagnosis{Class: Headers}
	}
	d := Diagnosis{Class: Code}
	if p := linkerPlace().FindStringSubmatch(words); p != nil {
		d.File, d.Line = p[1], number(p[2])
	}
	return d
}

// linkerPlace is the source that a linker names where it has debugging information.
var linkerPlace = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:^|:|: )(/?[^: ]+\.[cChSs]\w*):(\d+): (?:multiple definition|undefined reference|first defined)`)
})

func ownWords(_ *text, _ int, g []string, _ Facts) Diagnosis {
	c, s := byWords(g[1], Unknown)
	return Diagnosis{Class: c, Subject: s}
}

// configure judges what a configure script says, over several lines.
func configure(t *text, i int, g []string, _ Facts) Diagnosis {
	words := strings.TrimSpace(g[1])
	d := Diagnosis{}
	for _, l := range t.lines[i+1 : min(len(t.lines), i+6)] {
		if !strings.Contains(l.text, "***") && words != "" {
			break
		}
		if words == "" { // the text begins on the next line
			d.Error, d.LogLine = Printable(strings.TrimSpace(l.shown)), l.no
		}
		words += " " + l.text
	}
	d.Class, d.Subject = byWords(words, Unknown)
	return d
}

var noRule = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^No rule to make target '([^']+)'(?:, needed by '([^']+)')?`)
})

var makeSyntax = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:missing |multiple target|recipe commences|commands commence|unterminated |target pattern|empty variable name|extraneous |invalid syntax|mixed implicit|prerequisites cannot|only one 'else'|unexpected |insufficient number|Recursive variable|.*\bmust not\b)`)
})

// stop judges why make can't go on.
func stop(t *text, i int, g []string, facts Facts) Diagnosis {
	d := Diagnosis{Class: Code, File: g[1]}
	d.Line, _ = strconv.Atoi(g[2])
	words := g[3]
	inKernel := facts.inHeaders(t.directory(i) + "/")
	if r := noRule().FindStringSubmatch(words); r != nil {
		target := r[1]
		switch {
		case facts.inHeaders(target) || inKernel && !strings.HasPrefix(target, "/"), kernelTool().MatchString(target):
			d.Class = Headers
		}
		if facts.BuildDir != "" && strings.HasPrefix(target, facts.BuildDir) {
			d.Class = Code
		}
		return d
	}
	if dir, ok := strings.CutSuffix(strings.Replace(words, ": Not a directory", ": No such file or directory", 1), ": No such file or directory"); ok {
		if facts.inHeaders(dir+"/") || strings.Contains(dir, "/modules/") || strings.Contains(dir, "linux") {
			d.Class, d.other = Headers, otherRelease(dir, facts)
		}
		return d
	}
	if makeSyntax().MatchString(words) || g[1] == "" && strings.HasPrefix(words, "No targets") {
		if facts.inHeaders(g[1]) || g[1] == "" && inKernel {
			d.Class = Headers
		}
		return d
	}
	d.Class, d.Subject = byWords(words, Unknown)
	return d
}

var entering = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^make(?:\[\d+\])?: (Entering|Leaving) directory '([^']+)'`)
})

// directory is the one that make works in at line i, "" if it doesn't say so.
func (t *text) directory(i int) string {
	left := 0
	for ; i >= 0; i-- {
		g := entering().FindStringSubmatch(t.lines[i].text)
		switch {
		case g == nil:
		case g[1] == "Leaving":
			left++
		case left > 0:
			left--
		default:
			return g[2]
		}
	}
	return ""
}

// otherRelease is the kernel whose headers a path names, if it isn't the one that
// the module is built for.
func otherRelease(path string, facts Facts) string {
	g := regexp.MustCompile(`/modules/([^/]+)/|/linux-headers-([^/]+)`).FindStringSubmatch(path + "/")
	if g == nil || facts.Kernel == "" || g[1]+g[2] == facts.Kernel {
		return ""
	}
	return g[1] + g[2]
}

// included judges a makefile that another one includes.
func included(_ *text, _ int, g []string, facts Facts) Diagnosis {
	d := Diagnosis{Class: Code, File: g[1]}
	d.Line, _ = strconv.Atoi(g[2])
	if own := facts.BuildDir != "" && strings.HasPrefix(g[3], facts.BuildDir); !own && (facts.inHeaders(g[3]) || facts.inHeaders(g[1])) {
		d.Class = Headers
	}
	return d
}

func networkLine(*text, int, []string, Facts) Diagnosis { return Diagnosis{Class: Network} }

var scriptPlace = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([^ :]+): (?:line )?(\d+): `) })

func scriptLine(t *text, i int, _ []string, _ Facts) Diagnosis {
	return scriptAt(t.lines[i].text, Code)
}

func scriptAt(s string, c Class) Diagnosis {
	d := Diagnosis{Class: c}
	if g := scriptPlace().FindStringSubmatch(s); g != nil && !strings.HasSuffix(g[1], "/sh") && !strings.HasSuffix(g[1], "bash") && g[1] != "sh" {
		d.File = g[1]
		d.Line, _ = strconv.Atoi(g[2])
	}
	return d
}

// program judges a command that is not there.
func program(t *text, i int, g []string, facts Facts) Diagnosis {
	name := strings.Trim(strings.TrimSpace(g[1]), "'\"")
	d := scriptAt(t.lines[i].text, programClass(name, facts))
	d.Subject = &Subject{Kind: Program, Name: name}
	return d
}

// program2 judges a file that is not there.
func program2(t *text, i int, g []string, facts Facts) Diagnosis {
	name := strings.Trim(g[2], "'\"")
	d := scriptAt(t.lines[i].text, Code)
	switch {
	case facts.inHeaders(name), strings.Contains(t.lines[i].text, "/modules/"):
		d.Class = Headers
	case compilerName().MatchString(name):
		d.Class, d.Subject = Compiler, &Subject{Kind: Program, Name: name}
	}
	return d
}

func refusal(t *text, i int, _ []string, facts Facts) Diagnosis {
	d := scriptAt(t.lines[i].text, Unknown)
	g := refusedPath().FindStringSubmatch(t.lines[i].text)
	switch {
	case g != nil && kernelTool().MatchString(g[1]):
		d.Class = Headers
	case g != nil && strings.HasPrefix(g[1], "./"):
		d.Class = Code
	case facts.Confined:
		d.Class = Confined
	}
	return d
}

var refusedPath = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`([^ :'"]+)['"]?: Permission denied$`)
})

// unloadable judges a program that the system can't run: one of the kernel's comes
// with headers that are made for another system.
func unloadable(t *text, i int, _ []string, facts Facts) Diagnosis {
	for _, word := range strings.FieldsFunc(t.lines[i].text, func(r rune) bool { return r == ' ' || r == ':' }) {
		if kernelTool().MatchString(word) && !strings.Contains(t.lines[i].text, "shared libraries") {
			return Diagnosis{Class: Headers}
		}
	}
	return Diagnosis{Class: Compiler}
}
