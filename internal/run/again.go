// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"dkms-go/internal/host"
)

// Stdio are the streams of a command.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// againGrace is what a program that is run again gets to end its own commands.
const againGrace = 30 * time.Second

// Again runs the program of this process as cmd says, with stdio, where prepare has
// mounted something, and returns its exit code: 128 plus the number of the signal that
// ended it, as a shell would. Only that process and what it starts see the mounts
// (Private). With an error the program wasn't run, except when ctx ended.
func Again(ctx context.Context, cmd Cmd, stdio Stdio, prepare func() error) (code int, err error) {
	// The link leads to the file itself, whatever is mounted (proc(5)).
	cmd.Path = filepath.Join(host.Default().Proc, strconv.Itoa(os.Getpid()), "exe")
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Grace = stdio.In, stdio.Out, stdio.Err, againGrace
	err = Private(View{}, func() error {
		if err := prepare(); err != nil {
			return err
		}
		return cmd.Run(ctx)
	})
	var exit *ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return exit.Code, nil
	}
	return Code(err), err
}
