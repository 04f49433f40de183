// SPDX-License-Identifier: Apache-2.0

package capacity

import (
	"os"
	"path/filepath"
	"testing"

	"dkms-go/internal/host"
)

// paths returns a machine with these files below its Proc and Cgroup.
func paths(t testing.TB, files map[string]string) host.Paths {
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return host.Paths{Proc: filepath.Join(dir, "proc"), Cgroup: filepath.Join(dir, "cgroup")}
}

func TestFree(t *testing.T) {
	const meminfo = "MemTotal:       8000000 kB\nMemFree:         100 kB\nMemAvailable:    1048576 kB\n"
	cases := []struct {
		name  string
		files map[string]string
		mib   int64 // -1: nothing tells
	}{
		{"nothing", nil, -1},
		{"machine", map[string]string{"proc/meminfo": meminfo}, 1024},
		{"damaged", map[string]string{"proc/meminfo": "MemAvailable: many kB\n"}, -1},
		{"v2 without limit", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"cgroup/a/b/memory.max": "max\n", "cgroup/a/b/memory.current": "1\n"}, 1024},
		{"v2 limit above", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"cgroup/a/memory.max": "629145600\n", "cgroup/a/memory.current": "104857600\n", "cgroup/a/memory.stat": "anon 5\ninactive_file 52428800\n"}, 550},
		{"v2 limit reached", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
			"cgroup/memory.max": "100\n", "cgroup/memory.current": "200\n"}, 0},
		{"v2 limit larger", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
			"cgroup/memory.max": "8589934592\n", "cgroup/memory.current": "0\n"}, 1024},
		{"v1", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "9:cpu:/x\n4:memory:/y\n0::/\n",
			"cgroup/memory/y/memory.limit_in_bytes": "314572800", "cgroup/memory/y/memory.usage_in_bytes": "104857600",
			"cgroup/memory/memory.limit_in_bytes": "9223372036854771712", "cgroup/memory/memory.usage_in_bytes": "0"}, 200},
		{"out of the tree", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/../..\n",
			"memory.max": "1", "memory.current": "0"}, 1024},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m, ok := Free(paths(t, c.files))
			if got := m.Bytes >> 20; ok != (c.mib >= 0) || ok && got != c.mib {
				t.Errorf("%v, %v; want %d MiB", m, ok, c.mib)
			}
		})
	}
}

// The machine of the test tells, and has room for one job.
func TestFreeHere(t *testing.T) {
	m, ok := Free(host.Default())
	if !ok || m.Bytes <= 0 || m.Of == "" {
		t.Errorf("%v, %v", m, ok)
	}
	if CPUs() < 1 {
		t.Error("no CPU")
	}
}

func TestJobs(t *testing.T) {
	for _, c := range []struct {
		free, need int64
		want, jobs int
	}{{1000, 100, 4, 4}, {399, 100, 4, 3}, {0, 100, 4, 1}, {99, 100, 1, 1}, {5, 0, 7, 7}} {
		if got := (Memory{Bytes: c.free}).Jobs(c.want, c.need); got != c.jobs {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

func FuzzFree(f *testing.F) {
	f.Add("MemAvailable: 5 kB", "0::/a", "7")
	f.Add("MemAvailable:", "4:memory:/\n\n:::", "max")
	f.Fuzz(func(t *testing.T, meminfo, cgroup, limit string) {
		m, ok := Free(paths(t, map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": cgroup,
			"cgroup/memory.max": limit, "cgroup/memory.current": "3", "cgroup/memory/memory.limit_in_bytes": limit, "cgroup/memory/memory.usage_in_bytes": "1"}))
		if ok && m.Bytes < 0 || m.Jobs(4, 1<<20) < 1 {
			t.Errorf("%v", m)
		}
	})
}

// A machine without a place for control groups, or with an odd one, has none.
func TestFreeWithoutGroups(t *testing.T) {
	p := paths(t, map[string]string{"proc/meminfo": "MemAvailable: 1024 kB\n", "proc/self/cgroup": "0::/a/b\n4:memory:/c\n"})
	for _, top := range []string{"", ".", "/", "relative/dir"} {
		p.Cgroup = top
		if m, ok := Free(p); !ok || m.Bytes != 1<<20 {
			t.Errorf("%q: %v, %v", top, m, ok)
		}
	}
}
