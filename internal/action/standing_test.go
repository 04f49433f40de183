// SPDX-License-Identifier: Apache-2.0

package action

import (
	"os"
	"path/filepath"
	"testing"

	"dkms-go/internal/doctor"
	"dkms-go/internal/host"
	"dkms-go/internal/verify"
	"dkms-go/test/lab"
)

// A device without a driver asks for a real driver that isn't loaded; one that has
// a driver doesn't.
func TestDevicesAsk(t *testing.T) {
	_, release := lab.Kernels(t)
	found, err := filepath.Glob(filepath.Join(lab.KernelRoot(t), "usr/lib/modules", release, "kernel/drivers/net/ethernet/intel/e1000/e1000.ko*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the lab's kernel has %q, %v", found, err)
	}
	sys := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const e1000 = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00\n"
	put("devices/pci/one/modalias", e1000)
	put("devices/pci/other/modalias", "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00\n")
	put("modprobe/none.conf", "# nothing\n")
	e := &Engine{Settings: Settings{Paths: host.Paths{
		SysDevices: filepath.Join(sys, "devices"), SysModule: filepath.Join(sys, "module"), ModprobeDirs: []string{filepath.Join(sys, "modprobe")},
	}}}
	put("module/loaded/initstate", "live\n")
	put("module/loaded/srcversion", "ABC\n")
	put("module/loaded/refcnt", "1\n")
	put("module/builtin/version", "1\n")
	list := []doctor.Object{
		{Report: verify.Report{Path: found[0]}, Kernel: "e1000"}, {Kernel: "loaded"}, {Kernel: "builtin"},
	}
	for i := range list {
		e.loadedNow(&list[i])
	}
	if o := list[1]; !o.Judged || !o.Loaded || o.LoadedSource != "ABC" || !o.InUse {
		t.Errorf("a loaded one: %+v", o)
	}
	if list[0].Loaded || list[2].Loaded || list[2].InUse {
		t.Errorf("not loaded: %+v", list)
	}
	e.askedFor(list)
	if want := "the device " + filepath.Join(sys, "devices/pci/one"); list[0].Asked != want || list[0].Blocked != "" || list[1].Asked != "" {
		t.Errorf("asked by %q, want %q", list[0].Asked, want)
	}
	put("devices/pci/one/driver", "")
	put("modprobe/black.conf", "blacklist e1000\n")
	list[0].Asked = ""
	if e.askedFor(list); list[0].Asked != "" || list[0].Blocked != filepath.Join(sys, "modprobe/black.conf") {
		t.Errorf("asked by %q, blocked by %q", list[0].Asked, list[0].Blocked)
	}
}
