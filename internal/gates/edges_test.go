// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"go/ast"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestEdges holds what may touch the world beyond the program.
func TestEdges(t *testing.T) {
	for _, s := range program(t) {
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			inRun := s.dir() == filepath.Join("internal", "run")
			switch name := x.Name + "." + sel.Sel.Name; name {
			case "exec.Command", "exec.CommandContext", "exec.Cmd", "os.StartProcess", "syscall.Exec", "syscall.ForkExec", "unix.Exec":
				if !inRun {
					t.Errorf("%s: %s; commands are started by internal/run only", s.at(n), name)
				}
			case "os.Exit", "log.Fatal", "log.Fatalf":
				if !strings.HasPrefix(s.path, "cmd") {
					t.Errorf("%s: %s; only a command's main may end the process", s.at(n), name)
				}
			}
			return true
		})
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init(); what a package needs is made by those who use it", s.at(f))
			}
		}
	}
}

// machinePath matches the places of a machine that dkms works with.
const machinePath = `(^|[^\w.>}-])/(lib/modules|usr/lib/modules|proc|sys|boot|etc|usr/src|var/lib)(/|\W|$)`

// TestMachinePaths keeps all places of a machine in internal/host.
func TestMachinePaths(t *testing.T) {
	path := regexp.MustCompile(machinePath)
	breaches := map[string]string{}
	for _, s := range program(t) {
		if s.dir() == filepath.Join("internal", "host") {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil || !path.MatchString(text) {
				return true
			}
			breaches[s.path+" "+text] = s.at(n) + ": " + lit.Value + " is a place of the machine; it belongs into internal/host"
			return true
		})
	}
	exceptions{}.hold(t, breaches)
}

// TestNoVariables keeps state out of packages: a variable at their top is an
// error value, a compiled expression, a value that is made when it is first needed,
// or a table, which nobody changes.
func TestNoVariables(t *testing.T) {
	known := exceptions{
		"cmd/dkms.version":        "set by the linker when a release is built",
		"cmd/dkms-hub.version":    "set by the linker when a release is built",
		"internal/hub/web.files":  "set by the compiler",
		"internal/cli.asideCodes": "part of verbTable", "internal/cli.buildCodes": "part of verbTable",
		"internal/cli.buildOptions": "part of verbTable", "internal/cli.commonOptions": "part of verbTable",
		"internal/cli.hookCodes": "part of verbTable", "internal/cli.kernelOptions": "part of verbTable",
		"internal/cli.selectOptions":  "part of verbTable",
		"internal/cli.packageOptions": "part of verbTable", "internal/cli.packageCodes": "part of verbTable",
		"internal/plan.kindNames": "the names of constants",
	}
	breaches := map[string]string{}
	for _, s := range program(t) {
		for _, d := range s.ast.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.VAR {
				continue
			}
			for _, spec := range decl.Specs {
				v := spec.(*ast.ValueSpec)
				for i, name := range v.Names {
					if !constant(v, i, name.Name) {
						breaches[s.dir()+"."+name.Name] = s.at(name) + ": the package has a variable " + name.Name
					}
				}
			}
		}
	}
	known.hold(t, breaches)
}

// constant reports whether a variable is one of the kinds that nobody changes.
func constant(v *ast.ValueSpec, i int, name string) bool {
	if name == "_" || strings.HasSuffix(name, "Table") {
		return true
	}
	if i >= len(v.Values) {
		return false
	}
	call, ok := v.Values[i].(*ast.CallExpr)
	if !ok {
		return false
	}
	switch callee(call) {
	case "errors.New", "fmt.Errorf", "regexp.MustCompile", "regexp.MustCompilePOSIX", "sync.OnceValue":
		return true
	}
	return false
}
