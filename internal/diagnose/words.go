// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"regexp"
	"strings"
	"sync"
)

var outOfMemory = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)virtual memory exhausted|\bout of memory\b|cannot allocate memory|memory exhausted|std::bad_alloc|\bmemory allocation failed|Killed signal terminated program|terminated with signal 9|internal compiler error: Killed|unable to execute command: Killed|fork: (retry: )?Resource temporarily unavailable|cannot fork\b|can't fork\b|posix_spawn: Resource temporarily|(^|: )Killed$|Resource temporarily unavailable$`)
})

var diskFull = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`No space left on device|Disk quota exceeded|File size limit exceeded|File too large\b`)
})

var noNetwork = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)network is unreachable|could ?n[o']t resolve (host|proxy)|could not resolve|name resolution|unable to resolve|name or service not known|nodename nor servname|no route to host|failed to connect to|unable to connect to|connection (refused|timed out|reset by peer)|Bad hostname|unable to access 'https?:|(curl|wget): .*(failed|unable)|dial tcp|Temporary failure resolving|failed to download|could not (read|fetch) from remote`)
})

var refused = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:Read-only file system|Permission denied|Operation not permitted)['"]?$`)
})

var toolWords = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)unrecognized (?:command[- ]line )?(?:option|argument)|unknown (?:argument|warning option)|unsupported (?:option|argument)|invalid (?:option|argument) '-|bad value .* for '?-|plugin|not supported (?:by|for) (?:this|the) (?:target|configuration|compiler)|is not supported in this configuration|code model .* does not support|internal compiler error|requires? (?:gcc|clang|a newer compiler)|cannot execute|not configured for|bad register name|no such instruction|unknown pseudo-op|unrecognized emulation|dereferencing NULL plugin|Segmentation fault`)
})

var (
	optionName     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\bCONFIG_[A-Z0-9_]+\b`) })
	aboutInterface = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)none of the expected|unknown .*\binterface\b|interface .*(?:was|were) (?:not )?detected|kernel API`)
	})
	enableOption = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)enable\w* (?:\w+ ){0,4}in (?:the|your) kernel|kernel (?:config|configuration|must be (?:built|compiled|configured))|(?:built|compiled|configured) with(?:out)? `)
	})
	aboutHeaders = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)kernel[- ](?:headers?|sources?|devel|build|include|tree)\b|linux-(?:headers|source)|UTS_RELEASE|utsrelease|header files? .*kernel|(?:modules|kernel)_?(?:dir|path).*(?:not|no such|invalid)`)
	})
	aboutVersion = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(?:unsupported|not (?:yet )?support(?:ed)?|does(?: not|n't) support|too (?:old|new)|or (?:newer|later|higher|older)|newer than|older than|at (?:least|most)|up to|requires?|needs?|only|untested|prior to|before|after|beyond)\b`)
	})
	kernelWord = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)\b(?:linux|kernels?|LINUX_VERSION_CODE|\d+\.\d+(?:\.\d+)?)\b`)
	})
	aboutTool = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)\b(?:compiler|gcc|clang|toolchain|llvm)\b`) })
)

// byWords judges a text that the module's author wrote: of #error, of make's
// $(error), of a configure script. otherwise is what it is if nothing can be told.
func byWords(words string, otherwise Class) (Class, *Subject) {
	switch {
	case optionName().MatchString(words):
		return Config, &Subject{Kind: Option, Name: optionName().FindString(words)}
	case aboutInterface().MatchString(words):
		return API, nil
	case outOfMemory().MatchString(words):
		return Memory, nil
	case diskFull().MatchString(words):
		return Disk, nil
	case noNetwork().MatchString(words):
		return Network, nil
	case aboutHeaders().MatchString(words):
		return Headers, nil
	case enableOption().MatchString(words):
		return Config, nil
	case aboutVersion().MatchString(words) && kernelWord().MatchString(words) && !aboutTool().MatchString(words):
		return Excluded, nil
	case aboutTool().MatchString(words):
		return Compiler, nil
	}
	return otherwise, nil
}

var (
	// coreHeader are headers that every kernel has, so that one that lacks them is
	// not complete.
	coreHeader = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(?:generated/|linux/(?:module|kernel|init|types|version|compiler|compiler_types|compiler-version|kconfig|export|moduleparam|slab|fs|device|string|errno|mm|sched|list|utsrelease)\.h$|asm/(?:types|barrier|page|ptrace|errno|bitsperlong|posix_types|asm-offsets|rwonce|orc_types)\.h$|(?:.*/)?(?:auto(?:conf)?|kconfig|compiler_types|compiler-version|asm-offsets|utsrelease)\.h$)`)
	})
	// kernelHeader begins with a directory of include/.
	kernelHeader = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(?:acpi|asm|asm-generic|clocksource|crypto|cxl|drm|dt-bindings|hyperv|keys|kunit|kvm|linux|math-emu|media|memory|misc|net|pcmcia|ras|rdma|rv|scsi|soc|sound|target|trace|uapi|ufs|vdso|video|xen)/`)
	})
	// compilerHeader are those of the compiler, which kernels have their own of.
	compilerHeader = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:stdarg|stddef|stdbool|limits|stdint)\.h$`) })
	// toolHeader are those of libraries that the kernel's own tools are built with.
	toolHeader = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(?:openssl/|elfutils/|libelf\.h|gelf\.h|libdw|dwarf\.h|ncurses|curses\.h|zlib\.h|ctype\.h$)`)
	})
)

// headerClass judges a header that was not found.
func headerClass(name string, facts Facts) Class {
	for _, dir := range append(facts.HeaderDirs, facts.BuildDir) { // by its full path
		if dir != "" {
			name = strings.TrimPrefix(name, strings.TrimRight(dir, "/")+"/")
		}
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "./"), "include/")
	switch {
	case coreHeader().MatchString(name) && !strings.HasPrefix(name, "kernel-"):
		return Headers
	case kernelHeader().MatchString(name), compilerHeader().MatchString(name):
		return API
	case toolHeader().MatchString(name):
		return Compiler
	case facts.inHeaders(name):
		return Headers
	}
	return Code
}

// compilerName are programs that compile, link or assemble.
var compilerName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:\S*/)?(?:[a-z0-9_]+-)*(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|ld|ld\.lld|ld\.bfd|as|ar|nm|objcopy|objdump|strip|readelf|cpp|rustc|bindgen|llvm-[a-z]+|lld)(?:-[0-9.]+)?$`)
})

// programClass judges a program that was not found: the kernel's own tools come
// with its headers, the module's own with its source.
func programClass(name string, facts Facts) Class {
	switch {
	case kernelTool().MatchString(name) || strings.Contains(name, "/") && facts.inHeaders(name) && !compilerName().MatchString(name):
		return Headers
	case strings.HasPrefix(name, "./"), strings.HasPrefix(name, "../"), facts.BuildDir != "" && strings.HasPrefix(name, facts.BuildDir):
		return Code
	}
	return Compiler
}

// kernelTool are programs that kernels' makefiles call and that come with headers.
var kernelTool = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:^|/)(?:tools/(?:objtool|bpf)/|scripts/(?:basic/|mod/|kconfig/|gcc-plugins/|genksyms/|recordmcount|sign-file|module-common|ld-version|cc-version|gcc-version|[\w-]+\.(?:sh|pl|awk)$))|(?:^|/)(?:objtool|modpost|fixdep|genksyms|recordmcount|sign-file|insert-sys-cert|sorttable|resolve_btfids)$`)
})
