// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
	"dkms-go/test/vm"
)

// TestRunning boots a kernel in which an older build of a module is loaded than is
// installed, and another that is to be loaded at each boot is not: what a machine
// is like after an upgrade, and after a restart without systemd-modules-load.
func TestRunning(t *testing.T) {
	k := lab.CloudKernel(t)
	r := root{lab.AllScratch(t), t}
	lab.MustExec(t, filepath.Join(lab.Repo(t), "packaging", "install.sh"), "deb", r.Dir)
	r.AddBinary()
	remove(t, r.Path("usr/lib/modules", k, "kernel"))
	write(t, r.Path("usr/lib/modules", k, "kernel/none"), "")
	r.MustRun("depmod", k)
	object := r.Path("usr/lib/modules", k, "updates/dkms/driver.ko")
	r.unpack(module{name: "driver", version: "1.0"})
	r.MustRun("dkms", "install", "driver/1.0", "-k", k)
	old := read(t, object)
	r.unpack(module{name: "driver", version: "1.1", code: "static int more __attribute__((used));"})
	r.unpack(module{name: "late", version: "1.0"})
	for _, id := range []string{"driver/1.1", "late/1.0"} {
		r.MustRun("dkms", "install", id, "-k", k)
	}
	r.MustRun("dkms", "autoload", "on", "late")
	r.MustRun("tar", "-C", "/", "-cf", "/tree.tar", "var/lib/dkms", "usr/src/driver-1.0", "usr/src/driver-1.1", "usr/src/late-1.0", "etc/modules-load.d", "etc/kernel")

	got := vm.InMemory(t, r.Root, vm.Memory{
		Kernel: k, Image: vm.Unpacked(t, r.Path("boot/vmlinuz-"+k)),
		Files: map[string][]byte{"tree.tar": read(t, r.Path("tree.tar")), "dkms": read(t, lab.Binary(t)), "old.ko": old},
	}, `
tar -x -C / -f /files/tree.tar
cp /files/dkms /bin/dkms
PATH=/kmod:/bin
modprobe -r driver 2>/dev/null
insmod /files/old.ko
dkms doctor >/tmp/first
echo "status $?" >>/tmp/first
sed 's/^/vm: first: /' /tmp/first
sed -n 's/^    next: \$ //p' /tmp/first | grep ^modprobe >/tmp/steps
while read line; do
  echo "vm: step: $line"
  sh -c "$line" || exit 1
done </tmp/steps
dkms doctor >/tmp/second
echo "status $?" >>/tmp/second
sed 's/^/vm: second: /' /tmp/second
sed 's/^/vm: version: /' /sys/module/driver/version
sed 's/^/vm: late: /' /sys/module/late/initstate
`)
	part := func(name string) string {
		var lines []string
		for line := range strings.Lines(got.Console) {
			if text, ok := strings.CutPrefix(line, "vm: "+name+": "); ok {
				lines = append(lines, text)
			}
		}
		return strings.Join(lines, "")
	}
	first, second := part("first"), part("second")
	for _, want := range []string{
		"warning: driver: another build of it is loaded than is installed of driver/1.1", "a reload or a reboot is needed",
		"next: $ modprobe -r driver\n", "next: $ modprobe driver\n",
		"warning: late: it is installed and not loaded, and /etc/modules-load.d/dkms-late.conf asks for it", "next: $ modprobe late\n", "status 27\n",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is missing", want)
		}
	}
	// There are no headers in the guest, which keeps nothing from working.
	if strings.Contains(second, "warning: ") || strings.Contains(second, "error: ") || !strings.Contains(second, "status 0\n") {
		t.Error("it isn't cured")
	}
	if part("version") != "1.1\n" || part("late") != "live\n" || !got.OK {
		t.Errorf("loaded is driver %q; late is %q", part("version"), part("late"))
	}
	t.Logf("first\n%sthen\n%sthen\n%s", first, part("step"), second)
	if t.Failed() {
		t.Log(got.Console)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
