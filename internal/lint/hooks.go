// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"dkms-go/internal/conf"
)

// Script is a script that a conf names.
type Script struct {
	Directive string
	// File is its path below the module's directory.
	File string
}

// Scripts lists the scripts that a conf names, as far as they may be in the
// module's directory.
func Scripts(m *conf.Module) []Script {
	var list []Script
	if m == nil {
		return nil
	}
	for _, d := range []struct{ name, value string }{
		{"PRE_BUILD", m.PreBuild}, {"POST_BUILD", m.PostBuild}, {"POST_ADD", m.PostAdd},
		{"PRE_INSTALL", m.PreInstall}, {"POST_INSTALL", m.PostInstall}, {"POST_REMOVE", m.PostRemove},
	} {
		words := strings.Fields(d.value)
		if len(words) > 1 && slices.Contains([]string{"sh", "bash", "/bin/sh", "/bin/bash"}, words[0]) {
			words = words[1:]
		}
		if len(words) == 0 || path.IsAbs(words[0]) {
			continue
		}
		if file := path.Clean(words[0]); file != ".." && !strings.HasPrefix(file, "../") {
			list = append(list, Script{d.name, file})
		}
	}
	return list
}

// scripts looks at the scripts of the conf.
func (c *checker) scripts() {
	for _, s := range Scripts(c.Module) {
		line := c.lineOf(s.Directive, -1)
		switch {
		case !c.has(s.File):
			c.add("script", ConfFile, line, "%s names %s, which is not there", s.Directive, s.File)
			continue
		case !c.Executable[s.File]:
			c.add("script", s.File, 0, "%s names it, and it may not be executed", s.Directive)
		}
		text := c.Texts[s.File]
		if !shell(text) {
			continue
		}
		stmts, _ := conf.Statements(text)
		c.unamesIn(s.File, 0, stmts)
		for _, stmt := range stmts {
			syntax.Walk(stmt, func(n syntax.Node) bool {
				switch n := n.(type) {
				case *syntax.CallExpr:
					c.scriptCall(s, n)
				case *syntax.Redirect:
					if writes(n.Op) && n.Word != nil {
						c.write(s, int(n.Pos().Line()), plain(n.Word))
					}
				}
				return true
			})
		}
	}
}

// shell reports whether a script is for a shell.
func shell(text string) bool {
	line, _, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(line, "#!") {
		return text != "" && !strings.ContainsRune(text, 0)
	}
	for _, w := range strings.Fields(line[2:]) {
		if base := path.Base(w); base == "sh" || base == "bash" || base == "dash" || base == "ksh" {
			return true
		}
	}
	return false
}

func writes(op syntax.RedirOperator) bool {
	return slices.Contains([]syntax.RedirOperator{syntax.RdrOut, syntax.AppOut, syntax.RdrAll, syntax.AppAll, syntax.RdrClob}, op)
}

// scriptCall looks at one command of a script.
func (c *checker) scriptCall(s Script, call *syntax.CallExpr) {
	var words []string
	for _, w := range call.Args {
		words = append(words, plain(w))
	}
	for len(words) > 1 && slices.Contains([]string{"sudo", "env", "exec", "command", "nice"}, path.Base(words[0])) {
		words = words[1:]
	}
	if len(words) == 0 {
		return
	}
	line := int(call.Pos().Line())
	if what := network(words); what != "" {
		c.add("network", s.File, line, "%s needs the network, in %s", what, s.Directive)
	}
	for _, dest := range written(words) {
		c.write(s, line, dest)
	}
	if p := path.Base(words[0]); slices.Contains([]string{"modprobe", "insmod", "rmmod", "depmod"}, p) {
		c.foreignWrite(s, line, p+" changes the system")
	}
}

// network names the part of a command that needs the network, "" for none.
func network(words []string) string {
	program := path.Base(words[0])
	second := ""
	for _, w := range words[1:] {
		if !strings.HasPrefix(w, "-") {
			second = w
			break
		}
	}
	with := map[string][]string{
		"git": {"clone", "fetch", "pull", "submodule", "ls-remote"}, "pip": {"install", "download"}, "pip3": {"install", "download"},
		"npm": {"install", "ci"}, "go": {"get", "install", "mod"}, "cargo": {"install", "fetch"}, "gem": {"install"},
		"apt": {"install", "update", "upgrade"}, "apt-get": {"install", "update", "upgrade", "source"}, "dnf": {"install", "update"},
		"yum": {"install", "update"}, "zypper": {"install", "in"}, "snap": {"install"}, "svn": {"checkout", "co", "update"},
	}
	switch {
	case slices.Contains([]string{"curl", "wget", "ssh", "scp", "sftp", "ftp", "nc", "ncat", "telnet", "aria2c"}, program):
		return program
	case slices.Contains(with[program], second):
		return program + " " + second
	case program == "rsync" && slices.ContainsFunc(words[1:], func(w string) bool { return strings.Contains(w, ":") }):
		return program
	case program == "pacman" && slices.ContainsFunc(words[1:], func(w string) bool { return strings.HasPrefix(w, "-S") }):
		return program + " -S"
	}
	return ""
}

// written lists the places that a command writes to, as far as its arguments tell.
func written(words []string) []string {
	var args []string
	inPlace, target := false, ""
	for i, w := range words[1:] {
		switch {
		case strings.HasPrefix(w, "of="):
			args = append(args, strings.TrimPrefix(w, "of="))
		case w == "-t" && i+2 < len(words):
			target = words[i+2]
		case strings.HasPrefix(w, "--target-directory="):
			target = strings.TrimPrefix(w, "--target-directory=")
		case strings.HasPrefix(w, "-i") || w == "--in-place":
			inPlace = true
		case !strings.HasPrefix(w, "-"):
			args = append(args, w)
		}
	}
	switch program := path.Base(words[0]); {
	case target != "":
		return []string{target}
	case slices.Contains([]string{"cp", "ln", "install"}, program) && len(args) > 1:
		return args[len(args)-1:]
	case slices.Contains([]string{"mv", "rm", "rmdir", "mkdir", "touch", "tee", "chmod", "chown", "truncate"}, program), program == "sed" && inPlace:
		return args
	case program == "dd":
		return slices.DeleteFunc(args, func(a string) bool { return strings.HasPrefix(a, "if=") })
	}
	return nil
}

// write notes a place that is outside of the directory in which a script runs. What
// begins with a variable may be anywhere.
func (c *checker) write(s Script, line int, dest string) {
	switch {
	case strings.HasPrefix(dest, "/dev/"), dest == "/tmp", strings.HasPrefix(dest, "/tmp/"):
	case path.IsAbs(dest), strings.HasPrefix(path.Clean(dest), "../"), strings.HasPrefix(dest, "~"):
		c.foreignWrite(s, line, "it writes to "+dest)
	}
}

// foreignWrite is worse in scripts of a build than in those of an installation.
func (c *checker) foreignWrite(s Script, line int, what string) {
	rule := "installs"
	if s.Directive == "PRE_BUILD" || s.Directive == "POST_BUILD" {
		rule = "outside"
	}
	c.add(rule, s.File, line, "%s, in %s", what, s.Directive)
}
