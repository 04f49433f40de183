// SPDX-License-Identifier: Apache-2.0

// Package mok finds what the objects of a kernel are signed with: the digest,
// the tool, and the machine owner key (MOK) with its certificate, which it
// makes where there is none yet.
//
// Nothing here can make a build end in an error: a machine without a key
// builds objects without signatures, and is told why.
package mok

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/host"
	"dkms-go/internal/kernel"
	"dkms-go/internal/ko"
)

// Request is what the choice of a signing key depends on.
type Request struct {
	Paths host.Paths
	// Distro is the distribution's ID (distro.Distro).
	Distro string
	// Kernel is the release that is built for.
	Kernel string
	// KernelConfigFile and KernelSourceDir are those of the kernel
	// (kernel.Kernel).
	KernelConfigFile, KernelSourceDir string
	// KernelConfig, if not nil, returns what KernelConfigFile holds.
	KernelConfig func() (kernel.Config, error)
	// SignFile, Key, Cert and Try are sign_file, mok_signing_key,
	// mok_certificate and try_sign_modules of framework.conf or the
	// environment.
	SignFile, Key, Cert, Try string
	// CA is mok_ca_certificate, PassphraseFile mok_passphrase_file.
	CA, PassphraseFile string
	// Environ is dkms's own environment.
	Environ []string
	// LookPath finds a command on PATH.
	LookPath func(name string) (string, error)
	// Run runs a command with variables added to the environment.
	Run func(ctx context.Context, argv, env []string) error

	// certify makes a certificate for a key that has none.
	certify bool
}

// Plan is how objects are signed.
type Plan struct {
	// Hash is the digest's name as the kernel's configuration has it.
	Hash string
	// SignFile is the tool, Key the private key (a PEM file or a "pkcs11:"
	// URI), Cert the certificate.
	SignFile, Key, Cert string
	// CA is the certificate of the authority that has issued Cert, which the
	// signatures then hold; "" if there is none.
	CA string
	// Signer signs within this process; nil if SignFile has to, with Environ
	// added to its environment.
	Signer  *ko.Signer
	Environ []string
}

// Unsigned ends the line that says why objects aren't signed.
const Unsigned = ", modules won't be signed"

// Prepare chooses how the objects of a kernel are signed, and calls say with
// one line for each finding. A nil Plan says that they aren't signed; the last
// line then gives the reason. A missing key is made (see Generate). The error
// is that of ctx only.
func Prepare(ctx context.Context, r Request, say func(line string)) (*Plan, error) {
	plan, err := r.prepare(ctx, say)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err != nil {
		reason := err.Error()
		say(strings.ToUpper(reason[:1]) + reason[1:] + Unsigned)
		return nil, nil
	}
	return plan, nil
}

// GenerateMOK chooses a key as Prepare does and makes one if there is none
// (dkms(8), generate_mok). A key that exists without a certificate gets one,
// which Prepare wouldn't do: it could be that the certificate is elsewhere, and
// enrolled. The kernel's configuration has no say here. The error is the reason
// why there is no usable key afterwards.
func GenerateMOK(ctx context.Context, r Request, say func(line string)) error {
	r.KernelConfigFile, r.KernelSourceDir, r.certify = "", "", true
	key, cert, err := r.pair(ctx, say)
	if err == nil {
		_, err = r.signer(ctx, key, cert)
	}
	if errors.Is(err, ko.ErrUnsupported) {
		err = nil // sign-file may know it
	}
	if err != nil {
		return fmt.Errorf("preparing the machine owner key: %w", err)
	}
	return nil
}

// Names returns the paths of the key and its certificate without making
// anything. The key may be a "pkcs11:" URI.
func (r Request) Names() (key, cert string) {
	key, cert = r.Key, r.Cert
	if key == "" {
		switch {
		case r.is("ubuntu"):
			key, cert = filepath.Join(r.Paths.ShimMOKDir, "MOK.priv"), filepath.Join(r.Paths.ShimMOKDir, "MOK.der")
		case r.is("gentoo"):
			key, cert = r.portagePair()
		}
	}
	if key == "" {
		key = filepath.Join(r.Paths.MOKDir, "mok.key")
	}
	if cert == "" {
		cert = filepath.Join(r.Paths.MOKDir, "mok.pub")
	}
	return key, cert
}

func (r Request) config() (kernel.Config, error) {
	if r.KernelConfig == nil || r.KernelConfigFile == "" {
		return kernel.ReadConfig(r.KernelConfigFile)
	}
	return r.KernelConfig()
}

func (r Request) prepare(ctx context.Context, say func(string)) (*Plan, error) {
	hash, tool, err := r.wanted(say)
	if err != nil {
		return nil, err
	}
	key, cert, err := r.pair(ctx, say)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Hash: hash, SignFile: tool, Key: key, Cert: cert, CA: r.CA}
	if r.SignFile != "" {
		return plan, r.external(plan)
	}
	plan.Signer, err = r.signer(ctx, key, cert)
	if errors.Is(err, ko.ErrUnsupported) {
		return plan, r.external(plan)
	}
	if err != nil {
		return nil, err
	}
	if end := plan.Signer.Cert.NotAfter; time.Now().After(end) {
		say("Warning: the certificate " + cert + " expired on " + end.Format(time.DateOnly) + "; kernels don't mind")
	}
	return plan, nil
}

// Wanted tells why a kernel's objects would not be signed, whatever the key; nil if
// they would.
func Wanted(r Request) error {
	_, _, err := r.wanted(func(string) {})
	return err
}

// wanted returns what signatures are made with, apart from the key.
func (r Request) wanted(say func(string)) (hash string, tool string, err error) {
	if r.Try == "false" {
		return "", "", errors.New("signatures are turned off (try_sign_modules)")
	}
	if r.Try != "true" && InChroot(r.Paths, r.Environ) {
		return "", "", errors.New("this is a chroot and framework.conf has no try_sign_modules=true")
	}
	config, err := r.config()
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("there is no kernel configuration %s", r.KernelConfigFile)
	}
	if err != nil {
		return "", "", err
	}
	hash, ok := config.SigHash()
	if !ok {
		return "", "", fmt.Errorf("kernel %s has no support for module signatures", r.Kernel)
	}
	tool = r.signFile()
	say("Sign command: " + tool)
	if !isFile(tool) || unix.Access(tool, unix.X_OK) != nil {
		return "", "", fmt.Errorf("there is no executable sign command %s", tool)
	}
	return hash, tool, nil
}

// external prepares signing by another program. Of a certificate authority that
// knows nothing.
func (r Request) external(plan *Plan) error {
	if r.CA != "" {
		return fmt.Errorf("%s can't put the certificate into signatures, which mok_ca_certificate asks for", plan.SignFile)
	}
	for _, path := range []string{plan.Key, plan.Cert} {
		if onToken(path) {
			continue
		}
		if err := unix.Access(path, unix.R_OK); err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
	}
	passphrase, err := r.passphrase()
	if len(passphrase) > 0 {
		plan.Environ = []string{PassphraseEnv + "=" + string(passphrase)}
	}
	return err
}

// signFile returns the tool that signs: the configured one, else the one of
// the distribution's packages, else the one among the kernel's headers. The
// file need not exist.
func (r Request) signFile() string {
	if r.SignFile != "" {
		return r.SignFile
	}
	if tool := r.packagedSignFile(); isFile(tool) {
		return tool
	}
	inHeaders := filepath.Join(r.Paths.KernelTree(r.Kernel), "build", "scripts", "sign-file")
	if beside := filepath.Join(r.KernelSourceDir, "scripts", "sign-file"); !isFile(inHeaders) && isFile(beside) {
		return beside
	}
	return inHeaders
}

func (r Request) packagedSignFile() string {
	const script = "scripts/sign-file"
	switch {
	case r.is("debian"):
		series := r.Kernel // up to its last dot: 6.1.0-50-amd64 is of 6.1
		if dot := strings.LastIndexByte(series, '.'); dot >= 0 {
			series = series[:dot]
		}
		return filepath.Join(r.Paths.KbuildDir+series, script)
	case r.is("ubuntu"):
		if tool, err := r.LookPath("kmodsign"); err == nil {
			return tool
		}
		return filepath.Join(r.Paths.SourceTree, "linux-headers-"+r.Kernel, script)
	case r.is("gentoo"):
		return filepath.Join(r.Paths.SourceTree, "linux-"+r.Kernel, script)
	default:
		return ""
	}
}

func (r Request) is(name string) bool { return strings.HasPrefix(r.Distro, name) }

// getenv returns a variable of the environment, the last one of that name.
func (r Request) getenv(name string) string {
	value, _ := lookup(r.Environ, name)
	return value
}

func lookup(environ []string, name string) (string, bool) {
	for _, variable := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
