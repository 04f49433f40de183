// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
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
	// MOKCACertificate is the certificate of the authority that has issued
	// MOKCertificate; if set, signatures hold the latter. MOKPassphraseFile has the
	// passphrase of the key, or the PIN of its token, on its first line.
	MOKCACertificate, MOKPassphraseFile string
	// TrySignModules is "true", "false" or "not_in_chroot" (also the default).
	TrySignModules string
	// Policy is failure_policy: what holds for modules that don't say: Optional by
	// default, Required also for any other text.
	Policy string
	// BootGate is on for "on", Initramfs off for "off".
	BootGate, Initramfs bool
	// ResultCache is the bound of the result cache in bytes: result_cache_size,
	// 0 for result_cache=off. A size that can't be understood is the default.
	ResultCache int64
	// HookLockTimeout is how long a package manager's hook waits for another dkms:
	// hook_lock_timeout, 0 for no bound. What is no number of seconds is the
	// default.
	HookLockTimeout time.Duration
	// Confine says how builds are confined: ConfineOn by default, also for a word
	// that isn't known; ConfineOff or ConfineRequire.
	Confine string
	// The limits of a confined build; 0 is none. What can't be understood is the
	// default.
	BuildTime                            time.Duration
	BuildProcesses                       int
	BuildFile, BuildMemory, BuildReserve int64 // bytes; WholeMemory
	// DepmodOnly is on for module_index=depmod: depmod makes every index.
	DepmodOnly bool
	// Prebuilt says whether sources of prebuilts are asked before something is built
	// (PrebuiltPrefer, the default), instead of it (PrebuiltOnly), or never
	// (PrebuiltNever). PrebuiltSources are asked in their order; without one nothing is.
	Prebuilt        string
	PrebuiltSources []string
	// PrebuiltTrust is the directory of the keys that prebuilts must be signed by, "" for
	// the default.
	PrebuiltTrust string
	// PrebuiltCA is a file with the certificates that servers' ones must be issued by, ""
	// for those of the system.
	PrebuiltCA string
	// Vars are all variables after evaluation.
	Vars Vars
}

// frameworkNames returns the variables taken from framework.conf.
func frameworkNames() []string {
	return []string{
		"source_tree", "dkms_tree", "install_tree", "tmp_location",
		"verbose", "symlink_modules", "autoinstall_all_kernels", "modprobe_on_install", "parallel_jobs",
		"compress_gzip_opts", "compress_xz_opts", "compress_zstd_opts", "build_environment", "post_transaction",
		"sign_file", "mok_signing_key", "mok_certificate", "mok_ca_certificate", "mok_passphrase_file", "try_sign_modules",
		"failure_policy", "boot_gate", "initramfs", "module_index", "result_cache", "result_cache_size",
		"hook_lock_timeout", "prebuilt", "prebuilt_sources", "prebuilt_trust", "prebuilt_ca",
		"confine", "build_time_limit", "build_process_limit", "build_file_limit", "build_memory_limit", "build_disk_reserve",
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
	if v, ok := l.plainFramework(files); ok {
		return newFramework(v), nil
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

// plainFramework returns what files give that hold nothing but comments and plain
// values for known names, as most do: that takes no shell.
func (l *Loader) plainFramework(files []confFile) (Vars, bool) {
	environ := l.Environ
	if environ == nil {
		environ = os.Environ()
	}
	if slices.ContainsFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, "DKMS_DIRECTIVE") }) {
		return nil, false
	}
	v, names := l.frameworkDefaults(), frameworkNames()
	for _, f := range files {
		for line := range strings.Lines(f.text) {
			line = strings.TrimLeft(strings.TrimRight(line, " \t\n"), " \t")
			if line == "" || line[0] == '#' && !strings.ContainsRune(line, 0) {
				continue
			}
			name, value, ok := strings.Cut(line, "=")
			if value, plain := plainValue(value); ok && plain && slices.Contains(names, name) {
				delete(v, name)
				v.set(name, 0, value)
				continue
			}
			return nil, false
		}
	}
	for _, a := range v { // with any file, what was set before is evaluated again
		if _, plain := plainValue(`"` + a.Scalar() + `"`); !plain && len(files) > 0 {
			return nil, false
		}
	}
	return v, true
}

// plainValue returns what the shell makes of the text behind an assignment's "=" if
// that is a single word, or in quotes some with one space between, all of
// characters that mean only themselves.
func plainValue(text string) (value string, ok bool) {
	value, safe := text, safeText
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		value, safe = text[1:n-1], safeText+" "
	}
	spaced := strings.HasPrefix(value, " ") || strings.HasSuffix(value, " ") || strings.Contains(value, "  ")
	return value, strings.Trim(value, safe) == "" && !spaced
}

const safeText = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+:,@%="

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
		MOKCACertificate: v.Get("mok_ca_certificate"), MOKPassphraseFile: v.Get("mok_passphrase_file"),
		TrySignModules: v.Get("try_sign_modules"), Vars: v,
		Policy: policy, BootGate: v.Get("boot_gate") == "on", Initramfs: v.Get("initramfs") != "off",
		ResultCache: cacheBound(v), HookLockTimeout: hookLockTimeout(v), Confine: confine(v.Get("confine")),
		BuildTime:      time.Duration(limit(v, "build_time_limit", DefaultBuildTime)) * time.Second,
		BuildProcesses: int(min(limit(v, "build_process_limit", DefaultBuildProcesses), math.MaxInt32)),
		BuildFile:      limit(v, "build_file_limit", DefaultBuildFile),
		BuildMemory:    limit(v, "build_memory_limit", WholeMemory), BuildReserve: limit(v, "build_disk_reserve", DefaultBuildReserve),
		DepmodOnly: v.Get("module_index") == "depmod",
		Prebuilt:   prebuiltMode(v.Get("prebuilt")), PrebuiltSources: strings.Fields(v.Get("prebuilt_sources")), PrebuiltTrust: v.Get("prebuilt_trust"), PrebuiltCA: v.Get("prebuilt_ca"),
	}
}

// The values of Framework.Prebuilt.
const (
	PrebuiltPrefer = "prefer"
	PrebuiltOnly   = "only"
	PrebuiltNever  = "never"
)

// prebuiltMode returns what a word means; one that isn't known is never: nothing is
// fetched that nobody has asked for.
func prebuiltMode(word string) string {
	switch word {
	case "", PrebuiltPrefer:
		return PrebuiltPrefer
	case PrebuiltOnly:
		return PrebuiltOnly
	}
	return PrebuiltNever
}

// DefaultCacheSize is result_cache_size where framework.conf doesn't set it.
const DefaultCacheSize = "1G"

// cacheBound returns the bound of the result cache.
func cacheBound(v Vars) int64 {
	if v.Get("result_cache") == "off" {
		return 0
	}
	n, ok := ParseSize(v.Get("result_cache_size"))
	if !ok {
		n, _ = ParseSize(DefaultCacheSize)
	}
	return n
}

// DefaultHookLockTimeout is hook_lock_timeout where framework.conf doesn't set it: a
// package manager that waits longer looks as if it hung, and most builds take less.
const DefaultHookLockTimeout = "600"

// hookLockTimeout returns how long a hook waits for another dkms.
func hookLockTimeout(v Vars) time.Duration {
	d, ok := ParseSeconds(v.Get("hook_lock_timeout"))
	if !ok {
		d, _ = ParseSeconds(DefaultHookLockTimeout)
	}
	return d
}

// ParseSeconds reads a whole number of seconds.
func ParseSeconds(text string) (d time.Duration, ok bool) {
	n, err := strconv.ParseUint(text, 10, 31)
	return time.Duration(n) * time.Second, err == nil
}

// ParseSize reads a number of bytes, which may end in K, M, G or T for powers of
// 1024.
func ParseSize(text string) (bytes int64, ok bool) {
	number, unit := strings.TrimRight(text, "KMGTkmgt"), int64(1)
	if suffix := text[len(number):]; len(suffix) == 1 {
		unit = 1 << (10 * (1 + strings.Index("KMGT", strings.ToUpper(suffix))))
	} else if suffix != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, false
	}
	return n * unit, true
}
