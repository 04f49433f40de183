// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"dkms-go/internal/action"
)

// Exit codes of the command line itself.
const (
	codeOK           = 0
	codeArchCount    = 1
	codeUsage        = 2
	codeKernelAndAll = 2
	codeArchAndAll   = 3
	codeTwoActions   = 4
	codeOneKernel    = 4
	codeNoAll        = 5
	codeBothOnly     = 8
)

// ExitRow is one exit code with what it says; the manual and the help are made
// from the table.
type ExitRow struct {
	Reason action.Reason
	Code   int
	Words  string
}

// exitTable gives each reason its code: upstream's, where it has the case.
var exitTable = []ExitRow{
	{action.Internal, 1, "something unforeseen"},
	{action.NoModule, 1, "the module or its version is not given"},
	{action.BadName, 1, "a name can't be a module, version, kernel or architecture"},
	{action.NotRoot, 1, "not root"},
	{action.NotWritable, 1, "a tree is not writable, or full"},
	{action.NoTemplate, 1, "match without --templatekernel"},
	{action.NoLog, 1, "log: no build has left a log, or it can't be read"},
	{action.KeyFailed, 1, "there is no usable signing key"},
	{action.NoStub, 1, "an archive without source, and no source installed"},
	{action.NoSourceDir, 2, "the module's source directory is missing"},
	{action.SameKernel, 2, "match of a kernel with itself"},
	{action.NoArchive, 2, "the archive doesn't exist"},
	{action.AlreadyAdded, 3, "the module is added already"},
	{action.NotAdded, 3, "the module is not in the DKMS tree"},
	{action.UnknownModule, 3, "match: no such module in the DKMS tree"},
	{action.NoConfInArchive, 3, "the archive has no dkms.conf"},
	{action.NoConf, 4, "dkms.conf can't be read"},
	{action.BrokenModule, 4, "the module is broken: its source is missing"},
	{action.OneKernel, 4, "the action takes exactly one kernel"},
	{action.NoOSRelease, 4, "there is no os-release file"},
	{action.NoAll, 5, "the action doesn't take --all"},
	{action.PatchPath, 5, "a patch is missing or outside the patches directory"},
	{action.PatchFailed, 6, "a patch doesn't apply"},
	{action.InstallFailed, 6, "nothing could be installed: no such kernel, an object is missing, the kernel has the same or a newer one, or writing failed"},
	{action.NotBuilt, 6, "mktarball: the module is not built for a kernel"},
	{action.ArchiveFailed, 6, "the archive or package could not be written"},
	{action.IndexFailed, 6, "the module index could not be updated"},
	{action.InitramfsFailed, 6, "the initramfs could not be updated"},
	{action.ObjectMissing, 7, "the build made no object of the expected name, or it could not be kept"},
	{action.BadArchive, 7, "the archive is damaged, unsafe, or has no usable dkms.conf"},
	{action.BadConf, 8, "dkms.conf is not valid"},
	{action.NoSource, 8, "there is nothing to build from in the source directory"},
	{action.AlreadyLoaded, 8, "ldtarball, import: the module is added already, or from another source"},
	{action.NotSourceTree, 9, "the directory has no dkms.conf; init: it has no makefile with an object"},
	{action.NoPlace, 9, "mktarball, mkdeb, mkrpm: the directory for what is packed is not writable"},
	{action.RPMFailed, 9, "rpm failed"},
	{action.MakeFailed, 10, "compiling failed"},
	{action.AutoinstallFailed, 11, "autoinstall: at least one module was not installed; preflight, matrix: at least one doesn't build"},
	{action.MissingDepends, 13, "BUILD_DEPENDS are not installed"},
	{action.RemoveFailed, 14, "kernel_prerm, kernel_preinst: a module was not removed"},
	{action.EmptyKernel, 16, "an empty kernel or architecture"},
	{action.NoHeaders, 21, "the kernel's headers are missing"},
	{action.BadKernelTree, 21, "the directory given as kernel is no prepared kernel tree"},
	{action.NotVerified, 22, "an object would not load in the kernel"},
	{action.NotReady, 23, "ready: the kernel lacks a module that it needs, is not installed, or is not known"},
	{action.NotReproducible, 24, "build --check-reproducible: two builds gave different bytes"},
	{action.NotTrusted, 25, "key status: the kernel takes trusted signatures only, and doesn't trust the key"},
	{action.NotConfined, 26, "`confine=require`, and the machine allows no namespaces"},
	{action.FoundWarning, 27, "doctor, fsck, lint: the worst finding is a warning"},
	{action.FoundError, 28, "doctor, fsck, lint: the worst finding is an error"},
	{action.BadPackage, 29, "mkdeb, mkrpm: a name, version or field can't be in a package"},
	{action.HubFailed, 43, "hub: this host is enrolled at none, or the hub can't be reached, or has refused"},
	{action.Untrusted, 40, "import, pull: not signed by a trusted key, or changed since"},
	{action.OtherKernel, 41, "import, pull: built for another kernel, or for another build of it, or that can't be told"},
	{action.NoPrebuilt, 42, "pull: no source has the module for the kernel; autoinstall: none has it, and it can't be built"},
	{action.Busy, 75, "in a package manager's hook: another dkms was at work for longer than hook_lock_timeout"},
	{action.Excluded, 77, "BUILD_EXCLUSIVE: the module is not meant for the kernel"},
	{action.PreInstallFailed, 101, "PRE_INSTALL failed"},
	{action.HookFailed, -1, "the exit status of POST_ADD, PRE_BUILD or POST_BUILD, when one fails; hook package: the code of the failure of a required module"},
	{action.Interrupted, -1, "128 plus the number of the signal that ended it"},
}

// ExitTable returns the table.
func ExitTable() []ExitRow { return exitTable }

// Signal is the cause of a context that a signal ended.
type Signal struct{ Number os.Signal }

func (s Signal) Error() string {
	if n, ok := s.Number.(syscall.Signal); ok {
		return "ended by " + unix.SignalName(n)
	}
	return "ended by signal " + s.Number.String()
}

// code returns the exit code of a failure.
func code(f *action.Failure) int {
	var s Signal
	if errors.As(f, &s) {
		if n, ok := s.Number.(syscall.Signal); ok {
			return 128 + int(n)
		}
	}
	for _, row := range exitTable {
		if row.Reason != f.Reason || row.Code < 0 {
			continue
		}
		return row.Code
	}
	return max(f.Status, 1)
}

// usage is an error of the command line.
type usage struct {
	code int
	text string
}

func (u *usage) Error() string { return u.text }

func usageError(format string, args ...any) error {
	return &usage{codeUsage, fmt.Sprintf(format, args...)}
}

// explain shows a failure in upstream's form: an empty line, then the error;
// what the kernel or configuration excludes is a warning.
func (d advice) explain(w io.Writer, f *action.Failure) {
	var b strings.Builder
	if f.Soft() {
		b.WriteString("Warning: ")
	} else {
		b.WriteString("\nError! ")
	}
	b.WriteString(strings.TrimRight(sentence(f.Error()), "\n"))
	b.WriteByte('\n')
	for _, h := range f.Hints() {
		b.WriteString(h)
		b.WriteByte('\n')
	}
	io.WriteString(d.people(w), b.String())
}

// sentence begins an error's text with a capital unless it begins with a name.
func sentence(s string) string {
	first, _, _ := strings.Cut(s, " ")
	if strings.Trim(first, "abcdefghijklmnopqrstuvwxyz") != "" || first == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
