// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bashServer is a living bash that evaluates many scripts, each in a process
// forked for it: the oracle of the fuzz tests. It sees the machine's files, so
// that globs and tests of files say the same to both sides, but has no PATH, no
// rights, no network, no processes but its own, and every mount is read-only.
type bashServer struct {
	dir string // holds the confs, and the script that is due
	env []string

	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// bashEnd ends what the server says of one script.
const bashEnd = "\x00-dkms-end-of-script-\x00"

// serverScript waits for a byte, runs the script, and ends whatever is left of it.
const serverScript = `
while IFS= read -r -N 1 _; do
  mapfile -d '' -t _dkms_script <"$1"
  ( ulimit -t 1 -u 30 -v 400000 -f 0; exec </dev/null 2>/dev/null; eval "${_dkms_script[0]}" )
  kill -9 -1
  builtin printf '\0-dkms-end-of-script-\0'
done 2>/dev/null`

// newBashServer returns a server whose scripts run in dir with exactly env.
func newBashServer(f *testing.F, dir string, env []string) *bashServer {
	f.Helper()
	s := &bashServer{dir: dir, env: env}
	f.Cleanup(s.stop)
	out, err := s.run(f.Context(), Program{Script: `echo x 2>/dev/null >` + filepath.Join(os.TempDir(), "dkms-fuzz-is-writable") + ` && echo writes; echo $UID`})
	if uid := strings.TrimSpace(string(out)); err != nil || uid == "0" || strings.Contains(uid, "writes") {
		f.Fatalf("bash is not shut in: %q, %v", out, err)
	}
	return s
}

func (s *bashServer) start() error {
	const isolate = `while read -r _ m _; do mount -o remount,bind,ro "$m"; done </proc/self/mounts 2>/dev/null
uid=$1; shift
cd "$1" && shift && exec setpriv --reuid $uid --regid $uid --clear-groups --no-new-privs --bounding-set=-all env -i "$@"`
	bash, err := exec.LookPath("bash")
	if err != nil {
		return err
	}
	args := []string{"--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "sh", "-c", isolate, "sh",
		fmt.Sprint(60000 + os.Getpid()%5000), filepath.Join(s.dir, "cwd")}
	args = append(args, s.env...)
	args = append(args, bash, "-c", serverScript, "bash", filepath.Join(s.dir, "script"))
	s.cmd = exec.Command("unshare", args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	s.out = bufio.NewReader(out)
	return s.cmd.Start()
}

func (s *bashServer) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// errTooLong reports a script that did not end.
var errTooLong = errors.New("bash takes too long")

// run is a BashFunc; the environment is the server's.
func (s *bashServer) run(_ context.Context, b Program) ([]byte, error) {
	if s.cmd == nil {
		if err := s.start(); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "script"), []byte(b.Script), 0o644); err != nil {
		return nil, err
	}
	if _, err := s.in.Write([]byte("x")); err != nil {
		s.stop()
		return nil, err
	}
	slow := time.AfterFunc(20*time.Second, func() { _ = s.cmd.Process.Kill() })
	var all []byte
	for !bytes.HasSuffix(all, []byte(bashEnd)) {
		part, err := s.out.ReadSlice(0)
		all = append(all, part...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			slow.Stop()
			s.stop()
			return nil, errTooLong
		}
	}
	slow.Stop()
	return bytes.TrimSuffix(all, []byte(bashEnd)), nil
}
