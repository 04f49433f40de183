// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// The budgets. Lines count from the func keyword to the closing brace.
const (
	maxLines      = 100
	maxComplexity = 20
	maxParameters = 5
	maxNesting    = 4
	maxFile       = 500
)

// TestBudgets measures the functions and files of the program.
func TestBudgets(t *testing.T) {
	const writers = "takes a context and the two streams besides what it is about"
	known := exceptions{
		"internal/action/add.go addStep parameters":     writers,
		"internal/action/engine.go loadFile parameters": writers,
		"internal/build/log.go Block parameters":        writers,
		"internal/install/install.go Script parameters": writers,
		"internal/conf/deny.go callDiffers complexity":  "one case per builtin of the shell",
		"internal/conf/deny.go nodeDiffers complexity":  "one case per kind of node",
	}
	breaches := map[string]string{}
	for _, s := range program(t) {
		if n := strings.Count(s.text, "\n"); n > maxFile {
			breaches[s.path] = fmt.Sprintf("%s has %d lines, at most %d are allowed", s.path, n, maxFile)
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			for what, n := range measure(s, f) {
				if n[0] > n[1] {
					name := s.path + " " + f.Name.Name + " " + what
					breaches[name] = fmt.Sprintf("%s: %s has %s %d, at most %d is allowed", s.at(f), f.Name.Name, what, n[0], n[1])
				}
			}
		}
	}
	known.hold(t, breaches)
}

// measure returns a function's sizes, each with its budget.
func measure(s source, f *ast.FuncDecl) map[string][2]int {
	lines := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1
	return map[string][2]int{
		"lines":      {lines, maxLines},
		"complexity": {complexity(f.Body), maxComplexity},
		"parameters": {f.Type.Params.NumFields(), maxParameters},
		"nesting":    {nesting(f.Body, 0), maxNesting},
	}
}

// complexity is McCabe's number: one more than the decisions.
func complexity(body ast.Node) int {
	n := 1
	ast.Inspect(body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil {
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// nesting is the depth of the deepest statement among if, for, switch and
// select. An else-if is as deep as its if.
func nesting(node ast.Node, depth int) int {
	deepest := depth
	ast.Inspect(node, func(n ast.Node) bool {
		if n == node {
			return true
		}
		switch n := n.(type) {
		case *ast.IfStmt:
			deepest = max(deepest, nestedIf(n, depth+1))
			return false
		case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
			deepest = max(deepest, nesting(n, depth+1))
			return false
		case *ast.FuncLit:
			deepest = max(deepest, nesting(n, depth))
			return false
		}
		return true
	})
	return deepest
}

func nestedIf(s *ast.IfStmt, depth int) int {
	deepest := nesting(s.Body, depth)
	switch e := s.Else.(type) {
	case *ast.IfStmt:
		deepest = max(deepest, nestedIf(e, depth))
	case *ast.BlockStmt:
		deepest = max(deepest, nesting(e, depth))
	}
	return deepest
}
