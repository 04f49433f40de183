// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dkms-go/internal/ko"
	"dkms-go/internal/mok"
	"dkms-go/internal/plan"
	"dkms-go/internal/run"
	"dkms-go/internal/trust"
)

// KeyState is what is known of the signing key.
type KeyState struct {
	// Key and Path are the paths of the key and of its certificate, CA that of the
	// authority which has issued it, or "".
	Key, Path, CA string
	// Certificate and Authority are nil if they can't be read.
	Certificate, Authority *x509.Certificate
	// Unusable says why nothing can be signed, nil if it can.
	Unusable error
	// Target is the kernel that is asked about, Running whether it runs.
	Target  plan.Target
	Running bool
	Machine trust.Machine
	// Trusted and Enforced are about that kernel, and about the authority's key if
	// there is one.
	Trusted, Enforced trust.Verdict
	// Enrol is what to do, EnrolPath the certificate to enrol.
	Enrol     trust.Advice
	EnrolPath string
}

// KeyStatus tells of the signing key whether it can sign, and whether a kernel
// trusts it, by default the running one. Nothing is made. The error is a Failure
// if there is no usable key, or if the kernel takes trusted keys only and this is
// none.
func (e *Engine) KeyStatus(ctx context.Context, release string) (KeyState, error) {
	var s KeyState
	running, machine, err := e.Running()
	if err != nil {
		return s, fail(Internal, err)
	}
	if release == "" {
		release = running
	}
	s.Target = plan.Target{Kernel: release, Arch: e.arch(release, machine)}
	fw, err := e.framework(ctx, release, e.Err)
	if err != nil {
		return s, fail(BadConf, err)
	}
	s.Key, s.Path, s.Unusable = mok.Check(ctx, e.signingRequest(e.kernel(s.Target), fw))
	s.CA, s.EnrolPath = fw.MOKCACertificate, s.Path
	if cert, err := ko.LoadCertificate(s.Path); err == nil {
		s.Certificate = cert
	}
	enrolled := s.Certificate
	if s.CA != "" {
		s.Authority, _ = ko.LoadCertificate(s.CA)
		enrolled, s.EnrolPath = s.Authority, s.CA
	}
	k := e.trustKernel(s.Target)
	s.Running, s.Machine, s.Enforced = k.Running, e.machine(), e.machine().Enforces(k)
	if enrolled != nil {
		s.Trusted, s.Enrol = s.Machine.Trusts(k, enrolled), s.Machine.Enrol(k, enrolled)
	}
	switch {
	case errors.Is(s.Unusable, mok.ErrNone):
		return s, fail(KeyFailed, s.Unusable, "`dkms key generate` makes one; so does the next build.")
	case s.Unusable != nil:
		return s, fail(KeyFailed, fmt.Errorf("there is no usable signing key: %w", s.Unusable))
	case s.Trusted.Answer == trust.No && s.Enforced.Answer == trust.Yes:
		return s, failf(NotTrusted, "kernel %s doesn't trust the key: %s", release, s.Trusted.Why).hint("To enrol it: %s", s.EnrolLine())
	}
	return s, nil
}

// EnrolLine is the one command that enrols the key, or why there is none.
func (s KeyState) EnrolLine() string {
	if !s.Enrol.Import {
		return s.Enrol.Note
	}
	if der(s.EnrolPath) {
		return run.Cmd{Argv: []string{"mokutil", "--import", s.EnrolPath}}.Line()
	}
	return "dkms key enrol" // mokutil takes DER only
}

func der(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var first [1]byte
	_, err = io.ReadFull(f, first[:])
	return err == nil && first[0] == 0x30
}

// EnrolKey has mokutil put the key up for enrolment, if that is needed; mokutil
// asks for a password on in, which is asked for again at the next boot.
func (e *Engine) EnrolKey(ctx context.Context, in io.Reader) error {
	s, err := e.KeyStatus(ctx, "")
	var f *Failure
	if err != nil && !(errors.As(err, &f) && f.Reason == NotTrusted) {
		return err
	}
	if !s.Enrol.Import {
		fmt.Fprintln(e.Out, s.Enrol.Note)
		return nil
	}
	if e.DryRun {
		fmt.Fprintln(e.Out, s.EnrolLine())
		return nil
	}
	if err := e.RequireRoot(); err != nil {
		return err
	}
	if _, err := run.LookPath("mokutil", e.Environ); err != nil {
		f := failf(KeyFailed, "mokutil, which enrols keys, is not installed")
		if install := e.distro.InstallCommand("mokutil"); install != "" {
			f.hint("Install it with: %s", install)
		}
		return f
	}
	path := s.EnrolPath
	if !der(path) {
		cert, err := ko.LoadCertificate(path)
		if err != nil {
			return fail(KeyFailed, err)
		}
		path = filepath.Join(e.Framework.TmpLocation, "dkms-"+hex.EncodeToString(cert.SerialNumber.Bytes())+".der")
		if err := os.WriteFile(path, cert.Raw, 0o600); err != nil {
			return fail(NotWritable, err)
		}
		defer os.Remove(path)
	}
	err = run.Cmd{Argv: []string{"mokutil", "--import", path}, Env: e.baseEnv(), Stdin: in, Stdout: e.Out, Stderr: e.Err}.Run(ctx)
	if err != nil {
		return fail(KeyFailed, fmt.Errorf("enrolling %s: %w", s.EnrolPath, err))
	}
	fmt.Fprintf(e.Out, "Enrolled at the next boot: %s.\n", s.Enrol.Note)
	return nil
}

// remindOfKey tells once, after an install, of each kernel that takes trusted
// signatures only and doesn't trust the key of what was built for it.
func (e *Engine) remindOfKey() {
	for t, s := range e.signing {
		if s.plan == nil || s.told {
			continue
		}
		s.told = true
		e.signing[t] = s
		state := KeyState{EnrolPath: s.plan.Cert}
		if s.plan.CA != "" {
			state.EnrolPath = s.plan.CA
		}
		cert, err := ko.LoadCertificate(state.EnrolPath)
		if err != nil {
			continue
		}
		k := e.trustKernel(t)
		trusted := e.machine().Trusts(k, cert)
		if trusted.Answer != trust.No || e.machine().Enforces(k).Answer != trust.Yes {
			continue
		}
		state.Enrol = e.machine().Enrol(k, cert)
		fmt.Fprintf(e.people(e.Err), "Note: kernel %s will not load what was built: it doesn't trust the key of %s: %s.\nTo enrol it: %s\n", t.Kernel, state.EnrolPath, trusted.Why, state.EnrolLine())
	}
}

// machine is what this machine says of keys, read once. Of another root, and of
// a chroot, nothing is known: which machine it is for isn't either.
func (e *Engine) machine() trust.Machine {
	e.trustOnce.Do(func() {
		if e.Root != "" || mok.InChroot(e.Paths, e.Environ) {
			e.trusting.Problems = []string{"this is another root directory than that of the machine"}
			return
		}
		e.trusting = trust.Read(e.Paths, trust.Keyctl)
	})
	return e.trusting
}

// trustKernel is what trust asks of a kernel.
func (e *Engine) trustKernel(t plan.Target) trust.Kernel {
	running, _, err := e.Running()
	k := trust.Kernel{Release: t.Kernel, Running: err == nil && running == t.Kernel && e.Root == "", Config: e.abi(t).Config(), Platform: e.distro.PlatformKeys()}
	if cert, err := ko.LoadCertificate(filepath.Join(e.kernel(t).SourceDir, "certs", "signing_key.x509")); err == nil {
		k.BuiltIn = cert
	}
	return k
}
