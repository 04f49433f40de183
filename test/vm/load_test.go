// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"os"
	"strings"
	"testing"

	"dkms-go/test/lab"
	"dkms-go/test/vm"
)

// Debian's kernels load what dkms installed, each with the compression of its
// own objects, and with what it needs. Where signatures are asked for, they
// take those of dkms once its certificate is trusted, and nothing else.
func TestBuiltModulesLoad(t *testing.T) {
	root := lab.AllScratch(t)
	root.AddBinary()
	lab.MustExec(t, "cp", "-r", "testdata/.", root.Path("usr/src"))
	root.MustRun("dkms", "add", "vmtest-base/1.0")
	root.MustRun("dkms", "add", "vmtest-top/1.0")
	older, newer := lab.Kernels(t)
	for _, k := range []struct {
		release, suffix string
		trust           []func(*built, *testing.T)
	}{
		{older, "", nil},
		{newer, ".xz", []func(*built, *testing.T){(*built).secureBoot}},
		{lab.CloudKernel(t), ".zst", []func(*built, *testing.T){(*built).firmwareKey}},
	} {
		if os.Getenv("CI") == "" {
			k.trust = []func(*built, *testing.T){(*built).secureBoot, (*built).firmwareKey}
		}
		t.Run(k.release, func(t *testing.T) {
			b := makeModules(t, root, k.release, k.suffix)
			b.unknownKey(t)
			for _, trust := range k.trust {
				trust(b, t)
			}
		})
	}
}

// What the kernel and kmod say.
const (
	rejected    = "status 1\nsaid: insmod: ERROR: could not insert module /files/"
	because     = ": Key was rejected by service"
	noSignature = "logged: Loading of unsigned module is rejected"
	noKey       = "logged: Loading of module with unavailable key is rejected"
	tainting    = "logged: vmtest_base: module verification failed: signature and/or required key missing - tainting kernel"
)

// unknownKey has a kernel load what it has no key for, and then has it ask for
// one (kernel/module/signing.c: sig_enforce can be turned on, not off).
func (b *built) unknownKey(t *testing.T) {
	c := b.boot(t, nil, "", `
try stack /kmod/modprobe vmtest_top
try unload /kmod/modprobe -r vmtest_top
for f in unsigned stranger flipped-text; do
  try $f /kmod/insmod /files/$f.ko*
  /kmod/rmmod vmtest_base
done
echo 1 >/sys/module/module/parameters/sig_enforce
try enforced-stack /kmod/modprobe vmtest_top
for f in unsigned stranger flipped-text; do
  try enforced-$f /kmod/insmod /files/$f.ko*
done
try own /kmod/modprobe msr
grep '^msr ' /proc/modules
`)
	c.wants(t, "stack", "status 0", "logged: vmtest_base: loading out-of-tree module taints kernel.", tainting,
		"logged: vmtest_base: here", "logged: vmtest_top: the answer is 42",
		"loaded: vmtest_top 0 - Live (OE)", "loaded: vmtest_base 1 vmtest_top, Live (OE)")
	c.wants(t, "unload", "status 0", "logged: vmtest_base: gone")
	c.wantsNot(t, "unload", "loaded: ")
	for name, log := range map[string]string{"unsigned": noSignature, "stranger": noKey, "flipped-text": noKey} {
		c.wants(t, name, "status 0", "logged: vmtest_base: here", "loaded: vmtest_base 0 - Live (OE)")
		c.wants(t, "enforced-"+name, rejected+name+".ko", because, log)
		c.wantsNot(t, "enforced-"+name, "loaded: ")
	}
	c.wants(t, "enforced-stack", "status 1", "said: modprobe: ERROR: could not insert 'vmtest_top'"+because, noKey)
	c.wantsNot(t, "enforced-stack", "loaded: ")
	c.wants(t, "own", "status 0")
}

// secureBoot has a kernel ask for signatures because Secure Boot is on. Its
// certificates are those that shim was told of.
func (b *built) secureBoot(t *testing.T) {
	c := b.boot(t, &vm.Trust{SecureBoot: true, MOK: b.certs}, "", enforced)
	c.wants(t, "boot", "Kernel is locked down from EFI Secure Boot", "Loading X.509 certificate: UEFI:MokListRT",
		"Loaded X.509 cert 'DKMS module signing key: ", "lockdown none [integrity] confidentiality")
	b.enforced(t, c)
}

// firmwareKey has a kernel ask for signatures because of its command line. Its
// certificates are those of the firmware.
func (b *built) firmwareKey(t *testing.T) {
	c := b.boot(t, &vm.Trust{DB: b.certs}, "module.sig_enforce=1", enforced)
	c.wants(t, "boot", "Secure boot disabled", "Loading X.509 certificate: UEFI:db",
		"Loaded X.509 cert 'DKMS module signing key: ", "lockdown [none] integrity confidentiality")
	b.enforced(t, c)
}

const enforced = `
grep -iE 'x.509|secure boot|lockdown' /tmp/boot | sed 's/^/vm: boot: /'
echo "vm: boot: lockdown $(cat /sys/kernel/security/lockdown)"
echo "vm: boot: sig_enforce $(cat /sys/module/module/parameters/sig_enforce)"
try stack /kmod/modprobe vmtest_top
try unload /kmod/modprobe -r vmtest_top
/kmod/modprobe efivarfs 2>/dev/null && mount -t efivarfs efivarfs /sys/firmware/efi/efivars
mkdir -p /etc/dkms
for key in /files/*.key; do
  name=${key#/files/}
  name=${name%.key}
  echo "mok_signing_key=$key mok_certificate=${key%.key}.der" >/etc/dkms/framework.conf
  [ ! -e ${key%.key}-ca.der ] || echo "mok_ca_certificate=${key%.key}-ca.der" >>/etc/dkms/framework.conf
  try status-$name /files/dkms key status
done
for f in /files/*.ko*; do
  name=${f#/files/}
  try ${name%%.ko*} /kmod/insmod $f
  /kmod/rmmod vmtest_base 2>/dev/null
done
try own /kmod/modprobe msr
grep '^msr ' /proc/modules
`

// enforced checks what that script tells: what is taken, what isn't, and that
// dkms knows it.
func (b *built) enforced(t *testing.T, c console) {
	c.wants(t, "boot", "sig_enforce Y", "Loaded X.509 cert 'known authority: ", "Loaded X.509 cert 'test: long: ")
	c.wants(t, "stack", "status 0", "logged: vmtest_base: here", "logged: vmtest_top: the answer is 42",
		"loaded: vmtest_top 0 - Live (O)", "loaded: vmtest_base 1 vmtest_top, Live (O)")
	c.wantsNot(t, "stack", tainting)
	c.wants(t, "unload", "status 0")
	for file := range b.files {
		name, _, _ := strings.Cut(file, ".")
		c.wants(t, name, rejected+file+because)
		c.wantsNot(t, name, "loaded: ")
		if strings.HasPrefix(name, "flipped-") && name != "flipped-magic" {
			// A signature that is there, by a key that is trusted, but wrong.
			c.wantsNot(t, name, "logged: Loading of ")
		}
	}
	for file := range b.taken {
		name, _, _ := strings.Cut(file, ".")
		c.wants(t, name, "status 0", "logged: vmtest_base: here", "loaded: vmtest_base 0 - Live (O)")
	}
	if !b.ecdsa {
		c.wants(t, "boot", "Problem loading X.509 certificate -2")
		c.wants(t, "curve", noKey)
	}
	for name, trusted := range map[string]bool{"mok": true, "long": true, "known-leaf": true, "curve": b.ecdsa, "stranger": false, "strange-leaf": false} {
		answer := []string{"status 25", "trusts the key: no"} // docs/exit-codes.md
		if trusted {
			answer = []string{"status 0", "trusts the key: yes"}
		}
		c.wants(t, "status-"+name, append(answer, "takes trusted signatures only: yes")...)
	}
	for _, name := range []string{"leaf-alone", "strange-leaf"} {
		c.wants(t, name, noKey)
	}
	c.wants(t, "unsigned", noSignature)
	c.wants(t, "flipped-magic", noSignature)
	c.wants(t, "stranger", noKey)
	c.wants(t, "own", "status 0")
}
