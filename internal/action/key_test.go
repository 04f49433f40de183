// SPDX-License-Identifier: Apache-2.0

package action

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/ko"
	"dkms-go/internal/plan"
	"dkms-go/internal/trust"
	"dkms-go/test/sign"
)

const signingConfig = "CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_HASH=\"sha256\"\nCONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT=y\nCONFIG_INTEGRITY_MACHINE_KEYRING=y\nCONFIG_INTEGRITY_PLATFORM_KEYRING=y\n"

// secure gives a machine a firmware with Secure Boot on, kernels that heed it, and
// a key that nobody knows. Its process 1 has the root directory of the test.
func (m *machine) secure() {
	m.t.Helper()
	p := &m.set.Paths
	p.Firmware, p.EFIVars, p.Lockdown = m.root+"/firmware", m.root+"/firmware/efi/efivars", m.root+"/lockdown"
	p.Proc = m.root + "/proc"
	m.put("firmware/efi/efivars/x", "")
	m.put("proc/1/x", "")
	if err := os.Symlink("/", m.root+"/proc/1/root"); err != nil {
		m.t.Fatal(err)
	}
	m.variable("SecureBoot", sign.GlobalGUID, []byte{1})
	m.put("lockdown", "none [integrity] confidentiality\n")
	m.put("etc/framework.conf", "try_sign_modules=true\n")
	for _, k := range []plan.Target{k1, k2} {
		m.put("lib/modules/"+k.Kernel+"/build/.config", signingConfig)
		m.put("lib/modules/"+k.Kernel+"/build/scripts/sign-file", "", 0o755)
	}
	m.put("mok/x", "")
	m.set.Environ = append(os.Environ(), "EFIVARFS_PATH="+p.EFIVars+"/")
}

func (m *machine) variable(name, guid string, content []byte) {
	m.t.Helper()
	sign.Variable(m.t, m.set.Paths.EFIVars, name, guid, content)
}

// TestKeyFromNothingToTrusted goes the way of an administrator: no key; a key that
// the kernel doesn't trust; put up by mokutil; enrolled.
func TestKeyFromNothingToTrusted(t *testing.T) {
	m := newMachine(t)
	m.secure()
	s, err := m.engine().KeyStatus(background, "")
	m.reason(err, KeyFailed)
	if s.Key != m.root+"/mok/mok.key" || s.Certificate != nil || m.has("mok/mok.key") {
		t.Errorf("%+v", s)
	}
	if err := os.RemoveAll(m.root + "/mok"); err != nil { // as before any other command
		t.Fatal(err)
	}
	m.must(m.engine().MakeKey(background))
	s, err = m.engine().KeyStatus(background, "")
	f := m.reason(err, NotTrusted)
	command := "mokutil --import " + m.root + "/mok/mok.pub"
	if s.Trusted.Answer != trust.No || s.Enforced.Answer != trust.Yes || s.EnrolLine() != command || !strings.Contains(strings.Join(f.Hints(), "\n"), command) {
		t.Errorf("%+v: %v", s, f.Hints())
	}

	id := m.source("m/1")
	m.must(m.install(id, k1))
	if said := m.errw.String(); !strings.Contains(said, "Note: kernel 6.1.0 will not load what was built") || !strings.Contains(said, "To enrol it: "+command) {
		t.Errorf("the install said %s", said)
	}
	verdicts, err := m.engine().Verify(background, Filter{})
	m.reason(err, NotVerified)
	if len(verdicts) != 1 || verdicts[0].Trust.Answer != trust.No || verdicts[0].Subject != "CN=DKMS module signing key" {
		t.Errorf("%+v", verdicts)
	}

	m.must(m.engine().EnrolKey(background, strings.NewReader("password\npassword\n")))
	if _, err := os.Stat(filepath.Join(m.set.Paths.EFIVars, "MokNew-"+sign.ShimGUID)); err != nil {
		t.Fatalf("mokutil has put up nothing: %v; %s", err, m.said())
	}
	s, err = m.engine().KeyStatus(background, "")
	m.reason(err, NotTrusted)
	if s.Enrol.Import || !strings.Contains(s.EnrolLine(), "reboot") {
		t.Errorf("after mokutil: %+v", s.Enrol)
	}

	// What the next boot makes of it.
	m.variable("MokListRT", sign.ShimGUID, sign.List([]byte(m.read("mok/mok.pub"))))
	m.must(os.Remove(filepath.Join(m.set.Paths.EFIVars, "MokNew-"+sign.ShimGUID)))
	s, err = m.engine().KeyStatus(background, "")
	if m.must(err); s.Trusted.Answer != trust.Yes || !strings.HasPrefix(s.EnrolLine(), "nothing needed") {
		t.Errorf("after the boot: %+v", s)
	}
	if verdicts, err = m.engine().Verify(background, Filter{}); err != nil || verdicts[0].Trust.Answer != trust.Yes {
		t.Errorf("after the boot: %+v, %v", verdicts, err)
	}
	m.must(m.engine().EnrolKey(background, nil))
	if !strings.Contains(m.out.String(), "nothing needed") {
		t.Errorf("enrolled twice: %s", m.said())
	}

	m.variable("dbx", sign.ImageGUID, sign.List([]byte(m.read("mok/mok.pub"))))
	s, err = m.engine().KeyStatus(background, "")
	if m.reason(err, NotTrusted); !strings.Contains(s.EnrolLine(), "revoked") {
		t.Errorf("revoked: %+v", s)
	}
}

// An authority is what kernels are to know; the signer's certificate is in the
// objects.
func TestKeyUnderAuthority(t *testing.T) {
	m := newMachine(t)
	m.secure()
	ca, leaf := sign.Authority(t, m.root, "fleet")
	m.put("etc/framework.conf", "try_sign_modules=true\nmok_signing_key="+leaf.Key+"\nmok_certificate="+leaf.Cert+"\nmok_ca_certificate="+ca.Cert+"\n")
	s, err := m.engine().KeyStatus(background, "")
	if m.reason(err, NotTrusted); s.EnrolLine() != "mokutil --import "+ca.Cert || s.Authority == nil {
		t.Errorf("%+v", s)
	}
	m.must(m.install(m.source("m/1"), k1))
	authority, err := ko.LoadCertificate(ca.Cert)
	m.must(err)
	m.variable("MokListRT", sign.ShimGUID, sign.List(authority.Raw))
	verdicts, err := m.engine().Verify(background, Filter{})
	if m.must(err); len(verdicts) != 1 || verdicts[0].Trust.Answer != trust.Yes || !strings.Contains(verdicts[0].Trust.Why, "issued by CN=fleet authority") || len(verdicts[0].Signature.Certificates) != 1 {
		t.Errorf("%+v", verdicts)
	}
	s, err = m.engine().KeyStatus(background, "")
	if m.must(err); s.Trusted.Answer != trust.Yes {
		t.Errorf("%+v", s)
	}
	// Of an authority that nobody here knows nothing can be told.
	m.variable("MokListRT", sign.ShimGUID, nil)
	verdicts, err = m.engine().Verify(background, Filter{})
	if m.must(err); verdicts[0].Trust.Answer != trust.Unknown {
		t.Errorf("%+v", verdicts)
	}
}

// What isn't signed is marked, and refused where the kernel wants signatures.
func TestUnsignedIsMarked(t *testing.T) {
	m := newMachine(t)
	m.secure()
	m.put("etc/framework.conf", "try_sign_modules=false\n")
	id := m.source("m/1")
	m.must(m.install(id, k1))
	record, err := m.engine().tree.Record(k1.Key(id))
	if m.must(err); record.Signed || !strings.Contains(record.Unsigned, "turned off (try_sign_modules)") {
		t.Errorf("%+v", record)
	}
	verdicts, err := m.engine().Verify(background, Filter{})
	if m.reason(err, NotVerified); verdicts[0].Unsigned != record.Unsigned || !strings.Contains(verdicts[0].Problems[0].Text, "is not signed (signatures are turned off") && !strings.Contains(verdicts[0].Problems[0].Text, "is not signed (Signatures are turned off") {
		t.Errorf("%+v", verdicts)
	}
	m.put("lockdown", "[none] integrity confidentiality\n")
	m.set.Paths.SigEnforce = m.root + "/sig_enforce"
	m.put("sig_enforce", "N\n")
	if verdicts, err = m.engine().Verify(background, Filter{}); err != nil || verdicts[0].Unsigned == "" {
		t.Errorf("%+v, %v", verdicts, err)
	}
}

func TestEnrolWithoutMokutil(t *testing.T) {
	m := newMachine(t)
	m.secure()
	m.must(m.engine().MakeKey(background))
	m.set.Environ = []string{"PATH=" + m.root}
	f := m.reason(m.engine().EnrolKey(background, nil), KeyFailed)
	if !strings.Contains(strings.Join(f.Hints(), ""), "apt-get install mokutil") {
		t.Errorf("hints: %q", f.Hints())
	}
	m.set.DryRun = true
	m.must(m.engine().EnrolKey(background, nil))
	if m.out.String() != "mokutil --import "+m.root+"/mok/mok.pub\n" {
		t.Errorf("a dry run says %q", m.out.String())
	}
}

// mokutil takes DER only: a certificate in PEM form is enrolled by dkms.
func TestEnrolPEM(t *testing.T) {
	m := newMachine(t)
	m.secure()
	pair := sign.SelfSigned(t, m.root, "mine", sign.RSA("2048"))
	cert, err := ko.LoadCertificate(pair.Cert)
	m.must(err)
	m.put("mine.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})))
	m.put("etc/framework.conf", "mok_signing_key="+pair.Key+"\nmok_certificate="+m.root+"/mine.pem\n")
	s, err := m.engine().KeyStatus(background, "")
	if m.reason(err, NotTrusted); s.EnrolLine() != "dkms key enrol" {
		t.Errorf("%q", s.EnrolLine())
	}
	m.must(m.engine().EnrolKey(background, strings.NewReader("password\npassword\n")))
	if !strings.Contains(m.read("firmware/efi/efivars/MokNew-"+sign.ShimGUID), string(cert.Raw)) {
		t.Error("mokutil hasn't put it up")
	}
}
