// SPDX-License-Identifier: Apache-2.0

// Package boot tests the package internal/boot against the tools of GRUB and
// systemd-boot: menus that they wrote, changes that they carry out, and what
// they say of the result.
package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dkms-go/internal/boot"
	"dkms-go/internal/host"
	"dkms-go/test/lab"
)

// TestMain makes this program a tool that is run inside a root: with STEP in
// the environment it carries out one call there.
func TestMain(m *testing.M) {
	step := os.Getenv("STEP")
	if step == "" {
		os.Exit(m.Run())
	}
	out, err := carryOut(step, os.Getenv("RELEASE"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	text, _ := json.Marshal(out)
	fmt.Println(string(text))
}

func carryOut(step, release string) (any, error) {
	ctx, p := context.Background(), host.Default()
	p.EFIVars = "/etc/efivars" // those of the test, not the machine's
	switch step {
	case "next":
		return boot.Next(p)
	case "pin":
		return boot.Pin(ctx, p, release)
	case "unpin":
		return boot.Unpin(ctx, p)
	case "pinned":
		return boot.Pinned(p)
	}
	return nil, fmt.Errorf("no step %q", step)
}

// machine is a root with this program in it.
type machine struct {
	*lab.Root
	t            *testing.T
	older, newer string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{Root: lab.Scratch(t), t: t}
	m.older, m.newer = lab.Kernels(t)
	m.AddBoot()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lab.MustExec(t, "cp", self, m.Path("usr/bin/step"))
	return m
}

// try runs one call in the root.
func (m *machine) try(step, release string) lab.Result {
	m.t.Helper()
	return m.Run("env", "STEP="+step, "RELEASE="+release, "/usr/bin/step")
}

// do is try for a call that succeeds, and decodes what it returned.
func do[T any](m *machine, step, release string) T {
	m.t.Helper()
	r := m.try(step, release)
	var out T
	if r.Code != 0 {
		m.t.Fatalf("%s %s: %s", step, release, r.Stderr)
	}
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil {
		m.t.Fatalf("%s %s: %q: %v", step, release, r.Stdout, err)
	}
	return out
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	path = m.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(path string) string {
	m.t.Helper()
	data, err := os.ReadFile(m.Path(path))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(data)
}

// kernel puts the image, configuration and an initramfs of a release into the
// boot directory; where the lab has none, those of the newer kernel.
func (m *machine) kernel(release string) {
	m.t.Helper()
	for _, name := range []string{"vmlinuz-", "config-"} {
		if release != m.newer {
			lab.MustExec(m.t, "cp", m.Path("boot", name+m.newer), m.Path("boot", name+release))
		}
	}
	m.write("boot/initrd.img-"+release, "initramfs")
}

// wantNext checks what boots next, and what boots always.
func (m *machine) wantNext(next, always string) boot.Choice {
	m.t.Helper()
	c := do[boot.Choice](m, "next", "")
	if c.Release != next || c.Default != always {
		m.t.Fatalf("next is %+v, want %s, and always %s", c, next, always)
	}
	return c
}
