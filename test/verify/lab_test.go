// SPDX-License-Identifier: Apache-2.0

// Package verify_test holds objects and kernels of the lab against each other:
// real kernels' own objects, which all must be accepted, and a module built by
// dkms for each kernel, which only its own may accept.
package verify_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/abi"
	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/test/lab"
)

// machine is where one kernel's files are in the lab.
type machine struct {
	release string
	headers string // "" if the lab has none
	root    string // where its image and objects are, if the lab has them
	image   bool
}

// machines returns the kernels of the lab: old, new, previous and cloud.
func machines(t testing.TB) map[string]machine {
	t.Helper()
	all := map[string]machine{}
	root, extra := lab.KernelRoot(t), lab.Path(t, "verify")
	_, newer := lab.Kernels(t)
	all["new"] = machine{newer, filepath.Join(root, "usr/src/linux-headers-"+newer), root, true}
	list, err := os.ReadFile(lab.Path(t, "verify", "kernels"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		which, release, _ := strings.Cut(strings.TrimSpace(line), " ")
		headers := filepath.Join(extra, "usr/src/linux-headers-"+release)
		if which == "old" {
			headers = filepath.Join(root, "usr/src/linux-headers-"+release)
		}
		all[which] = machine{release, headers, extra, which != "previous"}
	}
	return all
}

// open returns the kernel with its headers, or as if it had none.
func (m machine) open(headers bool) *abi.Kernel {
	p := host.Default()
	p.InstallTree, p.Boot = filepath.Join(m.root, "lib/modules"), filepath.Join(m.root, "boot")
	o := kernel.Options{SourceDir: m.headers}
	if !headers {
		o.SourceDir = filepath.Join(m.root, "no-headers")
	}
	return abi.Open(p, kernel.Find(p, m.release, "x86_64", o))
}

// ways returns the kernel in all the ways in which the lab has it.
func (m machine) ways() map[string]*abi.Kernel {
	all := map[string]*abi.Kernel{"with headers": m.open(true)}
	if m.image {
		all["without headers"] = m.open(false)
	}
	return all
}
