// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	shimKey  = "Signing key: shim/MOK.priv"
	shimCert = "Public certificate (MOK): shim/MOK.der"
)

func withPolicyTool(m *machine) {
	m.Distro = "ubuntu"
	m.LookPath = func(name string) (string, error) {
		if name == "update-secureboot-policy" {
			return "/sbin/" + name, nil
		}
		return "", os.ErrNotExist
	}
}

func TestUbuntuKeyExists(t *testing.T) {
	m := newMachine(t)
	m.Distro = "ubuntu"
	if err := generate(m.dir+"/shim/MOK.priv", m.dir+"/shim/MOK.der"); err != nil {
		t.Fatal(err)
	}
	if m.prepare() == nil {
		t.Error("nothing is signed")
	}
	m.wantSaid(signCommand, shimKey, shimCert)
}

func TestUbuntuWithoutTool(t *testing.T) {
	m := newMachine(t)
	m.Distro = "ubuntu"
	m.unsigned("no update-secureboot-policy")
	m.write("shim/MOK.der", "alone", 0o644)
	m.unsigned("the certificate shim/MOK.der has no key shim/MOK.priv")
}

func TestUbuntuToolMakesKey(t *testing.T) {
	m := newMachine(t)
	withPolicyTool(m)
	note := m.Request.Run
	m.Request.Run = func(ctx context.Context, argv, env []string) error {
		if argv[1] == "--new-key" {
			if err := generate(m.dir+"/shim/MOK.priv", m.dir+"/shim/MOK.der"); err != nil {
				t.Error(err)
			}
		}
		return note(ctx, argv, env)
	}
	if m.prepare() == nil {
		t.Errorf("nothing is signed: %q", m.said)
	}
	if got := strings.Join(m.runs, "|"); got != "SHIM_NOTRIGGER=y /sbin/update-secureboot-policy --new-key|/sbin/update-secureboot-policy --enroll-key" {
		t.Errorf("ran %s", got)
	}
}

// As upstream, a tool that makes nothing leaves the making to dkms.
func TestUbuntuToolMakesNothing(t *testing.T) {
	m := newMachine(t)
	withPolicyTool(m)
	if plan := m.prepare(); plan == nil || !isFile(plan.Key) || !isFile(plan.Cert) {
		t.Errorf("Prepare = %+v, said %q", plan, m.said)
	}
}

func TestUbuntuKeyIsKept(t *testing.T) {
	m := newMachine(t)
	withPolicyTool(m)
	if err := generate(m.dir+"/shim/MOK.priv", m.dir+"/gone"); err != nil {
		t.Fatal(err)
	}
	key := m.read("shim/MOK.priv")
	m.unsigned("the key shim/MOK.priv has no certificate shim/MOK.der")
	if m.read("shim/MOK.priv") != key || len(m.runs) > 0 {
		t.Errorf("the key was replaced, or %q was run", m.runs)
	}
}

func TestGentoo(t *testing.T) {
	for name, tt := range map[string]struct {
		environ         []string
		makeConf, kconf string
		key, cert       string // "" is the default
	}{
		"default":      {},
		"environment":  {environ: []string{"MODULES_SIGN_KEY=K", "MODULES_SIGN_CERT=C"}, makeConf: "MODULES_SIGN_KEY=no\n", key: "K", cert: "C"},
		"make.conf":    {makeConf: "# x\nMODULES_SIGN_KEY=\"K\"\nMODULES_SIGN_CERT=C\n", kconf: "both.pem", key: "K", cert: "C"},
		"mixed":        {environ: []string{"MODULES_SIGN_KEY=K"}, makeConf: "MODULES_SIGN_CERT='C'\n", key: "K", cert: "C"},
		"kernel":       {kconf: "both.pem", key: "both.pem", cert: "both.pem"},
		"kernel, gone": {kconf: "certs/signing_key.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.Distro, m.Environ = "gentoo", nil
			source := func(name string) string {
				if name == "" {
					return ""
				}
				return filepath.Join(m.KernelSourceDir, name)
			}
			at := strings.NewReplacer("=K", "="+source("K"), "=C", "="+source("C"), `"K"`, `"`+source("K")+`"`, `'C'`, `'`+source("C")+`'`)
			for _, e := range tt.environ {
				m.Environ = append(m.Environ, at.Replace(e))
			}
			m.write("make.conf", at.Replace(tt.makeConf), 0o644)
			m.write("modules/"+release+"/build/.config", "CONFIG_MODULE_SIG_HASH=\"sha256\"\nCONFIG_MODULE_SIG_KEY=\""+tt.kconf+"\"\n", 0o644)
			if err := generate(source("K"), source("C")); err != nil {
				t.Fatal(err)
			}
			m.write("modules/"+release+"/build/both.pem", m.read("modules/"+release+"/build/K")+openssl(t, "x509", "-inform", "DER", "-in", source("C")), 0o600)
			wantKey, wantCert := source(tt.key), source(tt.cert)
			if tt.key == "" {
				wantKey, wantCert = m.Paths.MOKDir+"/mok.key", m.Paths.MOKDir+"/mok.pub"
			}
			plan := m.prepare()
			if plan == nil || plan.Key != wantKey || plan.Cert != wantCert || plan.Hash != "sha256" {
				t.Errorf("Prepare = %+v, want %s and %s; said %q", plan, wantKey, wantCert, m.said)
			}
		})
	}
}

func TestInChroot(t *testing.T) {
	fake := []string{"FAKECHROOT=true", "FAKECHROOT_BASE=", "LD_PRELOAD=/usr/lib/libfakechroot.so:x.so"}
	for name, tt := range map[string]struct {
		environ   []string
		init, own string
		root      string // where process 1 has its root
		want      bool
	}{
		"no":                  {init: "1 /", own: "1 /", root: "/"},
		"fakechroot":          {environ: fake, init: "1 /", own: "1 /", root: "/", want: true},
		"fakechroot, no base": {environ: []string{fake[0], fake[2]}, init: "1 /", own: "1 /", root: "/"},
		"fakechroot, off":     {environ: append([]string{"FAKECHROOT=false"}, fake[1:]...), init: "1 /", own: "1 /", root: "/"},
		"other mounts":        {init: "1 /", own: "2 /", root: "/", want: os.Geteuid() != 0},
		"mounts unknown":      {root: "/"},
		"other root":          {init: "1 /", own: "1 /", root: "/proc", want: os.Geteuid() == 0},
		"root unknown":        {init: "1 /", own: "1 /", root: "/no/such", want: os.Geteuid() == 0},
	} {
		m := newMachine(t)
		if tt.init != "" {
			m.write("proc/1/mountinfo", tt.init, 0o644)
			m.write("proc/self/mountinfo", tt.own, 0o644)
		}
		_ = os.MkdirAll(m.dir+"/proc/1", 0o755)
		if err := os.Symlink(tt.root, m.dir+"/proc/1/root"); err != nil {
			t.Fatal(err)
		}
		if got := InChroot(m.Paths, tt.environ); got != tt.want {
			t.Errorf("%s: InChroot = %v", name, got)
		}
	}
}
