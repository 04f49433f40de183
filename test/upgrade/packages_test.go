// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"os"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// archivePackage is a module package of the distribution, and where it can be built:
// P, C, L and N stand for the kernels of lab.AptKernels.
type archivePackage struct{ name, module, kernels string }

// archivePackages are those under test; in CI, whose time is short, each third.
func archivePackages() []archivePackage {
	all := []archivePackage{
		{"acpi-call-dkms", "acpi-call", "PCLN"},
		{"adv-17v35x-dkms", "adv-17v35x", "PCL"},
		{"ddcci-dkms", "ddcci", "PC"},
		{"digimend-dkms", "digimend", "PC"},
		{"dm-writeboost-dkms", "dm-writeboost", "PCL"},
		{"dpdk-kmods-dkms", "dpdk-kmods", "PCLN"},
		{"evdi-dkms", "evdi", "PC"},
		{"librem-ec-acpi-dkms", "librem_ec_acpi", ""},
		{"tp-smapi-dkms", "tp_smapi", "PCL"},
		{"vpoll-dkms", "vpoll", "PCL"},
	}
	if os.Getenv("CI") != "true" {
		return all
	}
	var some []archivePackage
	for i := 0; i < len(all); i += 3 {
		some = append(some, all[i])
	}
	return some
}

// headersOfAll installs the headers of four kernels; in CI, whose time is short,
// those of one of each series.
func headersOfAll(t *testing.T, r root) map[rune]string {
	t.Helper()
	k := lab.AptKernels(t)
	all := map[rune]string{'P': k.Prev, 'C': k.Cur, 'L': k.Cloud, 'N': k.New}
	if os.Getenv("CI") == "true" {
		delete(all, 'P')
		delete(all, 'L')
	}
	var packages []string
	for _, release := range all {
		packages = append(packages, "linux-headers-"+release)
	}
	r.install(0, packages...)
	return all
}

// packages installs packages of the archive, unchanged: each module is built for
// every kernel where it can be, and apt ends well for those that can't, too.
func packages(t *testing.T, base *lab.Root) {
	r := over(t, base)
	kernels := headersOfAll(t, r)
	var names []string
	list := archivePackages()
	for _, p := range list {
		names = append(names, p.name)
	}
	out := r.install(0, names...)
	r.configured()
	status := r.status()
	for _, p := range list {
		for letter, kernel := range kernels {
			want := strings.ContainsRune(p.kernels, letter)
			got := false
			for _, line := range strings.Split(status, "\n") {
				got = got || strings.HasPrefix(line, p.module+"/") && strings.HasSuffix(line, ", "+kernel+", "+arch+": installed")
			}
			if got != want {
				t.Errorf("%s for %s: installed is %v, want %v", p.module, kernel, got, want)
			}
		}
	}
	r.verified()
	for _, p := range list {
		if p.kernels == "PC" || p.kernels == "PCL" { // not the newest
			wants(t, out.Stderr+out.Stdout, "dkms: "+p.module+"/")
		}
	}
	t.Logf("dkms status:\n%s", status)
	t.Logf("what was told of failures:\n%s", hookLines(out))
	if res := r.Run("dkms", "status"); !strings.Contains(res.Stderr, "failed, optional") {
		t.Errorf("status doesn't tell of failures: %s", res.Stderr)
	}
}

// debianBreaks shows what the distribution's dkms does with the modules that
// can't be built for the newest kernel.
func debianBreaks(t *testing.T) {
	r := root{lab.AptRoot(t), t}
	fewModules(t, r.Root)
	k := lab.AptKernels(t)
	r.install(0, "dkms", "linux-headers-"+k.New)
	out := r.install(100, "tp-smapi-dkms", "ddcci-dkms", "evdi-dkms")
	wants(t, out.Stdout+out.Stderr, "exit status 10")
	if res := r.MustRun("dpkg", "--audit"); !strings.Contains(res.Stdout, "tp-smapi-dkms") {
		t.Errorf("nothing is left half configured: %s", res.Stdout)
	}
}
