// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TestPackageDocs wants one comment "Package x ..." per package, "Command x"
// for commands.
func TestPackageDocs(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		want := "Package " + s.ast.Name.Name + " "
		if s.ast.Name.Name == "main" {
			want = "Command " + filepath.Base(s.dir()) + " "
		}
		documented[s.dir()] = documented[s.dir()] || strings.HasPrefix(s.ast.Doc.Text(), want)
	}
	for _, dir := range sortedKeys(documented) {
		if !documented[dir] {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// TestNoVagueNames keeps packages out that are named after nothing.
func TestNoVagueNames(t *testing.T) {
	for _, s := range sources(t) {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "misc"}, s.ast.Name.Name) {
			t.Errorf("%s: package %s says nothing of what it has", s.path, s.ast.Name.Name)
		}
	}
}

// TestLicence wants the SPDX line in every file of code.
func TestLicence(t *testing.T) {
	const line = "SPDX-License-Identifier: Apache-2.0"
	for _, path := range files(t) {
		text := read(t, path)
		code := slices.Contains([]string{".go", ".sh", ".bash", ".fish"}, filepath.Ext(path)) ||
			strings.HasPrefix(text, "#!") || strings.HasPrefix(path, "completions/") || path == "Makefile"
		if strings.Contains(path, "testdata") || !code {
			continue
		}
		head := strings.Join(strings.SplitN(text, "\n", 4)[:min(3, strings.Count(text, "\n"))], "\n")
		if !strings.Contains(head, line) {
			t.Errorf("%s has no line %q at its top", path, line)
		}
	}
}

// TestErrorTexts checks how errors begin: the act and the object, lower case,
// none of the words that every error has in common.
func TestErrorTexts(t *testing.T) {
	breaches := map[string]string{}
	for _, s := range program(t) {
		ast.Inspect(s.ast, func(n ast.Node) bool {
			text, ok := errorText(n)
			if !ok {
				return true
			}
			if why := badError(text); why != "" {
				breaches[s.path+" "+text] = s.at(n) + ": the error " + strconv.Quote(text) + " " + why
			}
			return true
		})
	}
	exceptions{}.hold(t, breaches)
}

// errorText returns the literal that a call makes an error from.
func errorText(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	arg := -1
	switch callee(call) {
	case "errors.New", "fmt.Errorf", "usageError":
		arg = 0
	case "failf":
		arg = 1
	}
	if arg < 0 || len(call.Args) <= arg {
		return "", false
	}
	lit, ok := call.Args[arg].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

func badError(text string) string {
	for _, noise := range []string{"failed to", "unable to", "could not", "cannot ", "error "} {
		if strings.HasPrefix(strings.ToLower(text), noise) {
			return "begins with " + strconv.Quote(noise)
		}
	}
	first, _, _ := strings.Cut(text, " ")
	r, size := utf8.DecodeRuneInString(first)
	if !unicode.IsUpper(r) || size == len(first) {
		return ""
	}
	for _, c := range first[size:] {
		if unicode.IsLower(c) {
			return "begins with a capital"
		}
	}
	return "" // a name such as PACKAGE_NAME
}

// callee returns the name of what is called: "pkg.Func" or "Func".
func callee(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
	}
	return ""
}

// TestNoTraces keeps the machine that the project was written on out of it:
// the directories that only it has at its top.
func TestNoTraces(t *testing.T) {
	usual := []string{
		"bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "lost+found", "media", "mnt",
		"nix", "opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var", "kernel", "extra", "updates", "build", "source",
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(usual, e.Name()) {
			own = append(own, regexp.QuoteMeta(e.Name()))
		}
	}
	if len(own) == 0 {
		return
	}
	trace := regexp.MustCompile(`(^|[^\w./$})>*-])/(` + strings.Join(own, "|") + `)/`)
	for _, path := range files(t) {
		for i, line := range strings.Split(read(t, path), "\n") {
			if trace.MatchString(line) {
				t.Errorf("%s:%d names a directory of this machine: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	}
}

// TestPrefix keeps the opening of errors, which programs look for, in the faces.
func TestPrefix(t *testing.T) {
	for _, s := range program(t) {
		if dir := s.dir(); dir != filepath.Join("internal", "cli") && dir != filepath.Join("internal", "hubcli") && strings.Contains(s.text, `Error! `) {
			t.Errorf("%s writes \"Error!\"; showing failures is cli's", s.path)
		}
	}
}
