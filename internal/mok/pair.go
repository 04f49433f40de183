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

// pair chooses the private key and its certificate, says which, and makes both
// if there is neither. Nothing that exists is changed. The certificate exists
// afterwards, and the key too unless a token holds it.
func (r Request) pair(ctx context.Context, say func(string)) (key, cert string, err error) {
	key, cert = r.Names()
	if r.Key == "" && r.is("ubuntu") {
		if err := r.enrollShim(ctx, key, cert, say); err != nil {
			return "", "", err
		}
	}
	uri, _ := splitPIN(key)
	say("Signing key: " + uri)
	say("Public certificate (MOK): " + cert)
	if onToken(key) {
		if !isFile(cert) {
			return "", "", fmt.Errorf("there is no certificate %s for the key %s", cert, uri)
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

// enrollShim has Ubuntu's update-secureboot-policy make a key and put it up
// for enrolment at the next boot, if there is neither a key nor a certificate.
// What the tool returns isn't looked at: whether there is a key is.
func (r Request) enrollShim(ctx context.Context, key, cert string, say func(string)) error {
	if exists(key) || exists(cert) {
		return nil
	}
	tool, err := r.LookPath("update-secureboot-policy")
	if err != nil {
		return fmt.Errorf("there is no key %s with a certificate %s, and no update-secureboot-policy to make them", key, cert)
	}
	say("Having update-secureboot-policy make a key and its certificate...")
	_ = r.Run(ctx, []string{tool, "--new-key"}, []string{"SHIM_NOTRIGGER=y"})
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

// complete makes key and certificate if there is neither. One without the
// other is an error: the other may have a wrong name in framework.conf, and be
// the one that is enrolled.
func (r Request) complete(ctx context.Context, key, cert string, say func(string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	haveKey, haveCert := exists(key), exists(cert)
	switch {
	case haveKey && haveCert:
		return nil
	case haveKey && r.certify && r.CA == "":
		say("Making a new certificate for the existing key...")
		if err := r.selfCertify(key, cert); err != nil {
			return fmt.Errorf("the certificate %s can't be made: %w", cert, err)
		}
		return nil
	case haveKey:
		return fmt.Errorf("the key %s has no certificate %s: name it with mok_certificate in framework.conf, or make a new one with `dkms key generate`", key, cert)
	case haveCert:
		return fmt.Errorf("the certificate %s has no key %s: name it with mok_signing_key in framework.conf, or move the certificate away to have a new pair made", cert, key)
	case key == cert:
		return fmt.Errorf("there is no file %s with a key and its certificate", key)
	case r.CA != "":
		return fmt.Errorf("there is no key %s with a certificate %s; they come from the authority of %s", key, cert, r.CA)
	}
	for _, path := range []string{key, cert} {
		if dir := filepath.Dir(path); !writableDir(dir) {
			return fmt.Errorf("there is no key %s with a certificate %s, and %s isn't a writable directory", key, cert, dir)
		}
	}
	say("Making a key and its self-signed certificate...")
	if err := generate(key, cert); err != nil {
		return fmt.Errorf("the key %s can't be made: %w", key, err)
	}
	return nil
}

// exists reports whether anything has that name, a link that leads nowhere too.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR)
}

func writableDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir() && unix.Access(path, unix.W_OK) == nil
}
