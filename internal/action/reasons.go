// SPDX-License-Identifier: Apache-2.0

package action

// String returns the word that a reason has in JSON, in the journal and in metrics.
// It stays the same between versions; docs/exit-codes.md lists the words.
func (r Reason) String() string {
	words := [...]string{
		Internal:          "internal",
		NoModule:          "no-module",
		BadName:           "bad-name",
		NotRoot:           "not-root",
		NotWritable:       "not-writable",
		NoTemplate:        "no-template",
		KeyFailed:         "key-failed",
		NoStub:            "no-stub",
		NoSourceDir:       "no-source-dir",
		SameKernel:        "same-kernel",
		NoArchive:         "no-archive",
		AlreadyAdded:      "already-added",
		NotAdded:          "not-added",
		UnknownModule:     "unknown-module",
		NoConfInArchive:   "no-conf-in-archive",
		NoConf:            "no-conf",
		BrokenModule:      "broken-module",
		OneKernel:         "one-kernel",
		NoOSRelease:       "no-os-release",
		NoAll:             "no-all",
		PatchPath:         "patch-path",
		PatchFailed:       "patch-failed",
		InstallFailed:     "install-failed",
		NotBuilt:          "not-built",
		ArchiveFailed:     "archive-failed",
		IndexFailed:       "index-failed",
		ObjectMissing:     "object-missing",
		BadArchive:        "bad-archive",
		BadConf:           "bad-conf",
		NoSource:          "no-source",
		AlreadyLoaded:     "already-loaded",
		NotSourceTree:     "not-source-tree",
		BadPackage:        "bad-package",
		NoPlace:           "no-place",
		RPMFailed:         "rpm-failed",
		MakeFailed:        "make-failed",
		AutoinstallFailed: "autoinstall-failed",
		MissingDepends:    "missing-depends",
		RemoveFailed:      "remove-failed",
		EmptyKernel:       "empty-kernel",
		NoHeaders:         "no-headers",
		BadKernelTree:     "bad-kernel-tree",
		Excluded:          "excluded",
		PreInstallFailed:  "pre-install-failed",
		HookFailed:        "hook-failed",
		InitramfsFailed:   "initramfs-failed",
		NotVerified:       "not-verified",
		NotReady:          "not-ready",
		NotReproducible:   "not-reproducible",
		NotTrusted:        "not-trusted",
		NotConfined:       "not-confined",
		Untrusted:         "untrusted",
		OtherKernel:       "other-kernel",
		NoPrebuilt:        "no-prebuilt",
		FoundWarning:      "found-warning",
		FoundError:        "found-error",
		NoLog:             "no-log",
		HubFailed:         "hub-failed",
		Busy:              "busy",
		Interrupted:       "interrupted",
	}
	if r < 0 || int(r) >= len(words) || words[r] == "" {
		return words[Internal]
	}
	return words[r]
}
