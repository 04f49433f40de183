// SPDX-License-Identifier: Apache-2.0

package untrusted

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// must stops a test at an error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFile(t *testing.T) {
	out, dir := t.TempDir(), t.TempDir()
	must(t,
		os.WriteFile(out+"/secret", []byte("secret"), 0o600),
		os.WriteFile(out+"/public", []byte("public"), 0o644),
		os.MkdirAll(dir+"/sub/deeper", 0o755),
		os.WriteFile(dir+"/sub/plain", []byte("plain"), 0o600),
		os.Symlink("sub/plain", dir+"/near"),
		os.Symlink(dir+"/sub/plain", dir+"/whole"),
		os.Symlink("../../sub/plain", dir+"/sub/deeper/up"),
		os.Symlink(out+"/secret", dir+"/far"),
		os.Symlink("../"+out[strings.LastIndex(out, "/")+1:]+"/public", dir+"/relative"),
		os.Symlink(out, dir+"/through"),
		os.Symlink("loop", dir+"/loop"),
		os.Symlink("nowhere", dir+"/dangling"),
		os.Symlink("/dev/zero", dir+"/zero"),
		os.Link(out+"/secret", dir+"/hard"),
		os.Link(out+"/public", dir+"/hard-public"),
		os.Chown(dir, 1234, 1234),
		unix.Mkfifo(dir+"/fifo", 0o644),
		unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Truncate(dir+"/sub/plain", 5),
	)
	d, err := Open(dir)
	must(t, err)
	defer d.Close()
	for name, want := range map[string]string{
		"sub/plain": "plain", "near": "plain", "whole": "plain", "sub/deeper/up": "plain", "hard-public": "public", "./near": "plain",
	} {
		if got, err := d.Read(name, 100); string(got) != want || err != nil {
			t.Errorf("%s: %q %v", name, got, err)
		}
		if err := d.Exists(name); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]string{
		"far": "leads out", "relative": "leads out", "through/secret": "leads out", "zero": "leads out", "hard": "leads out",
		"../x": "leads out", "/etc/passwd": "leads out", "": "leads out", "sub/../../x": "leads out",
		"fifo": "named pipe", "null": "device", "sub": "directory", ".": "directory",
		"loop": "", "dangling": "no such file", "none": "no such file",
	} {
		got, err := d.Read(name, 100)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q %v", name, got, err)
		}
		if (want == "leads out") != errors.Is(err, ErrOutside) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := d.Read("near", 4); err == nil {
		t.Errorf("%q is beyond the limit", got)
	}
	if _, err := Open(dir + "/near"); err == nil {
		t.Error("a file is no directory")
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	must(t,
		os.WriteFile(dir+"/plain", []byte("plain"), 0o644),
		os.Symlink("plain", dir+"/link"),
		unix.Mkfifo(dir+"/fifo", 0o644))
	if got, err := ReadFile(dir+"/plain", 5); string(got) != "plain" || err != nil {
		t.Error(got, err)
	}
	for _, name := range []string{"link", "fifo", "none", "."} {
		if got, err := ReadFile(dir+"/"+name, 5); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, err := ReadFile(dir+"/plain", 4); err == nil {
		t.Error("beyond the limit")
	}
}

// A directory that is deeper than a process may have files open goes as well,
// and what its links lead to stays.
func TestRemoveAllDeep(t *testing.T) {
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	out, dir := t.TempDir(), t.TempDir()+"/deep"
	must(t, os.WriteFile(out+"/stays", nil, 0o644), os.MkdirAll(dir+"/.deep-1/x", 0o755), os.Symlink(out, dir+"/.deep-2"))
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for range 1000 {
		must(t, unix.Mkdirat(fd, "d", 0o755), unix.Symlinkat(out, fd, "link"))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 400, Max: old.Max}))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }()
	if os.RemoveAll(dir) == nil {
		t.Error("it isn't deep enough to tell anything")
	}
	must(t, RemoveAll(dir), RemoveAll(dir))
	if _, err := os.Lstat(dir); err == nil {
		t.Error("it is still there")
	}
	if _, err := os.Stat(out + "/stays"); err != nil {
		t.Error("a link was followed")
	}
}
