// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/ko"
)

// snapshot has every file below a directory with its mode and content.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, _ := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %v %x\n", path, info.Mode(), data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestUnusablePairs: each gives one line that names the file, and changes nothing.
func TestUnusablePairs(t *testing.T) {
	pair := func(m *machine) (key, cert string) {
		key, cert = m.dir+"/dkms/mok.key", m.dir+"/dkms/mok.pub"
		if err := generate(key, cert); err != nil {
			m.Fatal(err)
		}
		return key, cert
	}
	remove := func(m *machine, path string) {
		if err := os.Remove(path); err != nil {
			m.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		make func(m *machine)
		want string
	}{
		"key only":            {func(m *machine) { _, cert := pair(m); remove(m, cert) }, "the key dkms/mok.key has no certificate dkms/mok.pub: name it with mok_certificate"},
		"certificate only":    {func(m *machine) { key, _ := pair(m); remove(m, key) }, "the certificate dkms/mok.pub has no key dkms/mok.key: name it with mok_signing_key"},
		"wrong name of key":   {func(m *machine) { _, m.Cert = pair(m); m.Key = m.dir + "/dkms/mok.priv" }, "the certificate dkms/mok.pub has no key dkms/mok.priv"},
		"wrong name of cert":  {func(m *machine) { m.Key, _ = pair(m); m.Cert = m.dir + "/dkms/mok.der" }, "the key dkms/mok.key has no certificate dkms/mok.der"},
		"garbage key":         {func(m *machine) { key, _ := pair(m); remove(m, key); m.write("dkms/mok.key", "garbage", 0o600) }, "dkms/mok.key: no PEM private key"},
		"garbage certificate": {func(m *machine) { _, cert := pair(m); remove(m, cert); m.write("dkms/mok.pub", "0garbage", 0o600) }, "reading certificate dkms/mok.pub"},
		"key is a directory":  {func(m *machine) { m.write("dkms/mok.key/x", "", 0o600); m.write("dkms/mok.pub", "0", 0o600) }, "dkms/mok.key: is a directory"},
		"link to nowhere": {func(m *machine) {
			if err := os.Symlink("nowhere", m.dir+"/dkms/mok.key"); err != nil {
				m.Fatal(err)
			}
		}, "the key dkms/mok.key has no certificate"},
		"of other pairs": {func(m *machine) {
			_, cert := pair(m)
			remove(m, cert)
			if err := generate(m.dir+"/other", cert); err != nil {
				m.Fatal(err)
			}
		}, "signing key dkms/mok.key does not belong to certificate dkms/mok.pub"},
		"encrypted": {func(m *machine) {
			key, _ := pair(m)
			openssl(m.T, "pkcs8", "-topk8", "-in", key, "-passout", "pass:x", "-out", key+".new")
			_ = os.Rename(key+".new", key)
		}, "dkms/mok.key: missing or wrong passphrase"},
		"encrypted, as of old": {func(m *machine) {
			key, _ := pair(m)
			openssl(m.T, "pkey", "-in", key, "-traditional", "-aes256", "-passout", "pass:x", "-out", key+".new")
			_ = os.Rename(key+".new", key)
		}, "dkms/mok.key: missing or wrong passphrase"},
		"open passphrase file": {func(m *machine) { pair(m); m.PassphraseFile = m.write("pass", "x\n", 0o644) }, "pass may be read by others"},
		"no passphrase file":   {func(m *machine) { pair(m); m.PassphraseFile = m.dir + "/none" }, "reading the passphrase: stat none"},
		"no authority":         {func(m *machine) { pair(m); m.CA = m.dir + "/ca" }, "reading certificate: open ca"},
		"not of the authority": {func(m *machine) {
			pair(m)
			m.CA = m.dir + "/ca"
			if err := generate(m.dir+"/ca.key", m.CA); err != nil {
				m.Fatal(err)
			}
		}, "the certificate dkms/mok.pub is of no use under ca: its authority key identifier is"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			tt.make(m)
			before := snapshot(t, m.dir)
			m.unsigned(tt.want)
			if after := snapshot(t, m.dir); after != before {
				t.Errorf("changed:\n%s\nwas\n%s", after, before)
			}
		})
	}
}

// Nobody but root reads what only root may read.
func TestUnreadableKey(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root reads every file")
		return
	}
	m := newMachine(t)
	m.write("dkms/mok.key", "", 0)
	m.write("dkms/mok.pub", "", 0)
	m.unsigned("mok.key: permission denied")
}

func TestPassphrases(t *testing.T) {
	m := newMachine(t)
	key, cert := m.dir+"/dkms/mok.key", m.dir+"/dkms/mok.pub"
	if err := generate(key, cert); err != nil {
		t.Fatal(err)
	}
	openssl(t, "pkcs8", "-topk8", "-in", key, "-passout", "pass:in file", "-out", key+".new")
	if err := os.Rename(key+".new", key); err != nil {
		t.Fatal(err)
	}
	m.PassphraseFile = m.write("pass", "in file\nmore\n", 0o600)
	if plan := m.prepare(); plan == nil || plan.Signer == nil {
		t.Errorf("Prepare = %+v, said %q", plan, m.said)
	}
	m.Environ = []string{PassphraseEnv + "=wrong"} // goes before the file
	m.unsigned("missing or wrong passphrase")
	m.Environ, m.PassphraseFile = []string{PassphraseEnv + "=in file"}, ""
	if plan := m.prepare(); plan == nil || plan.Signer == nil {
		t.Errorf("Prepare = %+v, said %q", plan, m.said)
	}
	m.SignFile = m.KernelSourceDir + "/scripts/sign-file"
	if plan := m.prepare(); plan == nil || plan.Signer != nil || len(plan.Environ) != 1 {
		t.Errorf("Prepare = %+v, said %q", plan, m.said)
	}
}

// An expired certificate is told, and used: kernels don't look at the dates.
func TestExpired(t *testing.T) {
	m := newMachine(t)
	key := m.dir + "/dkms/mok.key"
	if err := generate(key, t.TempDir()+"/cert"); err != nil {
		t.Fatal(err)
	}
	private, err := ko.LoadKey(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	old := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, old, old, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	m.write("dkms/mok.pub", string(der), 0o644)
	if plan := m.prepare(); plan == nil || plan.Signer == nil {
		t.Errorf("Prepare = %+v, said %q", plan, m.said)
	}
	if last := m.said[len(m.said)-1]; !strings.Contains(last, "the certificate dkms/mok.pub expired on ") {
		t.Errorf("said %q", last)
	}
}
