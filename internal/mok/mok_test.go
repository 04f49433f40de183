// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/host"
)

const release = "6.1.0-50-amd64"

// machine is a scratch root and what Prepare said about it.
type machine struct {
	*testing.T
	dir string
	Request
	said []string
	runs []string
}

// newMachine has a kernel that knows signatures, its sign command, and room
// for a key.
func newMachine(t *testing.T) *machine {
	dir := t.TempDir()
	m := &machine{T: t, dir: dir}
	m.Paths = host.Paths{
		Temp: dir, InstallTree: dir + "/modules", SourceTree: dir + "/src", MOKDir: dir + "/dkms", ShimMOKDir: dir + "/shim",
		PortageConf: dir + "/make.conf", KbuildDir: dir + "/kbuild-", Proc: dir + "/proc",
	}
	m.Kernel, m.Try = release, "true"
	m.KernelSourceDir = dir + "/modules/" + release + "/build"
	m.KernelConfigFile = m.write("modules/"+release+"/build/.config", "CONFIG_MODULE_SIG_HASH=\"sha512\"\n", 0o644)
	m.write("modules/"+release+"/build/scripts/sign-file", "#!/bin/sh\n", 0o755)
	m.LookPath = func(string) (string, error) { return "", exec.ErrNotFound }
	m.Request.Run = func(_ context.Context, argv, env []string) error {
		m.runs = append(m.runs, strings.Join(append(slices.Clone(env), argv...), " "))
		return nil
	}
	for _, d := range []string{"dkms", "shim"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *machine) write(name, text string, mode os.FileMode) string {
	m.Helper()
	path := filepath.Join(m.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		m.Fatal(err)
	}
	return path
}

func (m *machine) read(name string) string {
	m.Helper()
	data, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		m.Fatal(err)
	}
	return string(data)
}

func (m *machine) say(line string) { m.said = append(m.said, strings.ReplaceAll(line, m.dir+"/", "")) }

// prepare runs Prepare with a fresh record.
func (m *machine) prepare() *Plan {
	m.Helper()
	m.said, m.runs = nil, nil
	plan, err := Prepare(m.Context(), m.Request, m.say)
	if err != nil {
		m.Fatal(err)
	}
	return plan
}

// unsigned checks that nothing is signed, for a reason with that text.
func (m *machine) unsigned(reason string) {
	m.Helper()
	plan := m.prepare()
	last := ""
	if len(m.said) > 0 {
		last = m.said[len(m.said)-1]
	}
	if plan != nil || !strings.Contains(strings.ToLower(last), strings.ToLower(reason)) || !strings.HasSuffix(last, ", modules won't be signed") || strings.Contains(last, "\n") {
		m.Errorf("Prepare = %+v and said %q, want a reason with %q", plan, m.said, reason)
	}
}

func (m *machine) wantSaid(lines ...string) {
	m.Helper()
	if !slices.Equal(m.said, lines) {
		m.Errorf("said\n%s\nwant\n%s", strings.Join(m.said, "\n"), strings.Join(lines, "\n"))
	}
}

const (
	signCommand = "Sign command: modules/" + release + "/build/scripts/sign-file"
	signingKey  = "Signing key: dkms/mok.key"
	publicCert  = "Public certificate (MOK): dkms/mok.pub"
)

func TestPrepareMakesKeyOnce(t *testing.T) {
	m := newMachine(t)
	plan := m.prepare()
	if plan == nil || plan.Hash != "sha512" || plan.SignFile != m.KernelSourceDir+"/scripts/sign-file" || plan.Key != m.dir+"/dkms/mok.key" ||
		plan.Cert != m.dir+"/dkms/mok.pub" || plan.Signer == nil || plan.Signer.Embed {
		t.Fatalf("Prepare = %+v", plan)
	}
	m.wantSaid(signCommand, signingKey, publicCert, "Making a key and its self-signed certificate...")
	key, cert := m.read("dkms/mok.key"), m.read("dkms/mok.pub")
	if plan := m.prepare(); plan == nil || m.read("dkms/mok.key") != key || m.read("dkms/mok.pub") != cert {
		t.Error("a second Prepare changed the key or its certificate")
	}
	m.wantSaid(signCommand, signingKey, publicCert)
	if entries, err := os.ReadDir(m.Paths.MOKDir); err != nil || len(entries) != 2 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestKernelSaysNo(t *testing.T) {
	m := newMachine(t)
	m.Try = "false"
	m.unsigned("try_sign_modules")
	m.Try = "true"
	m.write("modules/"+release+"/build/.config", "# CONFIG_MODULE_SIG is not set\n", 0o644)
	m.unsigned("no support for module signatures")
	m.KernelConfigFile = m.dir + "/none"
	m.unsigned("no kernel configuration none")
	m.KernelConfigFile = m.dir
	m.unsigned("Reading the kernel's configuration")
}

func TestNotInChrootIsTheDefault(t *testing.T) {
	m := newMachine(t)
	m.Environ = []string{"FAKECHROOT=true", "FAKECHROOT_BASE=/x", "LD_PRELOAD=libfakechroot.so"}
	for _, try := range []string{"", "not_in_chroot", "yes"} {
		m.Try = try
		m.unsigned("chroot")
	}
	m.Try = "true"
	if m.prepare() == nil {
		t.Error("try_sign_modules=true doesn't sign in a chroot")
	}
}

func TestCancelled(t *testing.T) {
	m := newMachine(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if plan, err := Prepare(ctx, m.Request, m.say); plan != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("Prepare = %+v, %v", plan, err)
	}
	if _, err := os.Stat(m.dir + "/dkms/mok.key"); err == nil {
		t.Error("a key was made")
	}
}

func TestSignFile(t *testing.T) {
	const inHeaders = "modules/" + release + "/build/scripts/sign-file"
	const kbuild = "kbuild-6.1/scripts/sign-file"
	const ubuntu = "src/linux-headers-" + release + "/scripts/sign-file"
	const gentoo = "src/linux-" + release + "/scripts/sign-file"
	for _, tt := range []struct{ distro, have, configured, want string }{
		{"debian", "", "", inHeaders},
		{"debian", kbuild, "", kbuild},
		{"ubuntu", "", "", inHeaders},
		{"ubuntu", ubuntu, "", ubuntu},
		{"ubuntu debian", "bin/kmodsign", "", "bin/kmodsign"},
		{"gentoo", gentoo, "", gentoo},
		{"fedora", kbuild, "", inHeaders},
		{"debian", kbuild, "conf", "conf"},
	} {
		m := newMachine(t)
		m.Distro = tt.distro
		m.SignFile = tt.configured
		if tt.have != "" {
			m.write(tt.have, "", 0o755)
		}
		m.LookPath = func(name string) (string, error) {
			return m.dir + "/bin/" + name, existing(m.dir + "/bin/" + name)
		}
		if got := strings.TrimPrefix(m.signFile(), m.dir+"/"); got != tt.want {
			t.Errorf("%+v: sign command is %q", tt, got)
		}
	}
}

func existing(path string) error {
	_, err := os.Stat(path)
	return err
}

func TestSignFileBesideOtherHeaders(t *testing.T) {
	m := newMachine(t)
	if err := os.Remove(m.signFile()); err != nil {
		t.Fatal(err)
	}
	m.unsigned("no executable sign command")
	m.wantSaid(signCommand, "There is no executable sign command modules/"+release+"/build/scripts/sign-file, modules won't be signed")
	m.KernelSourceDir = m.dir + "/headers"
	m.write("headers/scripts/sign-file", "", 0o755)
	if plan := m.prepare(); plan == nil || plan.SignFile != m.dir+"/headers/scripts/sign-file" {
		t.Errorf("Prepare = %+v, said %q", plan, m.said)
	}
	m.SignFile = m.write("plain", "", 0o644)
	m.unsigned("no executable sign command")
}

func TestConfiguredPair(t *testing.T) {
	m := newMachine(t)
	m.Distro = "ubuntu"
	m.Key, m.Cert = m.dir+"/dkms/own.key", m.dir+"/dkms/own.pub"
	plan := m.prepare()
	if plan == nil || plan.Key != m.Key || plan.Cert != m.Cert {
		t.Fatalf("Prepare = %+v, said %q", plan, m.said)
	}
	if len(m.runs) != 0 {
		t.Errorf("ran %q", m.runs)
	}
}

func TestNowhereToPutAKey(t *testing.T) {
	m := newMachine(t)
	m.Paths.MOKDir = m.dir + "/none"
	m.unsigned("none isn't a writable directory")
	if err := GenerateMOK(t.Context(), m.Request, m.say); err == nil {
		t.Error("GenerateMOK had no error")
	}
	m.Paths.MOKDir = m.write("file", "", 0o644)
	m.unsigned("file isn't a writable directory")
	m.Paths.MOKDir = m.dir + "/dkms"
	m.Key, m.Cert = m.dir+"/dkms/both", m.dir+"/dkms/both"
	m.unsigned("no file dkms/both with a key and its certificate")
}

func TestGenerateMOK(t *testing.T) {
	m := newMachine(t)
	m.KernelConfigFile, m.Try = "", "false"
	for range 2 {
		if err := GenerateMOK(t.Context(), m.Request, m.say); err != nil {
			t.Fatal(err)
		}
	}
	m.wantSaid(signingKey, publicCert, "Making a key and its self-signed certificate...", signingKey, publicCert)
}
