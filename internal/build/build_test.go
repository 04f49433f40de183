// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"dkms-go/internal/abi"
	"dkms-go/internal/conf"
	"dkms-go/internal/diagnose"
	"dkms-go/internal/host"
	"dkms-go/internal/jobserver"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
	"dkms-go/internal/mok"
	"dkms-go/internal/run"
	"dkms-go/internal/state"
	"dkms-go/internal/verify"
)

// kbuild stands for a kernel's build system: it compiles each C file of the
// module to an object that was made for the release it is told.
const kbuild = `
all:
	@for c in $(M)/*.c $(M)/sub/*.c; do [ ! -e $$c ] || gcc -g -c -DRELEASE='"$(KERNELRELEASE)"' -o $${c%.c}.ko $$c || exit 1; done
	@echo built in $(M)
`

const source = `static const char v[] __attribute__((section(".modinfo"), used)) = "vermagic=" RELEASE " SMP mod_unload";
static const char w[] __attribute__((section(".modinfo"), used)) = "version=1";
int a = 1;
`

func put(t *testing.T, path, text string, mode ...fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), append(mode, 0o644)[0]); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// bench is a machine in a directory with module m/1 added, whose source has
// a.c, which becomes the object a.
type bench struct {
	t    *testing.T
	root string
	src  string
	Job
	out, errw bytes.Buffer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, root: t.TempDir()}
	b.src = b.root + "/src/m-1"
	put(t, b.root+"/kernel/Makefile", kbuild)
	put(t, b.src+"/a.c", source)
	put(t, b.src+"/dkms.conf", "")
	id := state.ID{Module: "m", Version: "1"}
	put(t, b.root+"/tree/m/1/build/old", "left over")
	if err := os.Symlink(b.src, b.root+"/tree/m/1/source"); err != nil {
		t.Fatal(err)
	}
	b.Job = Job{
		Key:    state.Key{ID: id, Kernel: "6.1", Arch: "x"},
		Tree:   state.Tree{Dir: b.root + "/tree", Sources: b.root + "/src"},
		Paths:  host.Paths{ConfDir: b.root + "/etc", InstallTree: b.root + "/lib/modules"},
		Conf:   &conf.Module{Objects: []conf.Object{{Built: "a", Dest: "a", DestDir: "/extra"}}},
		Kernel: kernel.Kernel{Release: "6.1", Arch: "x", SourceDir: b.root + "/kernel"},
		Env:    os.Environ(), Jobs: "2", Finish: Finish{Strip: "strip"}, Version: "dkms-test",
		Out: &b.out, Err: &b.errw,
	}
	return b
}

func (b *bench) build() error {
	b.t.Helper()
	return b.Run(context.Background(), NewRoom(b.Tree, b.Key.ID, 1))
}

// must builds without failure.
func (b *bench) must() {
	b.t.Helper()
	if err := b.build(); err != nil {
		b.t.Fatalf("%v\n%s%s", err, &b.out, &b.errw)
	}
}

// fails builds and returns the failure, after checking what every failure
// leaves: no result, the build directory with its log, and a copy of it.
func (b *bench) fails(stage Stage) *Failure {
	b.t.Helper()
	err := b.build()
	var f *Failure
	if !errors.As(err, &f) {
		b.t.Fatalf("error %v", err)
	}
	if f.Stage != stage {
		b.t.Errorf("failed at %q: %v", f.Stage, err)
	}
	log := b.Tree.Build(b.Key.ID) + "/make.log"
	if f.Log != log || read(b.t, log) != read(b.t, b.Tree.KeptLog(b.Key)) {
		b.t.Errorf("the log is at %s", f.Log)
	}
	b.tidy()
	return f
}

// tidy checks that nothing half-made is left in the tree.
func (b *bench) tidy() {
	b.t.Helper()
	filepath.WalkDir(b.Tree.Dir, func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".dkms-new") || strings.Contains(path, "/.journal/") || strings.Contains(path, "/.build-") {
			b.t.Errorf("%s is left", path)
		}
		return err
	})
}

func (b *bench) result(file string) string { return filepath.Join(b.Tree.Result(b.Key), file) }

func TestBuild(t *testing.T) {
	b := newBench(t)
	put(t, b.src+"/sub/b.c", source)
	put(t, b.root+"/kernel/Makefile", kbuild+"\t@echo 0x1 sym > $(M)/Module.symvers\n")
	b.Conf.Objects = append(b.Conf.Objects,
		conf.Object{Index: 1, Built: "b", BuiltDir: "sub/", Dest: "other", DestDir: "/kernel", Strip: true},
		conf.Object{Index: 2, Built: "never", Dest: "never", Exclusive: conf.Exclusive{Kernel: "^9"}})
	b.Facts = conf.Facts{Release: "6.1", Arch: "x"}
	b.Depends = map[string]string{"dep": "7"}
	b.must()
	if b.errw.String() != "" || b.out.String() != "Building module(s)... done.\n" {
		t.Errorf("said %q and %q", b.out.String(), b.errw.String())
	}
	for file, want := range map[string]string{"module/Module.symvers": "0x1 sym\n", ".dep_dep": "7\n"} {
		if got := read(t, b.result(file)); got != want {
			t.Errorf("%s: %q", file, got)
		}
	}
	if _, err := os.Stat(b.Tree.Build(b.Key.ID)); err == nil {
		t.Error("the build directory stays")
	}
	if read(t, b.result("log/make.log")) != read(t, b.Tree.KeptLog(b.Key)) {
		t.Error("two logs")
	}
	r, err := b.Tree.Record(b.Key)
	if err != nil || len(r.Objects) != 2 || r.Signed || r.Module != "m" || r.Kernel != "6.1" || r.Tool != "dkms-test" || r.Origin != "local" {
		t.Errorf("%+v %v", r, err)
	}
	if o := r.Objects[1]; o.Index != 1 || o.Name != "other" || o.File != "other.ko" || o.Location != "/kernel" || o.Vermagic != "6.1 SMP mod_unload" || len(o.SHA256) != 64 {
		t.Errorf("%+v", o)
	}
	if r.Make != "make -j2 KERNELRELEASE=6.1 -C "+b.root+"/kernel M="+b.Tree.Build(b.Key.ID) {
		t.Error(r.Make)
	}
	debug := func(file string) bool { return strings.Contains(read(t, b.result("module/"+file)), ".debug_info") }
	if !debug("a.ko") || debug("other.ko") {
		t.Error("stripped the wrong object")
	}
	for dir, want := range map[string]fs.FileMode{"": 0o755, "module": 0o755, "module/a.ko": 0o644} {
		if fi, err := os.Stat(b.result(dir)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v %v", dir, fi.Mode(), err)
		}
	}
	b.tidy()
}

// The log is what upstream's is: other programs read it.
func TestLogFormat(t *testing.T) {
	b := newBench(t)
	put(t, b.src+"/pre", "#!/bin/sh\necho out; echo err >&2\n", 0o755)
	b.Conf.PreBuild = "pre 'a b'"
	b.must()
	build := b.Tree.Build(b.Key.ID)
	want := `^DKMS \(dkms-test\) make\.log for m/1 for kernel 6\.1 \(x\)
\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}

Running the pre_build script
# command: cd BUILD/ && BUILD/pre 'a b'
out
err

# exit code: 0
# elapsed time: 00:00:0\d
-{64}

Building module\(s\)
# command: make -j2 KERNELRELEASE=6\.1 -C ROOT/kernel M=BUILD
(?:make.*\n)?built in BUILD
(?:make.*\n)?
# exit code: 0
# elapsed time: 00:00:0\d
-{64}
$`
	want = strings.NewReplacer("BUILD", regexp.QuoteMeta(build), "ROOT", regexp.QuoteMeta(b.root)).Replace(want)
	if got := read(t, b.result("log/make.log")); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPatches(t *testing.T) {
	patch := func(from, to string) string {
		return fmt.Sprintf("--- a/a.c\n+++ b/a.c\n@@ -3 +3 @@\n-%s\n+%s\n", from, to)
	}
	b := newBench(t)
	put(t, b.src+"/patches/one.patch", patch("int a = 1;", "int a = 2;"))
	put(t, b.src+"/patches/deep/two.patch", patch("int a = 2;", "int NAME = 3;"))
	put(t, b.root+"/etc/m/patches/deep/two.patch", patch("int a = 2;", "int overlaid = 3;"))
	b.Conf.Patches = []string{"one.patch", "deep/two.patch"}
	b.must()
	if !strings.Contains(read(t, b.result("module/a.ko")), "overlaid") {
		t.Error("not patched, or not by the administrator's patch")
	}
	if got := b.out.String(); got != "Applying patch one.patch... done.\nApplying patch deep/two.patch... done.\nBuilding module(s)... done.\n" {
		t.Error(got)
	}
	if !strings.Contains(read(t, b.src+"/a.c"), "int a = 1;") {
		t.Error("the source was patched")
	}

	b = newBench(t)
	put(t, b.src+"/patches/bad.patch", patch("int z = 1;", "int a = 2;"))
	b.Conf.Patches = []string{"bad.patch"}
	if f := b.fails(Patch); !strings.Contains(f.Error(), "bad.patch") || f.Replay == "" {
		t.Error(f, f.Replay)
	}
	if _, err := os.Stat(b.Tree.Build(b.Key.ID) + "/a.c.rej"); err != nil {
		t.Error("the rejected hunk is gone:", err)
	}
	if b.Tree.Built(b.Key) {
		t.Error("built")
	}

	for _, name := range []string{"none.patch", "../outside.patch", "deep/../../outside.patch", "deep", ".."} {
		b = newBench(t)
		put(t, b.src+"/outside.patch", "")
		put(t, b.src+"/patches/deep/x", "")
		b.Conf.Patches = []string{name}
		b.fails(PatchPath)
	}
}

func TestHooks(t *testing.T) {
	b := newBench(t)
	put(t, b.src+"/pre", "#!/bin/sh\npwd; echo \"$0|$1|$kernelver\"; exit 7\n", 0o755)
	b.Conf.PreBuild = `pre "a  b"`
	b.Env = append(b.Env, "kernelver=6.1")
	if f := b.fails(PreBuild); f.Status != 7 || b.Tree.Built(b.Key) {
		t.Errorf("%+v", f)
	}
	dir := b.Tree.Build(b.Key.ID)
	if log := read(t, b.Tree.KeptLog(b.Key)); !strings.Contains(log, "\n"+dir+"\n"+dir+"/pre|a  b|6.1\n\n# exit code: 7\n") {
		t.Error(log)
	}
	if !strings.Contains(b.out.String(), "(bad exit status: 7)\nFailed command:\ncd "+dir+"/ && "+dir+"/pre \"a  b\"\n") {
		t.Error(b.out.String())
	}

	// The result is there when POST_BUILD runs, and stays if it fails.
	b = newBench(t)
	put(t, b.src+"/post", "#!/bin/sh\nls "+b.result("module")+"; touch "+b.result("extra")+"; exit 9\n", 0o755)
	b.Conf.PostBuild = "post"
	if f := b.fails(PostBuild); f.Status != 9 || !b.Tree.Built(b.Key) {
		t.Errorf("%+v", f)
	}
	if log := read(t, b.Tree.KeptLog(b.Key)); !strings.Contains(log, "\na.ko\n") || read(t, b.result("extra")) != "" {
		t.Error(log)
	}

	// One that can't be executed is a warning.
	b = newBench(t)
	put(t, b.src+"/pre", "")
	b.Conf.PreBuild = "pre"
	b.must()
	if !strings.Contains(b.errw.String(), `the pre_build script "pre" of m/1 is not executable`) {
		t.Error(b.errw.String())
	}
	// The administrator's takes the module's place.
	b = newBench(t)
	put(t, b.src+"/pre", "#!/bin/sh\nexit 1\n", 0o755)
	put(t, b.root+"/etc/m/pre", "#!/bin/sh\necho ours\n", 0o755)
	b.Conf.PreBuild = "pre"
	b.must()
}

func TestMake(t *testing.T) {
	cases := []struct {
		conf, jobs string
		llvm       bool
		want       string
	}{
		{"", "4", false, "make -j4 KERNELRELEASE=6.1 -C KSRC M=BUILD"},
		{"", "", false, "make -j KERNELRELEASE=6.1 -C KSRC M=BUILD"},
		{"", "1", true, "make -j1 KERNELRELEASE=6.1 -C KSRC M=BUILD LLVM=1"},
		{"make", "1", false, "make -j1 KERNELRELEASE=6.1"},
		{"make all", "1", false, "make -j1 KERNELRELEASE=6.1 all"},
		{"make\tall", "1", false, "make -j1 KERNELRELEASE=6.1\tall"},
		{"makeshift.sh", "1", false, "makeshift.sh"},
		{"'make' all", "1", false, "'make' all"},
		{"cd x && make all", "1", true, "cd x && make all LLVM=1"},
	}
	for _, c := range cases {
		b := newBench(t)
		b.Conf.Make, b.Jobs, b.LLVM = c.conf, c.jobs, c.llvm
		want := strings.NewReplacer("KSRC", b.root+"/kernel", "BUILD", b.Tree.Build(b.Key.ID)).Replace(c.want)
		if got := (&work{Job: b.Job}).makeLine(); got != want {
			t.Errorf("%q: %q, want %q", c.conf, got, want)
		}
	}
	b := newBench(t)
	b.Conf.Make = `gcc -c -DRELEASE='"6.1"' -o a.ko a.c; echo "$from"`
	b.Vars = map[string]string{"from": `it's a "var"`}
	b.must()
	if log := read(t, b.result("log/make.log")); !strings.Contains(log, "\nit's a \"var\"\n") || strings.Contains(log, "from=") {
		t.Error(log)
	}
	b = newBench(t)
	put(t, b.src+"/a.c", "int a = ;\n")
	if f := b.fails(Make); !strings.Contains(string(f.Text), "a.c:1") || !strings.Contains(string(f.Text), "# failed: make: ") || f.Replay == "" {
		t.Errorf("%+v", f)
	}
}

func TestMissingObject(t *testing.T) {
	b := newBench(t)
	b.Conf.Objects[0].Built = "b"
	if f := b.fails(Missing); !strings.Contains(f.Error(), "made no b.ko (but a.ko)") {
		t.Error(f)
	}
	b = newBench(t)
	b.Conf.Make = "true"
	if f := b.fails(Missing); !strings.Contains(f.Error(), "nor any other") {
		t.Error(f)
	}
}

func TestOtherKernelsObjectIsRefused(t *testing.T) {
	b := newBench(t)
	b.Job.Verify = verify.Target{Kernel: abi.Open(b.Paths, b.Kernel)}
	b.must()
	old := read(t, b.Tree.Objects(b.Key)+"/a.ko")
	b.Conf.Make = `gcc -c -DRELEASE='"5.0"' -o a.ko a.c`
	f := b.fails(Verify)
	if !strings.Contains(f.Error(), `a.ko: the vermagic is "5.0 SMP mod_unload", the kernel's is "6.1"`) {
		t.Error(f)
	}
	if read(t, b.Tree.Objects(b.Key)+"/a.ko") != old {
		t.Error("the old result has gone")
	}
	b.Force = true
	b.must()
	if !strings.Contains(b.errw.String(), `Warning: a.ko: the vermagic is`) {
		t.Error(b.errw.String())
	}
}

func TestNoObject(t *testing.T) {
	b := newBench(t)
	const compile = `gcc -c -DRELEASE='"6.1"' -o a.ko a.c`
	for made, why := range map[string]string{
		"echo text > a.ko":                    "the object is cut short or damaged",
		": > a.ko":                            "the object is empty",
		compile + " && truncate -s 500 a.ko":  "the object is cut short or damaged",
		compile + " && truncate -s -100 a.ko": "the object is cut short or damaged",
	} {
		for _, strip := range []bool{true, false} {
			b.Conf.Make, b.Conf.Objects[0].Strip = made, strip
			f := b.fails(Collect)
			if b.Tree.Built(b.Key) || !strings.Contains(f.Error(), "the build made a.ko, but "+why) {
				t.Errorf("%s: %v", made, f)
			}
			if d := diagnose.Read(f.Text, diagnose.Facts{}); d.Class != diagnose.Object || !strings.Contains(d.Error, why) {
				t.Errorf("%s: %+v", made, d)
			}
		}
	}
}

func TestCompression(t *testing.T) {
	for _, c := range []ko.Compression{ko.None, ko.Gzip, ko.XZ, ko.Zstd} {
		b := newBench(t)
		b.Finish.Compression = c
		b.must()
		data, err := ko.Read(b.result("module/a.ko" + string(c)))
		if err != nil || !bytes.HasPrefix(data, []byte("\x7fELF")) || ko.Detect([]byte(read(t, b.result("module/a.ko"+string(c))))) != c {
			t.Error(c, err)
		}
	}
	b := newBench(t)
	b.Finish.Compression, b.Finish.Compressor = ko.XZ, []string{"xz", "-9", "--check=crc32", "-c"}
	b.must()
	if _, err := ko.Read(b.result("module/a.ko.xz")); err != nil {
		t.Error(err)
	}
	b = newBench(t)
	b.Finish.Compression, b.Finish.Compressor = ko.XZ, []string{"false"}
	b.must()
	if !strings.Contains(b.errw.String(), "stays uncompressed") || !strings.HasPrefix(read(t, b.result("module/a.ko")), "\x7fELF") {
		t.Error(b.errw.String())
	}
}

// keyPair makes a signing key with its certificate.
func keyPair(t *testing.T) (key, cert string, signer *ko.Signer) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, cert = t.TempDir()+"/k.pem", t.TempDir()+"/c.der"
	put(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})))
	put(t, cert, string(der))
	if signer, err = ko.LoadSigner(key, cert, nil); err != nil {
		t.Fatal(err)
	}
	return key, cert, signer
}

func TestSigning(t *testing.T) {
	key, cert, signer := keyPair(t)
	b := newBench(t)
	b.Conf.Objects[0].Strip = true
	b.Finish.Sign, b.Finish.Compression = &mok.Plan{Hash: "sha256", Key: key, Cert: cert, Signer: signer}, ko.XZ
	b.must()
	data, err := ko.Read(b.result("module/a.ko.xz"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ko.LoadCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	s, ok, err := ko.ParseSignature(data)
	if err != nil || !ok || s.Verify(ko.Unsigned(data), c) != nil {
		t.Error("not signed after it was stripped, or packed before:", ok, err)
	}
	if r, _ := b.Tree.Record(b.Key); !r.Signed || !strings.Contains(b.out.String(), "Signing module "+b.Tree.Build(b.Key.ID)+"/a.ko\n") {
		t.Errorf("%+v %s", r, b.out.String())
	}

	// Another tool signs the stripped file in its place.
	b = newBench(t)
	tool := b.root + "/sign file"
	put(t, tool, "#!/bin/sh\nprintf '|%s' \"$1\" \"$2\" \"$3\" >> \"$4\"\ngrep -q debug_info \"$4\" && echo unstripped >> \"$4\"\nexit 0\n", 0o755)
	b.Conf.Objects[0].Strip = true
	b.Finish.Sign = &mok.Plan{Hash: "sha512", SignFile: tool, Key: "pkcs11:x", Cert: "c"}
	b.must()
	if got := read(t, b.result("module/a.ko")); !strings.HasSuffix(got, "|sha512|pkcs11:x|c") {
		t.Errorf("ends %q", got[len(got)-40:])
	}

	// A failing tool is told; the object stays unsigned.
	b = newBench(t)
	put(t, b.root+"/tool", "#!/bin/sh\necho no token >&2\nexit 1\n", 0o755)
	b.Finish.Sign = &mok.Plan{Hash: "sha512", SignFile: b.root + "/tool"}
	b.must()
	if r, _ := b.Tree.Record(b.Key); r.Signed || !strings.Contains(r.Unsigned, "tool") || !strings.Contains(b.errw.String(), "stays unsigned") || !strings.Contains(b.errw.String(), "no token") {
		t.Errorf("%+v %s", r, b.errw.String())
	}
}

func TestRebuildKeepsOldResultUntilItSucceeds(t *testing.T) {
	b := newBench(t)
	b.must()
	before := read(t, b.result("module/a.ko"))
	put(t, b.src+"/a.c", "int broken = ;\n")
	b.fails(Make)
	if read(t, b.result("module/a.ko")) != before {
		t.Error("the old object is gone")
	}
	put(t, b.src+"/a.c", source)
	b.Conf.Make = "echo text > a.ko"
	b.fails(Collect)
	if read(t, b.result("module/a.ko")) != before {
		t.Error("the old object is gone")
	}
	b.Conf.Make = ""
	put(t, b.src+"/a.c", source+"int fresh;\n")
	put(t, b.result("stale"), "of the old result")
	b.must()
	if _, err := os.Stat(b.result("stale")); err == nil || !strings.Contains(read(t, b.result("module/a.ko")), "fresh") {
		t.Error("the result wasn't replaced as a whole")
	}
	b.tidy()
}

func TestFailureBeforeTheLog(t *testing.T) {
	b := newBench(t)
	if err := os.RemoveAll(b.src); err != nil {
		t.Fatal(err)
	}
	err := b.build()
	var f *Failure
	if !errors.As(err, &f) || f.Stage != Prepare {
		t.Error(err)
	}
}

func TestCancelled(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	b.Conf.Make = "kill -STOP $$" // only a signal ends it
	go func() {
		for !strings.Contains(string(must(os.ReadFile(b.Tree.Build(b.Key.ID)+"/make.log"))), "# command") {
		}
		cancel(errors.New("stopped by hand"))
	}()
	err := b.Run(ctx, NewRoom(b.Tree, b.Key.ID, 1))
	if err == nil || !strings.Contains(err.Error(), "stopped by hand") || b.Tree.Built(b.Key) {
		t.Error(err)
	}
	b.tidy()
}

func must(text []byte, _ error) []byte { return text }

// Builds of one module for several kernels at a time each find their own
// directory at the path that confs name.
func TestRoomSideBySide(t *testing.T) {
	if !run.CanPrivate() {
		t.Fatal("these tests need root")
	}
	b := newBench(t)
	room := NewRoom(b.Tree, b.Key.ID, 3)
	server, err := jobserver.New(4, "")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	// Each waits for the other, so they do run at the same time.
	put(t, b.src+"/pre", "#!/bin/sh\ntouch "+b.root+"/at-$kernelver\nwhile [ ! -e "+b.root+"/at-$other ]; do sleep 0.01; done\necho $kernelver > mine\n", 0o755)
	errs := make([]error, 2)
	var group sync.WaitGroup
	for i, release := range []string{"6.1", "6.2"} {
		j := b.Job
		j.Out, j.Err = &bytes.Buffer{}, &bytes.Buffer{}
		j.Key.Kernel, j.Kernel.Release, j.Server = release, release, server
		other := []string{"6.2", "6.1"}[i]
		c := *b.Conf
		c.PreBuild = "pre"
		j.Conf = &c
		j.Env = append(j.Env[:len(j.Env):len(j.Env)], "kernelver="+release, "other="+other)
		if i == 1 {
			c.Make = "cat " + b.Tree.Build(b.Key.ID) + "/mine; exit 3"
		}
		group.Add(1)
		go func() {
			defer group.Done()
			errs[i] = j.Run(context.Background(), room)
		}()
	}
	group.Wait()
	room.Leave() // the third was never attempted
	if errs[0] != nil || errs[1] == nil {
		t.Fatal(errs)
	}
	var f *Failure
	second := b.Key
	second.Kernel = "6.2"
	if !errors.As(errs[1], &f) || f.Status != 3 || f.Log != b.Tree.KeptLog(second) {
		t.Errorf("%+v", f)
	}
	if text := read(t, f.Log); !strings.Contains(text, "\n6.2\n") {
		t.Error(text)
	}
	if got := read(t, b.Tree.Build(b.Key.ID)+"/mine"); got != "6.2\n" {
		t.Errorf("the failed build's directory is not what stays: %q", got)
	}
	if info, err := ko.ParseInfo([]byte(read(t, b.result("module/a.ko")))); err != nil || info.Vermagic() != "6.1 SMP mod_unload" {
		t.Error(info, err)
	}
	if log := read(t, b.result("log/make.log")); !strings.Contains(log, "# command: make KERNELRELEASE=6.1 ") {
		t.Error(log) // the job server gives the jobs
	}
	b.tidy()
}

// All of a build's commands are told the kernel that it is for.
func TestUname(t *testing.T) {
	b := newBench(t)
	b.Key.Kernel, b.Kernel.Release = "6.1.0-77-test", "6.1.0-77-test"
	put(t, b.root+"/kernel/include/generated/compile.h", "#define UTS_VERSION \"#7 SMP Test\"\n#define LINUX_COMPILER \"gcc-77\"\n")
	put(t, b.src+"/tell", "#!/bin/sh\nuname -rv >>"+b.root+"/told\n", 0o755)
	b.Conf.PreBuild, b.Conf.PostBuild = "tell", "tell"
	b.Conf.Make = "./tell && make -C " + b.root + "/kernel M=$PWD"
	b.RealUname = func(err error) { t.Error(err) }
	b.must()
	if got := read(t, b.root+"/told"); got != strings.Repeat("6.1.0-77-test #7 SMP Test\n", 3) {
		t.Error(got)
	}
	b.tidy()
}

// Where namespaces aren't allowed, builds take turns in one directory.
func TestRoomInTurns(t *testing.T) {
	b := newBench(t)
	room := NewRoom(b.Tree, b.Key.ID, 2)
	room.shared = false
	var group sync.WaitGroup
	for _, release := range []string{"6.1", "6.2"} {
		j := b.Job
		j.Out, j.Err = &bytes.Buffer{}, &bytes.Buffer{}
		j.Key.Kernel, j.Kernel.Release = release, release
		group.Add(1)
		go func() {
			defer group.Done()
			if err := j.Run(context.Background(), room); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	for _, release := range []string{"6.1", "6.2"} {
		k := b.Key
		k.Kernel = release
		if info, err := ko.ParseInfo([]byte(read(t, b.Tree.Objects(k)+"/a.ko"))); err != nil || !strings.HasPrefix(info.Vermagic(), release+" ") {
			t.Error(release, info, err)
		}
	}
	if _, err := os.Stat(b.Tree.Build(b.Key.ID)); err == nil {
		t.Error("the build directory stays")
	}
	b.tidy()
}

func TestVerbose(t *testing.T) {
	b := newBench(t)
	b.Verbose = true
	b.must()
	if got := b.out.String(); !strings.HasPrefix(got, "make -j2 KERNELRELEASE=6.1") || !strings.Contains(got, "built in ") || !strings.HasSuffix(got, " done.\n") {
		t.Error(got)
	}
}
