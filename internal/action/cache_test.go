// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/altroot"
	"dkms-go/internal/plan"
	"dkms-go/internal/state"
)

// countedKbuild is a kbuild that writes a line to the file "made" for each run.
const countedKbuild = `
all:
	@echo $(KERNELRELEASE) >> ROOT/made
	@for c in $(M)/*.c; do gcc $(KCFLAGS) -c -DNOW=$$(date +%s%N) -DRELEASE='"$(KERNELRELEASE)"' -o $${c%.c}.ko $$c || exit 1; done
	@echo 0x1 sym > $(M)/Module.symvers
	@echo what make says
`

// cachedMachine has a result cache, and counts its builds.
type cachedMachine struct{ *machine }

func newCachedMachine(t *testing.T) cachedMachine {
	m := cachedMachine{newMachine(t)}
	m.set.Paths.Cache = m.root + "/cache"
	m.set.Framework.ResultCache = 1 << 20
	for _, k := range []plan.Target{k1, k2} {
		m.put("lib/modules/"+k.Kernel+"/build/Makefile", strings.ReplaceAll(countedKbuild, "ROOT", m.root))
	}
	return m
}

// builds returns how often make was run since the last call.
func (m cachedMachine) builds() int {
	m.t.Helper()
	text, _ := os.ReadFile(m.root + "/made")
	os.Remove(m.root + "/made")
	return strings.Count(string(text), "\n")
}

func (m cachedMachine) build(id state.ID, targets ...plan.Target) error {
	m.t.Helper()
	if len(targets) == 0 {
		targets = []plan.Target{k1}
	}
	return m.engine().Build(context.Background(), Selection{ID: id}, targets)
}

// again unbuilds and builds, and returns how often make was run for it.
func (m cachedMachine) again(id state.ID) int {
	m.t.Helper()
	m.must(m.engine().Back(context.Background(), id, []plan.Target{k1}, false, plan.ToAdded))
	m.builds()
	m.must(m.build(id))
	return m.builds()
}

func (m cachedMachine) entries() []string {
	found, _ := filepath.Glob(m.root + "/cache/results/*.result")
	return found
}

// TestCachedResult: a result that comes from the cache is the one that was built,
// and its record and log say where it comes from.
func TestCachedResult(t *testing.T) {
	m := newCachedMachine(t)
	id := m.source("one/1")
	m.must(m.build(id))
	before := m.files("tree/one/1/6.1.0/x86_64/module")
	if n := m.builds(); n != 1 {
		t.Fatalf("%d builds", n)
	}
	if n := m.again(id); n != 0 {
		t.Fatalf("the second time make was run %d times\n%s", n, m.said())
	}
	if after := m.files("tree/one/1/6.1.0/x86_64/module"); after != before {
		t.Errorf("was\n%s\nnow\n%s", before, after)
	}
	if !strings.Contains(m.out.String(), "Using the cached result") || strings.Contains(m.out.String(), "Building") {
		t.Error(m.said())
	}
	record, err := m.engine().tree.Record(k1.Key(id))
	if err != nil || record.Origin != "cache" || !strings.HasPrefix(record.Make, "make -j") || record.Compiler == nil || record.Source == "" || len(record.Objects) != 1 {
		t.Errorf("%+v, %v", record, err)
	}
	for _, log := range []string{"tree/one/1/6.1.0/x86_64/log/make.log", "tree/.log/one/1/6.1.0/x86_64/make.log"} {
		if text := m.read(log); !strings.Contains(text, "Nothing was compiled") || !strings.Contains(text, "what make says") {
			t.Errorf("%s is\n%s", log, text)
		}
	}
	m.wantStatus("one/1@6.1.0 built")
	// remove keeps it for another add
	m.must(m.engine().Back(context.Background(), id, nil, true, plan.ToNothing))
	m.must(m.build(id, k1, k2))
	if n := m.builds(); n != 1 {
		t.Errorf("after remove and for another kernel make was run %d times", n)
	}
}

// TestCacheKey changes one input after another: each is a reason to build, and
// what isn't an input is none.
func TestCacheKey(t *testing.T) {
	m := newCachedMachine(t)
	m.put("bin/other-gcc", "", 0o755)
	m.set.Environ = append(m.set.Environ, "PATH="+m.root+"/bin:"+os.Getenv("PATH"))
	dep := m.source("dep/1")
	m.must(m.install(dep, k1))
	id := m.source("one/1", "BUILD_DEPENDS=dep")
	m.must(m.build(id))
	touch := func(name string) {
		t.Helper()
		then := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(m.root, name), then, then); err != nil {
			t.Fatal(err)
		}
	}
	setenv := func(kv string) { m.set.Environ = append(m.set.Environ, kv) }
	changes := []struct {
		what string
		do   func()
		want int
	}{
		{"nothing", func() {}, 0},
		{"the jobs", func() { m.set.Jobs = "7" }, 0},
		{"the terminal", func() { setenv("TERM=dumb"); setenv("SSH_TTY=x") }, 0},
		{"the directory of a root", func() { setenv(altroot.ActiveVar + "=/mnt/image") }, 0},
		{"the time of a source file", func() { touch("src/one-1/one.c") }, 0},
		{"a source file", func() { m.put("src/one-1/new.h", "1") }, 1},
		{"the conf", func() { m.put("etc/one.conf", "STRIP=no\n") }, 1},
		{"what is laid over the patches", func() { m.put("etc/one/patches/x.patch", "1") }, 1},
		{"a variable", func() { setenv("KCFLAGS=-DX") }, 1},
		{"a header of the kernel", func() { m.put("lib/modules/6.1.0/build/include/x", "2") }, 1},
		{"the time of a header", func() { touch("lib/modules/6.1.0/build/include/x") }, 1},
		{"the configuration", func() { m.put("lib/modules/6.1.0/build/.config", "CONFIG_X=m\n") }, 1},
		{"Module.symvers", func() { m.put("lib/modules/6.1.0/build/Module.symvers", "") }, 1},
		{"the image", func() { m.put("boot/vmlinuz-6.1.0", "1") }, 0},
		{"a compiler that is found first", func() { m.put("bin/gcc", "#!/bin/sh\nexec /usr/bin/gcc \"$@\"\n", 0o755) }, 1},
		{"its time", func() { touch("bin/gcc") }, 1},
		{"another program", func() { touch("bin/other-gcc") }, 0},
		{"the dkms", func() { m.set.Version = "dkms-test-2" }, 1},
		{"the result of a dependency", func() { m.put("tree/dep/1/6.1.0/x86_64/module/Module.symvers", "0x2 sym\n") }, 1},
		{"the source of a dependency", func() { m.put("src/dep-1/dep.h", "") }, 1},
		{"a directive", func() { m.set.Directives = []string{"STRIP=yes"} }, 1},
		{"a file of build_environment", func() {
			m.put("env", "export X=1\n")
			m.set.Framework.BuildEnvironment = m.root + "/env"
		}, 1},
		{"nothing again", func() {}, 0},
		{"--force", func() { m.set.Force = true }, 1},
		{"no --force", func() { m.set.Force = false }, 0},
		{"a PRE_BUILD", func() { m.put("src/one-1/pre", "#!/bin/sh\n", 0o755); m.put("etc/one.conf", "PRE_BUILD=pre\n") }, 1},
		{"nothing, with a PRE_BUILD", func() {}, 1},
		{"a POST_BUILD", func() { m.put("etc/one.conf", "POST_BUILD=pre\n") }, 1},
		{"nothing, with a POST_BUILD", func() {}, 1},
		{"neither", func() { m.put("etc/one.conf", "") }, 1},
		{"the cache is off", func() { m.set.Framework.ResultCache = 0 }, 1},
	}
	for _, c := range changes {
		c.do()
		if n := m.again(id); n != c.want {
			t.Errorf("%s: make was run %d times, want %d\n%s", c.what, n, c.want, m.said())
		}
	}
}

// TestCacheDamage: entries that aren't what was written, or that the kernel
// would not load, are dropped, and the module is built.
func TestCacheDamage(t *testing.T) {
	m := newCachedMachine(t)
	m.set.Verbose = true
	id := m.source("one/1")
	m.must(m.build(id))
	for _, damage := range []func(data []byte) []byte{
		func(data []byte) []byte { data[len(data)-1] ^= 1; return data },
		func(data []byte) []byte { data[len(data)/2] ^= 0x80; return data },
		func(data []byte) []byte { return data[:len(data)-100] },
		func([]byte) []byte { return nil },
	} {
		list := m.entries()
		if len(list) != 1 {
			t.Fatalf("entries: %v", list)
		}
		data, err := os.ReadFile(list[0])
		if err = errors.Join(err, os.WriteFile(list[0], damage(data), 0o644)); err != nil {
			t.Fatal(err)
		}
		if n := m.again(id); n != 1 {
			t.Errorf("make was run %d times", n)
		}
		if !strings.Contains(m.errw.String(), "damaged cache entry") {
			t.Error(m.said())
		}
	}
	if n := m.again(id); n != 0 {
		t.Errorf("the entry that was made anew is of no use: %s", m.said())
	}
}

// TestCacheStats counts and cleans.
func TestCacheStats(t *testing.T) {
	m := newCachedMachine(t)
	if st, err := m.engine().CacheStats(); err != nil || st.Entries != 0 || st.Bound != 1<<20 {
		t.Errorf("%+v, %v", st, err)
	}
	if n, err := m.engine().CacheClean(); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	m.must(m.build(m.source("one/1"), k1, k2))
	m.put("cache/index/x", "{}")
	st, err := m.engine().CacheStats()
	if err != nil || st.Entries != 2 || st.Bytes == 0 || st.Other != 2 || st.Dir != m.root+"/cache" {
		t.Errorf("%+v, %v", st, err)
	}
	if n, err := m.engine().CacheClean(); n != st.Bytes+2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if left, _ := os.ReadDir(m.root + "/cache"); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	m.put("cache/mine", "others' file")
	if n, err := m.engine().CacheClean(); n != 0 || err != nil || !m.has("cache/mine") {
		t.Errorf("%d, %v: what isn't ours is gone", n, err)
	}
	t.Chdir(m.root + "/cache")
	m.put("cache/results/own", "of the working directory")
	m.set.Paths.Cache = ""
	if n, err := m.engine().CacheClean(); n != 0 || err != nil || !m.has("cache/results/own") {
		t.Errorf("%d, %v: there is no cache, and something is gone", n, err)
	}
}

// TestCheckReproducible: what comes out the same is kept, what doesn't isn't,
// and a result that is there stays.
func TestCheckReproducible(t *testing.T) {
	m := newCachedMachine(t)
	m.set.CheckReproducible = true
	id := m.source("one/1")
	m.must(m.build(id, k1, k2))
	if n := m.builds(); n != 4 {
		t.Errorf("make was run %d times", n)
	}
	m.wantStatus("one/1@6.1.0 built, one/1@6.2.0 built")
	if record, err := m.engine().tree.Record(k1.Key(id)); err != nil || record.Origin != "local" {
		t.Errorf("%+v, %v", record, err)
	}
	before := m.files("tree/one/1/6.1.0")
	m.must(m.build(id))
	if after := m.files("tree/one/1/6.1.0"); after != before || m.builds() != 2 {
		t.Errorf("a check of a module that is built: was\n%s\nnow\n%s", before, after)
	}
	m.set.CheckReproducible = false
	if n := m.again(id); n != 0 {
		t.Error("what was checked isn't in the cache")
	}

	bad := m.source("two/1")
	m.put("src/two-1/two.c", strings.Replace(source, "int a = 1;", "long when = NOW;", 1))
	m.set.CheckReproducible = true
	f := m.reason(m.build(bad), NotReproducible)
	m.wantStatus("one/1@6.1.0 built, one/1@6.2.0 built, two/1 added")
	if !strings.Contains(f.Error(), "two.ko") || !strings.Contains(f.Error(), "section .data") {
		t.Error(f)
	}
	if m.has("tree/two/1/build") {
		t.Error("the build directory is left")
	}
	m.put("src/two-1/two.c", "broken")
	m.reason(m.build(bad), MakeFailed)
}
