// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"fmt"
	"strings"
	"testing"
)

// generator turns bytes into shell text that is well formed, as chance seldom
// makes it: each byte chooses one of the ways on.
type generator struct {
	data  []byte
	depth int
	here  []string // bodies of here-documents due at the next line's end
}

// pick takes a byte, below n; 0 when there are none left.
func (g *generator) pick(n int) int {
	if len(g.data) == 0 {
		return 0
	}
	b := g.data[0]
	g.data = g.data[1:]
	return int(b) % n
}

// of takes one of the words.
func (g *generator) of(words ...string) string { return words[g.pick(len(words))] }

// deep reports whether what nests has to end.
func (g *generator) deep() bool { return g.depth > 4 || len(g.data) == 0 }

func (g *generator) name() string {
	return g.of("PACKAGE_NAME", "MAKE", "PATCH", "x", "y", "BUILT_MODULE_NAME", "CLEAN", "nope", "kernelver")
}

func (g *generator) literal() string {
	return g.of("a", "1", "6.1.0", "foo-bar", "x.y", "0", "", "7", "a_b", "08", "-1", "make", "A", "é", "*", "?.c", "[ab].c", "~", "{a,b}", "{1..3}", "#x", "a=b", "%", ",", ":", "@", "^", "!", "+", "]")
}

// quoted is text that means itself between double quotes.
func (g *generator) quoted() string {
	return g.of("a b", "*", "  x ", `\$x`, `\"`, `\\`, `\a`, "'", "#", "", "\t", "~", "{a,b}", "1", ";", "a", "é", "\\\n", "\n", "!")
}

// parameter is an expansion.
func (g *generator) parameter() string {
	n := g.name()
	switch g.pick(26) {
	case 0, 1:
		return "$" + n
	case 2:
		return "${" + n + "}"
	case 3:
		return "${#" + n + "}"
	case 4:
		return "${" + n + g.of(":-", "-", ":+", "+", ":=", "=") + g.word() + "}"
	case 5, 6, 7:
		return "${" + n + g.of("#", "##", "%", "%%") + g.pattern() + "}"
	case 8, 9:
		return "${" + n + g.of("/", "//", "/#", "/%") + g.pattern() + "/" + g.of("", "_", "x y", "$x", "&") + "}"
	case 10:
		return "${" + n + g.of("^", "^^", ",", ",,") + "}"
	case 11:
		return "${" + n + ":" + g.of("0", "1", " -1", "x", "1:2", "0:-1", "2:x", "9", ":2", "$x") + "}"
	case 12:
		return "${" + n + "[" + g.of("0", "1", "@", "*", "-1", "x", "$x", "x+1") + "]}"
	case 13:
		return "${#" + n + "[" + g.of("@", "*", "0", "1") + "]}"
	case 14:
		return "${!" + n + g.of("[@]", "[*]", "", "*", "@") + "}"
	case 15:
		return "$((" + g.arithmetic() + "))"
	case 16:
		return "$(" + g.simple() + ")"
	case 17:
		return "`" + strings.NewReplacer("`", "", "\\", "", "\n", " ").Replace(g.simple()) + "`"
	case 18:
		return g.of("$?", "$#", "$@", "$*", "$1", "$0", "${1:-x}", "\"$@\"", "${@:1}", "$2")
	case 19:
		return "${" + n + "[@]" + g.of("/", "//", "#", "%", ":1", ":0:1", "^^") + g.of("", "a", "1", "x/y") + "}"
	case 20:
		return `"$` + n + `"`
	case 21:
		return `"${` + n + `[` + g.of("@", "*", "0") + `]}"`
	case 22:
		return "$'" + g.of(`a\tb`, `\x41`, `\u00e9`, `\101`, `\'`, `\n`, `\\`, `\e`, `a\cb`) + "'"
	case 23:
		return `$"` + g.of("a", "$x") + `"`
	default:
		return "$" + n
	}
}

func (g *generator) pattern() string {
	return g.of("a", "*", "?", "[0-9]", "[!a]", ".", "*.", ".*", "-*", "$x", `"*"`, "'?'", "[[:digit:]]", "[a-c]*", "/", "", "*a*", "[^.]", "6.1", "#", "%")
}

func (g *generator) arithmetic() string {
	if g.deep() {
		return g.of("1", "x", "0", "010", "0x1f", "y", "2")
	}
	g.depth++
	defer func() { g.depth-- }()
	a := g.of("1", "x", "$x", "010", "3", "y", "16#f", "-2", "${#MAKE}", "PATCH[1]", "(1+2)", "0")
	switch g.pick(6) {
	case 0:
		return a
	case 1:
		return a + " ? " + g.arithmetic() + " : 2"
	case 2:
		return g.of("!", "~", "-", "+", "++", "--") + g.of("x", "y", " x")
	case 3:
		return g.of("x", "y", "PATCH[0]") + g.of("=", "+=", "-=", "*=", "<<=", "|=", "++ +", "-- -") + g.arithmetic()
	default:
		return a + g.of("+", "-", "*", "/", "%", "**", "<<", ">>", "&", "|", "^", "&&", "||", "<", "<=", "==", "!=", ",") + g.arithmetic()
	}
}

// word is one word of a command.
func (g *generator) word() string {
	var b strings.Builder
	g.depth++
	for range 1 + g.pick(3) {
		switch {
		case g.deep():
			b.WriteString(g.of("a", "1", "$x", "''"))
		case g.pick(4) == 0:
			b.WriteString(g.literal())
		case g.pick(4) == 0:
			b.WriteString(`"` + g.quoted() + g.of("", "$x", "${MAKE}", g.parameter()) + g.quoted() + `"`)
		case g.pick(5) == 0:
			b.WriteString("'" + g.of("a b", "$x", "*", "", `\`, `"`, "a\nb") + "'")
		case g.pick(8) == 0:
			b.WriteString(`\` + g.of(" ", "a", "$", `"`, `\`, "*", "'", "\n"))
		default:
			b.WriteString(g.parameter())
		}
	}
	g.depth--
	return b.String()
}

func (g *generator) words() string {
	var all []string
	for range g.pick(4) {
		all = append(all, g.word())
	}
	return strings.Join(all, " ")
}

func (g *generator) assignment() string {
	n := g.name()
	switch g.pick(9) {
	case 0:
		return n + "[" + g.of("0", "1", "3", "x", "-1", "1+1", "$x", "i") + "]" + g.of("=", "+=") + g.word()
	case 1:
		return n + g.of("=", "+=") + "(" + g.words() + ")"
	case 2:
		return n + "=([" + g.of("0", "2", "x") + "]=" + g.word() + " " + g.word() + ")"
	case 3:
		return n + "+=" + g.word()
	case 4:
		return n + "="
	default:
		return n + "=" + g.word()
	}
}

// simple is a command without others in it.
func (g *generator) simple() string {
	switch g.pick(16) {
	case 0, 1:
		return "echo " + g.words()
	case 2:
		return "printf " + g.of("%s", "'%s\\n'", "'%d'", "%s-%s", "'%02d'", "'%x'", "'%5s|'", "'%-3s|'", "'%b'", "'a\\tb'", "'%c'", "'%.2s'") + " " + g.words()
	case 3:
		return g.of("declare", "local", "export", "typeset") + g.of("", " -a", " -x", " -g") + " " + g.assignment()
	case 4:
		return "unset " + g.of("", "-v ", "-f ") + g.name()
	case 5:
		return g.test()
	case 6:
		return "read " + g.of("", "-r ", "-a ", "-ra ") + g.name() + g.of("", " y", " x y") + " <<< " + g.word()
	case 7:
		return g.of(":", "true", "false", "shift", "f", "f a b", "cd /nowhere", "wait", "pwd", "nosuch", "return 1", "break", "continue", "exit 1", "eval x=1", "set -- a b", "set -u", "let x=1") + g.of("", "", " "+g.word())
	case 8:
		return "mapfile -t " + g.name() + " <<< " + g.word()
	case 9:
		return g.assignment() + " " + g.assignment()
	case 10:
		return g.assignment() + " f " + g.word()
	case 11:
		return "((" + g.arithmetic() + "))"
	default:
		return g.assignment()
	}
}

func (g *generator) test() string {
	switch g.pick(8) {
	case 0:
		return "[ " + g.word() + g.of(" = ", " != ", " == ") + g.word() + " ]"
	case 1:
		return "[ " + g.of("-n ", "-z ", "-e ", "-f ", "-d ", "", "! ", "-s ", "! -n ") + g.word() + " ]"
	case 2:
		return "test " + g.word() + g.of(" -eq ", " -lt ", " -ge ", " -ne ") + g.word()
	case 3:
		return "[[ " + g.word() + g.of(" == ", " != ", " = ") + g.of(g.pattern(), g.word()) + " ]]"
	case 4:
		return "[[ " + g.word() + " =~ " + g.of("^6", `([0-9]+)\.([0-9]+)`, "a|b", "$x", `"."`, "^$", "[[:digit:]]+", ".*") + " ]]"
	case 5:
		return "[[ " + g.of("-n ", "-z ", "! -n ", "-f ", "") + g.word() + g.of("", " && -n $x", " || $x == y", " && ! ( $x < y )") + " ]]"
	case 6:
		return "[[ " + g.word() + g.of(" -eq ", " -lt ", " < ", " > ") + g.word() + " ]]"
	default:
		return "[ " + g.word() + g.of(" -a ", " -o ", " = ", " -gt ") + g.word() + g.of("", " -a -n x", " -o 1 -eq 1") + " ]"
	}
}

// list is some commands.
func (g *generator) list(separator string) string {
	all := []string{g.command()}
	for range g.pick(3) {
		all = append(all, g.command())
	}
	return strings.Join(all, separator)
}

// command is any command.
func (g *generator) command() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.deep() {
		return g.simple()
	}
	switch g.pick(20) {
	case 0, 1:
		return "if " + g.of(g.test(), g.simple()) + "; then " + g.list("; ") + g.of("", "; else "+g.simple(), "; elif "+g.test()+"; then "+g.simple()) + "; fi"
	case 2:
		return "case " + g.word() + " in " + g.of("", "(") + g.pattern() + ") " + g.command() + g.of(" ;;", ";&", " ;;&") + " " + g.pattern() + "|a) " + g.simple() + ";; *) " + g.simple() + g.of("", ";;") + " esac"
	case 3:
		return "for x in " + g.words() + "; do " + g.list("; ") + "; done"
	case 4:
		return "for ((i=0; i<" + g.of("3", "2", "x&&i<3") + "; i++)); do " + g.list("; ") + "; done"
	case 5:
		return "i=0; while [ $((i++)) -lt 2 ]; do " + g.list("; ") + "; done"
	case 6:
		return "f() { " + g.list("; ") + "; }; f " + g.words()
	case 7:
		return "( " + g.list("; ") + " )"
	case 8:
		return "{ " + g.list("; ") + "; }"
	case 9, 10:
		return g.simple() + g.of(" && ", " || ") + g.simple()
	case 11:
		return "! " + g.simple()
	case 12:
		return g.simple() + " | " + g.of("echo x", "true", "false", "printf y")
	case 13:
		g.here = append(g.here, g.of("a\nb", "$x", "`echo x`", `\$x \\ "`, "${MAKE} '$y'", ""))
		return "read -r " + g.name() + g.of(" <<E", " <<'E'", " <<-E")
	case 14:
		g.here = append(g.here, g.of("a\nb", "$x c", "1 2\n3 4", "a b"))
		return "while read -r x y; do " + g.list("; ") + "; done <<E"
	case 15:
		return g.simple() + g.of(" >/dev/null", " 2>/dev/null", " >/dev/null 2>&1", " </dev/null", " &>/dev/null")
	case 16:
		return ". $kernel_source_dir/.config; " + g.name() + "=$" + g.of("CONFIG_HZ", "CONFIG_CC_VERSION_TEXT", "CONFIG_LOCALVERSION")
	default:
		return g.simple()
	}
}

// conf is a whole file.
func (g *generator) conf() string {
	var b strings.Builder
	for len(g.data) > 0 {
		g.depth = 0
		b.WriteString(g.command() + g.of("\n", "\n", "\n", " # c\n"))
		for _, body := range g.here {
			fmt.Fprintf(&b, "%s\nE\n", body)
		}
		g.here = nil
	}
	return b.String()
}

// FuzzGenerated is FuzzLoad for shell text that is well formed.
func FuzzGenerated(f *testing.F) {
	for i := range byte(8) {
		var data []byte
		for j := range byte(24) {
			data = append(data, i*31+j*(2*i+7))
		}
		f.Add(data)
	}
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 200 {
			return
		}
		g := &generator{data: data}
		z.compare(t, g.conf())
	})
}
