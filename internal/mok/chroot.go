// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/host"
)

// InChroot reports whether dkms likely runs in a chroot, where a key would end
// up in an image (framework.conf, try_sign_modules): the variables of fakechroot
// tell so, and for root another root directory than that of process 1, also if
// that can't be found out. Mounts that differ from those of process 1
// (proc_pid_mountinfo(5)) count for others only: root has them in any service
// with private directories (systemd.exec(5), PrivateTmp=), which is no chroot.
func InChroot(p host.Paths, environ []string) bool {
	if os.Geteuid() == 0 {
		return fakechroot(environ) || otherRoot(p)
	}
	return fakechroot(environ) || otherMounts(p)
}

func fakechroot(environ []string) bool {
	on, _ := lookup(environ, "FAKECHROOT")
	_, based := lookup(environ, "FAKECHROOT_BASE")
	preload, _ := lookup(environ, "LD_PRELOAD")
	return on == "true" && based && strings.Contains(preload, "libfakechroot.so")
}

func otherMounts(p host.Paths) bool {
	init, err := readMounts(filepath.Join(p.Proc, "1", "mountinfo"))
	if err != nil {
		return false
	}
	own, err := readMounts(filepath.Join(p.Proc, "self", "mountinfo"))
	return err == nil && !bytes.Equal(init, own)
}

// readMounts reads a mountinfo file; hosts of many containers have thousands
// of lines.
func readMounts(path string) ([]byte, error) {
	const maxMounts = 64 << 20
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxMounts))
}

func otherRoot(p host.Paths) bool {
	init, err := os.Stat(filepath.Join(p.Proc, "1", "root"))
	if err != nil {
		return true
	}
	own, err := os.Stat("/")
	return err != nil || !os.SameFile(init, own)
}
