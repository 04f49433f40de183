// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
)

// exporterSource is an object that exports one symbol, SYMBOL.
const exporterSource = `
#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)
static const char magic[] __attribute__((section(".modinfo"), used)) = "vermagic=6.1.0 SMP \0intree=Y";
char this[] __attribute__((section(".gnu.linkonce.this_module"))) = "123456";
int SYMBOL(void) { return 0; }
__asm__(".pushsection __ksymtab,\"a\"\n__ksymtab_" TEXT(SYMBOL) ": .long 0,0,0\n.popsection");
`

func exporter(t testing.TB, path, symbol string) {
	t.Helper()
	c := filepath.Join(t.TempDir(), "e.c")
	put(t, c, []byte(exporterSource))
	put(t, path, nil)
	run(t, "gcc", "-c", "-DSYMBOL="+symbol, c, "-o", path)
}

// TestSymbolsWithoutHeaders finds exporters by the index, by what an object
// depends on, and by looking into what was installed.
func TestSymbolsWithoutHeaders(t *testing.T) {
	root := t.TempDir()
	p := host.Paths{InstallTree: filepath.Join(root, "lib"), Boot: filepath.Join(root, "boot")}
	tree := p.KernelTree("6.1.0")
	open := func() *Kernel { return Open(p, kernel.Find(p, "6.1.0", "x86_64", kernel.Options{})) }
	put(t, filepath.Join(root, "boot", "vmlinuz-6.1.0"), link(t, vmlinuxSource, "-DSPACES"))
	put(t, filepath.Join(root, "boot", "config-6.1.0"), []byte("CONFIG_MODULES=y\n"))
	exporter(t, filepath.Join(tree, "kernel", "drivers", "a-module.ko"), "of_a")
	exporter(t, filepath.Join(tree, "updates", "dkms", "b.ko"), "of_b")
	exporter(t, filepath.Join(tree, "extra", "b.ko"), "of_other_b")

	k := open()
	for symbol, want := range map[string]State{"beta": Found, "of_a": Unknown, "of_b": Found, "of_other_b": Unknown} {
		if s, got := k.Symbol(symbol, nil, nil); got != want {
			t.Errorf("without an index %s is %v (%+v), want %v", symbol, got, s, want)
		}
	}
	if s, got := k.Symbol("of_a", []string{"a-module"}, nil); got != Found || filepath.Base(s.File) != "a-module.ko" {
		t.Errorf("by its module of_a is %v (%+v)", got, s)
	}
	put(t, filepath.Join(tree, "modules.symbols"), []byte("# comment\nalias symbol:of_a a_module\n"))
	k = open()
	for symbol, want := range map[string]State{"of_a": Found, "of_b": Found, "nobodys": Missing, "of_other_b": Missing} {
		if s, got := k.Symbol(symbol, nil, nil); got != want {
			t.Errorf("with an index %s is %v (%+v), want %v", symbol, got, s, want)
		}
	}
	put(t, filepath.Join(tree, "modules.dep"), []byte("extra/b.ko:\n"))
	if s, got := open().Symbol("of_other_b", nil, nil); got != Found || !strings.HasSuffix(s.File, "extra/b.ko") {
		t.Errorf("the index's first file for b is not taken: %v (%+v)", got, s)
	}
	if len(k.Problems()) > 0 {
		t.Errorf("problems: %v", k.Problems())
	}
}

func TestSample(t *testing.T) {
	root := t.TempDir()
	p := host.Paths{InstallTree: root}
	k := kernel.Find(p, "6.1.0", "riscv64", kernel.Options{})
	if a := Open(p, k); a.Sample() != nil {
		t.Errorf("sample of nothing: %+v", a.Sample())
	}
	if _, machine, ok := Open(p, k).ELF(); !ok || machine.String() != "EM_RISCV" {
		t.Errorf("machine by name: %v", machine)
	}
	put(t, filepath.Join(root, "6.1.0", "kernel", "a.ko"), []byte("no object"))
	exporter(t, filepath.Join(root, "6.1.0", "kernel", "b.ko"), "b")
	s := Open(p, k).Sample()
	if s == nil || s.Vermagic != "6.1.0 SMP " || s.ModuleSize != 7 || filepath.Base(s.Path) != "b.ko" {
		t.Errorf("%+v", s)
	}
}

// TestSymversOfImages: lists that come with an image, and one of a build that
// was not finished.
func TestSymversOfImages(t *testing.T) {
	root := t.TempDir()
	p := host.Paths{InstallTree: root, Boot: filepath.Join(root, "boot")}
	k := kernel.Find(p, "6.1.0", "x86_64", kernel.Options{})
	put(t, filepath.Join(k.SourceDir, "Module.symvers"), []byte("0x1\tx\tdrivers/x\tEXPORT_SYMBOL\t\n"))
	if e, file := Open(p, k).Exports(); e != nil {
		t.Errorf("%v of %s", e, file)
	}
	list := filepath.Join(root, "6.1.0", "symvers")
	put(t, list, []byte("0x00000001\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"))
	run(t, "gzip", list)
	if e, file := Open(p, k).Exports(); e == nil || e.Len() != 1 || file != list+".gz" {
		t.Errorf("%v of %s", e, file)
	}
	put(t, list+".gz", []byte("a bad line"))
	a := Open(p, k)
	if e, _ := a.Exports(); e != nil || len(a.Problems()) != 1 {
		t.Errorf("%v, %v", e, a.Problems())
	}
}
