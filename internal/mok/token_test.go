// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/ko"
)

// softToken makes a token of SoftHSM with keys: rsa and ec, whose PIN is 1234. The
// certificates are rsa.der and ec.der in the machine's directory.
func softToken(t *testing.T, m *machine) {
	t.Helper()
	module := ""
	for _, pattern := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib*/*/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 && module == "" {
			module = found[0]
		}
	}
	if module == "" {
		t.Fatal("no SoftHSM on this machine: run scripts/deps.sh")
	}
	if err := os.Mkdir(m.dir+"/tokens", 0o700); err != nil {
		t.Fatal(err)
	}
	conf := m.write("softhsm.conf", "directories.tokendir = "+m.dir+"/tokens\nlog.level = ERROR\n", 0o600)
	m.Environ = append(os.Environ(), "SOFTHSM2_CONF="+conf, "PKCS11_MODULE_PATH="+module)
	m.LookPath = exec.LookPath
	tool := func(name string, args ...string) {
		t.Helper()
		c := exec.Command(name, args...)
		c.Env = m.Environ
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	tool("softhsm2-util", "--init-token", "--free", "--label", "dkms", "--so-pin", "5678", "--pin", "1234")
	for i, key := range []string{"rsa", "ec"} {
		args := [][]string{{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}, {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}}[i]
		openssl(t, append([]string{"genpkey", "-out", m.dir + "/" + key + ".pem"}, args...)...)
		openssl(t, "req", "-x509", "-key", m.dir+"/"+key+".pem", "-outform", "DER", "-out", m.dir+"/"+key+".der", "-subj", "/CN=token "+key)
		tool("softhsm2-util", "--import", m.dir+"/"+key+".pem", "--token", "dkms", "--label", key, "--id", "0"+string(rune('1'+i)), "--pin", "1234")
	}
}

// TestToken signs with keys that a token holds, and with the same keys in files.
func TestToken(t *testing.T) {
	m := newMachine(t)
	softToken(t, m)
	object := bytes.Repeat([]byte("object"), 1000)
	for _, key := range []string{"rsa", "ec"} {
		m.Key, m.Cert = "pkcs11:token=dkms;object="+key+";type=private?pin-value=12%334", m.dir+"/"+key+".der"
		plan := m.prepare()
		if plan == nil || plan.Signer == nil {
			t.Fatalf("%s: Prepare = %+v, said %q", key, plan, m.said)
		}
		if strings.Contains(strings.Join(m.said, "\n"), "pin-value") {
			t.Errorf("said the PIN: %q", m.said)
		}
		for _, hash := range []string{"sha256", "sha512"} {
			signed, err := ko.Sign(object, plan.Signer, hash)
			if err != nil {
				t.Fatal(err)
			}
			sig, _, err := ko.ParseSignature(signed)
			if err != nil || sig.Verify(object, plan.Signer.Cert) != nil {
				t.Errorf("%s, %s: the signature doesn't verify: %v", key, hash, err)
			}
			inFile, err := ko.LoadSigner(m.dir+"/"+key+".pem", m.Cert, nil)
			if err != nil {
				t.Fatal(err)
			}
			if other, err := ko.Sign(object, inFile, hash); key == "rsa" && (err != nil || !bytes.Equal(signed, other)) {
				t.Errorf("%s, %s: the token and the file sign differently: %v", key, hash, err)
			}
		}
	}
	m.Key, m.Cert = "pkcs11:token=dkms;object=rsa;type=private", m.dir+"/rsa.der"
	m.PassphraseFile = m.write("pin", "1234\n", 0o600)
	if plan := m.prepare(); plan == nil || plan.Signer == nil {
		t.Errorf("the PIN of the file isn't used: %q", m.said)
	}
}

func TestTokenErrors(t *testing.T) {
	m := newMachine(t)
	softToken(t, m)
	for name, tt := range map[string]struct{ key, cert, want string }{
		"no PIN":         {"pkcs11:token=dkms;object=rsa", "rsa.der", "No PIN code was entered"},
		"wrong PIN":      {"pkcs11:token=dkms;object=rsa?pin-value=9999", "rsa.der", "PIN incorrect"},
		"no such key":    {"pkcs11:token=dkms;object=none?pin-value=1234", "rsa.der", "object not found"},
		"other key":      {"pkcs11:token=dkms;object=ec?pin-value=1234", "rsa.der", "signing key pkcs11:token=dkms;object=ec does not belong to certificate rsa.der"},
		"no certificate": {"pkcs11:token=dkms;object=rsa?pin-value=1234", "none.der", "there is no certificate none.der for the key pkcs11:token=dkms;object=rsa"},
	} {
		m.Key, m.Cert = tt.key, m.dir+"/"+tt.cert
		m.unsigned(tt.want)
		if said := strings.Join(m.said, "\n"); strings.Contains(said, "9999") || strings.Contains(said, "1234") {
			t.Errorf("%s: said the PIN: %s", name, said)
		}
	}
}

func TestSplitPIN(t *testing.T) {
	for uri, want := range map[string][2]string{
		"/etc/key;pin-value=1":                    {"/etc/key;pin-value=1", ""},
		"pkcs11:object=a":                         {"pkcs11:object=a", ""},
		"pkcs11:object=a?pin-value=1%202":         {"pkcs11:object=a", "1 2"},
		"pkcs11:object=a;pin-value=12":            {"pkcs11:object=a", "12"},
		"pkcs11:object=a?x=1&pin-value=12&y=2":    {"pkcs11:object=a?x=1&y=2", "12"},
		"pkcs11:object=a?pin-source=file:/etc/pw": {"pkcs11:object=a?pin-source=file:/etc/pw", ""},
	} {
		if without, pin := splitPIN(uri); without != want[0] || string(pin) != want[1] {
			t.Errorf("splitPIN(%q) = %q, %q", uri, without, pin)
		}
	}
}

// PINs are in no variable of the environment that others get.
func TestWithoutPINs(t *testing.T) {
	got := WithoutPINs([]string{
		"A=1", PassphraseEnv + "=one", "mok_signing_key=pkcs11:token=x;object=y?pin-value=two",
		"MODULES_SIGN_KEY=pkcs11:token=x;pin-value=three?pin-source=file:/f", "B=no?pin-value=four",
	})
	want := []string{"A=1", "mok_signing_key=pkcs11:token=x;object=y", "MODULES_SIGN_KEY=pkcs11:token=x?pin-source=file:/f", "B=no?pin-value=four"}
	if !slices.Equal(got, want) {
		t.Errorf("the environment is %q", got)
	}
}
