// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"io"

	"dkms-go/internal/diagnose"
	"dkms-go/internal/plan"
)

// Reason says what kind of failure ended a verb. The command line gives each
// an exit code and, for the manual, words: this package knows neither.
type Reason int

// The reasons.
const (
	Internal Reason = iota
	NoModule
	BadName
	NotRoot
	NotWritable
	NoTemplate
	KeyFailed
	NoStub
	NoSourceDir
	SameKernel
	NoArchive
	AlreadyAdded
	NotAdded
	UnknownModule
	NoConfInArchive
	NoConf
	BrokenModule
	OneKernel
	NoOSRelease
	NoAll
	PatchPath
	PatchFailed
	InstallFailed
	NotBuilt
	ArchiveFailed
	IndexFailed
	ObjectMissing
	BadArchive
	BadConf
	NoSource
	AlreadyLoaded
	NotSourceTree
	NoPlace
	BadPackage
	RPMFailed
	MakeFailed
	AutoinstallFailed
	MissingDepends
	RemoveFailed
	EmptyKernel
	NoHeaders
	BadKernelTree
	Excluded
	PreInstallFailed
	HookFailed
	InitramfsFailed
	NotVerified
	NotReady
	NotReproducible
	NotTrusted
	NotConfined
	Untrusted
	OtherKernel
	NoPrebuilt
	FoundWarning
	FoundError
	NoLog
	HubFailed
	Busy
	Interrupted
)

// Failure is an error that ends a verb or one of its steps.
type Failure struct {
	Reason Reason
	Err    error
	// Cause is the line of a log that tells best what went wrong, or "".
	Cause string
	// Diagnosis is why a build failed; nil for other failures.
	Diagnosis *diagnose.Diagnosis
	// Hint tells what to do next, a line each.
	Hint []string
	// Status is the exit status of the script that failed (HookFailed).
	Status int
	// Said is set once the failure has been shown.
	Said bool
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Hints returns what to do next, a line each.
func (f *Failure) Hints() []string { return f.Hint }

// Soft reports whether modules that depend on the failed one may go on: an
// excluded module counts as dealt with.
func (f *Failure) Soft() bool { return f.Reason == Excluded }

var _ plan.Soft = (*Failure)(nil)

// people is where text for people goes that is to be shown on w.
func (e *Engine) people(w io.Writer) io.Writer {
	if e.People == nil {
		return w
	}
	return e.People(w)
}

func fail(r Reason, err error, hints ...string) *Failure {
	return &Failure{Reason: r, Err: err, Hint: hints}
}

func failf(r Reason, format string, args ...any) *Failure {
	return &Failure{Reason: r, Err: fmt.Errorf(format, args...)}
}

func (f *Failure) hint(format string, args ...any) *Failure {
	f.Hint = append(f.Hint, fmt.Sprintf(format, args...))
	return f
}
