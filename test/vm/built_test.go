// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/ko"
	"dkms-go/test/lab"
	"dkms-go/test/sign"
	"dkms-go/test/vm"
)

// built is a root in which dkms has installed vmtest-base, and vmtest-top, which
// needs it, for one kernel: signed, and compressed as the kernel's own objects.
type built struct {
	root   *lab.Root
	kernel string
	certs  [][]byte          // in DER: of the key that dkms made for itself, and of others
	files  map[string][]byte // vmtest_base.ko in other ways, by name, which are refused
	taken  map[string][]byte // the same, which are taken where certs are trusted
	dkms   map[string][]byte // dkms itself, and the keys
	ecdsa  bool              // whether the kernel can check such signatures
}

// makeModules has dkms build and install for one kernel of a root from AllScratch.
// How the kernel's own objects are compressed is said by suffix.
func makeModules(t *testing.T, root *lab.Root, kernel, suffix string) *built {
	t.Helper()
	b := &built{root: root, kernel: kernel, files: map[string][]byte{}, taken: map[string][]byte{}}
	compressOwn(t, root.Path("lib/modules", kernel), suffix)
	configure := func(conf string) {
		t.Helper()
		must(t, os.MkdirAll(root.Path("etc/dkms/framework.conf.d"), 0o755))
		must(t, os.WriteFile(root.Path("etc/dkms/framework.conf.d/sign.conf"), []byte(conf), 0o644))
	}
	build := func() []byte {
		t.Helper()
		// Compiled once: dkms signs and compresses anew what it has in its cache.
		root.MustRun("dkms", "unbuild", "vmtest-base/1.0", "-k", kernel)
		root.MustRun("dkms", "build", "vmtest-base/1.0", "-k", kernel)
		return read(t, root.Path("var/lib/dkms/vmtest-base/1.0", kernel, "x86_64/module/vmtest_base.ko"+suffix))
	}

	configure("try_sign_modules=false\n")
	b.files["unsigned.ko"+suffix] = build()
	keys := root.Path("root")
	by := func(p sign.Pair, authority sign.Pair) []byte {
		t.Helper()
		configure(strings.ReplaceAll(fmt.Sprintf("try_sign_modules=true\nmok_signing_key=%s\nmok_certificate=%s\nmok_ca_certificate=%s\n",
			p.Key, p.Cert, authority.Cert), root.Dir, ""))
		return build()
	}
	none := sign.Pair{}
	b.files["stranger.ko"+suffix] = by(sign.SelfSigned(t, keys, "stranger", sign.RSA("2048")), none)
	ca, leaf := sign.Authority(t, keys, "known")
	b.taken["leaf.ko"+suffix] = by(leaf, ca)
	b.files["leaf-alone.ko"+suffix] = by(leaf, none)
	strangeCA, strangeLeaf := sign.Authority(t, keys, "strange")
	b.files["strange-leaf.ko"+suffix] = by(strangeLeaf, strangeCA)
	long := sign.SelfSigned(t, keys, "long", sign.RSA("4096"))
	b.taken["long.ko"+suffix] = by(long, none)
	curve := by(sign.SelfSigned(t, keys, "curve", sign.EC("P-256")), none)
	if b.ecdsa = bytes.Contains(read(t, root.Path("boot/config-"+kernel)), []byte("\nCONFIG_CRYPTO_ECDSA=y\n")); b.ecdsa {
		b.taken["curve.ko"+suffix] = curve
	} else {
		b.files["curve.ko"+suffix] = curve
	}
	configure("try_sign_modules=true\n")
	signed := build()
	for _, file := range []string{"/var/lib/dkms/mok.pub", "/root/known-ca.der", "/root/long.der", "/root/curve.der"} {
		b.certs = append(b.certs, read(t, root.Path(file)))
	}
	b.dkms = map[string][]byte{"dkms": read(t, lab.Binary(t)), "mok.key": read(t, root.Path("var/lib/dkms/mok.key")), "mok.der": b.certs[0]}
	for _, name := range []string{"stranger", "long", "curve", "known-leaf", "strange-leaf"} {
		b.dkms[name+".key"], b.dkms[name+".der"] = read(t, filepath.Join(keys, name+".key")), read(t, filepath.Join(keys, name+".der"))
	}
	for _, name := range []string{"known", "strange"} {
		b.dkms[name+"-leaf-ca.der"] = read(t, filepath.Join(keys, name+"-ca.der"))
	}
	root.MustRun("dkms", "autoinstall", "-k", kernel)
	installed := read(t, root.Path("lib/modules", kernel, "updates/dkms/vmtest_base.ko"+suffix))
	if !bytes.Equal(signed, installed) {
		t.Error("what is installed isn't what was built last")
	}
	plain, err := ko.Decompress(signed)
	must(t, err)
	b.alter(t, plain)
	return b
}

// compressOwn has the kernel's own objects compressed in one way. Where that is
// another than theirs, or there is no index, the only one left is the one that
// the tests use.
func compressOwn(t *testing.T, tree, suffix string) {
	t.Helper()
	if exists(filepath.Join(tree, msr+suffix)) && exists(filepath.Join(tree, "modules.dep")) {
		return
	}
	found, err := filepath.Glob(filepath.Join(tree, msr+"*"))
	if must(t, err); len(found) != 1 {
		t.Fatalf("the kernel has %q", found)
	}
	data, err := ko.Read(found[0])
	must(t, err)
	data, err = ko.Compress(data, ko.Compression(suffix))
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(tree, "kernel")))
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, msr)), 0o755))
	must(t, os.WriteFile(filepath.Join(tree, msr+suffix), data, 0o644))
	lab.MustExec(t, "depmod", "-b", filepath.Join(tree, "../../.."), filepath.Base(tree)) // as the image's package does last
}

// msr is a module of all kernels that needs no other one.
const msr = "kernel/arch/x86/kernel/msr.ko"

// alter adds copies of a signed object in which one bit has another value: in
// its code and its text, at places all over what is signed, and in the signature.
func (b *built) alter(t *testing.T, signed []byte) {
	t.Helper()
	content := len(ko.WithoutSignature(signed))
	file, err := elf.NewFile(bytes.NewReader(signed))
	must(t, err)
	places := map[string]int{
		"code": int(file.Section(".init.text").Offset),
		"last": content - 1,
		// The signature's value ends before struct module_signature, 12 bytes, and
		// the magic string (include/linux/module_signature.h).
		"value": len(signed) - len("~Module signature appended~\n") - 12 - 1,
		"magic": len(signed) - 2,
		// What nothing but modinfo(8) reads.
		"text": bytes.Index(signed, []byte("a module that another one needs")),
	}
	for i := range 16 {
		places[fmt.Sprintf("content%02d", i)] = content * i / 16
	}
	for name, at := range places {
		changed := bytes.Clone(signed)
		changed[at] ^= 1
		b.files["flipped-"+name+".ko"] = changed
	}
}

// boot runs a script in a virtual machine with that kernel. Trust is that of the
// firmware, or nil for a start without firmware.
func (b *built) boot(t *testing.T, trust *vm.Trust, cmdline, script string) console {
	t.Helper()
	m := vm.Memory{Kernel: b.kernel, Image: b.root.Path("boot/vmlinuz-" + b.kernel), Files: map[string][]byte{}, Cmdline: cmdline}
	for _, files := range []map[string][]byte{b.files, b.taken, b.dkms} {
		maps.Copy(m.Files, files)
	}
	if trust != nil {
		m.UEFI = vm.Variables(t, *trust)
	} else {
		m.Image = vm.Unpacked(t, m.Image)
	}
	tree := b.root.Path("lib/modules", b.kernel)
	own, err := filepath.Glob(filepath.Join(tree, msr+"*"))
	must(t, err)
	efi, err := filepath.Glob(filepath.Join(tree, "kernel/fs/efivarfs/efivarfs.ko*"))
	must(t, err)
	for _, path := range append(own, efi...) {
		m.Own = append(m.Own, strings.TrimPrefix(path, tree+"/"))
	}
	r := vm.InMemory(t, b.root, m, script)
	if !r.OK {
		t.Fatalf("the script didn't come to its end; the console:\n%s", r.Console)
	}
	return console(r.Console)
}

// console is what a guest printed.
type console string

// step returns the lines that one step of a script printed.
func (c console) step(name string) string {
	var lines []string
	for line := range strings.Lines(string(c)) {
		if text, ok := strings.CutPrefix(line, "vm: "+name+": "); ok {
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	return strings.Join(lines, "\n")
}

// wants checks that each of want is in what a step printed.
func (c console) wants(t *testing.T, name string, want ...string) {
	t.Helper()
	step := c.step(name)
	for _, part := range want {
		if !strings.Contains(step, part) {
			t.Errorf("%s: no %q in:\n%s\nthe whole console:\n%s", name, part, step, c)
		}
	}
}

// wantsNot checks that none of these is in what a step printed.
func (c console) wantsNot(t *testing.T, name string, unwanted ...string) {
	t.Helper()
	step := c.step(name)
	for _, part := range unwanted {
		if strings.Contains(step, part) {
			t.Errorf("%s: %q in:\n%s", name, part, step)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
