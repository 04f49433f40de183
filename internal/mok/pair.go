// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dkms-go/internal/distro"
)

// pair chooses the private key and its certificate, says which, and makes what
// is missing. The certificate exists afterwards, and the key too unless a
// token holds it.
func (r Request) pair(ctx context.Context, say func(string)) (key, cert string, err error) {
	key, cert = r.Key, r.Cert
	if key == "" {
		if key, cert, err = r.familyPair(ctx, say); err != nil {
			return "", "", err
		}
	}
	if key == "" {
		key = filepath.Join(r.Paths.MOKDir, "mok.key")
	}
	if cert == "" {
		cert = filepath.Join(r.Paths.MOKDir, "mok.pub")
	}
	say("Signing key: " + key)
	say("Public certificate (MOK): " + cert)
	if onToken(key) {
		if !isFile(cert) {
			return "", "", fmt.Errorf("there is no certificate %s for the key %s", cert, key)
		}
		return key, cert, nil
	}
	if err := r.complete(ctx, key, cert, say); err != nil {
		return "", "", err
	}
	return key, cert, nil
}

// onToken reports whether a key is named by a PKCS #11 URI (RFC 7512), which
// the kernel's sign-file takes as well.
func onToken(key string) bool { return strings.HasPrefix(key, "pkcs11:") }

// familyPair returns the key and the certificate that a distribution has a
// place for, with no key configured; empty where it has none.
func (r Request) familyPair(ctx context.Context, say func(string)) (key, cert string, err error) {
	switch {
	case r.is("ubuntu"):
		key = filepath.Join(r.Paths.ShimMOKDir, "MOK.priv")
		cert = filepath.Join(r.Paths.ShimMOKDir, "MOK.der")
		if isFile(key) && isFile(cert) {
			return key, cert, nil
		}
		return key, cert, r.enrollShim(ctx, key, cert, say)
	case r.is("gentoo"):
		key, cert = r.portagePair()
		return key, cert, nil
	default:
		return "", r.Cert, nil
	}
}

// enrollShim has Ubuntu's update-secureboot-policy make a key and put it up
// for enrolment at the next boot. Only a machine without a key gets a new one.
// What the tool returns isn't looked at: whether there is a key is.
func (r Request) enrollShim(ctx context.Context, key, cert string, say func(string)) error {
	tool, err := r.LookPath("update-secureboot-policy")
	if err != nil {
		return fmt.Errorf("there is no key %s with a certificate %s, and no update-secureboot-policy to make them", key, cert)
	}
	if isFile(key) {
		if err := r.complete(ctx, key, cert, say); err != nil {
			return err
		}
	} else {
		if err := setAside(cert, say); err != nil {
			return err
		}
		say("Having update-secureboot-policy make a key and its certificate...")
		_ = r.Run(ctx, []string{tool, "--new-key"}, []string{"SHIM_NOTRIGGER=y"})
	}
	_ = r.Run(ctx, []string{tool, "--enroll-key"}, nil)
	return ctx.Err()
}

// portagePair returns the key and certificate of Gentoo's packages: from the
// environment, else from make.conf, else the ones in the kernel's
// configuration, a path relative to the kernel's sources whose file holds both.
func (r Request) portagePair() (key, cert string) {
	key, cert = r.getenv("MODULES_SIGN_KEY"), r.getenv("MODULES_SIGN_CERT")
	if values, err := distro.ReadAssignments(r.Paths.PortageConf); err == nil {
		if key == "" {
			key = values["MODULES_SIGN_KEY"]
		}
		if cert == "" {
			cert = values["MODULES_SIGN_CERT"]
		}
	}
	if key != "" {
		return key, cert
	}
	config, err := r.config()
	if err != nil {
		return key, cert
	}
	name := config.Text("CONFIG_MODULE_SIG_KEY")
	if name == "" {
		return key, cert
	}
	if !onToken(name) && !filepath.IsAbs(name) {
		name = filepath.Join(r.KernelSourceDir, name)
	}
	if !onToken(name) {
		// A key that isn't there was for the kernel's own objects only.
		if name, err = filepath.EvalSymlinks(name); err != nil || !isFile(name) {
			return key, cert
		}
	}
	return name, name
}

// complete makes what is missing of key and cert. A key that exists stays as
// it is and only gets a certificate; a certificate without its key is of no
// use and makes room for that of a new key.
func (r Request) complete(ctx context.Context, key, cert string, say func(string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	haveKey, haveCert := isFile(key), isFile(cert)
	if haveKey && haveCert {
		return nil
	}
	if haveKey {
		say("Making a new certificate for the existing key...")
		if err := certify(key, cert); err != nil {
			return fmt.Errorf("the certificate %s can't be made: %w", cert, err)
		}
		return nil
	}
	if key == cert {
		return fmt.Errorf("there is no file %s with a key and its certificate", key)
	}
	for _, path := range []string{key, cert} {
		if dir := filepath.Dir(path); !writableDir(dir) {
			return fmt.Errorf("there is no key %s with a certificate %s, and %s isn't a writable directory", key, cert, dir)
		}
	}
	if err := setAside(cert, say); err != nil {
		return err
	}
	say("Making a key and its self-signed certificate...")
	if err := generate(key, cert); err != nil {
		return fmt.Errorf("the key %s can't be made: %w", key, err)
	}
	return nil
}

func writableDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir() && unix.Access(path, unix.W_OK) == nil
}

// setAside renames a certificate whose key is gone, so that nothing is lost.
func setAside(cert string, say func(string)) error {
	old := cert + ".old"
	err := os.Rename(cert, old)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the certificate %s has no key and can't be renamed: %w", cert, err)
	}
	say("The certificate " + cert + " has no key, it is now " + old)
	return nil
}
