// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/test/sign"
)

// machine is a machine in a directory.
type machine struct {
	*testing.T
	dir   string
	paths host.Paths
	ring  map[int][]int
}

func newMachine(t *testing.T) *machine {
	m := &machine{T: t, dir: t.TempDir(), ring: map[int][]int{}}
	m.paths = host.Paths{
		Proc: m.dir + "/proc", Firmware: m.dir + "/firmware", EFIVars: m.dir + "/firmware/efi/efivars", MOKVars: m.dir + "/firmware/efi/mok-variables",
		Lockdown: m.dir + "/lockdown", SigEnforce: m.dir + "/sig_enforce",
	}
	return m
}

func (m *machine) write(name, text string) {
	m.Helper()
	path := filepath.Join(m.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		m.Fatal(err)
	}
}

// uefi gives the machine a firmware whose Secure Boot is on or off.
func (m *machine) uefi(secure bool) {
	m.Helper()
	m.write("firmware/acpi/x", "")
	if err := os.MkdirAll(m.paths.EFIVars, 0o755); err != nil {
		m.Fatal(err)
	}
	on := byte(0)
	if secure {
		on = 1
	}
	m.variable("SecureBoot", sign.GlobalGUID, []byte{on})
	m.variable("SetupMode", sign.GlobalGUID, []byte{0})
}

func (m *machine) variable(name, guid string, content []byte) {
	m.Helper()
	sign.Variable(m, m.paths.EFIVars, name, guid, content)
}

func (m *machine) members(ring int) ([]int, error) {
	if list, ok := m.ring[ring]; ok {
		return list, nil
	}
	return nil, unix.EACCES
}

// certificate makes one.
func certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	pair := sign.SelfSigned(t, t.TempDir(), name, sign.EC("P-256"))
	der, err := os.ReadFile(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// kernels' configurations
func config(extra ...string) kernel.Config {
	c := kernel.Config{"CONFIG_MODULE_SIG": "y"}
	for _, name := range extra {
		c["CONFIG_"+name] = "y"
	}
	return c
}

// debian is Debian's.
func debian(running bool) Kernel {
	return Kernel{Release: "6.1", Running: running, Platform: true, Config: config("LOCK_DOWN_IN_EFI_SECURE_BOOT", "INTEGRITY_MACHINE_KEYRING", "INTEGRITY_PLATFORM_KEYRING")}
}

const procKeys = `04768792 I--Q---     2 perm 1f3f0000     0 65534 keyring   _uid.0: empty
0a000001 I------     1 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: 1
0a000002 I------     1 perm 1f0b0000     0     0 keyring   .secondary_trusted_keys: 2
0a000003 I------     1 perm 1f0b0000     0     0 keyring   .machine: %[1]d
0a000004 I------     1 perm 1f0b0000     0     0 keyring   .platform: %[1]d
1d3a36ff I------     1 perm 1f030000     0     0 asymmetri Debian Secure Boot CA: 6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1: X509.rsa bb419ea1 []
1d3a3700 I------     1 perm 1f010000     0     0 asymmetri a: name: with colons: %[2]s: X509.ecdsa 12345678 []
1d3a3701 I------     1 perm 1f010000     0     0 blacklist bin:00
broken
`

func TestKeyrings(t *testing.T) {
	cert := certificate(t, "mine")
	for _, tt := range []struct {
		name     string
		machine  []int // the members of .machine
		platform []int
		kernel   Kernel
		want     Answer
		why      string
	}{
		{"owner", []int{0x1d3a3700}, nil, debian(true), Yes, "in the keyring .machine"},
		{"firmware", nil, []int{0x1d3a3700}, debian(true), Yes, "in the keyring .platform"},
		{"firmware, mainline", nil, []int{0x1d3a3700}, Kernel{Running: true, Config: config("INTEGRITY_PLATFORM_KEYRING")}, Unknown, "only some distributions"},
		{"nowhere", nil, nil, debian(true), No, "not among the keys of the kernel"},
		{"another kernel", []int{0x1d3a3700}, nil, debian(false), Unknown, "can't be read here"},
	} {
		m := newMachine(t)
		m.write("proc/keys", fmt.Sprintf(procKeys, 1, KeyID(cert)))
		m.ring = map[int][]int{0x0a000001: {0x1d3a36ff}, 0x0a000002: {0x0a000001, 0x0a000003}, 0x0a000003: tt.machine, 0x0a000004: tt.platform}
		got := Read(m.paths, m.members)
		if v := got.Trusts(tt.kernel, cert); v.Answer != tt.want || !strings.Contains(v.Why, tt.why) {
			t.Errorf("%s: %v (%s), want %v (%s); %q", tt.name, v.Answer, v.Why, tt.want, tt.why, got.Problems)
		}
		if key := got.Rings[".builtin_trusted_keys"]; len(key) != 1 || key[0] != (Key{"Debian Secure Boot CA", "6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1"}) {
			t.Errorf("%s: built in: %v", tt.name, key)
		}
	}
}

// A user who isn't root may not look into the keyrings.
func TestKeyringsUnreadable(t *testing.T) {
	m := newMachine(t)
	m.write("proc/keys", fmt.Sprintf(procKeys, 1, "00"))
	got := Read(m.paths, m.members)
	if got.Rings != nil || len(got.Problems) != 1 {
		t.Errorf("Rings = %v, Problems = %q", got.Rings, got.Problems)
	}
	if v := got.Trusts(debian(true), certificate(t, "mine")); v.Answer != Unknown {
		t.Errorf("Trusts = %v", v)
	}
}

// TestRealKeyring puts a certificate into a keyring of this machine's kernel and
// finds it there.
func TestRealKeyring(t *testing.T) {
	cert := certificate(t, "real: one")
	ring, err := unix.AddKey("keyring", ".dkms-test"[1:], nil, unix.KEY_SPEC_PROCESS_KEYRING)
	if err != nil {
		t.Logf("this machine lets nobody make keyrings: %v", err)
		return
	}
	serial, err := unix.AddKey("asymmetric", "", cert.Raw, ring)
	if err != nil {
		t.Logf("this machine's kernel knows no certificates: %v", err)
		return
	}
	text, err := os.ReadFile("/proc/keys")
	if err != nil {
		t.Fatal(err)
	}
	keys, rings := parseKeys(string(text))
	if rings["dkms-test"] != ring || keys[serial] != (Key{"test: real: one", KeyID(cert)}) {
		t.Errorf("keyring %x, key %+v, want %x and %s", rings["dkms-test"], keys[serial], ring, KeyID(cert))
	}
	if members, err := Keyctl(ring); err != nil || len(members) != 1 || members[0] != serial {
		t.Errorf("Keyctl = %x, %v, want %x", members, err, serial)
	}
}

// TestFirmware judges keys by variables, and has mokutil read the same ones.
func TestFirmware(t *testing.T) {
	mine, other := certificate(t, "mine"), certificate(t, "other")
	sum := sha256.Sum256(mine.RawTBSCertificate)
	// type, size of the list, no header, size of an entry: owner, hash, time
	hashed := append(typeX509SHA256(), 92, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0)
	hashed = append(append(append(hashed, "the owner's GUID"...), sum[:]...), make([]byte, 16)...)
	list := sign.List(other.Raw, mine.Raw)
	for _, tt := range []struct {
		name   string
		make   func(m *machine)
		kernel Kernel
		want   Answer
		why    string
		enrol  string
	}{
		{"no UEFI", func(m *machine) { m.write("firmware/acpi/x", "") }, debian(false), No, "without UEFI", "nothing needed: without UEFI"},
		{"no UEFI, enforced", func(m *machine) { m.write("firmware/acpi/x", "") }, Kernel{Config: config("MODULE_SIG_FORCE")}, No, "without UEFI", "no way: without UEFI"},
		{"container", func(m *machine) {}, debian(false), Unknown, "can't be read", "then reboot"},
		{"not enrolled", func(m *machine) { m.uefi(true) }, debian(false), No, "not enrolled", "then reboot"},
		{"not enrolled, off", func(m *machine) { m.uefi(false) }, debian(false), No, "not enrolled", "nothing needed: while Secure Boot is off"},
		{"db", func(m *machine) { m.uefi(true); m.variable("db", sign.ImageGUID, list) }, debian(false), Yes, "in the firmware's db", "nothing needed: in the firmware's db"},
		{"owner", func(m *machine) { m.uefi(true); m.variable("MokListRT", sign.ShimGUID, list) }, debian(false), Yes, "a key of the machine's owner", "nothing needed"},
		{"owner, off", func(m *machine) { m.uefi(false); m.variable("MokListRT", sign.ShimGUID, list) }, debian(false), No, "while Secure Boot is off", "nothing needed: while"},
		{"owner, shim off", func(m *machine) {
			m.uefi(true)
			m.variable("MokListRT", sign.ShimGUID, list)
			m.variable("MokSBStateRT", sign.ShimGUID, []byte{1})
		}, debian(false), No, "while Secure Boot is off", "nothing needed: while"},
		{"owner, no keyring", func(m *machine) { m.uefi(true); m.variable("MokListRT", sign.ShimGUID, list) }, Kernel{Config: config()}, No, "takes no keys from there", "it is enrolled"},
		{"owner, long list", func(m *machine) {
			m.uefi(true)
			m.variable("MokListRT", sign.ShimGUID, sign.List(other.Raw))
			m.variable("MokListRT1", sign.ShimGUID, sign.List(mine.Raw))
		}, debian(false), Yes, "owner", "nothing needed"},
		{"owner, whole list", func(m *machine) { m.uefi(true); m.write("firmware/efi/mok-variables/MokListRT", string(list)) }, debian(false), Yes, "owner", "nothing needed"},
		{"new", func(m *machine) { m.uefi(true); m.variable("MokNew", sign.ShimGUID, list) }, debian(false), No, "next boot", "nothing needed but this: reboot"},
		{"dbx", func(m *machine) {
			m.uefi(true)
			m.variable("MokListRT", sign.ShimGUID, list)
			m.variable("dbx", sign.ImageGUID, list)
		}, debian(false), No, "revoked by the firmware", "no way: the key is revoked"},
		{"dbx by hash", func(m *machine) { m.uefi(true); m.variable("dbx", sign.ImageGUID, hashed) }, debian(false), No, "revoked by the firmware", "no way: the key is revoked"},
		{"shim's dbx", func(m *machine) { m.uefi(true); m.variable("MokListXRT", sign.ShimGUID, list) }, debian(false), No, "revoked by shim", "no way: the key is revoked"},
		{"built in", func(m *machine) { m.uefi(true) }, Kernel{Config: config(), BuiltIn: mine}, Yes, "built into", "nothing needed"},
		{"closed", func(m *machine) { m.uefi(true); m.variable("MokListRT", sign.ShimGUID, list) }, Kernel{Config: config("MODULE_SIG_FORCE"), BuiltIn: other}, No, "no keys but those", "no way: the kernel trusts no keys"},
		{"owner, authorities only", func(m *machine) { m.uefi(true); m.variable("MokListRT", sign.ShimGUID, list) },
			Kernel{Config: config("INTEGRITY_MACHINE_KEYRING", "INTEGRITY_CA_MACHINE_KEYRING", "INTEGRITY_PLATFORM_KEYRING")}, Unknown, "counts as a key of the firmware", "it is enrolled"},
		{"damaged", func(m *machine) { m.uefi(true); m.variable("MokListRT", sign.ShimGUID, list[:50]) }, debian(false), Unknown, "can't be read", "then reboot"},
		{"no signatures", func(m *machine) { m.uefi(true) }, Kernel{Config: kernel.Config{"CONFIG_SMP": "y"}}, Unknown, "doesn't know signatures", "then reboot"},
	} {
		m := newMachine(t)
		tt.make(m)
		got := Read(m.paths, m.members)
		if v := got.Trusts(tt.kernel, mine); v.Answer != tt.want || !strings.Contains(v.Why, tt.why) {
			t.Errorf("%s: %v (%s), want %v (%s); %q", tt.name, v.Answer, v.Why, tt.want, tt.why, got.Problems)
		}
		if a := got.Enrol(tt.kernel, mine); !strings.HasPrefix(a.Note, tt.enrol) {
			t.Errorf("%s: to enrol it: %+v, want %s", tt.name, a, tt.enrol)
		}
		if got.UEFI == Yes && !strings.Contains(tt.name, "damaged") {
			likeMokutil(t, m, tt.name, got)
		}
	}
}

// likeMokutil compares with mokutil, which libefivar lets read any directory.
func likeMokutil(t *testing.T, m *machine, name string, got Machine) {
	t.Helper()
	say := func(arg string) string {
		c := exec.Command("mokutil", arg)
		c.Env = append(os.Environ(), "EFIVARFS_PATH="+m.paths.EFIVars+"/")
		out, _ := c.CombinedOutput()
		return string(out)
	}
	if state := say("--sb-state"); got.SecureBoot == Yes && !strings.Contains(state, "SecureBoot enabled") {
		t.Errorf("%s: mokutil says %q", name, state)
	}
	for arg, list := range map[string]List{"--db": got.DB, "--list-enrolled": got.MOK, "--list-new": got.New} {
		out := say(arg)
		if arg == "--list-enrolled" && (strings.Contains(name, "long") || strings.Contains(name, "whole")) {
			continue // mokutil reads one variable
		}
		if n := strings.Count(out, "SHA1 Fingerprint"); n != len(list.Certificates) {
			t.Errorf("%s: mokutil %s finds %d keys, here are %d:\n%s", name, arg, n, len(list.Certificates), out)
		}
	}
}

func TestEnforces(t *testing.T) {
	for _, tt := range []struct {
		name   string
		make   func(m *machine)
		kernel Kernel
		want   Answer
		why    string
	}{
		{"nothing known", func(m *machine) {}, debian(true), Unknown, "doesn't tell"},
		{"off", func(m *machine) {
			m.write("sig_enforce", "N\n")
			m.write("lockdown", "[none] integrity confidentiality\n")
		}, debian(true), No, "is off"},
		{"on", func(m *machine) { m.write("sig_enforce", "Y\n") }, debian(true), Yes, "sig_enforce is on"},
		{"locked down", func(m *machine) {
			m.write("sig_enforce", "N\n")
			m.write("lockdown", "none [integrity] confidentiality\n")
		}, debian(true), Yes, "locked down: integrity"},
		{"on, another kernel", func(m *machine) { m.uefi(false); m.write("sig_enforce", "Y\n") }, debian(false), Unknown, "may be told the same"},
		{"forced", func(m *machine) {}, Kernel{Config: config("MODULE_SIG_FORCE")}, Yes, "CONFIG_MODULE_SIG_FORCE"},
		{"Secure Boot", func(m *machine) { m.uefi(true) }, debian(false), Yes, "Secure Boot is on"},
		{"Secure Boot, mainline", func(m *machine) { m.uefi(true) }, Kernel{Config: config()}, Unknown, "depends on Secure Boot"},
		{"no Secure Boot", func(m *machine) { m.uefi(false) }, debian(false), No, "Secure Boot is off"},
		{"setup mode", func(m *machine) { m.uefi(true); m.variable("SetupMode", sign.GlobalGUID, []byte{1}) }, debian(false), No, "Secure Boot is off"},
		{"no configuration", func(m *machine) { m.uefi(false) }, Kernel{}, Unknown, "configuration isn't there"},
		{"no signatures", func(m *machine) {}, Kernel{Config: kernel.Config{"CONFIG_SMP": "y"}}, No, "doesn't know signatures"},
	} {
		m := newMachine(t)
		tt.make(m)
		got := Read(m.paths, m.members)
		if v := got.Enforces(tt.kernel); v.Answer != tt.want || !strings.Contains(v.Why, tt.why) {
			t.Errorf("%s: %v (%s), want %v (%s)", tt.name, v.Answer, v.Why, tt.want, tt.why)
		}
	}
}

func TestParseListErrors(t *testing.T) {
	good := sign.List(certificate(t, "x").Raw)
	change := func(at int, value uint32) []byte {
		bad := bytes.Clone(good)
		binary.LittleEndian.PutUint32(bad[at:], value)
		return bad
	}
	for name, data := range map[string][]byte{
		"cut head": good[:20], "cut entry": good[:100], "size 0": change(16, 0), "size too large": change(16, 1<<31), "header too large": change(20, 1<<31),
		"entry 0": change(24, 0), "entry of an owner": change(24, 16), "entry too large": change(24, 1<<31), "odd entry": change(24, 40), "trash": append(good, 1),
	} {
		if _, err := ParseList(data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if l, err := ParseList(append(sign.List([]byte("no certificate")), good...)); err != nil || len(l.Certificates) != 1 {
		t.Errorf("what isn't a certificate isn't passed over: %v, %v", l, err)
	}
}

func FuzzParseList(f *testing.F) {
	f.Add(sign.List([]byte("x"), []byte("yy")))
	f.Add(bytes.Repeat([]byte{0xff}, 60))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseList(data)
		if err == nil && (len(l.Certificates)+len(l.Hashes))*28 > len(data) {
			t.Errorf("%d keys in %d bytes", len(l.Certificates)+len(l.Hashes), len(data))
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add(fmt.Sprintf(procKeys, 1, "ab"))
	f.Fuzz(func(t *testing.T, text string) {
		keys, rings := parseKeys(text)
		if n := strings.Count(text, "\n") + 1; len(keys)+len(rings) > n {
			t.Errorf("%d keys and %d rings in %d lines", len(keys), len(rings), n)
		}
	})
}
