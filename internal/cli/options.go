// SPDX-License-Identifier: Apache-2.0

package cli

import "strings"

// Option is one option of the command line. The table below is what the
// parser, the help, the completions and the manual agree on.
type Option struct {
	Long, Short string
	// Arg names the option's value, "" for a switch.
	Arg string
	// Help is a short description; Old marks an option that is accepted and
	// ignored.
	Help string
	Old  bool
	// Loose matches any long option that begins with Long, as upstream does
	// for options with a value.
	Loose bool
	// Dir marks options that name a directory: without one they could mean
	// the machine's own, so an empty value is refused.
	Dir bool
}

// optionTable is in the order of the help.
var optionTable = []Option{
	{Long: "--module", Short: "-m", Arg: "module", Loose: true, Help: "the module, as <name> or <name>/<version>"},
	{Short: "-v", Arg: "version", Help: "the module's version"},
	{Long: "--kernelver", Short: "-k", Arg: "kernel", Loose: true, Help: "kernel release, or <release>/<arch>, or the path of a kernel tree; may be repeated"},
	{Long: "--arch", Short: "-a", Arg: "arch", Loose: true, Help: "architecture; may be repeated"},
	{Long: "--all", Help: "every kernel that the module is built for"},
	{Long: "--force", Help: "do it even if it is done already or a check speaks against it"},
	{Long: "--force-version-override", Help: "install without comparing versions"},
	{Short: "-c", Arg: "file", Help: "a dkms.conf to use instead of the module's"},
	{Long: "--config", Arg: "file", Loose: true, Help: "the kernel's configuration file"},
	{Long: "--kernelsourcedir", Arg: "dir", Loose: true, Dir: true, Help: "the kernel's build directory"},
	{Long: "--templatekernel", Arg: "kernel", Loose: true, Help: "the kernel that match and ready take as their model"},
	{Long: "--kernels", Arg: "list", Help: "kernels and header packages, separated by commas; or installed, or all-headers"},
	{Long: "--download", Help: "have apt download the headers of kernels that are not installed"},
	{Long: "--markdown", Help: "print a table in Markdown"},
	{Long: "--html", Arg: "file", Help: "write a page with the table and the logs of failed builds"},
	{Long: "--next-boot", Help: "the kernel that boots next; the default of ready"},
	{Long: "--archive", Arg: "file", Loose: true, Help: "the archive to write or to load"},
	{Long: "--binaries-only", Help: "pack only what is built"},
	{Long: "--source-only", Help: "pack only the source"},
	{Long: "--with-source", Help: "pack the source into the bundle as well"},
	{Long: "--sign", Arg: "file", Help: "the key that signs bundles"},
	{Long: "--trust", Arg: "file", Help: "a public key that bundles may be signed by, besides those in the directory of trusted keys; may be repeated"},
	{Long: "--to", Arg: "address", Help: "where to put what is built, a registry (oci://) or a directory (file://)"},
	{Long: "--from", Arg: "address", Help: "a source of prebuilts, in place of those of framework.conf; may be repeated"},
	{Long: "--bundle", Arg: "file", Help: "make a key that signs bundles, in that file, its public part beside it"},
	{Long: "--directive", Arg: "name=value", Loose: true, Help: "set a directive of dkms.conf; may be repeated"},
	{Long: "--dkmstree", Arg: "dir", Loose: true, Dir: true, Help: "the DKMS tree"},
	{Long: "--sourcetree", Arg: "dir", Loose: true, Dir: true, Help: "where module sources are"},
	{Long: "--installtree", Arg: "dir", Loose: true, Dir: true, Help: "where kernels have their modules"},
	{Long: "--root", Arg: "dir", Dir: true, Help: "work on another root directory, on the kernels in it"},
	{Long: "--no-depmod", Help: "leave the module index as it is"},
	{Long: "--modprobe-on-install", Help: "load what the devices need after an install for the running kernel"},
	{Long: "--symlink-modules", Help: "install links instead of copies"},
	{Long: "--rpm_safe_upgrade", Help: "for use in rpm scriptlets: keep a module that is added again"},
	{Short: "-j", Arg: "number", Help: "parallel jobs; 0 for no limit"},
	{Long: "--check-reproducible", Help: "build twice and compare; keep the result only if the bytes are the same"},
	{Long: "--repair", Help: "repair what fsck finds"},
	{Long: "--dry-run", Help: "show the steps and do nothing"},
	{Long: "--json", Help: "print JSON on standard output; what is for people goes to standard error"},
	{Long: "--ca", Arg: "file", Help: "the certificate of the authority that the hub is known by"},
	{Long: "--name", Arg: "name", Help: "the name of this host at the hub, by default its own"},
	{Long: "--output", Arg: "path", Help: "the file for the metrics, which is replaced whole, or the directory for packages and bundles"},
	{Long: "--binary", Help: "make packages of what is built forkernel, not of the source"},
	{Long: "--field", Arg: "name=value", Help: "set a field of a package; may be repeated, or the directory for bundles"},
	{Long: "--diagnosis", Help: "print why the build failed, and not its log"},
	{Long: "--verbose", Help: "show commands and their output"},
	{Long: "--quiet", Short: "-q", Help: "print nothing; the exit code tells"},
	{Long: "--debug", Help: "as --verbose"},
	{Long: "--version", Short: "-V", Help: "print the version"},
	{Long: "--help", Short: "-h", Help: "print help, after an action that of the action"},
	{Long: "--no-initrd", Old: true, Help: "ignored"},
	{Long: "--no-clean-kernel", Old: true, Help: "ignored"},
	{Long: "--no-prepare-kernel", Old: true, Help: "ignored"},
}

// Options returns the table.
func Options() []Option { return optionTable }

// Name returns the name by which an option is known.
func (o Option) Name() string {
	if o.Long != "" {
		return o.Long
	}
	return o.Short
}

// matches reports whether word is the option, and the value that came with it
// behind an equals sign.
func (o Option) matches(word string) (value string, inline, ok bool) {
	if word == o.Short && o.Short != "" {
		return "", false, true
	}
	if o.Long == "" || !strings.HasPrefix(word, o.Long) {
		return "", false, false
	}
	name, value, inline := strings.Cut(word, "=")
	if o.Arg == "" {
		return "", false, word == o.Long
	}
	return value, inline, name == o.Long || o.Loose
}

// find returns the option that a word is: the one of that very name, else the
// one with the longest name that the word begins with (--archives is --archive,
// not --arch).
func find(word string) (o Option, value string, inline, ok bool) {
	name, _, _ := strings.Cut(word, "=")
	for _, candidate := range optionTable {
		v, in, match := candidate.matches(word)
		if !match {
			continue
		}
		if name == candidate.Long || name == candidate.Short {
			return candidate, v, in, true
		}
		if !ok || len(candidate.Long) > len(o.Long) {
			o, value, inline, ok = candidate, v, in, true
		}
	}
	return o, value, inline, ok
}
