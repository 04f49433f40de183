// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var when = time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC)

// tree writes files below a new directory. A content "->x" makes a symlink, a
// name ending in "/" a directory.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	check(t, os.Mkdir(dir, 0o755))
	for name, content := range files {
		p := filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(p), 0o755))
		target, isLink := strings.CutPrefix(content, "->")
		switch {
		case strings.HasSuffix(name, "/"):
			check(t, os.MkdirAll(p, 0o755))
		case isLink:
			check(t, os.Symlink(target, p))
		default:
			check(t, os.WriteFile(p, []byte(content), 0o644))
			check(t, os.Chtimes(p, when, when))
		}
	}
	return dir
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// snapshot lists a tree as one line per file: mode, name, content, time.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	check(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "%s %s", info.Mode(), rel)
		switch info.Mode().Type() {
		case 0:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %.80q", info.ModTime().Unix(), data)
		case fs.ModeSymlink:
			target, _ := os.Readlink(p)
			fmt.Fprintf(&b, " -> %s", target)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

var source = map[string]string{
	"dkms.conf": "PACKAGE_NAME=hello\nPACKAGE_VERSION=1.0\n", "Makefile": "obj-m := hello.o\n",
	"src/hello.c": "int x;\n", "src/hello.h": "->../include/hello.h", "include/hello.h": "\n",
	"empty/": "", "with space é.txt": "x", strings.Repeat("a-long-directory-name-to-go-over-100-characters/", 4) + "name": "deep",
}

func sample(t testing.TB) Contents {
	src := tree(t, source)
	check(t, os.Chmod(filepath.Join(src, "Makefile"), 0o750))
	check(t, os.Chmod(filepath.Join(src, "empty"), 0o700))
	res := func(k string) Result {
		return Result{k, "x86_64", tree(t, map[string]string{
			"module/hello.ko.xz": "object " + k, "log/make.log": "ok\n", ".dep_a": "", "module/link.ko": "->hello.ko.xz"})}
	}
	return Contents{Module: "hello", Version: "1.0", SourceDir: src,
		Results: []Result{res("6.8.0-31-generic"), res("6.1.0-18-amd64")}}
}

var formats = []string{"a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.txz", "a.tar.zst", "a.dkms"}

func TestRoundTrip(t *testing.T) {
	c := sample(t)
	for _, name := range formats {
		for _, kind := range []Kind{Full, SourceOnly, BinariesOnly} {
			t.Run(fmt.Sprint(name, " ", kind), func(t *testing.T) {
				c := c
				c.Kind = kind
				dir := t.TempDir()
				file := filepath.Join(dir, name)
				check(t, Write(file, c))
				a, err := Extract(file, filepath.Join(dir, "out"))
				check(t, err)
				checkArchive(t, c, a)
			})
		}
	}
}

// checkArchive compares what was unpacked with what was packed.
func checkArchive(t *testing.T, c Contents, a *Archive) {
	t.Helper()
	if a.Kind != c.Kind {
		t.Errorf("kind %s, want %s", a.Kind, c.Kind)
	}
	if c.Kind == BinariesOnly {
		if a.SourceDir != "" || a.ConfFile != filepath.Join(a.Dir, binariesOnly, confName) {
			t.Errorf("source %q conf %q", a.SourceDir, a.ConfFile)
		}
		for f, want := range map[string]string{"PACKAGE_NAME": "hello\n", "PACKAGE_VERSION": "1.0\n", confName: source[confName]} {
			got, err := os.ReadFile(filepath.Join(a.Dir, binariesOnly, f))
			check(t, err)
			if string(got) != want {
				t.Errorf("%s: %q, want %q", f, got, want)
			}
		}
	} else if got, want := snapshot(t, a.SourceDir), snapshot(t, c.SourceDir); got != want {
		t.Errorf("source:\n%s\nwant:\n%s", got, want)
	}
	want := slices.Clone(c.Results)
	slices.Reverse(want) // sample has them in falling order
	if c.Kind == SourceOnly {
		want = nil
	}
	if len(a.Results) != len(want) {
		t.Fatalf("results %v, want %v", a.Results, want)
	}
	for i, r := range a.Results {
		if r.Kernel != want[i].Kernel || r.Arch != want[i].Arch {
			t.Errorf("result %d is %v, want %v", i, r, want[i])
		}
		if got, want := snapshot(t, r.Dir), snapshot(t, want[i].Dir); got != want {
			t.Errorf("result:\n%s\nwant:\n%s", got, want)
		}
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	c := sample(t)
	for _, name := range formats {
		dir := t.TempDir()
		a, b := filepath.Join(dir, "1"+name), filepath.Join(dir, "2"+name)
		check(t, Write(a, c))
		slices.Reverse(c.Results)
		check(t, Write(b, c))
		x, err := os.ReadFile(a)
		check(t, err)
		y, err := os.ReadFile(b)
		check(t, err)
		if !bytes.Equal(x, y) {
			t.Errorf("%s differs", name)
		}
		if list, _ := os.ReadDir(dir); len(list) != 2 {
			t.Errorf("left behind: %v", list)
		}
	}
}

func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestRealTarReadsOurs(t *testing.T) {
	c := sample(t)
	for _, name := range formats {
		dir := t.TempDir()
		check(t, Write(filepath.Join(dir, name), c))
		check(t, os.Mkdir(filepath.Join(dir, "out"), 0o755))
		run(t, dir, "tar", "-xaf", name, "-C", "out")
		got := snapshot(t, filepath.Join(dir, "out", sourceTree))
		if want := snapshot(t, c.SourceDir); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
		}
		list := run(t, dir, "tar", "-tvf", name)
		for _, want := range []string{
			"drwx------ root/root         0 2", " ./\n", " ./dkms_main_tree/\n",
			" ./dkms_main_tree/6.1.0-18-amd64/x86_64/module/hello.ko.xz\n",
			"-rwxr-x--- root/root        17 2021-03-04 05:06 ./dkms_source_tree/Makefile\n",
			" ./dkms_source_tree/src/hello.h -> ../include/hello.h\n",
		} {
			if !strings.Contains(list, want) {
				t.Errorf("%s: no %q in\n%s", name, want, list)
			}
		}
	}
}

func TestWeReadRealTar(t *testing.T) {
	src := tree(t, source)
	check(t, os.Link(filepath.Join(src, "Makefile"), filepath.Join(src, "Zhard")))
	tests := []struct {
		name string
		args []string
	}{
		{"a.tar", nil}, {"a.tar.gz", nil}, {"a.tar.xz", nil}, {"a.tar.zst", nil}, {"a.tar.bz2", nil},
		{"pax.tar", []string{"--format=pax"}}, {"ustar.tar", []string{"--format=ustar"}}, {"sparse.tar", []string{"-S"}},
		{"wrongsuffix.gz", []string{"--xz"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, tt.name)
			args := tt.args
			if tt.name != "wrongsuffix.gz" {
				args = append(args, "-a")
			}
			run(t, src, "tar", append(args, "-cf", file, ".")...)
			a, err := Extract(file, filepath.Join(dir, "out"))
			check(t, err)
			if a.Kind != Generic || a.SourceDir != a.Dir {
				t.Errorf("%+v", a)
			}
			got, want := snapshot(t, a.Dir), snapshot(t, src)
			_, got, _ = strings.Cut(got, "\n") // the root's mode is not taken over
			if _, want, _ = strings.Cut(want, "\n"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// The compressors of the system and ours must agree on multi-block files too.
func TestWeReadCompressors(t *testing.T) {
	dir := t.TempDir()
	c := sample(t)
	check(t, Write(filepath.Join(dir, "a.tar"), c))
	for _, cmd := range []string{
		"xz -k -c --block-size=4096 a.tar", "xz -k -c -C none a.tar", "xz -k -c -C sha256 -T2 --block-size=8192 a.tar",
		"(head -c 5000 a.tar | xz -c; printf '\\0\\0\\0\\0'; tail -c +5001 a.tar | xz -c -0)",
		"xz -9e -c a.tar", "zstd -19 -c a.tar", "zstd -c --long=27 a.tar",
		"(head -c 5000 a.tar | gzip; tail -c +5001 a.tar | gzip)", "bzip2 -c a.tar",
	} {
		run(t, dir, "bash", "-c", "set -o pipefail; "+cmd+" > b")
		a, err := Extract(filepath.Join(dir, "b"), filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Errorf("%s: %v", cmd, err)
			continue
		}
		checkArchive(t, c, a)
	}
}

func TestListName(t *testing.T) {
	results := func(kernels ...string) (out []Result) {
		for _, k := range kernels {
			out = append(out, Result{Kernel: k, Arch: "x86_64"})
		}
		return out
	}
	long := func(n int) string { return strings.Repeat("k", n-len("kernel-x86_64")) }
	tests := []struct {
		kind    Kind
		results []Result
		want    string
	}{
		{SourceOnly, results("6.1"), "m-1.0-source-only.dkms.tar.gz"},
		{Full, results("6.1"), "m-1.0-kernel6.1-x86_64.dkms.tar.gz"},
		{Full, results("6.8", "6.1"), "m-1.0-kernel6.8-x86_64-kernel6.1-x86_64.dkms.tar.gz"},
		{BinariesOnly, results("6.1"), "m-1.0-kernel6.1-x86_64.dkms.tar.gz"},
		{Full, nil, "m-1.0-.dkms.tar.gz"},
		{Full, results(long(199)), "m-1.0-kernel" + long(199) + "-x86_64.dkms.tar.gz"},
		{Full, results(long(200)), "m-1.0-manykernels.dkms.tar.gz"},
	}
	for _, tt := range tests {
		got := ListName(Contents{Module: "m", Version: "1.0", Kind: tt.kind, Results: tt.results})
		if got != tt.want {
			t.Errorf("%s %v: %q, want %q", tt.kind, tt.results, got, tt.want)
		}
	}
}

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]Format{
		"a.tar": Plain, "a.rpm": Plain, "a": Plain, "d.gz/a": Plain, "a.tar.gz": Gzip, "a.tgz": Gzip, "a.tar.xz": Xz, "a.tzst": Zstd,
	} {
		if got, err := FormatOf(name); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"a.tar.bz2", "a.tar.lz", "a.tar.Z", "a.lzma"} {
		if _, err := FormatOf(name); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	good := sample(t)
	fifo := tree(t, source)
	run(t, fifo, "mkfifo", "pipe")
	tests := map[string]func(c *Contents){
		"no source directory":        func(c *Contents) { c.SourceDir = "" },
		"no dkms.conf":               func(c *Contents) { c.SourceDir = ""; c.Kind = BinariesOnly },
		"kind generic can not":       func(c *Contents) { c.Kind = Generic },
		"the name is empty":          func(c *Contents) { c.Module = "" },
		"has a '/'":                  func(c *Contents) { c.Version = "1/2" },
		"is named twice":             func(c *Contents) { c.Results = append(c.Results, c.Results[0]) },
		"has a blank":                func(c *Contents) { c.Results[0].Kernel = "6 1" },
		"no such file or directory":  func(c *Contents) { c.Results[0].Dir = "/nonexistent" },
		"neither a regular file":     func(c *Contents) { c.SourceDir = fifo },
		"is not a directory":         func(c *Contents) { c.SourceDir = filepath.Join(c.SourceDir, confName) },
		"no such file or directory ": func(c *Contents) { c.Kind = BinariesOnly; c.ConfFile = "/nonexistent" },
	}
	for want, change := range tests {
		c := good
		c.Results = slices.Clone(c.Results)
		change(&c)
		dir := t.TempDir()
		err := Write(filepath.Join(dir, "a.tar.gz"), c)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%q: %v", want, err)
		}
		if list, _ := os.ReadDir(dir); len(list) > 0 {
			t.Errorf("%q: left %v", want, list)
		}
	}
	dir := t.TempDir()
	check(t, os.Mkdir(filepath.Join(dir, "a.tar"), 0o755))
	for _, file := range []string{filepath.Join(dir, "a.tar"), "/dev/null", filepath.Join(dir, "none", "a.tar")} {
		if err := Write(file, good); err == nil {
			t.Errorf("%s was written", file)
		}
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}

func TestWriteReplaces(t *testing.T) {
	c := sample(t)
	source := c.SourceDir
	link := filepath.Join(t.TempDir(), "source")
	check(t, os.Symlink(c.SourceDir, link)) // as <tree>/<module>/<version>/source is
	c.SourceDir = link
	conf := tree(t, map[string]string{"other.conf": "PACKAGE_NAME=hello\n"})
	c.ConfFile, c.Kind = filepath.Join(conf, "other.conf"), BinariesOnly
	file := filepath.Join(t.TempDir(), "a.tar")
	check(t, os.WriteFile(file, []byte("old"), 0o600))
	check(t, Write(file, c))
	a, err := Extract(file, filepath.Join(t.TempDir(), "out"))
	check(t, err)
	if got, err := os.ReadFile(a.ConfFile); string(got) != "PACKAGE_NAME=hello\n" {
		t.Errorf("%q, %v", got, err)
	}
	c.Kind = Full
	check(t, Write(file, c))
	a, err = Extract(file, filepath.Join(t.TempDir(), "out"))
	check(t, err)
	c.SourceDir = source
	checkArchive(t, c, a)
}
