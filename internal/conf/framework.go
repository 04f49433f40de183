// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Framework is what framework.conf sets for all modules.
type Framework struct {
	// Refused says what a NoExec evaluation did not do: values may be missing.
	Refused []string
	// SourceTree, DKMSTree and InstallTree are the three trees; TmpLocation is
	// where tarballs are made.
	SourceTree, DKMSTree, InstallTree, TmpLocation string
	// The following are on for any non-empty value, even "no".
	Verbose, SymlinkModules, ModprobeOnInstall, AutoinstallAllKernels bool
	// ParallelJobs is the number of jobs; empty is one per CPU.
	ParallelJobs string
	// The options for the programs that compress objects.
	CompressGzipOpts, CompressXZOpts, CompressZstdOpts string
	// BuildEnvironment is a file whose exported variables apply to builds.
	BuildEnvironment string
	// PostTransaction is a shell command.
	PostTransaction string
	// SignFile, MOKSigningKey and MOKCertificate are the signing tool and its
	// arguments.
	SignFile, MOKSigningKey, MOKCertificate string
	// TrySignModules is "true", "false" or "not_in_chroot" (also the default).
	TrySignModules string
	// Policy is failure_policy: what holds for modules that don't say: Optional by
	// default, Required also for any other text.
	Policy string
	// BootGate is on for "on", Initramfs off for "off".
	BootGate, Initramfs bool
	// DepmodOnly is on for module_index=depmod: depmod makes every index.
	DepmodOnly bool
	// Vars are all variables after evaluation.
	Vars Vars
}

// frameworkNames returns the variables taken from framework.conf.
func frameworkNames() []string {
	return []string{
		"source_tree", "dkms_tree", "install_tree", "tmp_location",
		"verbose", "symlink_modules", "autoinstall_all_kernels", "modprobe_on_install", "parallel_jobs",
		"compress_gzip_opts", "compress_xz_opts", "compress_zstd_opts", "build_environment", "post_transaction",
		"sign_file", "mok_signing_key", "mok_certificate", "try_sign_modules",
		"failure_policy", "boot_gate", "initramfs", "module_index",
	}
}

// inheritedNames returns the variables of framework.conf that come from the
// environment when no file sets them.
func inheritedNames() []string {
	return []string{
		"parallel_jobs", "modprobe_on_install", "post_transaction",
		"sign_file", "mok_signing_key", "mok_certificate",
	}
}

// Framework evaluates framework.conf and framework.conf.d/*.conf below
// l.Paths.ConfDir; none need exist. kernel is the value of $kernelver: upstream
// reads the files without one at first, and again with the kernel before it
// signs and before it runs post_transaction. It returns *Unreadable when a
// file cannot be read and *Invalid when one has a syntax error: which trees the
// rest of it would have named isn't known.
func (l *Loader) Framework(ctx context.Context, kernel string) (Framework, error) {
	paths, err := l.frameworkFiles()
	if err != nil {
		return Framework{}, err
	}
	files, err := readConfs(paths)
	if err != nil {
		return Framework{}, err
	}
	e := l.newEvaluation(frameworkNames(), files)
	e.shell = map[string]string{"kernelver": kernel}
	e.values = l.frameworkDefaults()
	if problem := l.malformed(ctx, e, Auto); problem != "" {
		return Framework{}, &Invalid{File: filepath.Join(l.Paths.ConfDir, "framework.conf"), Problems: []string{problem}}
	}
	out, err := l.evaluate(ctx, e, l.Policy)
	if err != nil {
		return Framework{}, fmt.Errorf("evaluate framework.conf: %w", err)
	}
	fw := newFramework(out.vars)
	if l.Policy == NoExec && out.incomplete {
		fw.Refused = out.notes
	}
	return fw, nil
}

// frameworkFiles returns the existing files in the order of evaluation.
func (l *Loader) frameworkFiles() ([]string, error) {
	var paths []string
	main := filepath.Join(l.Paths.ConfDir, "framework.conf")
	if _, err := os.Stat(main); err == nil {
		paths = append(paths, main)
	}
	entries, err := os.ReadDir(main + ".d")
	if err != nil {
		if os.IsNotExist(err) || isNotDir(err) {
			return paths, nil
		}
		return nil, &Unreadable{File: main + ".d", Err: err}
	}
	for _, entry := range entries {
		name := entry.Name()
		path := filepath.Join(main+".d", name)
		if !strings.HasSuffix(name, ".conf") || strings.HasPrefix(name, ".") {
			continue
		}
		if st, err := os.Stat(path); err == nil && !st.IsDir() {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

func isNotDir(err error) bool {
	pathErr, ok := err.(*fs.PathError)
	return ok && strings.Contains(pathErr.Err.Error(), "not a directory")
}

// frameworkDefaults returns the values before any file is read.
func (l *Loader) frameworkDefaults() Vars {
	environ := l.Environ
	if environ == nil {
		environ = os.Environ()
	}
	v := Vars{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if slices.Contains(inheritedNames(), name) {
			v.set(name, 0, value)
		}
	}
	v.set("source_tree", 0, l.Paths.SourceTree)
	v.set("dkms_tree", 0, l.Paths.DKMSTree)
	v.set("install_tree", 0, l.Paths.InstallTree)
	v.set("tmp_location", 0, l.Paths.Temp)
	v.set("compress_xz_opts", 0, "--check=crc32 --lzma2=dict=1MiB")
	v.set("compress_zstd_opts", 0, "-q --rm -T0")
	return v
}

func newFramework(v Vars) Framework {
	on := func(name string) bool { return v.Get(name) != "" }
	policy := Required // also for a misspelt word: what fails is then seen
	if word := v.Get("failure_policy"); word == "" || strings.EqualFold(word, Optional) {
		policy = Optional
	}
	return Framework{
		SourceTree: v.Get("source_tree"), DKMSTree: v.Get("dkms_tree"),
		InstallTree: v.Get("install_tree"), TmpLocation: v.Get("tmp_location"),
		Verbose: on("verbose"), SymlinkModules: on("symlink_modules"),
		ModprobeOnInstall: on("modprobe_on_install"), AutoinstallAllKernels: on("autoinstall_all_kernels"),
		ParallelJobs:     v.Get("parallel_jobs"),
		CompressGzipOpts: v.Get("compress_gzip_opts"), CompressXZOpts: v.Get("compress_xz_opts"),
		CompressZstdOpts: v.Get("compress_zstd_opts"), BuildEnvironment: v.Get("build_environment"),
		PostTransaction: v.Get("post_transaction"), SignFile: v.Get("sign_file"),
		MOKSigningKey: v.Get("mok_signing_key"), MOKCertificate: v.Get("mok_certificate"),
		TrySignModules: v.Get("try_sign_modules"), Vars: v,
		Policy: policy, BootGate: v.Get("boot_gate") == "on", Initramfs: v.Get("initramfs") != "off",
		DepmodOnly: v.Get("module_index") == "depmod",
	}
}
