// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/ko"
	"dkms-go/internal/run"
	"dkms-go/test/lab"
)

var (
	rounds = flag.Int("modindex.rounds", 12, "rounds of the random test")
	seed   = flag.Uint64("modindex.seed", 1, "where the random test starts")
)

// bench is a kernel's tree that depmod and this package both index.
type bench struct {
	tb               testing.TB
	base, tree       string
	cache, config    string
	release          string
	path             string // PATH, in which depmod is
	unsure, compared int
	circles          int
}

func newBench(tb testing.TB, release string) *bench {
	tb.Helper()
	dir := tb.TempDir()
	b := &bench{tb: tb, base: dir, release: release, path: os.Getenv("PATH"), cache: filepath.Join(dir, "cache"), config: filepath.Join(dir, "depmod.d")}
	b.tree = filepath.Join(dir, "lib", "modules", release)
	for _, d := range []string{b.tree, b.config, filepath.Join(dir, "usr")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Symlink("../lib", filepath.Join(dir, "usr", "lib")); err != nil {
		tb.Fatal(err)
	}
	return b
}

func (b *bench) request() Request {
	return Request{Tree: b.tree, Release: b.release, Cache: b.cache, Config: []string{b.config}, Env: append(os.Environ(), "PATH="+b.path)}
}

// link puts files of the lab, by their paths in its tree, into the bench.
func (b *bench) link(from string, paths ...string) {
	b.tb.Helper()
	for _, p := range paths {
		b.put(p, func(to string) error { return linkOrCopy(filepath.Join(from, p), to) })
	}
}

func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

func (b *bench) put(path string, make func(string) error) {
	b.tb.Helper()
	to := filepath.Join(b.tree, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		b.tb.Fatal(err)
	}
	os.Remove(to)
	if err := make(to); err != nil {
		b.tb.Fatal(err)
	}
}

// write makes a file with that content.
func (b *bench) write(path string, data []byte) {
	b.tb.Helper()
	b.put(path, func(to string) error { return os.WriteFile(to, data, 0o644) })
}

// all links a whole kernel without its index.
func (b *bench) all(from string) {
	b.tb.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if strings.Contains(rel, ".ko") || isSource(rel) {
			b.link(from, rel)
		}
		return nil
	})
	if err != nil {
		b.tb.Fatal(err)
	}
}

// isSource reports whether a file comes with the kernel's package.
func isSource(name string) bool {
	return slices.Contains([]string{"modules.order", "modules.builtin", "modules.builtin.modinfo"}, name)
}

func (b *bench) index() map[string]string {
	b.tb.Helper()
	entries, err := os.ReadDir(b.tree)
	if err != nil {
		b.tb.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, "modules.") && !isSource(name) || strings.HasPrefix(name, ".") {
			data, err := os.ReadFile(filepath.Join(b.tree, name))
			if err != nil {
				b.tb.Fatal(err)
			}
			files[name] = string(data)
		}
	}
	return files
}

// depmod runs the real one.
func (b *bench) depmod() (string, error) {
	program, err := run.LookPath("depmod", []string{"PATH=" + b.path})
	if err != nil {
		b.tb.Fatal(err)
	}
	out, err := exec.Command(program, "-a", "-b", b.base, "-C", b.config, b.release).CombinedOutput()
	return string(out), err
}

// compare updates the index, with the cache and without, and holds it against
// depmod's.
func (b *bench) compare() (Result, error) {
	b.tb.Helper()
	res, err := Update(context.Background(), b.request())
	ours := b.index()
	cold := b.request()
	cold.Cache = ""
	_, coldErr := Update(context.Background(), cold)
	if (err == nil) != (coldErr == nil) {
		b.tb.Fatalf("with the cache: %v; without: %v", err, coldErr)
	}
	if err == nil {
		b.same("without the cache", ours, b.index())
	}
	if err != nil && strings.Contains(err.Error(), "circle") {
		b.circles++
		return res, err // depmod fails too, but may take minutes to list circles
	}
	text, failed := b.depmod()
	switch {
	case err != nil && !isUnsure(err):
		b.tb.Fatal(err)
	case err != nil:
		b.unsure++
		b.tb.Logf("%v; depmod: %v", err, failed)
	case failed != nil:
		b.tb.Fatalf("depmod fails where Update doesn't: %v\n%s", failed, text)
	default:
		b.compared++
		b.same("depmod", b.index(), ours)
	}
	return res, err
}

func (b *bench) same(what string, want, got map[string]string) {
	b.tb.Helper()
	for name := range want {
		if _, ok := got[name]; !ok {
			b.tb.Errorf("%s: there is no %s", what, name)
		}
	}
	for name := range got {
		if want[name] == got[name] {
			continue
		}
		b.tb.Errorf("%s: %s differs, %d bytes, want %d\n%s", what, name, len(got[name]), len(want[name]), firstDifference(want[name], got[name]))
	}
	if b.tb.Failed() {
		b.tb.FailNow()
	}
}

func firstDifference(want, got string) string {
	i := 0
	for i < min(len(want), len(got)) && want[i] == got[i] {
		i++
	}
	from := max(0, i-80)
	return fmt.Sprintf("at %d\nwant %q\ngot  %q", i, want[from:min(len(want), i+80)], got[from:min(len(got), i+80)])
}

// isUnsure reports whether an error asks for depmod.
func isUnsure(err error) bool {
	var u *Unsure
	return errors.As(err, &u)
}

// paths are values of PATH with the depmods that are known.
func paths(tb testing.TB) map[string]string {
	return map[string]string{
		"kmod30": os.Getenv("PATH"),
		"kmod34": filepath.Join(lab.Path(tb, "trixie"), "bin") + ":" + os.Getenv("PATH"),
	}
}

// TestKernels indexes each kernel of the lab that has objects.
func TestKernels(t *testing.T) {
	for name, path := range paths(t) {
		t.Run(name, func(t *testing.T) { testKernels(t, path) })
	}
}

func testKernels(t *testing.T, path string) {
	all := kernels(t)
	if path != os.Getenv("PATH") && os.Getenv("CI") != "" {
		all = all[1:] // the stock kernel takes half a minute
	}
	for _, tree := range all {
		t.Run(filepath.Base(tree), func(t *testing.T) {
			b := newBench(t, filepath.Base(tree))
			b.path = path
			b.all(tree)
			time.Sleep(2 * racy) // what is younger when it is read is read again
			if _, err := b.compare(); err != nil {
				t.Fatal(err)
			}
			res, err := Update(t.Context(), b.request())
			if err != nil || res.Read != 0 || res.Written != 0 {
				t.Errorf("an update without a change: %+v, %v", res, err)
			}
		})
	}
}

// kernels returns the trees of the lab that have objects.
func kernels(tb testing.TB) []string {
	var trees []string
	for _, pattern := range []string{"root/usr/lib/modules/*", "verify/usr/lib/modules/*"} {
		found, _ := filepath.Glob(filepath.Join(lab.Path(tb), pattern))
		for _, tree := range found {
			if _, err := os.Stat(filepath.Join(tree, "kernel")); err == nil {
				trees = append(trees, tree)
			}
		}
	}
	if len(trees) == 0 {
		tb.Fatal("the lab has no kernel with objects")
	}
	return trees
}

// TestRandom changes small trees at random, with real objects and made up ones.
func TestRandom(t *testing.T) {
	var pool []string // real objects
	_, newer := lab.Kernels(t)
	from := filepath.Join(lab.KernelRoot(t), "usr", "lib", "modules", newer)
	filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(from, path); err == nil && strings.Contains(rel, ".ko") {
			if info, err := d.Info(); err == nil && info.Size() < 60<<10 {
				pool = append(pool, rel)
			}
		}
		return nil
	})
	for name, path := range paths(t) {
		t.Run(name, func(t *testing.T) { testRandom(t, path, newer, from, pool) })
	}
}

func testRandom(t *testing.T, path, newer, from string, pool []string) {
	unsure, compared := 0, 0
	for n := range *rounds {
		r := &round{Rand: rand.New(rand.NewPCG(*seed, uint64(n))), bench: newBench(t, newer), from: from, pool: pool}
		r.path = path
		t.Logf("round %d", n)
		r.start()
		for range 4 {
			r.compare()
			for range 1 + r.IntN(6) {
				r.change()
			}
		}
		r.compare()
		unsure, compared = unsure+r.unsure, compared+r.compared
		os.RemoveAll(r.base)
	}
	t.Logf("%d indexes compared, %d left to depmod", compared, unsure)
	if compared < unsure {
		t.Error("too many are left to depmod")
	}
}

// round is one sequence of changes.
type round struct {
	*rand.Rand
	*bench
	from string
	pool []string
	made []string // paths of objects
}

func (r *round) pick(list ...string) string { return list[r.IntN(len(list))] }

func (r *round) start() {
	if r.IntN(5) > 0 {
		for range r.IntN(60) {
			p := r.pick(r.pool...)
			r.link(r.from, p)
			r.made = append(r.made, p)
		}
	}
	for _, name := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		if r.IntN(6) > 0 {
			r.link(r.from, name)
		}
	}
	if r.IntN(3) == 0 {
		r.writeSources()
	}
}

// writeSources makes files of the kernel's package with odd content.
func (r *round) writeSources() {
	var order, builtin, info strings.Builder
	for range r.IntN(30) {
		order.WriteString(r.dir() + r.name() + ".ko\n")
		builtin.WriteString(r.dir() + r.name() + ".ko\n")
		info.WriteString(r.pick(r.name()+".alias="+r.alias(), r.name()+".license=GPL", "junk", ".", r.name()+".author", r.name()+".alias=", "x.y.alias=a-b") + "\x00")
	}
	for _, p := range r.made {
		if before, _, ok := strings.Cut(p, ".ko"); ok && r.IntN(2) == 0 {
			order.WriteString(before + ".ko\n")
		}
	}
	r.write("modules.order", []byte(order.String()))
	r.write("modules.builtin", []byte(strings.ReplaceAll(builtin.String(), "/./", "/")))
	r.write("modules.builtin.modinfo", []byte(info.String()))
}

func (r *round) name() string {
	return r.pick("mod", "Mod", "net", "b") + r.pick("", "-", "_", ".", "-x", "_y") + r.pick("a", "b", "c-d", "c_d", "e", "0", "1", "22", "333", "4444")
}

func (r *round) dir() string {
	return r.pick("", "kernel/", "kernel/net/", "kernel/drivers/misc/", "extra/", "extra/sub/", "updates/", "updates/dkms/", "weak-updates/", "weak-updates/x/", "misc/build/", "built-in/")
}

func (r *round) symbol() string {
	return r.pick("sym", "a_sym", "do_it") + r.pick("", "0", "1", "2", "3", "_long_name_of_a_symbol_that_goes_on", "9") + r.pick("", "", "", "x", "y")
}

func (r *round) alias() string {
	return r.pick("pci:v0000", "usb:v1234p", "of:N", "devname:", "char-major-10-", "block-major-8-", "char-major-", "char-major-5-x", "net-pf-", "acpi*:", "a", "") +
		r.pick("*", "12", "7-*", "[0-9]", "[a-f]*-b", "snd/x", "net/tun", "200", "d*sv*", "[", "]", "x]y", "", "-", "1-2", "0042", "T*C*")
}

func (r *round) fake() []byte {
	f := fake{crcs: r.IntN(2) == 0, modinfo: []string{"license=GPL"}}
	some := func(most int, add func()) {
		for range r.IntN(most + 1) {
			add()
		}
	}
	some(3, func() { f.exports = append(f.exports, r.symbol()) })
	some(4, func() { f.needs = append(f.needs, r.pick("", "", "", ".")+r.symbol()) })
	if r.IntN(2) == 0 {
		f.versions = append(slices.Clone(f.needs), "module_layout")
		some(2, func() { f.versions = append(f.versions, r.symbol()) })
	}
	some(6, func() { f.modinfo = append(f.modinfo, "alias="+r.alias()) })
	if r.IntN(4) == 0 {
		f.modinfo = append(f.modinfo, "softdep=pre: "+r.name(), "weakdep="+r.name(), "alias", "", "softdep=", "=x")
	}
	return f.bytes()
}

func (r *round) object(data []byte) {
	ext := []ko.Compression{ko.None, ko.None, ko.XZ, ko.Zstd, ko.Gzip}[r.IntN(5)]
	packed, err := ko.Compress(data, ext)
	if err != nil {
		r.tb.Fatal(err)
	}
	path := r.dir() + r.name() + ".ko" + string(ext)
	r.write(path, packed)
	r.made = append(r.made, path)
}

func (r *round) change() {
	switch r.IntN(12) {
	case 0, 1, 2, 3:
		r.object(r.fake())
	case 4: // a real object in another place
		p := r.pick(r.pool...)
		to := r.dir() + filepath.Base(p)
		r.put(to, func(to string) error { return linkOrCopy(filepath.Join(r.from, p), to) })
		r.made = append(r.made, to)
	case 5, 6:
		if len(r.made) > 0 {
			i := r.IntN(len(r.made))
			os.Remove(filepath.Join(r.tree, r.made[i]))
			r.made = slices.Delete(r.made, i, i+1)
		}
	case 7: // moved, with its times
		if len(r.made) > 0 {
			i := r.IntN(len(r.made))
			old := r.made[i]
			to := r.dir() + filepath.Base(old)
			r.put(to+".new", func(string) error { return nil })
			err := os.Rename(filepath.Join(r.tree, old), filepath.Join(r.tree, to))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				r.tb.Fatal(err)
			}
			r.made[i] = to
		}
	case 8: // a link, as weak-modules makes them
		if len(r.made) > 0 {
			target := r.made[r.IntN(len(r.made))]
			to := r.dir() + filepath.Base(target)
			if to != target {
				r.put(to, func(to string) error { return os.Symlink(filepath.Join(r.tree, target), to) })
				r.made = append(r.made, to)
			}
		}
	case 9:
		r.configure()
	case 10: // changed in place
		if len(r.made) > 0 {
			p := filepath.Join(r.tree, r.made[r.IntN(len(r.made))])
			if st, err := os.Lstat(p); err == nil && st.Mode().IsRegular() && strings.HasSuffix(p, ".ko") && !slices.Contains(r.pool, strings.TrimPrefix(p, r.tree+"/")) {
				if err := os.WriteFile(p, r.fake(), 0o644); err != nil {
					r.tb.Fatal(err)
				}
			}
		}
	case 11:
		if r.IntN(4) == 0 {
			r.writeSources()
		}
	}
}

// configure writes a file of depmod.d.
func (r *round) configure() {
	if r.IntN(4) == 0 {
		os.Remove(filepath.Join(r.config, r.pick("a.conf", "b.conf")))
		return
	}
	external := filepath.Join(r.base, "external")
	if r.IntN(2) == 0 {
		if err := os.MkdirAll(external, 0o755); err != nil {
			r.tb.Fatal(err)
		}
		os.WriteFile(filepath.Join(external, r.name()+".ko"), r.fake(), 0o644)
	}
	var text strings.Builder
	for range 1 + r.IntN(4) {
		text.WriteString(r.pick(
			"search "+r.pick("updates", "extra built-in", "built-in updates", "updates extra weak-updates built-in", "external built-in", "kernel external updates"),
			"override "+r.name()+" "+r.pick("*", r.release[:4]+".*", "^6", "9.9", "amd64$")+" "+strings.TrimSuffix(r.dir(), "/"),
			"external "+r.pick("*", "6.*", "5.*")+" "+external,
			"exclude "+r.pick("net", "extra", "mod-a.ko", "sub"),
			"make_map_files no", "# a comment", "", "search \\\nextra \t updates"))
		text.WriteString("\n")
	}
	if err := os.WriteFile(filepath.Join(r.config, r.pick("a.conf", "b.conf", "b.con")), []byte(text.String()), 0o644); err != nil {
		r.tb.Fatal(err)
	}
}
