// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// What distribution packagers get.
func TestInstall(t *testing.T) {
	common := []string{
		"usr/sbin/dkms", "usr/lib/dkms/common.postinst", "usr/lib/dkms/dkms_autoinstaller",
		"usr/lib/kernel/install.d/40-dkms.install", "usr/lib/systemd/system/dkms.service",
		"usr/share/man/man8/dkms.8.gz", "usr/share/bash-completion/completions/dkms", "etc/dkms/framework.conf",
	}
	own := map[string][]string{
		"none": {},
		"arch": {"usr/share/libalpm/hooks/70-dkms-install.hook", "usr/share/libalpm/hooks/60-dkms-remove.hook"},
		"rpm":  {},
		"deb":  {"etc/kernel/postinst.d/dkms", "etc/kernel/postinst.d/zzz-dkms", "usr/share/dkms-go/framework.conf"},
	}
	for family, more := range own {
		t.Run(family, func(t *testing.T) {
			dest := t.TempDir()
			lab.MustExec(t, "make", "--no-print-directory", "-C", lab.Repo(t), "install", "FAMILY="+family, "DESTDIR="+dest)
			files := lab.MustExec(t, "find", dest, "!", "-type", "d", "-printf", "%P\n").Stdout
			for _, file := range append(more, common...) {
				if family == "deb" && file == frameworkConf {
					continue
				}
				if !strings.Contains("\n"+files, "\n"+file+"\n") {
					t.Errorf("%s is missing in\n%s", file, files)
				}
			}
			if has := strings.Contains(files, "etc/kernel/"); has != (family == "deb") {
				t.Errorf("hooks of Debian's kernels: %t", has)
			}
			if has := strings.Contains(files, "libalpm"); has != (family == "arch") {
				t.Errorf("hooks of pacman: %t", has)
			}
		})
	}
}

// The packages are the same when they are made again.
func TestPackagesAreReproducible(t *testing.T) {
	deb, rpm := lab.Deb(t), lab.Rpm(t)
	version := strings.TrimPrefix(strings.TrimSuffix(filepath.Base(rpm), "-1.x86_64.rpm"), "dkms-go-")
	dir := t.TempDir()
	lab.MustExec(t, filepath.Join(lab.Repo(t), "packaging", "packages.sh"), version, dir)
	for _, file := range []string{deb, rpm} {
		lab.MustExec(t, "cmp", file, filepath.Join(dir, filepath.Base(file)))
	}
}
