// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// Commands for progress lines that many scripts look for. They look at the
// last command, for the older kernel.

func (m *machine) kernelAndArch() string { return m.kernel + " (" + arch + ")" }

func (m *machine) installed(object string) string {
	return "/lib/modules/" + m.kernel + "/updates/dkms/" + object + ".ko"
}

// adds looks for the line about the source link.
func (m *machine) adds(ts *testscript.TestScript, _ bool, args []string) {
	for _, id := range args {
		m.says(ts, false, []string{"Creating symlink " + dkmsTree + "/" + id + "/source -> /usr/src/" + strings.Replace(id, "/", "-", 1)})
		m.link(ts, false, []string{dkmsTree + "/" + id + "/source", "/usr/src/" + strings.Replace(id, "/", "-", 1)})
	}
}

// installs looks for the lines about objects, and the objects.
func (m *machine) installs(ts *testscript.TestScript, _ bool, args []string) {
	for _, object := range args {
		m.says(ts, false, []string{"Installing " + m.installed(object)})
		if _, err := os.Stat(m.path(m.installed(object))); err != nil {
			ts.Fatalf("%v", err)
		}
	}
}

// uninstalls looks for the lines about a module that was active, and for its
// objects to be gone.
func (m *machine) uninstalls(ts *testscript.TestScript, _ bool, args []string) {
	lines := []string{"Module " + args[0] + " for kernel " + m.kernelAndArch() + ":", "Before uninstall, this module version was ACTIVE on this kernel."}
	for _, object := range args[1:] {
		lines = append(lines, "Deleting "+m.installed(object))
		if _, err := os.Lstat(m.path(m.installed(object))); err == nil {
			ts.Fatalf("%s is still there", m.installed(object))
		}
	}
	m.says(ts, false, lines)
}

// skips looks for the lines about what needs no undoing: "installed", "built".
func (m *machine) skips(ts *testscript.TestScript, _ bool, args []string) {
	var lines []string
	for _, state := range args[1:] {
		lines = append(lines, "Module "+args[0]+" is not "+state+" for kernel "+m.kernelAndArch()+". Skipping...")
	}
	m.says(ts, false, lines)
}

// deletes looks for the line about the end of a module.
func (m *machine) deletes(ts *testscript.TestScript, _ bool, args []string) {
	for _, id := range args {
		m.says(ts, false, []string{"Deleting module " + id + " completely from the DKMS tree."})
		if _, err := os.Lstat(m.path(dkmsTree, id)); err == nil {
			ts.Fatalf("%s is still there", id)
		}
	}
}

// attempts looks for autoinstall's lines about modules, in this order.
func (m *machine) attempts(ts *testscript.TestScript, _ bool, args []string) {
	var lines []string
	for _, id := range args {
		lines = append(lines, "Autoinstall of module "+id+" for kernel "+m.kernelAndArch())
	}
	m.says(ts, false, lines)
	if n := strings.Count(m.stdout, "Autoinstall of module "); n != len(args) {
		ts.Fatalf("%d modules were attempted, want %d", n, len(args))
	}
}

// outcome looks for autoinstall's line of "succeeded", "skipped" or "failed"
// modules.
func (m *machine) outcome(ts *testscript.TestScript, _ bool, args []string) {
	words := map[string]string{"succeeded": "succeeded for", "skipped": "was skipped for", "failed": "failed for"}[args[0]]
	m.says(ts, false, []string{"Autoinstall on " + m.kernel + " " + words + " module(s) " + strings.Join(args[1:], " ") + "."})
}
