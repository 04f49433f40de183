// SPDX-License-Identifier: Apache-2.0

package crash

// scenario is a command to be struck at each of its changes.
type scenario struct {
	name string
	// before makes the state that the command begins with.
	before func(m *machine)
	args   []string
	// again are the exit codes of the same command that are no failure when it
	// had done its work before it was struck.
	again []int
}

// Exit codes of commands that find nothing left to do.
const (
	alreadyAdded  = 3
	alreadyLoaded = 8
	notAdded      = 3
	notInstalled  = 5
)

func scenarios() []scenario {
	both := []string{"-k", k1, "-k", k2}
	with := func(words ...string) []string { return append(words, both...) }
	return []scenario{
		{"install", alpha, with("install", "alpha/1.0"), nil},
		{"upgrade over an original", upgrade, with("install", "alpha/2.0"), nil},
		{"uninstall", installed, with("uninstall", "alpha/1.0"), []int{notInstalled}},
		{"remove", installed, []string{"remove", "alpha/1.0", "--all"}, []int{notAdded}},
		{"ldtarball", archived, []string{"ldtarball", "/archives/alpha.tar.gz"}, []int{alreadyLoaded}},
		{"autoinstall of three", three, []string{"autoinstall", "-k", k2}, nil},
		{"hook for a kernel", threeOlder, []string{"hook", "kernel-install", "add", k2}, nil},
	}
}

// more are those that nobody has asked for.
func more() []scenario {
	return []scenario{
		{"add of a directory", outside, []string{"add", "/archives/alpha"}, []int{alreadyAdded}},
		{"ldtarball by force", archivedOver, []string{"ldtarball", "/archives/alpha.tar.gz", "--force"}, nil},
		{"unbuild", installed, []string{"unbuild", "alpha/1.0", "-k", k1}, []int{4, notInstalled}},
		{"hook for a kernel that goes", threeInstalled, []string{"hook", "prerm", k2}, nil},
		{"hook for a package's new version", packaged, []string{"hook", "package", "alpha", "2.0"}, nil},
		{"install with signatures", signing, []string{"install", "alpha/1.0", "-k", k1}, nil},
	}
}

func alpha(m *machine) { m.module(sources+"/alpha-1.0", "alpha", "1.0", "alpha", "beta") }

func installed(m *machine) {
	alpha(m)
	m.must("install", "alpha/1.0", "-k", k1, "-k", k2)
}

func upgrade(m *machine) {
	installed(m)
	packaged2(m)
	m.must("add", "alpha/2.0")
}

func packaged2(m *machine) { m.module(sources+"/alpha-2.0", "alpha", "2.0", "alpha", "beta") }

func packaged(m *machine) {
	installed(m)
	packaged2(m)
}

// archived leaves an archive of the module and nothing else.
func archived(m *machine) {
	installed(m)
	m.must("mktarball", "alpha/1.0", "-k", k1, "-k", k2, "--archive", "/archives/alpha.tar.gz")
	m.restore(m.empty)
}

// archivedOver has the module of the archive installed already.
func archivedOver(m *machine) {
	archived(m)
	installed(m)
}

func three(m *machine) {
	alpha(m)
	m.module(sources+"/gamma-1.0", "gamma", "1.0", "gamma")
	m.module(sources+"/delta-1.0", "delta", "1.0", "delta")
	for _, id := range []string{"alpha/1.0", "gamma/1.0", "delta/1.0"} {
		m.must("add", id)
	}
}

// threeOlder has the three installed for the older kernel.
func threeOlder(m *machine) {
	three(m)
	m.must("autoinstall", "-k", k1)
}

func threeInstalled(m *machine) {
	threeOlder(m)
	m.must("autoinstall", "-k", k2)
}

func outside(m *machine) { m.module("/archives/alpha", "alpha", "1.0", "alpha", "beta") }

// signing has a key and kernels that want signatures.
func signing(m *machine) {
	alpha(m)
	m.put("/etc/dkms/framework.conf", "")
	for _, k := range []string{k1, k2} {
		m.put(modules+"/"+k+"/build/.config", "CONFIG_MODULES=y\nCONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_HASH=\"sha256\"\n")
	}
	m.must("generate_mok")
}
