// SPDX-License-Identifier: Apache-2.0

// Package crowd lays out, for tests and benchmarks, the state of a machine with
// many modules that are installed for many kernels: sources, kernels with
// headers and images, results with their records, and installed objects. It is
// what that many runs of `dkms install` would leave, without the compilers.
package crowd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/internal/state"
)

// Arch is the arch of all kernels.
const Arch = "x86_64"

// Options say how large the crowd is.
type Options struct {
	// Root is put before all places when they are written; what is written
	// names them without it.
	Root string
	// Paths are the places as the program will see them.
	Paths host.Paths
	// Modules and Kernels are their numbers.
	Modules, Kernels int
	// Headers is the size in bytes of each kernel's Module.symvers, Image that of
	// its image; 0 is that of a distribution's kernel.
	Headers, Image int
	// Conf has further lines for each module's conf.
	Conf string
}

// Sizes of Debian's 6.12 kernel.
const (
	symversSize = 1_500_000
	imageSize   = 12_000_000
	objectSize  = 8192
)

// Module returns the i-th module.
func Module(i int) state.ID {
	return state.ID{Module: fmt.Sprintf("crowd%03d", i), Version: "1.0"}
}

// Kernel returns the release of the i-th kernel.
func Kernel(i int) string { return fmt.Sprintf("6.%d.0-%d-amd64", 1+i/10, 10+i%10) }

// layer writes one crowd.
type layer struct {
	Options
	tree     state.Tree // as the program sees it
	template []byte
	compiler state.Program
	sources  map[state.ID]string
}

// The places in an object that take its own names, padded with spaces.
const (
	nameMark    = "@NAME___________________________@"
	releaseMark = "@RELEASE________________________@"
)

// Lay writes a crowd. Before: the places are empty. sourceDigest is what records
// name as the digest of a source directory.
func Lay(o Options, sourceDigest func(dir string) (string, error)) error {
	if o.Headers == 0 {
		o.Headers = symversSize
	}
	if o.Image == 0 {
		o.Image = imageSize
	}
	l := &layer{Options: o, tree: state.Tree{Dir: o.Paths.DKMSTree, Sources: o.Paths.SourceTree}, sources: map[state.ID]string{}}
	if err := l.compile(); err != nil {
		return err
	}
	for i := range o.Modules {
		if err := l.source(Module(i), sourceDigest); err != nil {
			return err
		}
	}
	for i := range o.Kernels {
		if err := l.kernel(Kernel(i)); err != nil {
			return err
		}
	}
	return nil
}

// compile makes the template of all objects with the machine's compiler.
func (l *layer) compile() error {
	cc, err := exec.LookPath("gcc")
	if err == nil {
		cc, err = filepath.EvalSymlinks(cc)
	}
	if err != nil {
		return fmt.Errorf("finding the compiler: %w", err)
	}
	banner, err := exec.Command(cc, "--version").Output()
	if err != nil {
		return fmt.Errorf("asking the compiler for its version: %w", err)
	}
	fi, err := os.Stat(cc)
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(banner), "\n")
	l.compiler = state.Program{Path: cc, Size: fi.Size(), ModTime: fi.ModTime().UnixNano(), Banner: line}
	dir, err := os.MkdirTemp("", "crowd-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text := `#define I(n, s) static const char n[] __attribute__((section(".modinfo"), used)) = s
I(a, "vermagic=` + releaseMark + `"); I(b, "license=GPL"); I(c, "description=` + nameMark + `"); I(d, "version=1.0");
const char padding[` + fmt.Sprint(objectSize) + `] = {1};
`
	file := filepath.Join(dir, "x.c")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	object := filepath.Join(dir, "x.ko")
	if out, err := exec.Command(cc, "-c", "-o", object, file).CombinedOutput(); err != nil {
		return fmt.Errorf("compiling the template of objects: %w\n%s", err, out)
	}
	l.template, err = os.ReadFile(object)
	return err
}

func (l *layer) put(path string, data []byte) error {
	path = l.Root + path
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func (l *layer) link(to, path string) error {
	if err := os.MkdirAll(filepath.Dir(l.Root+path), 0o755); err != nil {
		return err
	}
	return os.Symlink(to, l.Root+path)
}

// source puts a module's source in place and adds it.
func (l *layer) source(id state.ID, digest func(string) (string, error)) error {
	dir := l.tree.Source(id)
	files := map[string]string{
		"dkms.conf": fmt.Sprintf("PACKAGE_NAME=\"%s\"\nPACKAGE_VERSION=\"%s\"\nMAKE[0]=\"make -C ${kernel_source_dir} M=${dkms_tree}/${PACKAGE_NAME}/${PACKAGE_VERSION}/build modules\"\n"+
			"CLEAN=\"make -C ${kernel_source_dir} clean\"\nBUILT_MODULE_NAME[0]=\"$PACKAGE_NAME\"\nDEST_MODULE_LOCATION[0]=\"/updates/dkms\"\nAUTOINSTALL=\"yes\"\n%s", id.Module, id.Version, l.Conf),
		"Makefile":       "obj-m := " + id.Module + ".o\n",
		id.Module + ".c": strings.Repeat("// "+id.Module+"\n", 400),
		"include/x.h":    strings.Repeat("#define X 1\n", 100),
	}
	for name, text := range files {
		if err := l.put(filepath.Join(dir, name), []byte(text)); err != nil {
			return err
		}
	}
	sum, err := digest(l.Root + dir)
	if err != nil {
		return err
	}
	l.sources[id] = sum
	return l.link(dir, l.tree.SourceLink(id))
}

// kernel lays out a kernel and what is installed for it.
func (l *layer) kernel(release string) error {
	dir := l.Paths.KernelTree(release)
	line := strings.Repeat("x", 80)
	files := map[string]string{
		"build/Module.symvers":                    release + "\n" + strings.Repeat("0x00000000\tsymbol\tvmlinux\tEXPORT_SYMBOL_GPL\n", l.Headers/45),
		"build/include/config/auto.conf":          "CONFIG_CC_VERSION_TEXT=\"gcc-12\"\n" + strings.Repeat("CONFIG_SYMBOL_"+line[:20]+"=y\n", l.Headers/100),
		"build/include/generated/utsrelease.h":    "#define UTS_RELEASE \"" + release + "\"\n",
		"build/include/generated/compile.h":       "#define UTS_VERSION \"#1 SMP " + release + "\"\n",
		"kernel/drivers/net/dummy.ko.xz":          "",
		"modules.dep":                             "",
		"modules.order":                           "",
		"modules.builtin":                         "",
		"kernel/fs/" + line[:30] + "/nothing.txt": "",
	}
	for name, text := range files {
		if err := l.put(filepath.Join(dir, name), []byte(text)); err != nil {
			return err
		}
	}
	if err := l.put(l.Paths.SystemMap(release), []byte("ffffffff B the real one is elsewhere\n")); err != nil {
		return err
	}
	if err := l.put(l.Paths.Images(release)[0], bytes.Repeat([]byte(release+"\n"), l.Image/(len(release)+1))); err != nil {
		return err
	}
	p := l.Paths
	p.InstallTree, p.Boot, p.DebugBoot = l.Root+p.InstallTree, l.Root+p.Boot, l.Root+p.DebugBoot
	identity := kernel.Find(p, release, Arch, kernel.Options{}).Identity(p)
	for i := range l.Modules {
		if err := l.result(state.Key{ID: Module(i), Kernel: release, Arch: Arch}, identity); err != nil {
			return err
		}
	}
	return nil
}

// result lays out one installed result.
func (l *layer) result(k state.Key, id kernel.Identity) error {
	pad := func(s string) []byte { return fmt.Appendf(nil, "%-*s", len(nameMark), s) }
	object := bytes.ReplaceAll(l.template, []byte(nameMark), pad(k.Module))
	object = bytes.ReplaceAll(object, []byte(releaseMark), pad(k.Kernel+" SMP"))
	sum := sha256.Sum256(object)
	name := k.Module + ".ko"
	placed := filepath.Join(l.Paths.KernelTree(k.Kernel), "updates", "dkms", name)
	for path, data := range map[string][]byte{
		filepath.Join(l.tree.Objects(k), name): object,
		placed:                                 object,
		l.tree.PlacedList(k):                   []byte(hex.EncodeToString(sum[:]) + "  " + placed + "\n"),
		filepath.Join(l.tree.Result(k), "log", "make.log"): []byte("# what make said\n"),
	} {
		if err := l.put(path, data); err != nil {
			return err
		}
	}
	err := state.WriteRecord(l.Root+l.tree.Result(k), state.Record{
		Format: state.RecordFormat, Module: k.Module, Version: k.Version, Kernel: k.Kernel, Arch: k.Arch,
		Origin: "local", Built: time.Unix(1_700_000_000, 0).UTC(), Seconds: 1.5, Tool: "dkms-test", Make: "make -j2 KERNELRELEASE=" + k.Kernel,
		Identity: id, Source: l.sources[k.ID], Settings: hex.EncodeToString(sum[:]), Compiler: &l.compiler,
		Verified: []string{"Module.symvers"},
		Objects:  []state.ObjectEntry{{Name: k.Module, File: name, Location: "/updates/dkms", SHA256: hex.EncodeToString(sum[:]), Vermagic: k.Kernel + " SMP"}},
	})
	if err != nil {
		return err
	}
	return l.link(filepath.Join(k.Version, k.Kernel, k.Arch), l.tree.ActiveLink(k))
}
