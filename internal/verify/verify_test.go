// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/abi"
	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
)

// objectSource is a module that uses printk, a symbol for the GPL only, one of
// a namespace and one of a module, with macros for what tests change.
const objectSource = `
#define INFO2(n, s) static const char i_##n[] __attribute__((section(".modinfo"), used, aligned(1))) = s
#define INFO(n, s) INFO2(n, s)
#ifndef RELEASE
#define RELEASE "6.1.0"
#endif
#ifndef OPTIONS
#define OPTIONS "SMP mod_unload modversions "
#endif
#ifndef LICENCE
#define LICENCE "GPL"
#endif
#ifndef SPACE
#define SPACE "SPACE"
#endif
#ifndef CRC
#define CRC 0x11
#endif
#ifndef SIZE
#define SIZE 100
#endif
INFO(name, "name=small");
#ifndef BARE
INFO(magic, "vermagic=" RELEASE " " OPTIONS);
#endif
INFO(lic, "license=" LICENCE);
INFO(space, "import_ns=" SPACE);
INFO(src, "srcversion=ABC");
INFO(dep, "depends=other");
#ifdef INTREE
INFO(tree, "intree=Y");
#endif
#ifndef NOVERSIONS
static const struct { unsigned long crc; char name[64 - sizeof(long)]; } vers[] __attribute__((section("__versions"), used)) = {
	{ 0x99, "module_layout" }, { CRC, "printk" }, { 0x22, "gpl_only" }, { 0x33, "spaced" }, { 0x44, "of_module" },
};
#endif
struct { void *a[3]; char name[56]; char rest[SIZE]; } __this_module __attribute__((section(".gnu.linkonce.this_module"))) = { .name = "small" };
extern int printk(void), gpl_only(void), spaced(void), of_module(void), gone(void) __attribute__((weak));
int init_module(void)
{
#ifdef EXTRA
	extern int EXTRA(void);
	EXTRA();
#endif
	return gone ? gone() : printk() + gpl_only() + spaced() + of_module();
}
#ifdef EXPORTER
int of_set(void) { return 0; }
__asm__(".pushsection __ksymtab,\"a\"\n__ksymtab_of_set: .long 0,0,0\n.popsection\n.pushsection __kcrctab,\"a\"\n__crc_of_set: .long 0x55\n.popsection");
#endif
`

const symvers = "0x00000099\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n" +
	"0x00000011\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n" +
	"0x00000022\tgpl_only\tvmlinux\tEXPORT_SYMBOL_GPL\t\n" +
	"0x00000033\tspaced\tvmlinux\tEXPORT_SYMBOL\tSPACE\n" +
	"0x00000044\tof_module\tdrivers/other\tEXPORT_SYMBOL\t\n"

func compile(t testing.TB, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	c, out := filepath.Join(dir, "small.c"), filepath.Join(dir, "small.ko")
	put(t, c, []byte(objectSource))
	if text, err := exec.Command("gcc", append([]string{"-fno-pic", "-c", c, "-o", out}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func put(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// machine is a kernel tree with headers and one object of the kernel.
type machine struct{ root, tree string }

func newMachine(t testing.TB, config ...string) machine {
	m := machine{root: t.TempDir()}
	m.tree = filepath.Join(m.root, "lib", "6.1.0")
	text := "CONFIG_MODULES=y\nCONFIG_SMP=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_MODVERSIONS=y\nCONFIG_MODULE_SIG=y\n"
	for i := range 100 {
		text += fmt.Sprintf("CONFIG_X%d=y\n", i)
	}
	put(t, filepath.Join(m.tree, "build", ".config"), []byte(text+strings.Join(config, "\n")))
	put(t, filepath.Join(m.tree, "build", "Module.symvers"), []byte(symvers))
	return m
}

func (m machine) open() *abi.Kernel {
	p := host.Paths{InstallTree: filepath.Join(m.root, "lib"), Boot: filepath.Join(m.root, "boot")}
	return abi.Open(p, kernel.Find(p, "6.1.0", "x86_64", kernel.Options{}))
}

func (m machine) check(t testing.TB, data []byte) Report {
	t.Helper()
	return Objects([]File{{Name: "small.ko", Data: data}}, Target{Kernel: m.open()})[0]
}

// TestProblems changes one thing of an object at a time.
func TestProblems(t *testing.T) {
	m := newMachine(t)
	put(t, filepath.Join(m.tree, "kernel", "other.ko"), compile(t, "-DINTREE"))
	good := m.check(t, compile(t))
	if len(good.Problems) > 0 || good.SrcVersion != "ABC" || !slices.Equal(good.Against, []string{"other.ko", "Module.symvers"}) {
		t.Fatalf("a good object: %+v", good)
	}
	xz := func(args ...string) []byte {
		path := filepath.Join(t.TempDir(), "small.ko")
		put(t, path, compile(t))
		if out, err := exec.Command("xz", append(args, path)...).CombinedOutput(); err != nil {
			t.Fatalf("xz: %v\n%s", err, out)
		}
		data, _ := os.ReadFile(path + ".xz")
		return data
	}
	signed := append(compile(t), "trash\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x05~Module signature appended~\n"...)
	for name, c := range map[string]struct {
		data []byte
		want Problem
	}{
		"text":      {[]byte("no object"), Problem{Unreadable, true, "malformed"}},
		"class":     {compile(t, "-m32", "-mregparm=3"), Problem{ELF, true, "ELFCLASS32, the kernel's is ELFCLASS64"}},
		"release":   {compile(t, `-DRELEASE="6.9"`), Problem{Vermagic, true, `"6.9 SMP mod_unload modversions", the kernel's is "6.1.0 SMP mod_unload modversions"`}},
		"options":   {compile(t, `-DOPTIONS="SMP preempt mod_unload modversions "`), Problem{Vermagic, true, `"6.1.0 SMP preempt mod_unload modversions", the kernel's`}},
		"vermagic":  {compile(t, "-DBARE"), Problem{Vermagic, true, "no vermagic"}},
		"size":      {compile(t, "-DSIZE=300"), Problem{Size, true, "384 bytes, the kernel's has 184"}},
		"crc":       {compile(t, "-DCRC=0x12"), Problem{Version, true, "printk has the CRC 0x00000012, the kernel's is 0x00000011"}},
		"missing":   {compile(t, "-DEXTRA=nobodys"), Problem{Missing, true, "nobodys"}},
		"licence":   {compile(t, `-DLICENCE="Proprietary"`), Problem{Licence, true, `"Proprietary", and the symbol gpl_only`}},
		"namespace": {compile(t, `-DSPACE="OTHER"`), Problem{Namespace, true, `"SPACE" of the symbol spaced (import_ns is "OTHER")`}},
		"versions":  {compile(t, "-DNOVERSIONS"), Problem{NoVersions, true, "no CRCs"}},
		"no crc":    {compile(t, "-DEXTRA=gpl_only", "-Dprintk=module_layout"), Problem{}},
		"signature": {signed, Problem{Signature, true, "signature"}},
		"xz CRC64":  {xz("-k"), Problem{Compression, false, "CRC64"}},
		"xz CRC32":  {xz("-k", "--check=crc32"), Problem{}},
	} {
		got := m.check(t, c.data).Problems
		switch {
		case c.want.Code == "" && len(got) > 0:
			t.Errorf("%s: %+v", name, got)
		case c.want.Code == "":
		case len(got) != 1 || got[0].Code != c.want.Code || got[0].Refuse != c.want.Refuse || !strings.Contains(got[0].Text, c.want.Text):
			t.Errorf("%s: %+v, want one %+v", name, got, c.want)
		}
	}
}

// TestConfigurations: what kernels differ in.
func TestConfigurations(t *testing.T) {
	preempt := `-DOPTIONS="SMP preempt mod_unload modversions "`
	for name, c := range map[string]struct {
		config string
		flags  []string
		want   string // codes, with an exclamation mark for refusals
	}{
		"plain":             {"", nil, ""},
		"options":           {"CONFIG_SMP=n", nil, "vermagic!"},
		"preempt":           {"", []string{preempt}, "vermagic!"},
		"preempt build":     {"CONFIG_PREEMPT_BUILD=y", []string{preempt}, ""},
		"unclear":           {"CONFIG_PREEMPTION=y", []string{preempt}, ""},
		"forced signature":  {"CONFIG_MODULE_SIG_FORCE=y", nil, "signature!"},
		"no CRCs":           {"CONFIG_MODVERSIONS=n", []string{"-DCRC=7", `-DOPTIONS="SMP mod_unload "`}, ""},
		"namespaces free":   {"CONFIG_MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS=y", []string{`-DSPACE=""`}, "namespace"},
		"forced load":       {"CONFIG_MODULE_FORCE_LOAD=y", []string{"-DNOVERSIONS", "-DBARE"}, "vermagic modversions"},
		"other release":     {"", []string{`-DRELEASE="6.2"`, "-DCRC=7"}, "vermagic! crc!"},
		"symbols unlimited": {"CONFIG_MODULE_SIG=n", nil, ""},
	} {
		m := newMachine(t, c.config)
		var got []string
		for _, p := range m.check(t, compile(t, c.flags...)).Problems {
			mark := ""
			if p.Refuse {
				mark = "!"
			}
			got = append(got, string(p.Code)+mark)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

// TestNothingKnown: what can't be judged is no problem.
func TestNothingKnown(t *testing.T) {
	m := machine{root: t.TempDir()}
	m.tree = filepath.Join(m.root, "lib", "6.1.0")
	put(t, filepath.Join(m.tree, "build", "Module.symvers"), nil)
	put(t, filepath.Join(m.tree, "build", ".config"), []byte("CONFIG_MODULES=y\n"))
	for _, flags := range [][]string{{"-DEXTRA=nobodys"}, {"-DBARE", "-DNOVERSIONS"}} {
		if r := m.check(t, compile(t, flags...)); len(r.Problems) > 0 || len(r.Against) > 0 || len(r.Unchecked) > 0 {
			t.Errorf("%q: %+v", flags, r)
		}
	}
	if r := m.check(t, compile(t, `-DRELEASE="6.2"`)); !r.Refused() {
		t.Errorf("another release: %+v", r)
	}
}

// TestExporters: symbols that others than the kernel export.
func TestExporters(t *testing.T) {
	m := newMachine(t)
	user := File{Name: "user.ko", Data: compile(t, "-DEXTRA=of_set")}
	exporter := compile(t, "-DEXPORTER")
	list := filepath.Join(m.root, "Module.symvers")
	put(t, list, []byte("0x00000055\tof_set\tsmall\tEXPORT_SYMBOL\t\n"))
	object := filepath.Join(m.root, "small.ko")
	put(t, object, exporter)
	count := func(r []Report) (n int) {
		for _, p := range r[0].Problems {
			if p.Code == Missing {
				n++
			}
		}
		return n
	}
	for name, n := range map[string]int{
		"alone": count(Objects([]File{user}, Target{Kernel: m.open()})),
	} {
		if n != 1 {
			t.Errorf("%s: %d symbols missing", name, n)
		}
	}
	if n := count(Objects([]File{user, {Name: "small.ko", Data: exporter}}, Target{Kernel: m.open()})); n != 0 {
		t.Errorf("in a set: %d symbols missing", n)
	}
	for _, path := range []string{list, object} {
		if n := count(Objects([]File{user}, Target{Kernel: m.open(), Exporters: []string{path}})); n != 0 {
			t.Errorf("with %s: %d symbols missing", path, n)
		}
	}
	r := Objects([]File{user}, Target{Kernel: m.open(), Exporters: []string{m.root + "/no.ko"}})
	if count(r) != 1 || len(r[0].Unchecked) != 1 {
		t.Errorf("with an exporter that isn't there: %+v", r)
	}
	installed := filepath.Join(m.tree, "updates", "dkms", "small.ko")
	put(t, installed, exporter)
	if n := count(Objects([]File{user}, Target{Kernel: m.open()})); n != 0 {
		t.Errorf("with an installed object: %d symbols missing", n)
	}
	user.Path = installed
	if n := count(Objects([]File{user}, Target{Kernel: m.open()})); n != 1 {
		t.Errorf("in place of the exporter: %d symbols missing", n)
	}
}

// TestStandIn: an installed object of the name of one of the kernel's counts
// in its place.
func TestStandIn(t *testing.T) {
	m := newMachine(t)
	data := strings.Replace(string(compile(t, "-DEXPORTER")), "", "", 1)
	put(t, filepath.Join(m.tree, "extra", "other.ko"), []byte(data))
	put(t, filepath.Join(m.tree, "build", "Module.symvers"), []byte(symvers+"0x00000056\tof_set\tdrivers/other\tEXPORT_SYMBOL\t\n"))
	s, state := m.open().Symbol("of_set", nil, nil)
	if state != abi.Found || s.CRC != 0x55 || filepath.Base(s.File) != "other.ko" {
		t.Errorf("%+v, %v", s, state)
	}
	s, state = m.open().Symbol("of_set", nil, []string{s.File})
	if state != abi.Found || s.CRC != 0x56 || filepath.Base(s.File) != "Module.symvers" {
		t.Errorf("without it: %+v, %v", s, state)
	}
}

func TestSigner(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	key, crt := filepath.Join(dir, "key"), filepath.Join(dir, "crt")
	if out, err := exec.Command("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=the signer",
		"-keyout", key, "-out", crt).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	signer, err := ko.LoadSigner(key, crt, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := ko.Sign(compile(t), signer, "sha256")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ko.LoadCertificate(crt)
	if err != nil {
		t.Fatal(err)
	}
	target := Target{Kernel: m.open()}
	target.Certificates = append(target.Certificates, cert)
	if r := Objects([]File{{Name: "a.ko", Data: data}}, target)[0]; len(r.Problems) > 0 || r.Signer != "the signer" {
		t.Errorf("signed: %+v", r)
	}
	data[len(compile(t))-1] ^= 1 // in the table of sections' padding or names
	if r := Objects([]File{{Name: "a.ko", Data: data}}, target)[0]; len(r.Problems) == 0 || r.Problems[0].Code != Signature {
		t.Errorf("changed after signing: %+v", r)
	}
}

func TestNamespacesOfModules(t *testing.T) {
	m := newMachine(t)
	for space, want := range map[string]bool{
		"module:small": true, "module:a,sma*": true, "module:smal": false, "module:a,b": false, "small": false,
	} {
		put(t, filepath.Join(m.tree, "build", "Module.symvers"), []byte(strings.Replace(symvers, "\tSPACE\n", "\t"+space+"\n", 1)))
		if r := m.check(t, compile(t)); r.Refused() == want {
			t.Errorf("%s: %+v", space, r.Problems)
		}
	}
}

func TestShadowed(t *testing.T) {
	tree := t.TempDir()
	put(t, filepath.Join(tree, "modules.dep"), []byte("kernel/a.ko.xz: kernel/b.ko.xz\nupdates/dkms/my-c.ko:\nupdates/d.ko:\n"))
	put(t, filepath.Join(tree, "modules.builtin"), []byte("kernel/drivers/d.ko\n"))
	got := Shadowed(tree, []string{"extra/a.ko", "updates/dkms/my-c.ko", "updates/d.ko", "updates/e.ko"})
	want := []Shadow{
		{filepath.Join(tree, "extra/a.ko"), filepath.Join(tree, "kernel/a.ko.xz")},
		{filepath.Join(tree, "updates/d.ko"), BuiltIn}, {filepath.Join(tree, "updates/e.ko"), ""},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
